"""Recover the readable rows of a damaged ledger to a new one beside it.

Rows are read from both ends of the table and by the keys in its index, so an unreadable page costs only its own rows.
Only the first page of the table is required: a search for rows in all pages would find old ones, with outdated
outcomes.

A row is valid if its values have their types, and if the index has the same path and SOP Instance UID for a row with
UIDs. The next run sends the files of all other rows again.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bulkstow.errors import LedgerError
from bulkstow.ledger.database import (
    DATABASE_ERRORS,
    HEAD_BYTES,
    SCHEMA_VERSION,
    columns_of,
    connect,
    create,
    explained,
    prepare,
    version_in,
    wal_of,
)
from bulkstow.ledger.opening import copy_ledger
from bulkstow.ledger.rows import ALL_COLUMNS, COLUMN_COUNT, DamagedRow, as_result, as_row, as_times
from bulkstow.model import FileResult, Outcome

_DESTINATIONS = (
    "SELECT id, url, ceiling_bytes FROM destination NOT INDEXED",
    "SELECT id, url, NULL FROM destination INDEXED BY sqlite_autoindex_destination_1 ORDER BY url",
)
_SCANS = ("ORDER BY destination, path", "ORDER BY destination DESC, path DESC")
_KEYS = (
    "SELECT destination, path FROM file INDEXED BY file_by_instance WHERE destination = ? "
    "AND sop_instance_uid IS NOT NULL"
)
_IN_INDEX = f"{_KEYS} AND sop_instance_uid = ? AND path = ?"


_LOCATION = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:")
"""The beginning of a location: an absolute path, a drive or a scheme."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The result of recovering a damaged ledger."""

    path: Path
    """The new ledger."""
    files: int
    """The number of rows in it."""
    left_out: int
    """The number of readable rows that are damaged, or outdated, as the skipped files of schema 1 are."""
    is_whole: bool
    """Every page could be read, so no other row is missing."""


def recover(path: Path) -> Recovered:
    """Write the readable rows of a ledger to a new one beside it; the old one is not changed.

    Raises LedgerError if the new ledger exists already or cannot be written, or if no row can be read.
    """
    if not path.is_file():
        raise LedgerError(f"no ledger at {path}: give the file that `bulkstow upload --ledger` wrote")
    new = path.with_name(f"{path.stem}-recovered{path.suffix}")
    if new.exists():
        raise LedgerError(f"{new} is there already: use it as the --ledger, or move it away")
    try:
        with tempfile.TemporaryDirectory(prefix=".bulkstow-", dir=path.parent) as directory:
            recovered = _recover(path, Path(directory), new)
    except OSError as error:
        raise LedgerError(f"{new} cannot be written: {error.strerror or error}") from error
    return recovered


def _recover(path: Path, directory: Path, new: Path) -> Recovered:
    copy, built = directory / "damaged.db", directory / "new.db"
    copy_ledger(path.resolve(), copy)
    with explained(built):
        create(built)
        with closing(connect(built)) as target:
            prepare(target, built)
        with copy.open("rb") as file:
            may_be_of_schema_1 = version_in(file.read(HEAD_BYTES)) not in range(2, SCHEMA_VERSION + 1)
        is_whole = _repair(copy, built.read_bytes())
        with closing(connect(copy)) as source, closing(connect(built)) as target:
            source.text_factory = _text
            # The `skipped` rows of schema 1 are outdated (see `upgrade`); rows with a time are of schema 4 or later.
            rows = _Recovery(source, target, is_whole=is_whole, takes_skipped=not may_be_of_schema_1)
            rows.copy_destinations()
            rows.copy_files()
    if not rows.files:
        raise LedgerError(f"nothing that was recorded can be read in {path}: give a new --ledger")
    built.rename(new)
    return Recovered(new, rows.files, len(rows.left_out), rows.is_whole)


def _repair(copy: Path, pristine: bytes) -> bool:
    """Replace the first page of a copied ledger by that of a new one, then merge the WAL into it.

    The first page contains the schema, and the tables of all ledgers begin on the same pages, upgraded or not. Return
    whether there was no WAL, because SQLite omits damaged parts of a WAL without an error.
    """
    page = bytearray(pristine[: int.from_bytes(pristine[16:18], "big")])
    # The size in pages, which is valid if two counters are equal; no free pages (SQLite's file format, §1.3).
    page[24:28] = page[92:96] = (1).to_bytes(4, "big")
    page[28:32] = (copy.stat().st_size // len(page)).to_bytes(4, "big")
    page[32:40] = bytes(8)
    with copy.open("r+b") as file:
        file.write(page)
    if not wal_of(copy).exists():
        return True
    with suppress(*DATABASE_ERRORS), closing(connect(copy)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    wal_of(copy).unlink(missing_ok=True)
    return False


@dataclass(slots=True)
class _Recovery:
    """Copies rows from a damaged database to a new one."""

    source: sqlite3.Connection
    target: sqlite3.Connection
    is_whole: bool
    takes_skipped: bool
    files: int = 0
    left_out: set[tuple[object, object]] = field(default_factory=set)
    destinations: dict[object, tuple[int, int]] = field(default_factory=dict)
    """The numbers of the destination and its run in the target, by the destination's number in the source."""

    def copy_destinations(self) -> None:
        """Copy the destinations of files; if the table cannot be read, its index has the URLs too."""
        for query in _DESTINATIONS:
            try:
                for number, url, ceiling_bytes in self.source.execute(query):
                    if type(url) is str and url.isprintable() and number not in self.destinations:
                        self.destinations[number] = number, self._insert(number, url, ceiling_bytes)
            except DATABASE_ERRORS:
                self.is_whole = False
            else:
                return

    def _insert(self, destination: int, url: str, ceiling_bytes: object) -> int:
        """Write a destination and a run for its rows; return the run's number."""
        ceiling = ceiling_bytes if type(ceiling_bytes) is int and ceiling_bytes > 0 else None
        values = (destination, url, ceiling)
        self.target.execute("INSERT INTO destination (id, url, ceiling_bytes) VALUES (?, ?, ?)", values)
        return self.target.execute("INSERT INTO run (destination) VALUES (?)", (destination,)).lastrowid or 0

    def copy_files(self) -> None:
        """Copy the valid rows, each once, and count them."""
        self.target.execute("BEGIN")
        insert = (
            f"INSERT OR IGNORE INTO file (destination, run, {ALL_COLUMNS}) "  # noqa: S608 - only constants
            f"VALUES ({', '.join('?' * (COLUMN_COUNT + 5))})"
        )
        for number, *row in self._rows():
            try:
                result, times = as_result(row), as_times(row)
                self._check(number, result)
            except (DamagedRow, *DATABASE_ERRORS):
                self.left_out.add((number, row[0]))
            else:
                if result.outcome is Outcome.SKIPPED and not (self.takes_skipped or times[0]):
                    self.left_out.add((number, row[0]))
                    continue
                values = (*self.destinations[number], *as_row(result), times[0], times[1] or None, times[2])
                self.files += self.target.execute(insert, values).rowcount
        self.target.execute("COMMIT")

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield rows, some of them twice: from the beginning, and if a page is unreadable, from the end and by keys."""
        columns = ALL_COLUMNS
        with suppress(*DATABASE_ERRORS):
            columns = columns_of(self.source)
        rows = f"SELECT destination, {columns} FROM file NOT INDEXED"  # noqa: S608 - only constants
        for order in _SCANS:
            try:
                yield from self.source.execute(f"{rows} {order}")
            except DATABASE_ERRORS:
                self.is_whole = False
            else:
                return
        for number in self.destinations:
            with suppress(*DATABASE_ERRORS):
                for key in self.source.execute(_KEYS, (number,)).fetchall():
                    with suppress(*DATABASE_ERRORS):
                        yield from self.source.execute(f"{rows} WHERE destination = ? AND path = ?", key)

    def _check(self, number: object, result: FileResult) -> None:
        """Raise DamagedRow if the row differs from what was written, as far as that can be known."""
        candidate, header = result.candidate, result.header
        if number not in self.destinations or not _LOCATION.match(candidate.location) or candidate.size_bytes < 0:
            raise DamagedRow("no destination, path or size")
        if header is not None:
            key = (number, header.sop_instance_uid, as_row(result)[0])
            if self.source.execute(_IN_INDEX, key).fetchone() is None:
                raise DamagedRow("the index has another path or UID")


def _text(raw: bytes) -> object:
    """Return a text, or its bytes if it is not UTF-8, which makes its row invalid."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
