"""The ledger as a database: its schema, opening and checking it, and explanations of SQLite's errors."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bulkstow.errors import LedgerError
from bulkstow.ledger.rows import ALL_COLUMNS, DamagedRow

APPLICATION_ID = 0x53544F57
"""`STOW`: distinguishes a ledger from other SQLite files."""

SCHEMA_VERSION = 5
"""The current schema; `upgrade` changes older ledgers to it."""

OLD_SCHEMA_VERSIONS = (1, 2, 3, 4)
"""Schemas that are read and upgraded. Their tables begin on the same pages."""

OLD_NAME = "modified_ns"
"""The name of the column `version` in schemas 1 and 2."""

OWN_SUFFIXES = ("", "-wal", "-shm", "-journal")
"""Suffixes of the names of the database and of SQLite's files beside it."""

_TABLES = (
    """CREATE TABLE destination (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    ceiling_bytes INTEGER             -- the largest body to send there, learned from a 413
)""",
    """CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    destination INTEGER NOT NULL REFERENCES destination,
    started_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
)""",
    """CREATE TABLE file (
    destination INTEGER NOT NULL REFERENCES destination,
    path BLOB NOT NULL,               -- bytes as the file system has them: a name need not be UTF-8
    size_bytes INTEGER NOT NULL,
    version INTEGER NOT NULL,
    study_uid TEXT, series_uid TEXT, sop_instance_uid TEXT, sop_class_uid TEXT, transfer_syntax_uid TEXT,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    copy_of BLOB,                     -- path of the file that stands for the same SOP instance
    run INTEGER NOT NULL REFERENCES run,  -- the run that found this out
    PRIMARY KEY (destination, path)
) WITHOUT ROWID""",
    "CREATE INDEX file_by_instance ON file (destination, sop_instance_uid) WHERE sop_instance_uid IS NOT NULL",
    "CREATE INDEX file_by_copy ON file (destination, run) WHERE copy_of IS NOT NULL",
)
"""The tables of schema 3."""

_RENAMING = f"ALTER TABLE file RENAME COLUMN {OLD_NAME} TO version"

_ADDITIONS = {
    4: (
        "file modality TEXT",
        "file study_date TEXT",  # YYYYMMDD
        "file sha256 BLOB",
        "file recorded_at_s INTEGER",  # since 1970
        "file verified_level TEXT",  # how the server confirmed the instance, NULL if it has not
        "file verified_at_s INTEGER",
        "file accepted TEXT",  # the note of a user who accepted this failure
        "run command TEXT",
        "run bulkstow_version TEXT",
        "run settings TEXT",  # JSON, as the summary
        "run summary TEXT",
    ),
    5: (
        "file sent_bytes INTEGER",  # NULL if it is the size
        "file original_study_uid TEXT",  # the UIDs at the source, NULL if the instance was not edited
        "file original_series_uid TEXT",
        "file original_sop_instance_uid TEXT",
    ),
}
"""Tables and columns that a schema adds. They are added to new ledgers, too, so that the SQL of all ledgers is the
same."""

_MAGIC = b"SQLite format 3\0"
HEAD_BYTES = 100
"""The header of a database (SQLite's file format, §1.3): the user version is at 60, the application ID at 68."""

DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""Exceptions of `sqlite3`; the second occurs if the text of an error is damaged."""

_NO_LEDGER = "give another file with --ledger, or, if it was a ledger, recover it with `bulkstow report --recover`"

_HINTS = {
    sqlite3.SQLITE_FULL: "make room there and run again",
    sqlite3.SQLITE_BUSY: "close the other program that has it open, and run again",
    sqlite3.SQLITE_LOCKED: "close the other program that has it open, and run again",
    sqlite3.SQLITE_READONLY: "it must be writable",
    sqlite3.SQLITE_CANTOPEN: "is its directory there, and writable?",
    sqlite3.SQLITE_PERM: "it must be readable and writable",
    sqlite3.SQLITE_IOERR: "look at the disk and its file system",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_NOTADB: _NO_LEDGER,
}
"""Remedies by SQLite's primary result code; every other code is damage."""


def wal_of(path: Path) -> Path:
    """Return the path of a database's WAL; `path` must not be a link."""
    return path.with_name(path.name + "-wal")


def create(path: Path) -> None:
    """Create an empty file that only its owner can read, if there is none; SQLite's other files get its mode."""
    if not path.exists():
        path.touch(0o600)


def check_head(path: Path) -> None:
    """Raise LedgerError for a file that is no ledger, without opening it as a database, which would create files.

    SQLite checks a ledger whose pages are still in its WAL, and a file that is missing or empty.
    """
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be read: {error.strerror}") from error
    if not head or wal_of(path.resolve()).exists():
        return
    if not head.startswith(_MAGIC) or len(head) < HEAD_BYTES:
        raise LedgerError(f"{path} cannot be used: file is not a database; {_NO_LEDGER}")
    check_ids(path, int.from_bytes(head[68:72]), version_in(head))


def is_ledger(path: Path) -> bool:
    """Return whether a file is a ledger of any schema; False if it cannot be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return head.startswith(_MAGIC) and int.from_bytes(head[68:72]) == APPLICATION_ID


def connect(path: Path, mode: str = "mode=rw") -> sqlite3.Connection:
    """Open an existing database in autocommit mode, for use in any thread."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA busy_timeout = 5000")  # a report may hold a read lock for a moment
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables of a new ledger, or check an existing one."""
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables:
        check(connection, path)
    else:
        create_tables(connection)  # before WAL mode: so a ledger is recognised even if its run is killed at once
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables of a ledger in one transaction."""
    ids = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}"
    connection.executescript(f"BEGIN; {ids}; {';'.join((*_TABLES, *_additions(SCHEMA_VERSION)))}; COMMIT;")


def _additions(version: int, since: int = 3) -> list[str]:
    """Return the statements that add the columns of the schemas up to this one, later than `since`."""
    added = (column.split(" ", 1) for schema in range(since + 1, version + 1) for column in _ADDITIONS[schema])
    return [f"ALTER TABLE {table} ADD COLUMN {column}" for table, column in added]


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise LedgerError unless this is a ledger of a supported schema."""
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version = schema_version(connection)
    check_ids(path, application, version)
    if not _statements(connection).issuperset(_expected(version)):
        raise damaged(path, "its tables are not those of a ledger")


def _statements(connection: sqlite3.Connection) -> frozenset[str]:
    return frozenset(sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema"))


def _expected(version: int) -> frozenset[str]:
    """Return the SQL of a ledger of this schema, as SQLite writes it after it has added columns."""
    tables = [table.replace(" version", f" {OLD_NAME}") for table in _TABLES] if version < 3 else _TABLES
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(";".join((*tables, *_additions(version))))
        return _statements(model) - {None}


def upgrade_steps(version: int) -> list[str]:
    """Return the statements that make the tables of an older schema those of the current one.

    They change only the schema. All rows stay on their pages; `recovery` relies on that.
    """
    return [*([_RENAMING] if version < 3 else ()), *_additions(SCHEMA_VERSION, max(version, 3))]


def columns_of(connection: sqlite3.Connection) -> str:
    """Return ALL_COLUMNS as expressions for this ledger's schema; NULL for columns that it lacks."""
    names = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('file')")}
    others = {"version": OLD_NAME} if OLD_NAME in names else {}
    return ", ".join(name if name in names else others.get(name, "NULL") for name in ALL_COLUMNS.split(", "))


def version_in(head: bytes) -> int:
    """Return the schema of a ledger that begins with `head`; its WAL may have another."""
    return int.from_bytes(head[60:64])


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the schema of a ledger."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def check_ids(path: Path, application: int, version: int) -> None:
    """Raise LedgerError unless the application ID and user version of a database are those of a ledger."""
    if application != APPLICATION_ID:
        raise LedgerError(f"{path} is a database, but not bulkstow's ledger: give another file with --ledger")
    if version not in (*OLD_SCHEMA_VERSIONS, SCHEMA_VERSION):
        raise LedgerError(
            f"the ledger {path} has schema {version}, this bulkstow reads schemas up to {SCHEMA_VERSION}: "
            "use the bulkstow that wrote it, or a new --ledger (stored files are then sent again)"
        )


def damaged(path: Path, detail: str) -> LedgerError:
    """Return the error for a ledger with impossible content."""
    return LedgerError(
        f"the ledger {path} is damaged ({detail}): recover what can be read with `bulkstow report --recover`, "
        "or give a new --ledger (stored files are then sent again)"
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise LedgerError with an explanation for an error of SQLite."""
    try:
        yield
    except DamagedRow as error:
        raise damaged(path, str(error)) from error
    except DATABASE_ERRORS as error:
        detail = re.sub(r"\s+", " ", str(error))
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        hint = _HINTS.get(code & 0xFF)
        if hint is None and "full" in detail:  # from a trigger or a quota
            hint = _HINTS[sqlite3.SQLITE_FULL]
        if hint is None:
            raise damaged(path, detail) from error
        raise LedgerError(f"the ledger {path} cannot be used: {detail}; {hint}") from error
