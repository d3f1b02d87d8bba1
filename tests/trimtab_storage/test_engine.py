from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from trimtab_storage import (
    DatabaseBusyError,
    DiskFullError,
    ForkedStoreError,
    InvalidValueError,
    Lease,
    StorageError,
    Store,
    StudyRow,
    _guards,
    engine,
)
from trimtab_storage.testing import make_point


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("trimtab.db", "must be given as a URL such as sqlite:///trimtab.db"),
        ("postgresql://host/db", "only SQLite databases are supported so far"),
        ("postgresql+psycopg://host/db", "got a postgresql URL"),
        ("sqlite+aiosqlite:///a.db", "only SQLite"),
        ("sqlite://", "must name a plain file"),
        ("sqlite:///:memory:", "must name a plain file"),
        ("sqlite:///a.db?mode=ro", "must name a plain file"),
        ("sqlite:///file:a.db", "must name a plain file"),
    ],
)
def test_url_that_is_no_sqlite_file_is_refused(url: str, message: str) -> None:
    for open_it in (Store.open, Store.open_reader):
        with pytest.raises(StorageError, match=message):
            open_it(url)


def test_relative_url_is_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.open("sqlite:///trimtab.db") as store:
        assert store.artifact_root == tmp_path / "trimtab-artifacts"
    assert (tmp_path / "trimtab.db").is_file()


def test_reader_on_missing_file_is_refused_and_creates_nothing(url: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no database at .*: run `trimtab run` first or pass"):
        Store.open_reader(url)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="folder must exist"):
        Store.open(f"sqlite:///{tmp_path}/no/trimtab.db")


def test_other_kind_of_file_is_refused_untouched(url: str, tmp_path: Path) -> None:
    text = "not a database, but long enough to be looked at " * 50
    (tmp_path / "trimtab.db").write_text(text)
    for open_it in (Store.open, Store.open_reader):
        with pytest.raises(StorageError, match="must be a SQLite database"):
            open_it(url)
    assert (tmp_path / "trimtab.db").read_text() == text


def test_reader_cannot_write(url: str, store: Store) -> None:
    with Store.open_reader(url) as reader:
        assert reader.studies() == []
        with pytest.raises(StorageError, match="reading only"):
            reader.create_study("a", {}, {}, {})
        # Even past our own check, SQLite refuses.
        with pytest.raises(StorageError, match="readonly"), reader._database.read() as connection:
            connection.exec_driver_sql("DELETE FROM study")


def test_reader_sees_a_closed_database_and_one_left_by_a_crash(url: str, tmp_path: Path) -> None:
    with Store.open(url, controller=True) as store:
        store.create_study("closed", {}, {}, {})
    assert not (tmp_path / "trimtab.db-wal").exists()
    with Store.open_reader(url) as reader:
        assert [study.name for study in reader.studies()] == ["closed"]
    crashed = Store.open(url)
    crashed.create_study("crashed", {}, {}, {})
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("trimtab.db", "trimtab.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    crashed.close()
    with Store.open_reader(f"sqlite:///{copy}/trimtab.db") as reader:
        assert [study.name for study in reader.studies()] == ["closed", "crashed"]


def test_closed_store_is_refused(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.studies()


def test_connections_are_set_up_as_promised(store: Store) -> None:
    def pragmas(*names: str) -> list[object]:
        with store._database.write() as connection:
            return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    assert pragmas("journal_mode", "synchronous", "busy_timeout", "foreign_keys") == [
        "wal",
        2,
        30_000,
        1,
    ]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_versions_with_the_wal_reset_fault(version: tuple[int, ...], expected: bool) -> None:
    assert _guards.needs_one_checkpointer(version) is expected


MOUNTS = """\
/dev/root / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb /home/me/local\\040disk xfs rw 0 0
//server/share /mnt/share cifs rw 0 0
me@host: /mnt/ssh fuse.sshfs rw 0 0
malformed
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/trimtab.db", None),
        ("/home/me/trimtab.db", "nfs4"),
        ("/homes/trimtab.db", None),
        ("/home/me/local disk/trimtab.db", None),
        ("/mnt/share/a/b.db", "cifs"),
        ("/mnt/ssh/b.db", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_told(path: str, expected: str | None) -> None:
    assert _guards.network_file_system(Path(path), MOUNTS) == expected
    assert _guards.network_file_system(Path(path), "") is None


def test_later_mount_hides_the_earlier_one() -> None:
    mounts = "server:/ /data nfs rw 0 0\n/dev/sdb /data ext4 rw 0 0\n"
    assert _guards.network_file_system(Path("/data/x.db"), mounts) is None


def test_database_on_a_network_file_system_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_guards, "read_mounts", lambda: f"server:/ {tmp_path} nfs rw 0 0\n")
    for open_it in (Store.open, Store.open_reader):
        with pytest.raises(StorageError, match="must lie on a local disk.* is on nfs"):
            open_it(url)
    assert list(tmp_path.iterdir()) == []


def test_mount_table_that_cannot_be_read_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_guards, "MOUNTS", tmp_path / "none")
    assert _guards.read_mounts() == ""


def test_full_disk_is_told_and_loses_nothing(store: Store, lease: Lease) -> None:
    with store._database.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 4}")
    added = 0
    with pytest.raises(DiskFullError, match="the disk is full"):
        for added in range(1000):
            store.add_points(lease, [make_point(f"{added:04x}{i:04x}") for i in range(5)])
    assert len(store.points(lease.study_id)) == 5 * added
    assert store.integrity_problems() == []
    with store._database.write() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1000}")
    store.add_points(lease, [make_point("ffff")])
    assert len(store.points(lease.study_id)) == 5 * added + 1


def test_writer_that_cannot_get_the_lock_says_so(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open(url).close()
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 50)
    store = Store.open(url)
    other = sqlite3.connect(tmp_path / "trimtab.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusyError, match="locked by another process"):
        store.create_study("a", {}, {}, {})
    assert store.studies() == []
    other.execute("ROLLBACK")
    store.create_study("a", {}, {}, {})
    other.close()
    store.close()


def test_opening_waits_for_a_process_that_writes_before_the_log_is_switched_on(
    url: str, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "trimtab.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, lambda: other.execute("COMMIT")).start()
    with Store.open(url) as store:
        assert store.studies() == []
    other.close()


def test_row_of_no_study_is_refused(store: Store) -> None:
    with pytest.raises(StorageError, match="FOREIGN KEY"):
        store.log_event(99, "tick", {})


def test_number_types_of_other_libraries_are_stored_as_numbers(store: Store, lease: Lease) -> None:
    import numpy as np

    new = make_point(metric=np.float32(0.5), n=np.int64(7), feasible=np.bool_(True))
    (point_id,) = store.add_points(lease, [new])
    row = store.point(point_id)
    assert row is not None
    assert (row.metric, row.n, row.feasible) == (0.5, 7, True)
    assert (type(row.metric), type(row.n)) == (float, int)


@pytest.mark.parametrize("field", ["metric", "drop", "flops", "flops_ratio"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_point_with_a_number_that_is_none_is_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidValueError, match=f"a point's {field} must be a finite number"):
        make_point(**{field: value})


def test_threads_share_a_store(store: Store, study: StudyRow) -> None:
    def work(name: int) -> None:
        for i in range(20):
            store.log_event(study.id, "tick", {"thread": name, "i": i})
            store.events(study.id)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = store.events(study.id)
    assert len(rows) == 120
    for name in range(6):
        assert [row.data["i"] for row in rows if row.data["thread"] == name] == list(range(20))


def test_forked_child_is_refused_and_harms_nothing(store: Store, study: StudyRow) -> None:
    for i in range(100):
        child = os.fork()
        if child == 0:
            os._exit(_use_in_child(store, study))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        store.log_event(study.id, "tick", {"i": i})
    assert len(store.events(study.id)) == 100
    assert store.integrity_problems() == []


def _use_in_child(store: Store, study: StudyRow) -> int:
    refused = 0
    for use in (store.studies, lambda: store.log_event(study.id, "tick", {})):
        try:
            use()
        except ForkedStoreError:
            refused += 1
    store.close()
    return 0 if refused == 2 else 1
