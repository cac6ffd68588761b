"""crc32c, the checksum of headers and bodies.

The package of that name reads the metadata of installed packages when it is imported, only to tell
its version; that takes a third of the time in which a command starts. So its C module is loaded
alone where it is found, under its own name: whoever imports the package gets the same one.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Final, Protocol


class Checksum(Protocol):
    """Of bytes, or of those that follow others whose checksum is given."""

    def __call__(self, data: bytes | bytearray | memoryview, value: int = 0, /) -> int:
        """The checksum of all of them."""


_MODULE: Final = "crc32c._crc32c"


def _load() -> Checksum:
    package = None if "crc32c" in sys.modules else find_spec("crc32c")
    spec = PathFinder.find_spec(_MODULE, package.submodule_search_locations) if package else None
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules[_MODULE] = module
        spec.loader.exec_module(module)
        function: Checksum = module.crc32c
        return function
    from crc32c import crc32c as packaged

    return packaged


crc32c: Final = _load()
