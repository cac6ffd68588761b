"""Looking at a data directory on a file system without changing it: for `penstock log`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from penstock_broker.runtime.files import RealFile, RealFiles
from penstock_broker.storage.inspect import FileReport, inspect_files


class ReadOnlyFiles(RealFiles):
    """An existing data directory, for which the right to read is enough.

    Raises:
        NotADirectoryError: there is no such directory.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        if not os.path.isdir(root):
            raise NotADirectoryError(f"{root} is not a directory")
        super().__init__(root)

    def open(self, path: str, *, create: bool = False) -> RealFile:
        assert not create, "nothing is created in a directory that is only looked at"
        return RealFile(os.open(self._path(path), os.O_RDONLY | os.O_CLOEXEC))


def inspect(directory: str, *, bodies: bool = True) -> Iterator[FileReport]:
    """Report what each file of a data directory holds, and what is damaged.

    Without `bodies` the bodies of batches in segments are not read.

    Raises:
        NotADirectoryError: there is no such directory.
    """
    return inspect_files(ReadOnlyFiles(directory), bodies=bodies)
