"""Upgrade a ledger of an older schema in place.

Schemas 1 and 2 call the column `version` `modified_ns`. The `skipped` rows of schema 1 are not true any more: files
with a head that the reader of that time could not read, archives, and files with the SOP Instance UID of another and
different content are failures now, or are sent. These rows are removed, so the next run treats their files as new. All
other rows stay, and nothing of them is sent again.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from bulkstow.errors import LedgerError
from bulkstow.ledger.database import (
    OLD_NAME,
    OLD_SCHEMA_VERSIONS,
    SCHEMA_VERSION,
    connect,
    create,
    schema_version,
)
from bulkstow.model import Outcome

KEPT_SUFFIXES = tuple(f"-schema-{version}" for version in OLD_SCHEMA_VERSIONS)
"""The ends of the names of copies that are kept, by their schema."""


def upgrade(connection: sqlite3.Connection, path: Path) -> Path | None:
    """Upgrade a ledger in one transaction; return the path of the copy that is kept, None if nothing had to be done.

    A renamed column is renamed in the schema only: the rows stay on their pages, which `recovery` relies on. Raises
    LedgerError when the copy cannot be written, and then changes nothing; sqlite3.Error.
    """
    before = schema_version(connection)
    if before == SCHEMA_VERSION:
        return None
    kept = _keep(connection, path.resolve(), before)
    forget = f"DELETE FROM file WHERE outcome = '{Outcome.SKIPPED}';" if before == 1 else ""  # noqa: S608 - a constant
    connection.executescript(
        f"BEGIN IMMEDIATE; {forget} ALTER TABLE file RENAME COLUMN {OLD_NAME} TO version; "
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )
    return kept


def _keep(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Copy a ledger with what its WAL holds; the copy gets its name when it is whole."""
    kept = path.with_name(f"{path.name}-schema-{version}")
    partial = kept.with_name(f"{kept.name}-partial")
    try:
        partial.unlink(missing_ok=True)
        create(partial)
        with closing(connect(partial)) as copy:
            connection.backup(copy)
        partial.replace(kept)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise LedgerError(
            f"the ledger {path} is of an older bulkstow, and no copy of it can be kept in {kept} ({error}): "
            "make room there, or move away the file in its place"
        ) from error
    return kept
