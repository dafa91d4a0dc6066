"""Upgrade a ledger of an older schema in place.

In schemas 1 and 2 the column `version` is named `modified_ns`; the columns that older schemas lack are NULL in their
rows. The `skipped` rows of schema 1 are outdated: they include unreadable heads, archives, and files that share a SOP
Instance UID and differ in content, which now are failures or are sent. These rows are removed, so the next run treats
their files as new. All other rows stay, and their files are not sent again.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from bulkstow.errors import LedgerError
from bulkstow.ledger.database import (
    OLD_SCHEMA_VERSIONS,
    SCHEMA_VERSION,
    connect,
    create,
    schema_version,
    upgrade_steps,
)
from bulkstow.model import Outcome

KEPT_SUFFIXES = tuple(f"-schema-{version}" for version in OLD_SCHEMA_VERSIONS)
"""Suffixes of the names of the copies that are kept."""


def upgrade(connection: sqlite3.Connection, path: Path) -> Path | None:
    """Upgrade a ledger in one transaction; return the path of a copy of the old one, None if it is up to date.

    Raises LedgerError if the copy cannot be written, and then changes nothing; sqlite3.Error.
    """
    before = schema_version(connection)
    if before == SCHEMA_VERSION:
        return None
    kept = _keep(connection, path.resolve(), before)
    upgrade_schema(connection, before)
    return kept


def upgrade_schema(connection: sqlite3.Connection, before: int) -> None:
    """Upgrade a ledger of an older schema in one transaction. Raises sqlite3.Error."""
    forget = [f"DELETE FROM file WHERE outcome = '{Outcome.SKIPPED}'"] if before == 1 else []  # noqa: S608 - a constant
    ids = f"PRAGMA user_version = {SCHEMA_VERSION}"
    connection.executescript(";".join(("BEGIN IMMEDIATE", *forget, *upgrade_steps(before), ids, "COMMIT;")))


def _keep(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Copy a ledger including its WAL; the copy gets its name when it is complete."""
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
