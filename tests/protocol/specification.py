"""The tables of `client/PROTOCOL.md` that are made from the code.

`python -m tests.protocol.specification` writes them anew between their markers; a test fails when
they differ from what this module makes.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import NODEFAULT
from msgspec.structs import FieldInfo, fields

from penstock import errors
from penstock.protocol import (
    batch,
    cluster,
    codec,
    compression,
    conversation,
    encoding,
    extensions,
    frames,
    messages,
    names,
    sharing,
)

DOCUMENT = Path(__file__).parents[2] / "client" / "PROTOCOL.md"
MODULES = (messages, sharing, cluster)
LIMITS = [
    (batch, "BATCH_BYTES_MAX", "bytes of a batch, header included"),
    (batch, "RAW_BYTES_MAX", "bytes of a batch's payload before compression"),
    (batch, "RECORDS_MAX", "records of a batch"),
    (extensions, "EXTENSION_BYTES_MAX", "bytes of a batch's extension fields together"),
    (extensions, "DEDUP_ID_BYTES_MAX", "bytes of a dedup id"),
    (encoding, "KEY_BYTES_MAX", "bytes of a key"),
    (encoding, "HEADERS_MAX", "headers of a record"),
    (encoding, "HEADER_TOTAL_BYTES_MAX", "bytes of a record's headers, names and values together"),
    (encoding, "TIMESTAMP_SPAN_MS_MAX", "milliseconds between the timestamps of a batch"),
    (compression, "WINDOW_BYTES_MAX", "bytes of a zstd window, unless the payload is longer"),
    (frames, "HELLO_BYTES_MAX", "bytes of a frame before the connection is open"),
    (frames, "REQUEST_BYTES_MAX", "bytes of a publish request"),
    (codec, "REQUEST_BODY_BYTES_MAX", "bytes of the CBOR body of any other request"),
    (frames, "FETCH_BYTES_MAX", "bytes that a fetch may ask for"),
    (frames, "REPLY_BYTES_MAX", "bytes of a fetch reply: it is cut between batches"),
    (codec, "REPLY_BODY_BYTES_MAX", "bytes of the CBOR body of any other reply"),
    (codec, "ERROR_BODY_BYTES_MAX", "bytes of the CBOR body of an error"),
    (codec, "DEPTH_MAX", "maps and lists within one another in a CBOR body"),
    (conversation, "REQUESTS_IN_FLIGHT_MAX", "requests of a connection without an answer"),
    (names, "NAME_CHARACTERS_MAX", "characters of a topic's or group's name"),
]
_LAYOUT = {"B": ("u8", 1), "H": ("u16", 2), "I": ("u32", 4), "Q": ("u64", 8)}


def header_fields() -> list[tuple[int, str, str]]:
    """(offset, type, name) of every field of the batch header, from its struct."""
    found, at = [], 0
    for name, code in zip(batch.BatchHeader._fields, batch.HEADER.format[1:], strict=True):
        type_, size = _LAYOUT[code]
        found.append((at, type_, name))
        at += size
    return found


def limits_table() -> Iterator[str]:
    yield "| name | value | of what |"
    yield "|---|---:|---|"
    for module, name, meaning in LIMITS:
        yield f"| `{name}` | {getattr(module, name):,} | {meaning} |"


def errors_table() -> Iterator[str]:
    yield "| code | name | retry | meaning | what to do |"
    yield "|---:|---|---|---|---|"
    for code, cls in sorted(errors.BY_CODE.items()):
        retry = "yes" if cls.retriable else "no"
        yield f"| {code} | {cls.__name__} | {retry} | {cls.__doc__} | {_cell(cls.hint)} |"


def messages_tables() -> Iterator[str]:
    for number in sorted(messages.REQUESTS):
        for title, registry in (("request", messages.REQUESTS), ("reply", messages.REPLIES)):
            if number in registry and _is_public(registry[number]):
                yield from _message(registry[number].__name__, f"0x{number:02x} {title}")
    for name in _nested():
        yield from _message(name, "part of others")
    yield from _message("ErrorBody", "body of an error reply")


def _is_public(cls: type) -> bool:
    """Whether clients may send it: what only brokers say to one another is registered by them."""
    return cls.__module__.startswith("penstock.protocol.")


def _message(name: str, title: str) -> Iterator[str]:
    cls = next(getattr(module, name) for module in MODULES if hasattr(module, name))
    doc = (inspect.getdoc(cls) or "").replace("\n", " ")
    yield f"### {name} ({title})"
    yield ""
    yield doc
    yield ""
    found = fields(cls)
    if not found:
        yield "No fields: an empty map."
        yield ""
        return
    types, docs = _annotations(name)
    yield "| field | type | default | |"
    yield "|---|---|---|---|"
    for field in found:
        shown = types[field.name].replace("|", "or")
        yield f"| `{field.name}` | {shown} | {_default(field)} | {docs.get(field.name, '')} |"
    yield ""


def _default(field: FieldInfo) -> str:
    default, factory = field.default, field.default_factory
    if default is not NODEFAULT:
        return f"`{default!r}`".replace("'", '"')
    return "required" if factory is NODEFAULT else f"`{factory()!r}`"


def _tree() -> dict[str, ast.ClassDef]:
    trees = [ast.parse(inspect.getsource(module)) for module in MODULES]
    return {n.name: n for tree in trees for n in tree.body if isinstance(n, ast.ClassDef)}


def _annotations(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """The source of each field's type, and the text below the field."""
    types: dict[str, str] = {}
    docs: dict[str, str] = {}
    last = ""
    for node in _tree()[name].body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=field), annotation=annotation):
                types[field] = ast.unparse(annotation)
                last = field
            case ast.Expr(value=ast.Constant(value=str(text))) if last:
                docs[last] = re.sub(r"\s+", " ", text)
    return types, docs


def _nested() -> list[str]:
    registered = {cls.__name__ for cls in (*messages.REQUESTS.values(), *messages.REPLIES.values())}
    return [name for name in _tree() if name not in registered | {"Message", "ErrorBody"}]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "limits": limits_table,
    "errors": errors_table,
    "messages": messages_tables,
}


def renewed(document: str) -> str:
    """The document with its tables made anew."""
    for name, make in TABLES.items():
        start, end = f"<!-- {name}: made from the code -->", f"<!-- end of {name} -->"
        head, rest = document.split(start)
        tail = rest.split(end)[1]
        document = "\n".join((head + start, "", "\n".join(make()).rstrip(), "", end + tail))
    return document


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text()))
