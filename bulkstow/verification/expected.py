"""The instances that should be at the server, study by study, kept on disk.

A private SQLite database in a temporary file that is removed at the end, so memory does not grow with the archive, and
no transaction of the ledger stays open while the server is asked. Methods block, and are called in threads.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bulkstow.errors import LedgerError
from bulkstow.ledger.rows import OUTCOMES, as_candidate
from bulkstow.model import Candidate, Header, Instance, Outcome
from bulkstow.policy.findings import KnownOutcome, is_confirmed_at
from bulkstow.policy.sampling import rank, sample_size
from bulkstow.quantities import EVERY_STUDY, Sample

Selects = Callable[[Candidate, Header], bool]
"""Returns whether the user's filters select a file."""

_FAILURES = ", ".join(f"'{outcome}'" for outcome in Outcome if outcome.is_failure)

_KEY_COLUMNS = "study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid"
_FILE_COLUMNS = f"{_KEY_COLUMNS}, path, size_bytes, version"
_LEDGER_COLUMNS = "outcome, reason, copy_of IS NOT NULL, verified_level, verified_at_s"
_COLUMNS = f"{_FILE_COLUMNS}, outcome, reason, has_other_file, verified_level, verified_at_s, is_expected"

_SCHEMA = f"CREATE TABLE file ({_COLUMNS})"

_FROM_LEDGER = f"""
    INSERT INTO file SELECT {_FILE_COLUMNS}, {_LEDGER_COLUMNS},
        {{is_selected}} AND NOT (ifnull(accepted, '') != '' AND outcome IN ({_FAILURES}))
    FROM ledger.file
    WHERE destination = ? AND study_uid != '' AND sop_instance_uid != ''
    ORDER BY study_uid, sop_instance_uid"""  # noqa: S608 - only constants

_UNCOVERED = f"""
    SELECT count(*) FROM ledger.file
    WHERE destination = ? AND ifnull(accepted, '') = '' AND outcome IN ({_FAILURES})
    AND (ifnull(study_uid, '') = '' OR ifnull(sop_instance_uid, '') = '')"""  # noqa: S608 - only constants

_STUDIES = """
    CREATE TABLE study AS SELECT study_uid, min(rowid) AS first, max(rowid) AS last, {rank} AS rank
    FROM file GROUP BY study_uid HAVING max(is_expected)"""


class ExpectedFile(NamedTuple):
    """A file whose instance should be at the server, with what the ledger knows of it."""

    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: bytes
    size_bytes: int
    version: int | bytes
    outcome: str
    reason: str
    has_other_file: int
    verified_level: str | None
    verified_at_s: int | None
    is_expected: int

    @property
    def known(self) -> KnownOutcome:
        """What the ledger has about it."""
        outcome = OUTCOMES[self.outcome]
        return KnownOutcome(outcome, self.reason, bool(self.has_other_file), self.verified_level or "")

    def instance(self, study_uid: str) -> Instance:
        """Return it as an instance to compare with the server's."""
        header = Header(study_uid, self.series_uid, self.sop_instance_uid, self.sop_class_uid, self.transfer_syntax_uid)
        return Instance(as_candidate((self.path, self.size_bytes, self.version)), header)


@dataclass(frozen=True, slots=True)
class ExpectedStudy:
    """A study, and all files of it."""

    number: int
    uid: str
    files: tuple[ExpectedFile, ...]

    @property
    def expected(self) -> frozenset[str]:
        """The SOP Instance UIDs that should be at the server."""
        return frozenset([file.sop_instance_uid for file in self.files if file.is_expected])

    @property
    def tolerated(self) -> frozenset[str]:
        """The SOP Instance UIDs that may be there or not."""
        return frozenset([file.sop_instance_uid for file in self.files if not file.is_expected]) - self.expected

    def is_confirmed(self, level: str, since_s: int) -> bool:
        """Return whether all expected instances were confirmed at this level or a higher one, at this time or later."""
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
        self.uncovered = 0
        """Failures that belong to no study, so that no verification covers them."""
        self.studies_in_all = 0
        """Studies before the sample was taken."""
        self.studies = 0

    def close(self) -> None:
        """Remove the database."""
        self._database.close()

    def add_ledger(self, path: Path, destination: int, selects: Selects | None = None) -> None:
        """Add the files that a ledger has for a destination, by its number there."""
        is_selected = "1"
        if selects is not None:
            self._database.create_function("is_selected", 10, _as_function(selects))
            is_selected = f"is_selected({_FILE_COLUMNS}, modality, study_date)"
        with _explained():
            self._database.execute("ATTACH ? AS ledger", (f"{path.absolute().as_uri()}?mode=ro",))
            try:
                self._database.execute(_FROM_LEDGER.format(is_selected=is_selected), (destination,))
                (self.uncovered,) = self._database.execute(_UNCOVERED, (destination,)).fetchone()
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
        return ExpectedStudy(number, uid, files)


def _checked(row: tuple[object, ...]) -> ExpectedFile:
    """Return a row as a file. Raises LedgerError if it has a value that is never written."""
    file = ExpectedFile._make(row)
    types = (type(file.path), type(file.size_bytes), type(file.outcome), type(file.reason))
    if types != (bytes, int, str, str) or type(file.version) not in (int, bytes) or file.outcome not in OUTCOMES:
        raise LedgerError(f"the ledger has a damaged row of {os.fsdecode(file.path)!r}: `bulkstow report --recover`")
    return file


def _as_function(selects: Selects) -> Callable[..., bool]:
    def is_selected(
        study_uid: str,
        series_uid: str,
        sop_instance_uid: str,
        sop_class_uid: str,
        transfer_syntax_uid: str,
        path: bytes,
        size_bytes: int,
        version: int | bytes,
        modality: str | None,
        study_date: str | None,
    ) -> bool:
        header = Header(
            study_uid, series_uid, sop_instance_uid, sop_class_uid, transfer_syntax_uid, modality, study_date
        )
        return selects(as_candidate((path, size_bytes, version)), header)

    return is_selected


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"verify needs a temporary file: {error}; make room there, or set SQLITE_TMPDIR") from error
