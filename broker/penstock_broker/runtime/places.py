"""Where something listens, as text: HOST:PORT, an IPv6 address in brackets."""

from __future__ import annotations

from penstock.errors import BadRequest

PORT_MAX = 65_535


def place_of(text: str) -> tuple[str, int]:
    """The host, empty for all of them, and the port.

    Raises:
        BadRequest: it is not HOST:PORT.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > PORT_MAX:
        raise BadRequest(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def text_of(host: str, port: int) -> str:
    """A host and port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
