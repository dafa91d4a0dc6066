"""Several ledgers as one: those of the shards of an archive, or of machines without a common network.

The rows are merged in the order of destination and path, as each ledger has them, so memory holds one row of each.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path

from bulkstow.errors import LedgerError
from bulkstow.ledger.database import columns_of, damaged, explained
from bulkstow.ledger.reading import Entry, open_to_read, read_entries
from bulkstow.ledger.rows import DamagedRow, as_result
from bulkstow.model import FileResult, Outcome
from bulkstow.platform.process import raise_open_files_limit

FILES_PER_LEDGER = 3
"""Open files of a ledger: the database, its WAL and the index of the WAL."""

SPARE_FILES = 32
"""Open files of the interpreter, standard streams, and temporary files of SQLite."""

CACHE_KIB = 32 * 1024
"""SQLite's page caches, all ledgers together; each row is read once, in the order of the pages."""

SMALLEST_CACHE_KIB = 64
"""The page cache of one ledger, 16 pages: the depth of a tree of millions of rows is 4."""


_File = tuple[str, str, bytes, int]
"""Destination, SOP Instance UID and path of a file, and the number of its ledger."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of one ledger."""

    key: tuple[str, bytes]
    """The destination's URL and the path."""
    recorded_at: str
    """When its run started, in UTC, as SQLite writes it: the order of the text is that of time."""
    result: FileResult

    @property
    def is_seen(self) -> bool:
        """Whether the run could read the size and the time of the file."""
        return (self.result.candidate.size_bytes, self.result.candidate.version) != (0, 0)


def read_ledgers(paths: Sequence[Path], outcomes: Iterable[Outcome] = ()) -> Generator[Entry]:
    """Return the entries of several ledgers as if they were one, only with the given outcomes if there are any.

    A file that several ledgers have for the same destination counts once. A success counts, unless a later run found
    another size or modification time; otherwise the row of the latest run counts, and of two that began in the same
    second that of the ledger that is named last.

    Writes nothing, and may be called during runs. Raises LedgerError, as `read_entries` does, with the path of the
    ledger that cannot be read.
    """
    if len(paths) == 1:
        return read_entries(paths[0], outcomes)
    with ExitStack() as opened:
        ledgers = _open(paths, opened)
        return _merged([_rows(*ledger) for ledger in ledgers], frozenset(outcomes), opened.pop_all())


def count_shared_instances(paths: Sequence[Path]) -> int:
    """Return how many SOP instances have files that no ledger has together.

    A run compares the files of its own ledger only: of these instances the server may have received several copies.
    Raises LedgerError as `read_ledgers` does.
    """
    with ExitStack() as opened:
        files = [_instances(number, *ledger) for number, ledger in enumerate(_open(paths, opened))]
        by_instance = groupby(heapq.merge(*files), key=itemgetter(0, 1))
        return sum(_is_shared(of_instance) for _, of_instance in by_instance)


def _open(paths: Sequence[Path], opened: ExitStack) -> list[tuple[sqlite3.Connection, Path]]:
    wanted = SPARE_FILES + FILES_PER_LEDGER * len(paths)
    if raise_open_files_limit(wanted) < wanted:
        raise LedgerError(f"{len(paths)} ledgers at once need {wanted} open files: raise the limit with `ulimit -n`")
    cache_kib = max(SMALLEST_CACHE_KIB, CACHE_KIB // len(paths))
    ledgers = []
    for path in paths:
        connection = open_to_read(path, opened)
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        ledgers.append((connection, path))
    return ledgers


def _merged(ledgers: list[Iterator[_Row]], outcomes: frozenset[Outcome], opened: ExitStack) -> Generator[Entry]:
    with opened:
        for (url, _), rows in groupby(heapq.merge(*ledgers, key=attrgetter("key")), key=attrgetter("key")):
            result = _deciding(list(rows)).result
            if not outcomes or result.outcome in outcomes:
                yield Entry(url, result)


def _deciding(rows: list[_Row]) -> _Row:
    """Return the row of a file that counts; rows of later ledgers come last."""
    if len(rows) == 1:
        return rows[0]
    latest_first = sorted(rows, key=attrgetter("recorded_at"))[::-1]
    # A run that could not read the status of a file has not found it changed.
    seen = [row for row in latest_first if row.is_seen]
    unchanged = (row for row in seen if row.result.candidate == seen[0].result.candidate)
    return next((row for row in unchanged if row.result.outcome.is_success), latest_first[0])


def _rows(connection: sqlite3.Connection, path: Path) -> Iterator[_Row]:
    columns = columns_of(connection)
    query = f"""
        SELECT started_at, {columns} FROM file LEFT JOIN run ON run.id = file.run
        WHERE file.destination = ? ORDER BY path"""  # noqa: S608 - only ? and constants
    with explained(path):
        for url, number in _destinations(connection, path):
            for started_at, *row in connection.execute(query, (number,)):
                result = as_result(row)
                if type(started_at) is not str:
                    raise damaged(path, "a row without its run")
                yield _Row((url, row[0]), started_at, result)


def _instances(ledger: int, connection: sqlite3.Connection, path: Path) -> Iterator[_File]:
    """Yield the files in the order of their UIDs; reads the index only."""
    query = """
        SELECT sop_instance_uid, path FROM file INDEXED BY file_by_instance
        WHERE destination = ? AND sop_instance_uid IS NOT NULL ORDER BY sop_instance_uid, path"""
    with explained(path):
        for url, number in _destinations(connection, path):
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


def _destinations(connection: sqlite3.Connection, path: Path) -> list[tuple[str, int]]:
    """Return URL and number of the destinations of files, in the order of the URLs."""
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
