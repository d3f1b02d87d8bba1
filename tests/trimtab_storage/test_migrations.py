from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Connection

from trimtab_storage import SchemaError, Store, _migrations


def versions(tmp_path: Path) -> list[int]:
    connection = sqlite3.connect(tmp_path / "trimtab.db")
    rows = connection.execute("SELECT version FROM schema_version ORDER BY version").fetchall()
    connection.close()
    return [row[0] for row in rows]


def add_note(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE study ADD COLUMN note TEXT")


def fill_note(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE study SET note = 'old'")


def fail(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE study SET note = 'half'")
    raise RuntimeError("killed in the middle")


def migrate(store: Store, *migrations: _migrations.Migration) -> None:
    with store._database.write() as connection:
        _migrations.prepare(connection, "2027-01-01T00:00:00.000000+00:00", migrations)


def test_opening_twice_records_one_version(url: str, tmp_path: Path) -> None:
    Store.open(url).close()
    Store.open(url).close()
    assert versions(tmp_path) == [1]


def test_newer_schema_is_refused_with_one_sentence(url: str, tmp_path: Path) -> None:
    with Store.open(url) as store:
        migrate(store, add_note)
    for open_it in (Store.open, Store.open_reader):
        with pytest.raises(SchemaError) as caught:
            open_it(url)
        assert str(caught.value) == (
            "the database has schema version 2, but this trimtab knows only up to 1: "
            "install a newer trimtab or pass --db with another file"
        )
    assert versions(tmp_path) == [1, 2]


def test_migrations_run_in_order_once_and_are_recorded(
    store: Store, study: object, tmp_path: Path
) -> None:
    migrate(store, add_note)
    migrate(store, add_note, fill_note)
    migrate(store, add_note, fill_note)
    assert versions(tmp_path) == [1, 2, 3]
    with store._database.read() as connection:
        assert connection.exec_driver_sql("SELECT note FROM study").scalar_one() == "old"


def test_failed_migration_leaves_the_version_before(
    store: Store, study: object, tmp_path: Path
) -> None:
    migrate(store, add_note)
    with pytest.raises(RuntimeError):
        migrate(store, add_note, fail)
    assert versions(tmp_path) == [1, 2]
    with store._database.read() as connection:
        assert connection.exec_driver_sql("SELECT note FROM study").scalar_one() is None


def test_reader_does_not_migrate(store: Store, tmp_path: Path) -> None:
    with (
        pytest.raises(SchemaError, match="continue the study once with `trimtab run`"),
        store._database.read() as connection,
    ):
        _migrations.check(connection, [add_note])
    assert versions(tmp_path) == [1]


def test_database_of_another_program_is_refused_untouched(url: str, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "trimtab.db")
    other.execute("CREATE TABLE study (x)")
    other.commit()
    other.close()
    for open_it in (Store.open, Store.open_reader):
        with pytest.raises(SchemaError, match="its table 'study' was made by another program"):
            open_it(url)


def test_reader_on_a_file_without_our_tables_is_refused(url: str, tmp_path: Path) -> None:
    (tmp_path / "trimtab.db").touch()
    with pytest.raises(SchemaError, match="run `trimtab run` first"):
        Store.open_reader(url)
