"""Every file that a plan has found, on disk: a private SQLite database in a temporary file that is removed at the end.

Memory does not grow with the archive. Files whose headers differ only in the SOP Instance UID share a row of `header`,
so their own rows are short, and figures are added up by header. Methods block; several threads may call them.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from operator import attrgetter
from typing import Any

from bulkstow.errors import LedgerError
from bulkstow.model import Candidate, FileResult, Header, Instance, Outcome

HEADERS_AT_HAND = 4096
"""Headers whose rows are cached, some 0.7 KB each. A header that left the cache gets a second row, which changes no
figure, because figures are grouped by values. 200,000 files of 200 studies have 200 headers."""

ROWS_AT_ONCE = 1000
"""The most rows of one query: 100 KB of paths."""


class State(IntEnum):
    """The decision of the plan on a file."""

    TO_SEND = 0
    FOUND = 1
    """The file is not sent; this plan has found the reason."""
    SETTLED = 2
    """The file is not sent, because an earlier run settled it."""


IS_TO_SEND, IS_FOUND, IS_SETTLED = (f"state = {state.value}" for state in State)
IS_COPY = f"(outcome = '{Outcome.SKIPPED}' AND is_copy)"
IS_FAILURE = f"outcome IN ({', '.join(repr(outcome.value) for outcome in Outcome if outcome.is_failure)})"
IS_SUCCESS = f"outcome IN ({', '.join(repr(outcome.value) for outcome in Outcome if outcome.is_success)})"
"""Conditions on rows of `file` and of `total`."""

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE header (
    id INTEGER PRIMARY KEY,
    study_uid TEXT, series_uid TEXT, sop_class_uid TEXT, transfer_syntax_uid TEXT, modality TEXT, study_date TEXT
);
CREATE TABLE file (
    number INTEGER PRIMARY KEY,       -- the order of the scan
    path BLOB, size_bytes INTEGER,
    version BLOB,                     -- a number as TEXT: a damaged file system may have times beyond 64 bits
    by_link INTEGER,
    header INTEGER REFERENCES header, sop_instance_uid TEXT,
    uid_key INTEGER,                  -- a hash of the UID: its index has a quarter of the size of one of UIDs
    state INTEGER, outcome TEXT, reason TEXT, is_copy INTEGER, is_accepted INTEGER, sha256 TEXT,
    sent_bytes INTEGER                -- NULL if it is the size
);
CREATE INDEX to_send ON file (uid_key) WHERE state = 0;
CREATE UNIQUE INDEX not_to_send ON file (path) WHERE state <> 0;
"""

_FILE_COLUMNS = """
    path, size_bytes, version, by_link, header, sop_instance_uid, uid_key,
    state, outcome, reason, is_copy, is_accepted, sha256, sent_bytes"""
_TO_SEND = (State.TO_SEND.value, None, None, None, None)
_MARKS = f"({', '.join('?' * 14)})"
_INSTANCE_COLUMNS = """
    path, size_bytes, version, by_link, sent_bytes, study_uid, series_uid, sop_instance_uid, sop_class_uid,
    transfer_syntax_uid, modality, study_date"""

_grouped: Callable[[Header], tuple[str | None, ...]] = attrgetter(
    "study_uid", "series_uid", "sop_class_uid", "transfer_syntax_uid", "modality", "study_date"
)


class Inventory:
    """The files of a plan. Raises LedgerError if the temporary file cannot be written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._headers: dict[tuple[str | None, ...], int] = {}
        """The row numbers of cached headers, by their values."""
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        with self._used():
            self._database.executescript(_SCHEMA)
            self._database.execute("BEGIN")  # never committed: the database is removed at the end

    def close(self) -> None:
        """Remove the database."""
        self._database.close()

    def add_instances(self, instances: Sequence[Instance]) -> None:
        """Add files that would be sent."""
        with self._used():
            rows = ((i, _row(i.candidate, i.header, self._header_id(i.header))) for i in instances)
            self._insert([(*row, *_TO_SEND, i.sha256, i.other_size_bytes) for i, row in rows])

    def add_results(self, results: Sequence[FileResult], state: State = State.FOUND) -> None:
        """Add files that would not be sent; the last result of a path counts."""
        with self._used():
            self._insert([self._row_of_result(result, state) for result in results])

    def owners(self, sop_instance_uids: Sequence[str]) -> dict[str, list[Instance]]:
        """Return, by SOP Instance UID, the files that would be sent before others with that UID."""
        if not sop_instance_uids:
            return {}
        keys = [hash(uid) for uid in sop_instance_uids]
        query = f"""
            SELECT {_INSTANCE_COLUMNS} FROM file INDEXED BY to_send JOIN header ON header.id = header
            WHERE state = 0 AND uid_key IN ({", ".join("?" * len(keys))})"""  # noqa: S608 - only ? and constants
        owners: dict[str, list[Instance]] = {}
        wanted = frozenset(sop_instance_uids)
        for row in self.rows(query, keys):
            instance = _instance(row)
            uid = instance.header.sop_instance_uid
            if uid in wanted:
                owners.setdefault(uid, []).append(instance)
        return owners

    def take_conflicts(self, limit: int) -> list[Candidate]:
        """Remove files in conflict, the first of each SOP Instance UID, and return them."""
        query = """
            SELECT number, path, size_bytes, version, by_link, min(path) FROM file
            WHERE state = ? AND outcome = ? AND is_copy GROUP BY sop_instance_uid ORDER BY path LIMIT ?"""
        rows = self.rows(query, (State.FOUND, Outcome.CONFLICT.value, limit))
        with self._used():
            self._database.executemany("DELETE FROM file WHERE number = ?", [row[:1] for row in rows])
        return [_candidate(*row[1:5]) for row in rows]

    def add_up(self) -> None:
        """Fill the table `total` with the figures of all files; call it after the last file."""
        with self._used():
            self._database.execute("""
                CREATE TABLE total AS SELECT header, state, outcome, is_copy, is_accepted, count(*) AS files,
                sum(coalesce(sent_bytes, size_bytes)) AS size_bytes
                FROM file GROUP BY header, state, outcome, is_copy, is_accepted""")

    def count_studies_to_send(self) -> int:
        """Return the number of studies with files that would be sent; after `add_up`."""
        ((studies,),) = self.rows(
            f"SELECT count(DISTINCT study_uid) FROM total JOIN header ON header.id = header WHERE {IS_TO_SEND}"  # noqa: S608 - constants
        )
        return int(studies)

    def studies_to_send(self) -> Iterator[tuple[str, int]]:
        """Yield the studies with files that would be sent, each with the number of instances that the server will have.

        Only after `add_up`.
        """
        query = f"""
            SELECT study_uid, sum(files) FILTER (WHERE {IS_TO_SEND} OR {IS_SUCCESS})
            FROM total JOIN header ON header.id = header
            WHERE study_uid > ? GROUP BY study_uid HAVING sum({IS_TO_SEND}) ORDER BY study_uid LIMIT ?"""  # noqa: S608
        last = ""
        while rows := self.rows(query, (last, ROWS_AT_ONCE)):
            yield from rows
            last = rows[-1][0]

    def count_to_send(self, sop_class_uid: str, transfer_syntax_uid: str) -> int:
        """Return the number of files of a kind that would be sent; after `add_up`."""
        query = f"""
            SELECT coalesce(sum(files), 0) FROM total JOIN header ON header.id = header
            WHERE {IS_TO_SEND} AND sop_class_uid = ? AND transfer_syntax_uid = ?"""  # noqa: S608 - constants
        ((files,),) = self.rows(query, (sop_class_uid, transfer_syntax_uid))
        return int(files)

    def paths_to_send(self, *, newest_first: bool = False) -> Iterator[bytes]:
        """Yield the paths of files that would be sent, in the order of the scan, or the newest study first.

        The date of a study is the latest in its files; a study without a date comes last. Only after `add_up`.
        """
        if newest_first:
            with self._used():
                self._database.execute("""
                    CREATE TABLE newest_first AS
                    SELECT path, state FROM file JOIN header ON header.id = header JOIN (
                        SELECT study_uid, coalesce(max(study_date), '') AS date FROM header GROUP BY study_uid
                    ) USING (study_uid)
                    WHERE state = 0 ORDER BY date DESC, study_uid, number""")
        table = "newest_first" if newest_first else "file"
        query = f"SELECT rowid, path FROM {table} WHERE rowid > ? AND {IS_TO_SEND} ORDER BY rowid LIMIT ?"  # noqa: S608
        last = 0
        while rows := self.rows(query, (last, ROWS_AT_ONCE)):
            last = rows[-1][0]
            yield from (path for _, path in rows)

    def digests(self) -> Iterator[tuple[str, bytes]]:
        """Yield the SHA-256 and the path of each file that would be sent, in the order of the scan."""
        query = f"SELECT number, sha256, path FROM file WHERE number > ? AND {IS_TO_SEND} ORDER BY number LIMIT ?"  # noqa: S608
        last = 0
        while rows := self.rows(query, (last, ROWS_AT_ONCE)):
            last = rows[-1][0]
            yield from ((sha256, path) for _, sha256, path in rows)

    def path_with_newline(self) -> str:
        """Return the first path of a file to send that contains a newline; empty if there is none."""
        query = f"SELECT path FROM file WHERE {IS_TO_SEND} AND instr(path, x'0A') LIMIT 1"  # noqa: S608 - constants
        return "".join(path.decode(errors="surrogatepass") for (path,) in self.rows(query))

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query, which has to be limited, or to have one row for a group of files."""
        with self._used():
            return self._database.execute(query, parameters).fetchall()

    def _header_id(self, header: Header) -> int:
        values = _grouped(header)
        number = self._headers.get(values)
        if number is None:
            if len(self._headers) >= HEADERS_AT_HAND:
                self._headers.clear()
            number = self._database.execute(
                "INSERT INTO header VALUES (NULL, ?, ?, ?, ?, ?, ?)", [_text(value) for value in values]
            ).lastrowid
            self._headers[values] = number = number or 0
        return number

    def _row_of_result(self, result: FileResult, state: State) -> tuple[object, ...]:
        header = None if result.header is None else self._header_id(result.header)
        outcome, reason = result.outcome.value, _text(result.reason)
        is_copy, is_accepted = bool(result.copy_of), bool(result.accepted)
        row = _row(result.candidate, result.header, header)
        return (*row, state.value, outcome, reason, is_copy, is_accepted, result.sha256, result.sent_bytes)

    def _insert(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows by one statement, so that SQLite runs once without the interpreter lock, not once for each."""
        if rows:
            marks = ", ".join([_MARKS] * len(rows))
            self._database.execute(
                f"INSERT OR REPLACE INTO file ({_FILE_COLUMNS}) VALUES {marks}",  # noqa: S608 - only ? and constants
                [value for row in rows for value in row],
            )

    @contextmanager
    def _used(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            raise LedgerError(
                f"a plan needs a temporary file: {error}; make room there, or set SQLITE_TMPDIR"
            ) from error


def _row(candidate: Candidate, header: Header | None, header_id: int | None) -> tuple[object, ...]:
    """Return the first columns of a file."""
    version = candidate.version
    uid = None if header is None else header.sop_instance_uid
    return (
        candidate.location.encode(errors="surrogatepass"),
        candidate.size_bytes,
        version.encode(errors="surrogatepass") if isinstance(version, str) else str(version),
        candidate.by_link,
        header_id,
        uid,
        None if uid is None else hash(uid),
    )


def _instance(row: Sequence[Any]) -> Instance:
    study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, modality, study_date = row[5:]
    header = Header(study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, modality, study_date)
    return Instance(_candidate(*row[:4]), header, sent_bytes=row[4])


def _candidate(path: bytes, size_bytes: int, version: str | bytes, by_link: int | None) -> Candidate:
    as_found = int(version) if isinstance(version, str) else version.decode(errors="surrogatepass")
    location = path.decode(errors="surrogatepass")
    return Candidate(location, size_bytes, as_found, None if by_link is None else bool(by_link))


def _text(value: str | None) -> str | None:
    """Return text that SQLite accepts; a path in it need not be UTF-8."""
    return None if value is None else value.encode(errors="backslashreplace").decode()
