"""Recovery of a directory whose cluster is lost refuses what it can't be done on."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import DataDirectoryLocked, PreconditionFailed
from penstock_broker.runtime.files import RealFiles
from penstock_broker.runtime.recover import recover
from penstock_broker.storage import StorageConfig, Store


def test_a_directory_without_data_is_refused_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed):
        recover(str(tmp_path), dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_refused_while_a_broker_runs_and_when_it_has_no_cluster(
    tmp_path: Path,
) -> None:
    store = Store.open(RealFiles(tmp_path), StorageConfig(), fresh_uuid=bytes(16))
    with pytest.raises(DataDirectoryLocked):
        recover(str(tmp_path), dry_run=True)
    store.close()
    with pytest.raises(PreconditionFailed):
        recover(str(tmp_path), dry_run=False)
