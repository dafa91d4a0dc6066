"""The instances that should be at the server, study by study, kept on disk.

A private SQLite database in a temporary file that is removed at the end, so memory does not grow with the archive, and
no transaction of the ledger stays open while the server is asked. Methods block, and are called in threads.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from bulkstow.errors import LedgerError
from bulkstow.ledger.rows import OUTCOMES, SENT_COLUMNS, as_candidate, as_kept, original_head, original_uids
from bulkstow.model import Header, Instance, Outcome
from bulkstow.policy.findings import KnownOutcome, is_confirmed_at
from bulkstow.policy.sampling import rank, sample_size
from bulkstow.quantities import EVERY_STUDY, Sample

Selects = Callable[[Instance], bool]
"""Returns whether the user's filters select a file."""

_FAILURES = ", ".join(f"'{outcome}'" for outcome in Outcome if outcome.is_failure)

_KEY_COLUMNS = "study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid"
_FILE_COLUMNS = f"{_KEY_COLUMNS}, path, size_bytes, version, {', '.join(SENT_COLUMNS)}"
_COUNT = len(_FILE_COLUMNS.split(", "))
_LEDGER_COLUMNS = "outcome, reason, copy_of IS NOT NULL, verified_level, verified_at_s"
_COLUMNS = f"{_FILE_COLUMNS}, outcome, reason, has_other_file, verified_level, verified_at_s, is_expected"

_SCHEMA = f"CREATE TABLE file ({_COLUMNS})"

_FROM_LEDGER = f"""
    INSERT INTO file SELECT {_FILE_COLUMNS}, {_LEDGER_COLUMNS},
        {{is_selected}} AND NOT (ifnull(accepted, '') != '' AND outcome IN ({_FAILURES}))
    FROM ledger.file
    WHERE destination = ? AND study_uid != '' AND sop_instance_uid != ''
    ORDER BY study_uid, sop_instance_uid"""  # noqa: S608 - only constants

_FOUND = f"CREATE TABLE found ({_FILE_COLUMNS}, UNIQUE (path))"

_FROM_SOURCE = f"""
    INSERT INTO file
    SELECT {", ".join(f"f.{column}" for column in _FILE_COLUMNS.split(", "))},
        l.outcome, l.reason, l.copy_of IS NOT NULL, l.verified_level, l.verified_at_s,
        NOT (ifnull(l.accepted, '') != '' AND ifnull(l.outcome, '') IN ({_FAILURES})) AS is_expected
    FROM found AS f LEFT JOIN ledger.file AS l
        ON l.destination = :destination AND l.path = f.path AND l.size_bytes = f.size_bytes AND l.version = f.version
    UNION ALL
    SELECT {_FILE_COLUMNS}, {_LEDGER_COLUMNS}, 0
    FROM ledger.file
    WHERE destination = :destination AND sop_instance_uid != '' AND study_uid IN (SELECT study_uid FROM found)
        AND path NOT IN (SELECT path FROM found)
    ORDER BY 1, 3"""  # noqa: S608 - only constants
"""The files of the sources, and other files of their studies that the ledger has: these may be there or not."""

_UNCOVERED = f"""
    SELECT count(*) FROM ledger.file
    WHERE destination = ? AND ifnull(accepted, '') = '' AND outcome IN ({_FAILURES})
    AND (ifnull(study_uid, '') = '' OR ifnull(sop_instance_uid, '') = '')"""  # noqa: S608 - only constants

_STUDIES = """
    CREATE TABLE study AS SELECT study_uid, min(rowid) AS first, max(rowid) AS last, {rank} AS rank
    FROM file GROUP BY study_uid HAVING max(is_expected)"""


_uids_of: Callable[[Header], tuple[str, ...]] = attrgetter(*_KEY_COLUMNS.split(", "))


class ExpectedFile(NamedTuple):
    """A file whose instance should be at the server, with its record in the ledger."""

    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: bytes
    size_bytes: int
    version: int | bytes
    sent_bytes: int | None
    original_study_uid: str | None
    """The UIDs at the source; None if the instance was not edited."""
    original_series_uid: str | None
    original_sop_instance_uid: str | None
    outcome: str | None
    """None if the ledger lacks the file, or has another version of it."""
    reason: str | None
    has_other_file: int | None
    verified_level: str | None
    verified_at_s: int | None
    is_expected: int

    @property
    def known(self) -> KnownOutcome | None:
        """The record of the file in the ledger."""
        if self.outcome is None:
            return None
        reason, level = self.reason or "", self.verified_level or ""
        return KnownOutcome(OUTCOMES[self.outcome], reason, bool(self.has_other_file), level)

    @property
    def is_edited(self) -> bool:
        """The instance was edited when it was sent."""
        return self.original_sop_instance_uid is not None

    def instance(self, study_uid: str) -> Instance:
        """Return it as an instance to compare with the server's."""
        return _as_instance(study_uid, *self[:11])


@dataclass(frozen=True, slots=True)
class ExpectedStudy:
    """A study, and all files of it."""

    number: int
    uid: str
    files: tuple[ExpectedFile, ...]
    expected: frozenset[str]
    """The SOP Instance UIDs that should be at the server."""
    tolerated: frozenset[str]
    """SOP Instance UIDs that the server may have or lack."""

    @property
    def original_uid(self) -> str:
        """The Study Instance UID at the source, of several the first; empty if it was not edited."""
        uids = {file.original_study_uid for file in self.files if file.original_study_uid} - {self.uid}
        return min(uids, default="")

    @property
    def conflicts(self) -> dict[str, str]:
        """Why the server is known to have other content than a file that should be there, by SOP Instance UID."""
        conflicts = (file for file in self.files if file.is_expected and file.outcome == Outcome.CONFLICT)
        return {file.sop_instance_uid: file.reason or "" for file in conflicts}

    def is_confirmed(self, level: str, since_s: int) -> bool:
        """Return whether all expected instances were confirmed at this level or a higher one, at this time or later.

        A file in conflict is not confirmed by another one with its UID.
        """
        if self.conflicts:
            return False
        confirmed = {
            file.sop_instance_uid
            for file in self.files
            if (file.verified_at_s or 0) >= since_s and is_confirmed_at(file.verified_level or "", level)
        }
        return self.expected <= confirmed


class ExpectedInstances:
    """Studies in the order of their UIDs. Raises LedgerError if the temporary file cannot be written."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False, uri=True)
        self._database.execute(_SCHEMA)
        self._database.execute(_FOUND)
        self.uncovered = 0
        """Failures that belong to no study; no verification covers them."""
        self.studies_in_all = 0
        """Studies before the sample was taken."""
        self.studies = 0

    def close(self) -> None:
        """Remove the database."""
        self._database.close()

    def add_instances(self, instances: Sequence[Instance]) -> None:
        """Add files of a source; `add_known` follows after the last."""
        rows = [
            (
                *_uids_of(instance.header),
                os.fsencode(instance.candidate.location),
                instance.candidate.size_bytes,
                as_kept(instance.candidate.version),
                instance.other_size_bytes,
                *original_uids(instance.original),
            )
            for instance in instances
        ]
        with _explained(), self._database:
            self._database.execute("BEGIN")
            self._database.executemany(f"INSERT OR IGNORE INTO found VALUES ({', '.join('?' * _COUNT)})", rows)  # noqa: S608

    def add_known(self, path: Path, destination: int) -> None:
        """Add the records of a ledger for the files of the source, and other files of their studies."""
        with _explained(), self._attached(path):
            self._database.execute(_FROM_SOURCE, {"destination": destination})

    def add_ledger(self, path: Path, destination: int, selects: Selects | None = None) -> None:
        """Add the files that a ledger has for a destination, by its number there."""
        is_selected = "1"
        if selects is not None:
            self._database.create_function("is_selected", _COUNT + 2, _as_function(selects))
            is_selected = f"is_selected({_FILE_COLUMNS}, modality, study_date)"
        with _explained(), self._attached(path):
            self._database.execute(_FROM_LEDGER.format(is_selected=is_selected), (destination,))
            (self.uncovered,) = self._database.execute(_UNCOVERED, (destination,)).fetchone()

    @contextmanager
    def _attached(self, path: Path) -> Iterator[None]:
        """Attach a ledger; no transaction of it stays open."""
        self._database.execute("ATTACH ? AS ledger", (f"{path.absolute().as_uri()}?mode=ro",))
        try:
            yield
        finally:
            self._database.execute("DETACH ledger")

    def choose(self, sample: Sample, seed: str) -> None:
        """Choose the studies to verify, after all files were added."""
        is_whole = sample == EVERY_STUDY
        self._database.create_function("study_rank", 1, lambda uid: rank(seed, uid), deterministic=True)
        with _explained():
            self._database.execute(_STUDIES.format(rank="0" if is_whole else "study_rank(study_uid)"))
            (self.studies_in_all,) = self._database.execute("SELECT count(*) FROM study").fetchone()
            self.studies = sample_size(sample, self.studies_in_all)
            self._database.execute(
                "CREATE TABLE chosen AS SELECT study_uid, first, last FROM "
                "(SELECT * FROM study ORDER BY rank, study_uid LIMIT ?) ORDER BY first",
                (self.studies,),
            )

    def unknown(self, studies: frozenset[str]) -> list[str]:
        """Return those of some studies of which no instance is expected, after `choose`, in the order of their UIDs."""
        with _explained():
            return sorted(studies.difference(uid for (uid,) in self._database.execute("SELECT study_uid FROM study")))

    def lists(self, files_per_list: int) -> Iterator[list[ExpectedStudy]]:
        """Yield the chosen studies in lists of about so many files."""
        studies: list[ExpectedStudy] = []
        files = 0
        for number in range(1, self.studies + 1):
            study = self.study(number)
            studies.append(study)
            files += len(study.files)
            if files >= files_per_list:
                yield studies
                studies, files = [], 0
        if studies:
            yield studies

    def study(self, number: int) -> ExpectedStudy:
        """Return a chosen study by its number, from 1 on."""
        with _explained():
            query = "SELECT study_uid, first, last FROM chosen WHERE rowid = ?"
            uid, first, last = self._database.execute(query, (number,)).fetchone()
            columns = ", ".join(ExpectedFile._fields)
            query = f"SELECT {columns} FROM file WHERE rowid BETWEEN ? AND ? ORDER BY rowid"  # noqa: S608 - constants
            files = tuple(map(_checked, self._database.execute(query, (first, last))))
        expected = frozenset([file.sop_instance_uid for file in files if file.is_expected])
        tolerated = frozenset([file.sop_instance_uid for file in files if not file.is_expected]) - expected
        return ExpectedStudy(number, uid, files, expected, tolerated)


def _checked(row: tuple[object, ...]) -> ExpectedFile:
    """Return a row as a file. Raises LedgerError if it has a value that is never written."""
    file = ExpectedFile._make(row)
    is_sound = type(file.path) is bytes and type(file.size_bytes) is int and type(file.version) in (int, bytes)
    is_known = file.outcome in OUTCOMES and type(file.reason) is str
    if not is_sound or not (is_known or file.outcome is None):
        raise LedgerError(f"the ledger has a damaged row of {os.fsdecode(file.path)!r}: `bulkstow report --recover`")
    return file


def _as_function(selects: Selects) -> Callable[..., bool]:
    def is_selected(*columns: Any) -> bool:  # noqa: ANN401 - values of a row
        *file, modality, study_date = columns
        return selects(_as_instance(*file, modality=modality, study_date=study_date))

    return is_selected


def _as_instance(
    study_uid: str,
    series_uid: str,
    sop_instance_uid: str,
    sop_class_uid: str,
    transfer_syntax_uid: str,
    path: bytes,
    size_bytes: int,
    version: int | bytes,
    sent_bytes: int | None,
    *original_uids: str | None,
    modality: str | None = None,
    study_date: str | None = None,
) -> Instance:
    """Return the instance in the values of _FILE_COLUMNS."""
    header = Header(study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, modality, study_date)
    original = original_head(header, original_uids)
    return Instance(as_candidate((path, size_bytes, version)), header, sent_bytes=sent_bytes, original=original)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"verify needs a temporary file: {error}; make room there, or set SQLITE_TMPDIR") from error
