"""Changes of a ledger by its user: deleted rows and accepted failures."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bulkstow.errors import LedgerError
from bulkstow.ledger.database import check_head, connect, explained, prepare
from bulkstow.ledger.lock import Lock
from bulkstow.ledger.opening import open_for_look_ups
from bulkstow.ledger.rows import OUTCOMES, DamagedRow
from bulkstow.ledger.upgrade import upgrade
from bulkstow.model import Outcome

_FAILURES = ", ".join(f"'{outcome}'" for outcome in Outcome if outcome.is_failure)
_IS_CHOSEN = "(destination, path) IN (SELECT destination, path FROM temp.chosen)"


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice of rows in a ledger: a row is chosen if it meets every given condition; without conditions, all are."""

    outcomes: frozenset[Outcome] = frozenset()
    """Empty for all."""
    studies: frozenset[str] | None = None
    """Study Instance UIDs, those at the source or those that were sent; None for all rows, also those without one."""
    matches_path: Callable[[str], bool] | None = None
    """Whether a path is chosen; None for all."""
    destination: str | None = None
    """The URL of a server; None for rows of all servers."""


Counts = dict[Outcome, int]
"""Rows by outcome, in the usual order."""


class LedgerEditor(AbstractContextManager["LedgerEditor"]):
    """Changes rows of a ledger; no run can use the ledger meanwhile.

    Raises LedgerError if the ledger is missing, in use by a run, damaged, or cannot be written. A ledger of an older
    version is upgraded. With `only_counts` rows are chosen and counted, and nothing is written; a run may use the
    ledger.
    """

    def __init__(self, path: Path, *, only_counts: bool = False) -> None:
        if not path.is_file():
            raise LedgerError(f"no ledger at {path}: give the file that `bulkstow upload --ledger` wrote")
        self._path = path
        self.kept_copy: Path | None = None
        """The path of a copy of the ledger before it was upgraded; None if it had the current schema."""
        with ExitStack() as opened:
            if only_counts:
                self._connection = open_for_look_ups(path, opened)
            else:
                self._connection = self._open(opened)
            with explained(path):
                self._connection.execute("PRAGMA query_only = OFF")  # the temporary tables are written
                self._connection.execute("CREATE TEMP TABLE chosen (destination, path, outcome, is_accepted)")
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack) -> sqlite3.Connection:
        opened.callback(Lock(self._path).release)
        check_head(self._path)
        with explained(self._path):
            connection = opened.enter_context(closing(connect(self._path)))
            prepare(connection, self._path)
            self.kept_copy = upgrade(connection, self._path)
        return connection

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the ledger and release its lock."""
        self._opened.close()

    @property
    def destinations(self) -> list[str]:
        """The URLs of the servers that have rows in the ledger."""
        query = "SELECT url FROM destination WHERE id IN (SELECT DISTINCT destination FROM file) ORDER BY url"
        with explained(self._path):
            return [str(url) for (url,) in self._connection.execute(query)]

    def choose(self, choice: Choice) -> Counts:
        """Choose the rows to change, and count them."""
        conditions, parameters = ["TRUE"], [outcome.value for outcome in choice.outcomes]
        if choice.outcomes:
            conditions.append(f"outcome IN ({', '.join('?' * len(choice.outcomes))})")
        if choice.destination is not None:
            conditions.append("destination IN (SELECT id FROM destination WHERE url = ?)")
            parameters.append(choice.destination)
        if choice.studies is not None:
            named = "IN (SELECT uid FROM temp.study)"
            conditions.append(f"(study_uid {named} OR original_study_uid {named})")
        if (matches := choice.matches_path) is not None:
            self._connection.create_function("is_chosen", 1, lambda path: matches(os.fsdecode(path)))
            conditions.append("is_chosen(path)")
        with explained(self._path):
            self._connection.execute("DROP TABLE IF EXISTS temp.study")
            self._connection.execute("CREATE TEMP TABLE study (uid TEXT PRIMARY KEY)")
            self._connection.executemany("INSERT INTO study VALUES (?)", ((uid,) for uid in choice.studies or ()))
            self._connection.execute("DELETE FROM temp.chosen")
            where = " AND ".join(conditions)
            rows = f"SELECT destination, path, outcome, accepted IS NOT NULL FROM file WHERE {where}"  # noqa: S608
            self._connection.execute(f"INSERT INTO temp.chosen {rows}", parameters)
        return self._count("TRUE")

    def forget(self) -> None:
        """Delete the chosen rows: to the next upload their files are new."""
        self._change(f"DELETE FROM file WHERE {_IS_CHOSEN}")  # noqa: S608 - only constants

    def accept(self, note: str) -> None:
        """Mark the chosen failures as accepted, with a note."""
        self._change(
            f"UPDATE file SET accepted = ? WHERE outcome IN ({_FAILURES}) AND {_IS_CHOSEN}",  # noqa: S608 - constants
            note.encode(errors="backslashreplace").decode(),
        )

    def count_accepted(self) -> Counts:
        """Count the chosen rows that are accepted."""
        return self._count("is_accepted")

    def unaccept(self) -> None:
        """Remove the mark of the chosen rows."""
        self._change(f"UPDATE file SET accepted = NULL WHERE accepted IS NOT NULL AND {_IS_CHOSEN}")  # noqa: S608

    def _change(self, statement: str, *parameters: str) -> None:
        with explained(self._path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(statement, parameters)

    def _count(self, condition: str) -> Counts:
        with explained(self._path):
            rows = self._connection.execute(
                f"SELECT outcome, count(*) FROM temp.chosen WHERE {condition} GROUP BY outcome"  # noqa: S608 - constants
            ).fetchall()
            counts = {_outcome(word): count for word, count in rows}
        return {outcome: counts[outcome] for outcome in Outcome if outcome in counts}


def _outcome(word: object) -> Outcome:
    if word not in OUTCOMES:
        raise DamagedRow(f"an outcome {word!r}")
    return OUTCOMES[word]
