import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import InvalidName
from penstock.protocol.names import check_name


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "...", ".a", "-", "x" * 200, "__offsets"])
def test_name_of_the_allowed_characters_is_returned(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "x" * 201, "a b", "a/b", "../x", "a\\b", "a\n", "\na", "a\0", "a:b"),
        *(
            "ünicode",
            "\u0430dmin",
            "a٣",
            "a\u200b",
            "a%2e",
            "$x",
            "a*",
            "x\r\nINFO forged",
            "\x1b[31m",
        ),
        *(None, 5, b"a", ["a"]),
    ],
)
def test_anything_else_is_refused(name):
    with pytest.raises(InvalidName):
        check_name(name)


def test_error_shows_the_name_in_one_short_line():
    with pytest.raises(InvalidName) as caught:
        check_name("x\r\n" * 3000, "topic name")
    assert "\n" not in caught.value.message
    assert "\r" not in caught.value.message
    assert len(caught.value.message) < 150
    assert caught.value.message.endswith("can't be a topic name")


@given(st.text(max_size=20))
def test_allowed_names_are_plain_ascii(name):
    try:
        check_name(name)
    except InvalidName:
        return
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("/\\ '\"<>&%$*?:;|")
