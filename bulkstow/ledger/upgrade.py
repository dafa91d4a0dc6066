"""A ledger of an older schema, brought to the present one in its place.

Schema 1 has the same tables. What its `skipped` rows say is no longer true: files whose head the reader of that time
could not read, archives, and files with the SOP Instance UID of another and different content are failures now, or are
sent. These rows are removed, so the next run looks at their files as at new ones. All other rows stay.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from bulkstow.errors import LedgerError
from bulkstow.ledger.database import SCHEMA_VERSION, connect, create, schema_version
from bulkstow.model import Outcome

KEPT_SUFFIX = "-schema-1"
"""What the name of a ledger's copy ends with that is kept as it was."""

_PARTIAL_SUFFIX = f"{KEPT_SUFFIX}-partial"


def upgrade(connection: sqlite3.Connection, path: Path) -> Path | None:
    """Bring a ledger to the present schema in one transaction; return where a copy of it is kept, None if it was new.

    Raises LedgerError when the copy cannot be written, and then changes nothing; sqlite3.Error.
    """
    if schema_version(connection) == SCHEMA_VERSION:
        return None
    kept = _keep(connection, path.resolve())
    connection.executescript(
        f"BEGIN IMMEDIATE; DELETE FROM file WHERE outcome = '{Outcome.SKIPPED}'; "  # noqa: S608 - only constants
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )
    return kept


def _keep(connection: sqlite3.Connection, path: Path) -> Path:
    """Copy a ledger with what its WAL holds; the copy gets its name when it is whole."""
    kept, partial = path.with_name(path.name + KEPT_SUFFIX), path.with_name(path.name + _PARTIAL_SUFFIX)
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
