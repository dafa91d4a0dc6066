"""The journal: what is known of every file, on disk, for this run and the next.

One SQLite file in WAL mode, with one writer and one reader connection, and a lock that keeps a second run out. A row is
written only when a file's fate is known, so whatever a crash interrupts has no row, or its old one, and is sent again.
`synchronous=NORMAL` is enough for that: WAL then survives the death of the process whole, and the death of the machine
without damage; what the machine's death takes back is sent again.

It knows nothing of servers or of the pipeline, and it never guesses: a ledger of another schema is refused.
Methods block; the pipeline calls them in threads.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from bulkstow.errors import LedgerError
from bulkstow.model import Candidate, Fate, Header, Instance, Outcome

APPLICATION_ID = 0x53544F57
"""`STOW`: how a ledger is told from any other SQLite file."""

SCHEMA_VERSION = 1

LOCK_SUFFIX = "-lock"

_SCHEMA = """
CREATE TABLE destination (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    ceiling_bytes INTEGER             -- the largest body to send there, learned from a 413
);
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    destination INTEGER NOT NULL REFERENCES destination,
    started_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE file (
    destination INTEGER NOT NULL REFERENCES destination,
    path BLOB NOT NULL,               -- bytes as the file system has them: a name need not be UTF-8
    size_bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    study_uid TEXT, series_uid TEXT, sop_instance_uid TEXT, sop_class_uid TEXT, transfer_syntax_uid TEXT,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    copy_of BLOB,                     -- path of the file that stands for the same SOP instance
    run INTEGER NOT NULL REFERENCES run,  -- the run that found this out
    PRIMARY KEY (destination, path)
) WITHOUT ROWID;
CREATE INDEX file_by_instance ON file (destination, sop_instance_uid) WHERE sop_instance_uid IS NOT NULL;
CREATE INDEX file_by_copy ON file (destination, run) WHERE copy_of IS NOT NULL;
"""

_COLUMNS = (
    "path, size_bytes, modified_ns, study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, "
    "outcome, reason, attempts, copy_of"
)

_SUCCESSES = ", ".join(f"'{fate}'" for fate in Fate if fate.is_success)

_FINAL = frozenset(fate for fate in Fate if fate.is_success or fate in (Fate.REFUSED, Fate.CONFLICT, Fate.SKIPPED))
"""What the next run leaves alone; of a copy, or a file in conflict, only while the other file is on the server."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger holds of a file that has not changed since."""

    fate: Fate
    is_final: bool
    """Nothing has to be done for it again, unless the user asks."""
    reason: str = ""
    is_of_this_run: bool = field(default=False, compare=False)
    """This run has been there already: the file was named twice."""


class Ledger(AbstractContextManager["Ledger"]):
    """The journal of what was sent to one destination; open it for one run at a time.

    Raises LedgerError when the file cannot be opened or written, belongs to a run that is going on, or was not
    written by this version of bulkstow.
    """

    def __init__(self, path: Path, destination: str) -> None:
        self.path = path
        self._lock_fd = _lock(path)
        with ExitStack() as undo:
            undo.callback(os.close, self._lock_fd)
            with _explained(path):
                self._writer = undo.enter_context(closing(_connect(path)))
                _prepare(self._writer, path)
                self._reader = undo.enter_context(closing(_connect(path)))
                self._destination = self._destination_id(destination)
                self._run = self._begin_run()
            undo.pop_all()
        self._reading = threading.Lock()
        self._writing = threading.Lock()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the ledger and let the next run have it."""
        self._reader.close()
        self._writer.close()
        os.close(self._lock_fd)

    @property
    def files(self) -> frozenset[str]:
        """Absolute paths of the ledger's own files, which are no part of an archive."""
        spelled = os.path.abspath(self.path)  # noqa: PTH100 - as the walk spells paths: links not resolved
        suffixes = ("", "-wal", "-shm", "-journal", LOCK_SUFFIX)
        return frozenset(path + suffix for path in (spelled, str(self.path.resolve())) for suffix in suffixes)

    def look_up(self, candidates: Sequence[Candidate], again: Collection[Fate] = ()) -> list[Known | None]:
        """Return for each candidate what is known of it; None where it is new or has changed since.

        Outcomes in `again` are not final, as the user asks for them once more. A copy, or a file in conflict, is final
        only while the file that was sent in its place is on the server.
        """
        query = f"""
            SELECT f.path, f.size_bytes, f.modified_ns, f.outcome, f.copy_of IS NULL OR o.outcome IN ({_SUCCESSES}),
                f.reason, f.run = ? AND f.copy_of IS NULL
            FROM file AS f LEFT JOIN file AS o ON o.destination = f.destination AND o.path = f.copy_of
                AND o.sop_instance_uid = f.sop_instance_uid
            WHERE f.destination = ? AND f.path IN ({_marks(len(candidates))})"""  # noqa: S608 - only ? and constants
        final = _FINAL.difference(again)
        keys = [os.fsencode(candidate.location) for candidate in candidates]
        rows = {row[0]: row[1:] for row in self._read(query, (self._run, self._destination, *keys))}

        def known(candidate: Candidate, key: bytes) -> Known | None:
            row = rows.get(key)
            if row is None or row[:2] != (candidate.size_bytes, _as_kept(candidate.modified_ns)):
                return None
            fate = Fate(row[2])
            return Known(fate, fate in final and bool(row[3]), row[4], bool(row[5]))

        return [known(candidate, key) for candidate, key in zip(candidates, keys, strict=True)]

    def owners(self, sop_instance_uids: Sequence[str]) -> dict[str, list[Instance]]:
        """Return, by SOP Instance UID, the files that were sent for it and are on the server, in the order of paths."""
        if not sop_instance_uids:
            return {}
        # Without the hint SQLite takes the primary key, and reads the whole destination for every list of files.
        query = f"""
            SELECT path, size_bytes, modified_ns, study_uid, series_uid, sop_instance_uid, sop_class_uid,
                transfer_syntax_uid FROM file INDEXED BY file_by_instance
            WHERE destination = ? AND sop_instance_uid IS NOT NULL
            AND sop_instance_uid IN ({_marks(len(sop_instance_uids))})
            AND outcome IN ({_SUCCESSES})"""  # noqa: S608 - only ? and constants
        owners: dict[str, list[Instance]] = {}
        for path, size, modified, *uids in sorted(self._read(query, (self._destination, *sop_instance_uids))):
            owner = Instance(Candidate(os.fsdecode(path), size, modified), Header(*uids))
            owners.setdefault(owner.header.sop_instance_uid, []).append(owner)
        return owners

    def orphaned_copies(self, limit: int) -> list[Outcome]:
        """Return, in the order of paths, what this run passed over as copies of files that did not reach the server.

        Copies that an earlier run left so are found by the scan, if they are among its sources.
        """
        columns = ", ".join(f"f.{column}" for column in _COLUMNS.split(", "))
        query = f"""
            SELECT {columns}
            FROM file AS f INDEXED BY file_by_copy
            JOIN file AS o ON o.destination = f.destination AND o.path = f.copy_of
            WHERE f.destination = ? AND f.run = ? AND f.copy_of IS NOT NULL
            AND (o.outcome NOT IN ({_SUCCESSES}) OR o.sop_instance_uid IS NOT f.sop_instance_uid)
            ORDER BY f.path LIMIT ?"""  # noqa: S608 - only constants
        return [_outcome(row) for row in self._read(query, (self._destination, self._run, limit))]

    def conflicts(self, limit: int) -> list[Outcome]:
        """Return, in the order of paths, this run's files in conflict: the first for each SOP Instance UID."""
        query = f"""
            SELECT {_COLUMNS}, min(path) FROM file INDEXED BY file_by_copy
            WHERE destination = ? AND run = ? AND copy_of IS NOT NULL AND outcome = '{Fate.CONFLICT}'
            GROUP BY sop_instance_uid ORDER BY path LIMIT ?"""  # noqa: S608 - only constants
        return [_outcome(row[:-1]) for row in self._read(query, (self._destination, self._run, limit))]

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Write outcomes in one transaction; when this returns they survive the process."""
        rows = [(self._destination, self._run, *_row(outcome)) for outcome in outcomes]
        with self._writing, _explained(self.path), self._writer:
            self._writer.execute("BEGIN")
            self._writer.executemany(
                f"INSERT OR REPLACE INTO file (destination, run, {_COLUMNS}) VALUES ({_marks(14)})",  # noqa: S608
                rows,
            )

    def count_studies(self) -> int:
        """Return of how many studies this run sent something: reads the whole destination, a second for a million."""
        query = "SELECT count(DISTINCT study_uid) FROM file WHERE destination = ? AND run = ? AND attempts > 0"
        rows = self._read(query, (self._destination, self._run))
        studies: int = rows[0][0]
        return studies

    @property
    def ceiling_bytes(self) -> int | None:
        """The largest body to send to this destination, learned in this run or an earlier one."""
        rows = self._read("SELECT ceiling_bytes FROM destination WHERE id = ?", (self._destination,))
        ceiling: int | None = rows[0][0]
        return ceiling

    def learn_ceiling(self, ceiling_bytes: int) -> None:
        """Remember that larger bodies are refused there."""
        with self._writing, _explained(self.path):
            self._writer.execute(
                "UPDATE destination SET ceiling_bytes = ? WHERE id = ?", (ceiling_bytes, self._destination)
            )

    def _destination_id(self, url: str) -> int:
        self._writer.execute("INSERT OR IGNORE INTO destination (url) VALUES (?)", (url,))
        row: tuple[int] = self._writer.execute("SELECT id FROM destination WHERE url = ?", (url,)).fetchone()
        return row[0]

    def _begin_run(self) -> int:
        return self._writer.execute("INSERT INTO run (destination) VALUES (?)", (self._destination,)).lastrowid or 0

    def _read(self, query: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._reading, _explained(self.path):
            return self._reader.execute(query, parameters).fetchall()


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the ledger, for reports."""

    destination: str
    outcome: Outcome


def read_entries(path: Path, fates: Iterable[Fate] = ()) -> Iterator[Entry]:
    """Return what a ledger holds, in the order of paths, only of the given fates if there are any.

    Opens read-only, also beside a run. Raises LedgerError at once when the file is not there, or is no ledger.
    """
    if not path.is_file():
        raise LedgerError(f"no ledger at {path}: give the file that `bulkstow upload --ledger` wrote")
    with _explained(path):
        connection = _connect(path, read_only=True)
        try:
            _check(connection, path)
        except BaseException:
            connection.close()
            raise
    return _entries(connection, path, tuple(fates))


def _entries(connection: sqlite3.Connection, path: Path, fates: tuple[Fate, ...]) -> Iterator[Entry]:
    chosen = f"WHERE outcome IN ({_marks(len(fates))})" if fates else ""
    query = f"SELECT url, {_COLUMNS} FROM file JOIN destination ON destination = id {chosen} ORDER BY id, path"  # noqa: S608
    with closing(connection), _explained(path):
        for url, *row in connection.execute(query, fates):
            yield Entry(url, _outcome(row))


def _row(outcome: Outcome) -> tuple[object, ...]:
    candidate, header = outcome.candidate, outcome.header
    uids: tuple[str | None, ...] = (None,) * 5
    if header is not None:
        uids = (
            header.study_uid,
            header.series_uid,
            header.sop_instance_uid,
            header.sop_class_uid,
            header.transfer_syntax_uid,
        )
    return (
        os.fsencode(candidate.location),
        candidate.size_bytes,
        _as_kept(candidate.modified_ns),
        *uids,
        outcome.fate.value,
        outcome.reason.encode(errors="backslashreplace").decode(),  # it may hold a path
        outcome.attempts,
        os.fsencode(outcome.copy_of) if outcome.copy_of else None,
    )


def _outcome(row: Sequence[Any]) -> Outcome:
    path, size, modified, study, series, instance, sop_class, syntax, fate, reason, attempts, copy_of = row
    return Outcome(
        Candidate(os.fsdecode(path), size, modified),
        None if instance is None else Header(study, series, instance, sop_class, syntax),
        Fate(fate),
        reason,
        attempts,
        "" if copy_of is None else os.fsdecode(copy_of),
    )


def _as_kept(modified_ns: int) -> int:
    """Return a time within SQLite's 64 bits: a damaged file system dates files after 2262 too."""
    return max(-(2**63), min(modified_ns, 2**63 - 1))


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    if read_only:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA busy_timeout = 5000")  # a report may hold a read lock for a moment
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make a new ledger, or check that this one is ours."""
    tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables:
        _check(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if not tables:
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};{_SCHEMA}COMMIT;"
        )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise LedgerError(f"{path} is a database, but not bulkstow's ledger: give another file with --ledger")
    if version != SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger {path} has schema {version}, this bulkstow reads schema {SCHEMA_VERSION}: "
            "use the bulkstow that wrote it, or a new --ledger (what is stored is then sent again)"
        )


def _lock(path: Path) -> int:
    """Hold a lock beside the ledger: SQLite's own would let a second run in between two writes."""
    real = path.resolve()  # a ledger reached by a link is the same ledger
    lock_path = real.with_name(real.name + LOCK_SUFFIX)
    try:
        fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LedgerError(f"cannot write the ledger's lock {lock_path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise LedgerError(
            f"the ledger {path} is in use by another run: wait for it, or give another --ledger"
        ) from error
    return fd


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into a line for a person."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        hint = next((hint for word, hint in _HINTS.items() if word in str(error)), "")
        raise LedgerError(f"the ledger {path} cannot be used: {error}{hint}") from error


_HINTS = {
    "full": "; make room there and run again",
    "locked": "; end what else has it open and run again",
    "readonly": "; it must be writable",
    "unable to open": "; is its directory there, and writable?",
}
