"""Find the newest file of each SOP Instance UID, for which all instances of a pass are kept on disk.

Content in the spool is not kept: the spool would be full before all files are known. The source finds it again.
A private SQLite database in a temporary file that is removed at the end, so memory does not grow with the archive.
Methods block; the pipeline calls them in threads, one call at a time.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter

from bulkstow.errors import LedgerError
from bulkstow.model import Candidate, Header, Instance

LIST_LENGTH = 256
"""Instances in a list, the same number as in a list of the scan."""

_SCHEMA = """
CREATE TABLE instance (
    number INTEGER PRIMARY KEY,       -- the order of the scan
    path BLOB UNIQUE, size_bytes INTEGER, by_link INTEGER,
    place BLOB,                       -- extent, sent bytes and original UIDs, pickled; NULL if there are none
    version BLOB,                     -- a number as TEXT: a damaged file system may have times beyond 64 bits
    modified_s INTEGER, rest_ns INTEGER,  -- the version, if it is a time; NULL is older than every time
    study_uid TEXT, series_uid TEXT, sop_instance_uid TEXT, sop_class_uid TEXT, transfer_syntax_uid TEXT,
    modality TEXT, study_date TEXT,
    cut_off TEXT, sha256 TEXT
)"""

_HEADER = (
    "study_uid",
    "series_uid",
    "sop_instance_uid",
    "sop_class_uid",
    "transfer_syntax_uid",
    "modality",
    "study_date",
)
_header_columns: Callable[[Header], tuple[str | None, ...]] = attrgetter(*_HEADER)

_NOWHERE_ELSE = (None, None, None)

_COLUMNS = f"path, size_bytes, version, by_link, place, {', '.join(_HEADER)}, cut_off, sha256"
_VALUES = ", ".join("?" * 16)
_INSERT = f"INSERT OR IGNORE INTO instance ({_COLUMNS}, modified_s, rest_ns) VALUES ({_VALUES})"  # noqa: S608


class NewestFiles:
    """Instances in the order in which they were added, without content in the spool, and the newest file of each UID.

    Raises LedgerError if the temporary file cannot be written.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute(_SCHEMA)

    def close(self) -> None:
        """Remove the database."""
        self._database.close()

    def add(self, instances: Sequence[Instance]) -> list[Candidate]:
        """Add instances; return the files whose paths were added before."""
        with _explained(), self._database:
            self._database.execute("BEGIN")
            return [i.candidate for i in instances if not self._database.execute(_INSERT, _row(i)).rowcount]

    def index(self) -> None:
        """Prepare for `newest`, after all files were added: updating the index for each file takes twice as long."""
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
        """Return the file of a UID that was modified last, the first of several; one must have been added."""
        query = f"""
            SELECT {_COLUMNS} FROM instance WHERE sop_instance_uid = ?
            ORDER BY modified_s DESC, rest_ns DESC, number LIMIT 1"""  # noqa: S608 - only constants
        with _explained():
            return _instance(*self._database.execute(query, (sop_instance_uid,)).fetchone())


def _row(instance: Instance) -> tuple[object, ...]:
    candidate = instance.candidate
    path = candidate.location.encode(errors="surrogatepass")
    version, *time = _version_columns(candidate.version)
    header = _header_columns(instance.header)
    if candidate.extent is not None and candidate.extent.is_spooled:
        # Without `by_link` the source looks for it by its location.
        sent_bytes = instance.other_size_bytes
        candidate = replace(candidate, extent=None, by_link=candidate.by_link or None)
        instance = replace(instance, candidate=candidate, sent_bytes=sent_bytes)
    elsewhere = (candidate.extent, instance.sent_bytes, instance.original)
    place = None if elsewhere == _NOWHERE_ELSE else pickle.dumps(elsewhere)
    texts = (*header, instance.truncation, instance.sha256)
    return path, candidate.size_bytes, version, candidate.by_link, place, *texts, *time


def _instance(
    path: bytes, size_bytes: int, version: str | bytes, by_link: int | None, place: bytes | None, *texts: str
) -> Instance:
    *header, truncation, sha256 = texts
    location = path.decode(errors="surrogatepass")
    as_found = int(version) if isinstance(version, str) else version.decode(errors="surrogatepass")
    extent, sent_bytes, original = _NOWHERE_ELSE if place is None else pickle.loads(place)  # noqa: S301 - our own bytes
    candidate = Candidate(location, size_bytes, as_found, None if by_link is None else bool(by_link), extent)
    return Instance(candidate, Header(*header), truncation, sha256=sha256, sent_bytes=sent_bytes, original=original)


def _version_columns(version: int | str) -> tuple[str | bytes, int | None, int | None]:
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
