"""Opening a ledger for reading: during a run, in a read-only directory, and damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

from bulkstow.errors import LedgerError
from bulkstow.ledger.database import (
    SCHEMA_VERSION,
    check,
    check_head,
    connect,
    damaged,
    explained,
    schema_version,
    wal_of,
)
from bulkstow.ledger.upgrade import upgrade_schema


def open_for_look_ups(path: Path, opened: ExitStack) -> sqlite3.Connection:
    """Open a ledger for look-ups, as an upload would see it; a run may be writing it. `opened` closes it again.

    A ledger of an older schema is upgraded as a temporary copy. Raises LedgerError.
    """
    check_head(path)
    with explained(path):
        connection = _open(path, opened)
        check(connection, path)
        before = schema_version(connection)
        if before == SCHEMA_VERSION:
            return connection
        copy = opened.enter_context(closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)))
        connection.backup(copy)
        upgrade_schema(copy, before)
        return copy


def open_to_read(path: Path, opened: ExitStack) -> sqlite3.Connection:
    """Open a ledger and check its structure; `opened` closes it again. Raises LedgerError."""
    if not path.is_file():
        raise LedgerError(f"no ledger at {path}: give the file that `bulkstow upload --ledger` wrote")
    check_head(path)
    with explained(path):
        connection = _open(path, opened)
        check(connection, path)
        # Damage may make SQLite return fewer rows, or other paths, without an error; the index shows it.
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != ("ok",):
        raise damaged(path, " ".join(str(found and found[0]).split()))
    return connection


def _open(path: Path, opened: ExitStack) -> sqlite3.Connection:
    """Open a ledger for reading, in a way that leaves no files behind.

    A reader of a WAL database needs the files beside it. If the directory is writable, SQLite creates them and removes
    them when it closes. Otherwise a ledger without a WAL is opened as immutable, and one with a WAL is copied.
    """
    real = path.resolve()
    if all(os.access(place, os.W_OK) for place in (real, real.parent)):
        connection = opened.enter_context(closing(connect(real)))
        connection.execute("PRAGMA query_only = ON")
        return connection
    if not wal_of(real).exists():
        connection = opened.enter_context(closing(connect(real, "immutable=1")))
        opened.callback(_check_unchanged, path)
        return connection
    try:
        connection = connect(real, "mode=ro")
        opened.callback(connection.close)
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        copy = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bulkstow-"))) / "ledger.db"
        copy_ledger(real, copy)
        connection = opened.enter_context(closing(connect(copy)))
    return connection


def copy_ledger(path: Path, copy: Path) -> None:
    """Copy a ledger with its WAL. Raises LedgerError if it cannot be read."""
    try:
        shutil.copyfile(path, copy)
        if wal_of(path).exists():
            shutil.copyfile(wal_of(path), wal_of(copy))
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be read: {error.strerror}") from error


def _check_unchanged(path: Path) -> None:
    if wal_of(path.resolve()).exists():
        raise LedgerError(f"a run began while the ledger {path} was read: run the report again")
