"""A network for broker processes that can be cut: each has a namespace of its own, with an address.

The namespaces hang on one bridge, on which the programs of the campaign are too. A way between two
brokers is cut silently: one sends its packets to a hardware address that nobody has. Needs root and
the programs `ip` and `tc`; `Network.possible` says whether that works here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

NOBODY: Final = "02:00:00:00:00:fe"
SLOW: Final = ("rate", "400kbit", "burst", "4k", "latency", "2000ms")
"""So that packets queue up for a good part of a second."""
_BITS: Final = 24


def _program(name: str) -> str:
    """Where a program of the system's administrator is, also for a path without such.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError(f"the program {name} is not installed")
    return found


def _ip(*words: str) -> None:
    subprocess.run([_program("ip"), *words], check=True, capture_output=True)


def _tc(place: str, what: str, *words: str) -> None:
    command = [_program("tc"), "-n", place, "qdisc", what, "dev", "eth0", "root", *words]
    subprocess.run(command, check=True, capture_output=True)


class Network:
    """So many places in a row, numbered from 0 on; use it in a `with`."""

    def __init__(self, size: int) -> None:
        mark = os.getpid() % 60_000
        self._bridge = f"pk{mark}"
        self._net = f"10.{77 + mark // 250 % 100}.{mark % 250}"
        self._size = size

    @staticmethod
    def possible() -> bool:
        """Whether namespaces can be made here."""
        name = f"pk{os.getpid() % 60_000}try"
        with suppress(OSError, subprocess.CalledProcessError):
            _program("tc")
            _program("nsenter")
            _ip("netns", "add", name)
            _ip("netns", "del", name)
            return True
        return False

    def address(self, place: int) -> str:
        """The address of a place."""
        return f"{self._net}.{10 + place}"

    def prefix(self, place: int) -> list[str]:
        """What runs a command in a place.

        Not by `ip netns exec`: that copies all mounts too, and a disk whose power another campaign
        cuts would never come back while the copy lives.
        """
        return [_program("nsenter"), f"--net=/run/netns/{self._name(place)}"]

    def _name(self, place: int) -> str:
        return f"{self._bridge}n{place}"

    # ----- life

    def __enter__(self) -> Self:
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("addr", "add", f"{self._net}.1/{_BITS}", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for place in range(self._size):
                self._make(place)
        except BaseException:
            self.close()
            raise
        return self

    def _make(self, place: int) -> None:
        name, wire = self._name(place), f"{self._bridge}v{place}"
        _ip("netns", "add", name)
        _ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", wire, "master", self._bridge, "up")
        _ip("-n", name, "addr", "add", f"{self.address(place)}/{_BITS}", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")

    def close(self) -> None:
        """Take everything down."""
        for place in range(self._size):
            # A namespace goes some time after its end: the name of its wire must be free at once.
            with suppress(subprocess.CalledProcessError):
                _ip("link", "del", f"{self._bridge}v{place}")
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", self._name(place))
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._bridge)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ----- faults

    def cut(self, ways: Iterable[tuple[int, int]]) -> None:
        """Nothing passes from the first of each to the second any more."""
        for place, other in ways:
            words = ("neigh", "replace", self.address(other), "lladdr", NOBODY)
            _ip("-n", self._name(place), *words, "dev", "eth0", "nud", "permanent")

    def slow(self, place: int) -> None:
        """All that leaves a place waits in a queue."""
        _tc(self._name(place), "add", "tbf", *SLOW)

    def heal(self) -> None:
        """Everything passes again."""
        for place in range(self._size):
            name = self._name(place)
            with suppress(subprocess.CalledProcessError):  # there may be none
                _tc(name, "del")
            for other in range(self._size):
                with suppress(subprocess.CalledProcessError):
                    _ip("-n", name, "neigh", "del", self.address(other), "dev", "eth0")
