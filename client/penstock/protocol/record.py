"""One record, as an application sees it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, TypeVar, overload

import msgspec

from penstock.errors import BadRequest

_T = TypeVar("_T")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

NO_HEADERS: Final[Mapping[str, bytes]] = MappingProxyType({})
"""The headers of a record that has none."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record read from a partition.

    Not tracked by the garbage collector, since a record can't be part of a cycle: a full
    collection costs nothing for millions of them.
    """

    topic: str
    partition: int
    offset: int
    timestamp_us: int
    """Microseconds since 1970: the time that the producer gave, else when it was appended."""
    value: bytes | None
    key: bytes | None = None
    headers: Mapping[str, bytes] = NO_HEADERS

    @property
    def timestamp(self) -> datetime:
        """The timestamp as an aware datetime in UTC."""
        return _EPOCH + timedelta(microseconds=self.timestamp_us)

    @overload
    def json(self) -> Any: ...  # noqa: ANN401 - JSON is any of its types
    @overload
    def json(self, type: type[_T]) -> _T: ...

    def json(self, type: Any = Any) -> Any:  # noqa: A002 - as above
        """Decode the value as JSON, checked against a type that msgspec knows.

        Raises:
            BadRequest: the value is missing, is not JSON, or does not fit the type.
        """
        if self.value is None:
            raise BadRequest(f"{self._place()} has no value")
        try:
            return msgspec.json.decode(self.value, type=type)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"the value of {self._place()} does not fit: {error}") from None

    def _place(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"

    def __repr__(self) -> str:
        value = "None" if self.value is None else f"<{len(self.value)} bytes>"
        key = "None" if self.key is None else f"<{len(self.key)} bytes>"
        return (
            f"Record({self._place()}, {self.timestamp_us} us, value={value}, key={key}, "
            f"headers=<{len(self.headers)}>)"
        )
