"""Reading ledgers for a report: one, or several as one, such as those of the shards of an archive.

The rows are merged in the order of destination and path, as each ledger has them, so memory holds one row of each.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any

from bulkstow.errors import LedgerError
from bulkstow.ledger.database import columns_of, damaged, explained
from bulkstow.ledger.opening import open_to_read
from bulkstow.ledger.rows import DamagedRow, as_result, as_times
from bulkstow.model import FileResult, Outcome
from bulkstow.platform.process import raise_open_files_limit

RUN_TEXTS = ("command", "bulkstow_version", "settings", "summary")
"""Columns of a run since schema 4."""

FILES_PER_LEDGER = 3
"""Open files of a ledger: the database, its WAL and the index of the WAL."""

SPARE_FILES = 32
"""Open files of the interpreter, standard streams, and temporary files of SQLite."""

CACHE_KIB = 32 * 1024
"""SQLite's page caches, all ledgers together; each row is read once, in the order of the pages."""

LEAST_CACHE_KIB, MOST_CACHE_KIB = 64, 2000
"""Bounds of the page cache of one ledger: 16 pages, as a tree of millions of rows has 4 levels, and SQLite's default.
A report of 4 ledgers of 150,000 rows each takes 34 MB of memory in all, one of 1,000 ledgers 310 MB."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the ledger, for reports."""

    destination: str
    result: FileResult
    recorded_at_s: int | None = field(default=None, compare=False)
    """When the outcome was recorded, since 1970; None in a row of an older bulkstow."""
    verified_level: str = ""
    """How `verify` confirmed that the server has the instance; empty if it has not."""
    verified_at_s: int | None = None
    """When it did."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run that a ledger has kept."""

    destination: str
    number: int
    """Runs of a ledger are numbered in the order of their start."""
    started_at: str
    """UTC, as SQLite writes it."""
    command: str
    """`upload` or `verify`; empty, as the version, in a row of an older bulkstow."""
    version: str
    settings: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    """None if the run has not ended, was killed, or is one of an older bulkstow."""
    ledger: str = ""
    """The path of the ledger."""


_File = tuple[str, str, bytes, int]
"""Destination, SOP Instance UID and path of a file, and the number of its ledger."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of one ledger."""

    key: tuple[str, bytes]
    """The destination's URL and the path."""
    run_started_at: str
    """When its run started, in UTC, as SQLite writes it: the order of the text is that of time."""
    entry: Entry

    @property
    def result(self) -> FileResult:
        """The outcome."""
        return self.entry.result

    @property
    def is_seen(self) -> bool:
        """Whether the run could read the size and the time of the file."""
        return (self.result.candidate.size_bytes, self.result.candidate.version) != (0, 0)


class LedgerReader(AbstractContextManager["LedgerReader"]):
    """Reads one ledger, or several as one.

    Writes nothing, and may be used during runs. Raises LedgerError with the path of a ledger that is missing, no
    ledger, or structurally damaged; the methods raise it if a row is damaged.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        wanted = SPARE_FILES + FILES_PER_LEDGER * len(paths)
        if raise_open_files_limit(wanted) < wanted:
            raise LedgerError(
                f"{len(paths)} ledgers at once need {wanted} open files: raise the limit with `ulimit -n`"
            )
        cache_kib = max(LEAST_CACHE_KIB, min(MOST_CACHE_KIB, CACHE_KIB // len(paths)))
        with ExitStack() as opened:
            self._ledgers = [(open_to_read(path, opened), path) for path in paths]
            for connection, _ in self._ledgers:
                connection.execute(f"PRAGMA cache_size = -{cache_kib}")
            self._opened = opened.pop_all()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the ledgers. Raises LedgerError if one without locks was written meanwhile."""
        self._opened.__exit__(exc_type, exc, traceback)

    def entries(self, outcomes: Iterable[Outcome] = ()) -> Iterator[Entry]:
        """Yield the entries in the order of destination and path, only with the given outcomes if there are any.

        A file that several ledgers have for the same destination counts once. A success counts, unless a later run
        found another size or modification time; otherwise the row of the latest run counts, and of two that began in
        the same second that of the ledger that is named last.
        """
        chosen = frozenset(outcomes)
        # An outcome of one of several ledgers may not count.
        of_each = chosen if len(self._ledgers) == 1 else frozenset[Outcome]()
        rows = heapq.merge(*(_rows(*ledger, of_each) for ledger in self._ledgers), key=attrgetter("key"))
        for _, of_file in groupby(rows, key=attrgetter("key")):
            entry = _deciding(list(of_file)).entry
            if not chosen or entry.result.outcome in chosen:
                yield entry

    def runs(self) -> Iterator[RunRecord]:
        """Yield the runs of all ledgers, ledger by ledger, in the order of their start."""
        for connection, path in self._ledgers:
            yield from runs_in(connection, path)

    def count_shared_instances(self) -> int:
        """Return how many SOP instances have files that no ledger has together.

        A run compares the files of its own ledger only: of these instances the server may have received several copies.
        """
        return sum(_is_shared(of_instance) for _, of_instance in groupby(self._files(), key=itemgetter(0, 1)))

    def count_instances(self) -> int:
        """Return the number of SOP instances, each counted once for a destination, for any outcome of their files."""
        return sum(1 for _ in groupby(self._files(), key=itemgetter(0, 1)))

    def _files(self) -> Iterator[_File]:
        return heapq.merge(*(_instances(number, *ledger) for number, ledger in enumerate(self._ledgers)))


def read_entries(path: Path, outcomes: Iterable[Outcome] = ()) -> Generator[Entry]:
    """Open a ledger at once, return its entries, and close it after the last one. Raises as `LedgerReader` does."""
    return _until_closed(LedgerReader([path]), outcomes)


def _until_closed(ledgers: LedgerReader, outcomes: Iterable[Outcome]) -> Generator[Entry]:
    with ledgers:
        yield from ledgers.entries(outcomes)


def _deciding(rows: list[_Row]) -> _Row:
    """Return the row of a file that counts; rows of later ledgers come last."""
    if len(rows) == 1:
        return rows[0]
    latest_first = sorted(rows, key=attrgetter("run_started_at"))[::-1]
    # A run that could not read the status of a file has not found it changed.
    seen = [row for row in latest_first if row.is_seen]
    unchanged = (row for row in seen if row.result.candidate == seen[0].result.candidate)
    return next((row for row in unchanged if row.result.outcome.is_success), latest_first[0])


def _rows(connection: sqlite3.Connection, path: Path, outcomes: frozenset[Outcome]) -> Iterator[_Row]:
    with explained(path):
        chosen = f"AND outcome IN ({', '.join('?' * len(outcomes))})" if outcomes else ""
        # An outer join, because a row without its run is an error.
        query = f"""
            SELECT started_at, {columns_of(connection)} FROM file LEFT JOIN run ON run.id = file.run
            WHERE file.destination = ? {chosen} ORDER BY path"""  # noqa: S608 - only ? and constants
        for url, number in destinations_in(connection, path):
            for started_at, *row in connection.execute(query, (number, *outcomes)):
                result = as_result(row)
                if type(started_at) is not str:
                    raise damaged(path, "a row without its run")
                yield _Row((url, row[0]), started_at, Entry(url, result, *as_times(row)))


def runs_in(connection: sqlite3.Connection, path: Path) -> Iterator[RunRecord]:
    """Yield the runs of a ledger in the order of their start. Raises LedgerError."""
    with explained(path):
        names = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('run')")}
        texts = ", ".join(f"run.{name}" if name in names else "NULL" for name in RUN_TEXTS)
        query = f"""
            SELECT url, run.id, started_at, {texts} FROM run LEFT JOIN destination ON destination.id = run.destination
            ORDER BY run.id"""  # noqa: S608 - only constants
        for url, number, started_at, command, version, settings, summary in connection.execute(query):
            if type(url) is not str or type(started_at) is not str:
                raise damaged(path, "a run without its destination")
            try:
                kept = [None if text is None else json.loads(text) for text in (settings, summary)]
            except (TypeError, ValueError):
                raise damaged(path, "the settings or the summary of a run") from None
            yield RunRecord(url, number, started_at, command or "", version or "", kept[0] or {}, kept[1], str(path))


def _instances(ledger: int, connection: sqlite3.Connection, path: Path) -> Iterator[_File]:
    """Yield the files in the order of their UIDs; reads the index only."""
    query = """
        SELECT sop_instance_uid, path FROM file INDEXED BY file_by_instance
        WHERE destination = ? AND sop_instance_uid IS NOT NULL ORDER BY sop_instance_uid, path"""
    with explained(path):
        for url, number in destinations_in(connection, path):
            for uid, location in connection.execute(query, (number,)):
                if type(uid) is not str or type(location) is not bytes:
                    raise DamagedRow("a path or a UID of another type")
                yield url, uid, location, ledger


def _is_shared(files: Iterable[_File]) -> bool:
    """Return whether no ledger has all of the files of one instance."""
    count = 0
    last = None
    by_ledger: Counter[int] = Counter()
    for *_, path, ledger in files:
        count += path != last
        last = path
        by_ledger[ledger] += 1
    return count > max(by_ledger.values())


def destinations_in(connection: sqlite3.Connection, path: Path) -> list[tuple[str, int]]:
    """Return URL and number of the destinations of files, in the order of the URLs. Raises LedgerError."""
    urls = dict(connection.execute("SELECT id, url FROM destination"))
    found = []
    (number,) = connection.execute("SELECT min(destination) FROM file").fetchone()
    while number is not None:
        if type(urls.get(number)) is not str:
            raise damaged(path, "a row without its destination")
        found.append((urls[number], number))
        # Looks at one row; DISTINCT would read them all.
        (number,) = connection.execute("SELECT min(destination) FROM file WHERE destination > ?", (number,)).fetchone()
    return sorted(found)
