"""The outcomes of earlier runs for one destination, for a command that sends nothing: the ledger is only read.

It may be in use by a run. A ledger that does not exist yet counts as an empty one, and is not created.
"""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bulkstow.errors import ConfigurationError
from bulkstow.ledger.database import create_tables, explained
from bulkstow.ledger.journal import files_of
from bulkstow.ledger.look_ups import LookUps
from bulkstow.ledger.opening import open_for_look_ups
from bulkstow.ledger.reading import RunRecord, runs_in
from bulkstow.model import Outcome

NO_RUN = 0
"""A number that no run has: runs are numbered from 1."""


@dataclass(frozen=True, slots=True)
class NotStored:
    """Files of one kind with the same outcome."""

    sop_class_uid: str
    transfer_syntax_uid: str
    outcome: Outcome
    files: int


class EarlierRuns(AbstractContextManager["EarlierRuns"]):
    """Earlier runs to one destination; without a URL, to the only destination in the ledger.

    Raises ConfigurationError if there are several, and LedgerError if the file is no ledger or damaged.
    """

    def __init__(self, path: Path, url: str | None) -> None:
        self._path = path
        with ExitStack() as opened:
            if path.exists() and (path.is_dir() or path.stat().st_size):
                self._connection = open_for_look_ups(path, opened)
            else:
                self._connection = opened.enter_context(closing(sqlite3.connect(":memory:", check_same_thread=False)))
                create_tables(self._connection)
            with explained(path):
                urls = dict(self._connection.execute("SELECT url, id FROM destination ORDER BY url").fetchall())
            if url is None and len(urls) > 1:
                raise ConfigurationError(
                    f"the ledger {path} has {len(urls)} destinations: choose one with --url, such as {next(iter(urls))}"
                )
            self.url = next(iter(urls), None) if url is None else url
            """The destination; None if neither the user nor the ledger names one."""
            self._destination = urls.get(self.url, 0)
            self.look_ups = LookUps(self._connection, path, destination=self._destination, run=NO_RUN)
            self._opened = opened.pop_all()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the ledger."""
        self._opened.__exit__(exc_type, exc, traceback)

    @property
    def files(self) -> frozenset[str]:
        """Absolute paths of the ledger's own files, which the scan excludes."""
        return files_of(self._path)

    def not_stored(self, limit: int) -> list[NotStored]:
        """Return the most frequent kinds of instances that the server refused or did not confirm."""
        outcomes = (Outcome.REFUSED.value, Outcome.UNCONFIRMED.value)
        query = """
            SELECT sop_class_uid, transfer_syntax_uid, outcome, count(*) FROM file
            WHERE destination = ? AND outcome IN (?, ?) AND sop_class_uid IS NOT NULL
            GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT ?"""
        rows = self.look_ups.read(query, (self._destination, *outcomes, limit))
        return [NotStored(str(row[0]), str(row[1]), Outcome(row[2]), row[3]) for row in rows]

    def latest_upload(self) -> RunRecord | None:
        """Return the latest upload that sent something and has ended; None if there is none."""
        runs = (run for run in runs_in(self._connection, self._path) if run.destination == self.url)
        uploads = [run for run in runs if run.command == "upload" and run.summary and run.summary.get("delivered")]
        return uploads[-1] if uploads else None
