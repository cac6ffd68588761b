"""What is made of other sources is what would be made of them now."""

from ops.twins import stale


def test_blocking_twins_are_made_of_their_async_sources() -> None:
    assert not stale(), "run python -m ops.twins"
