"""The instances of a pass, kept on disk until all are known: which file of each SOP Instance UID is the newest.

A private SQLite database that spills to a temporary file and leaves nothing behind, so memory does not grow with the
archive. Methods block; the pipeline calls them in threads, one call at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType

from bulkstow.errors import LedgerError
from bulkstow.model import Candidate, Header, Instance

LIST_LENGTH = 256
"""Instances in a list: as many as the scan hands over at once."""

_SCHEMA = """
CREATE TABLE instance (
    number INTEGER PRIMARY KEY,       -- the order in which the scan found them
    path BLOB UNIQUE, size_bytes INTEGER, by_link INTEGER,
    version BLOB,                     -- a number as TEXT: a damaged file system has times beyond 64 bits
    modified_s INTEGER, rest_ns INTEGER,  -- the version, if it is a time; NULL is older than every time
    study_uid TEXT, series_uid TEXT, sop_instance_uid TEXT, sop_class_uid TEXT, transfer_syntax_uid TEXT, cut_off TEXT
)"""

_COLUMNS = (
    "path, size_bytes, version, by_link, study_uid, series_uid, sop_instance_uid, sop_class_uid, "
    "transfer_syntax_uid, cut_off"
)

_PLACES = ", ".join("?" * 12)
_INSERT = f"INSERT OR IGNORE INTO instance ({_COLUMNS}, modified_s, rest_ns) VALUES ({_PLACES})"  # noqa: S608


class NewestFiles(AbstractContextManager["NewestFiles"]):
    """Instances in the order in which they were added, and the most recently modified file of each UID.

    Raises LedgerError where the temporary file cannot be written.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute(_SCHEMA)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove everything."""
        self._database.close()

    def add(self, instances: Sequence[Instance]) -> list[Candidate]:
        """Keep more instances; return the files that were there already by the same path."""
        with _explained(), self._database:
            self._database.execute("BEGIN")
            return [i.candidate for i in instances if not self._database.execute(_INSERT, _row(i)).rowcount]

    def index(self) -> None:
        """Prepare for `newest`, once everything is added: an index that grows file by file costs twice as much."""
        with _explained():
            self._database.execute(
                "CREATE INDEX by_instance ON instance (sop_instance_uid, modified_s DESC, rest_ns DESC, number)"
            )

    def lists(self, list_length: int = LIST_LENGTH) -> Iterator[list[Instance]]:
        """Yield all instances in the order in which they were added."""
        query = f"SELECT number, {_COLUMNS} FROM instance WHERE number > ? ORDER BY number LIMIT ?"  # noqa: S608
        number = 0
        while True:
            with _explained():
                rows = self._database.execute(query, (number, list_length)).fetchall()
            if not rows:
                return
            number = rows[-1][0]
            yield [_instance(*row[1:]) for row in rows]

    def newest(self, sop_instance_uid: str) -> Instance:
        """Return the file of a UID that was modified last, of several the one found first; one must have been added."""
        query = f"""
            SELECT {_COLUMNS} FROM instance WHERE sop_instance_uid = ?
            ORDER BY modified_s DESC, rest_ns DESC, number LIMIT 1"""  # noqa: S608 - only constants
        with _explained():
            return _instance(*self._database.execute(query, (sop_instance_uid,)).fetchone())


def _row(instance: Instance) -> tuple[object, ...]:
    candidate, header = instance.candidate, instance.header
    version, modified_s, rest_ns = _kept(candidate.version)
    texts = (
        header.study_uid,
        header.series_uid,
        header.sop_instance_uid,
        header.sop_class_uid,
        header.transfer_syntax_uid,
        instance.truncation,
    )
    path = candidate.location.encode(errors="surrogatepass")
    return path, candidate.size_bytes, version, candidate.by_link, *texts, modified_s, rest_ns


def _instance(path: bytes, size_bytes: int, version: str | bytes, by_link: int | None, *texts: str) -> Instance:
    *uids, truncation = texts
    kept = int(version) if isinstance(version, str) else version.decode(errors="surrogatepass")
    candidate = Candidate(
        path.decode(errors="surrogatepass"), size_bytes, kept, None if by_link is None else bool(by_link)
    )
    return Instance(candidate, Header(*uids), truncation)


def _kept(version: int | str) -> tuple[str | bytes, int | None, int | None]:
    if isinstance(version, str):
        return version.encode(errors="surrogatepass"), None, None
    return str(version), *divmod(version, 10**9)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(
            f"--on-conflict newest needs a temporary file: {error}; make room there, or set SQLITE_TMPDIR"
        ) from error
