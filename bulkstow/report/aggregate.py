"""Counts of a ledger's files by study, reason and modality.

One pass adds every file to a group of files that are alike, and SQL adds up the groups. The groups are kept in a
private SQLite database in a temporary file that is removed at the end, so memory does not grow with the archive.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from bulkstow.errors import LedgerError
from bulkstow.ledger import Entry
from bulkstow.model import Outcome
from bulkstow.report.rows import LEVELS, LevelRow, ModalityRow, OutcomeRow, ReasonRow, StudyCounts, StudyRow

GROUPS_IN_MEMORY = 10_000
"""Groups that are counted in memory before they are written.
They take 10 MB. Files of a study are mostly listed together, so the groups of a study are written once or twice."""

LIST_LENGTH = 256
"""Rows that are fetched together, the same number as in a list of the scan."""

_KEYS = (
    "destination", "study_uid", "modality", "study_date", "outcome", "reason", "accepted", "verified_level"
)  # fmt: skip
_FIGURES = (
    "files", "size_bytes", "first_at_s", "last_at_s", "first_verified_at_s", "last_verified_at_s", "example"
)  # fmt: skip

_SCHEMA = f"""
CREATE TABLE part ({", ".join((*_KEYS, *_FIGURES))});
CREATE TABLE failure (outcome, reason, path, accepted, detail)"""

_INSERT_PART = f"INSERT INTO part VALUES ({', '.join('?' * (len(_KEYS) + len(_FIGURES)))})"  # noqa: S608
_INSERT_FAILURE = "INSERT INTO failure VALUES (?, ?, ?, ?, ?)"


def _quoted(outcomes: tuple[Outcome, ...]) -> str:
    return ", ".join(f"'{outcome}'" for outcome in outcomes)


_SUCCESSES = _quoted(tuple(outcome for outcome in Outcome if outcome.is_success))
_FAILURES = _quoted(tuple(outcome for outcome in Outcome if outcome.is_failure))
_OTHER_FAILURES = _quoted((Outcome.REFUSED, Outcome.UNCONFIRMED, Outcome.UNREADABLE))


def _files(condition: str) -> str:
    return f"sum(CASE WHEN {condition} THEN files ELSE 0 END)"


_IS_OPEN = f"outcome IN ({_FAILURES}) AND accepted = ''"
_OPEN = _files(_IS_OPEN)
_ACCEPTED = _files("accepted != ''")

_BY_STUDY = f"""
    SELECT destination, study_uid, group_concat(DISTINCT nullif(modality, '')), max(nullif(study_date, '')),
        sum(files), sum(size_bytes), {_files(f"outcome IN ({_SUCCESSES})")},
        {_files(f"outcome IN ({_OTHER_FAILURES})")}, {_files(f"outcome = '{Outcome.CONFLICT}'")},
        {_files(f"outcome = '{Outcome.MISSING}'")},
        {_files(f"outcome = '{Outcome.SKIPPED}'")}, {_ACCEPTED}, {_files("verified_level >= 0")},
        min(CASE WHEN verified_level >= 0 THEN verified_level END), min(first_at_s), max(last_at_s), {_OPEN} = 0
    FROM part GROUP BY destination, study_uid HAVING ? IS NULL OR sum(instr(?, ' ' || outcome || ' ')) > 0
    ORDER BY {_OPEN} = 0, max(nullif(study_date, '')) DESC, study_uid, destination"""  # noqa: S608 - only constants

_BY_REASON = f"""
    SELECT outcome, reason, sum(files), sum(size_bytes), {_ACCEPTED}, count(DISTINCT nullif(study_uid, '')),
        min(example)
    FROM part GROUP BY outcome, reason
    ORDER BY {_OPEN} = 0, outcome NOT IN ({_FAILURES}), sum(files) DESC, outcome, reason"""  # noqa: S608 - constants

_BY_MODALITY = f"""
    SELECT modality, count(DISTINCT nullif(study_uid, '')), sum(files), sum(size_bytes), {_ACCEPTED},
        {", ".join(_files(f"outcome = '{outcome}'") for outcome in Outcome)}
    FROM part GROUP BY modality ORDER BY sum(files) DESC, modality"""  # noqa: S608 - only constants

_BY_OUTCOME = f"""
    SELECT outcome, sum(files), sum(size_bytes), count(DISTINCT nullif(study_uid, '')), {_ACCEPTED}
    FROM part GROUP BY outcome"""  # noqa: S608 - only constants

_BY_LEVEL = """
    SELECT verified_level, sum(files), min(first_verified_at_s), max(last_verified_at_s)
    FROM part WHERE verified_level >= 0 GROUP BY verified_level ORDER BY verified_level"""

_BY_NOTE = """
    SELECT accepted, outcome, sum(files) FROM part WHERE accepted != ''
    GROUP BY accepted, outcome ORDER BY sum(files) DESC, accepted, outcome LIMIT ?"""

_STUDIES = f"""
    SELECT count(*), coalesce(sum(is_complete), 0), coalesce(sum(is_verified), 0) FROM (
        SELECT {_OPEN} = 0 AS is_complete,
            {_OPEN} = 0 AND max(verified_level) >= 0 AND
                {_files(f"outcome IN ({_SUCCESSES}) AND verified_level < 0")} = 0 AS is_verified
        FROM part WHERE study_uid != '' GROUP BY destination, study_uid)"""  # noqa: S608 - only constants

_DESTINATIONS = "SELECT count(DISTINCT destination) FROM part"

_PERIOD = "SELECT min(first_at_s), max(last_at_s) FROM part"

_EXAMPLES = """
    SELECT path, detail FROM failure WHERE outcome = ? AND reason = ? AND (accepted != '') = ?
    ORDER BY path LIMIT ?"""


@dataclass(slots=True)
class _Figures:
    """The figures of a group."""

    example: bytes
    files: int = 0
    size_bytes: int = 0
    first_at_s: int | None = None
    last_at_s: int | None = None
    first_verified_at_s: int | None = None
    last_verified_at_s: int | None = None

    def add(self, entry: Entry) -> None:
        self.files += 1
        self.size_bytes += entry.result.size_bytes
        if (at_s := entry.recorded_at_s) is not None:
            self.first_at_s = at_s if self.first_at_s is None or at_s < self.first_at_s else self.first_at_s
            self.last_at_s = at_s if self.last_at_s is None or at_s > self.last_at_s else self.last_at_s
        if (at_s := entry.verified_at_s) is not None:
            first_s, last_s = self.first_verified_at_s, self.last_verified_at_s
            self.first_verified_at_s = at_s if first_s is None or at_s < first_s else first_s
            self.last_verified_at_s = at_s if last_s is None or at_s > last_s else last_s

    @property
    def row(self) -> tuple[object, ...]:
        """The values of _FIGURES."""
        return (
            self.files,
            self.size_bytes,
            self.first_at_s,
            self.last_at_s,
            self.first_verified_at_s,
            self.last_verified_at_s,
            self.example,
        )


class Aggregate(AbstractContextManager["Aggregate"]):
    """Counts of files; all files are added before the first query. Raises LedgerError if the disk is full."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(f"{_SCHEMA}; BEGIN")
        self._groups: dict[tuple[object, ...], _Figures] = {}
        self._failures: list[tuple[object, ...]] = []

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the database."""
        self._database.close()

    def add(self, entry: Entry) -> None:
        """Count a file."""
        result, header = entry.result, entry.result.header
        key = (
            entry.destination,
            "" if header is None else header.study_uid,
            None if header is None else header.modality,
            None if header is None else header.study_date,
            result.outcome.value,
            result.reason_kind,
            result.accepted,
            LEVELS.index(entry.verified_level) if entry.verified_level in LEVELS else -1,
        )
        figures = self._groups.get(key)
        if figures is None:
            if len(self._groups) >= GROUPS_IN_MEMORY:
                self._flush()
            figures = self._groups[key] = _Figures(os.fsencode(result.candidate.location))
        figures.add(entry)
        if result.outcome.is_failure:
            path = os.fsencode(result.candidate.location)
            self._failures.append((result.outcome.value, key[5], path, result.accepted, result.reason))
            if len(self._failures) >= GROUPS_IN_MEMORY:
                self._flush()

    def by_study(self, outcomes: Collection[Outcome] = (), *, is_incomplete: bool = False) -> Iterator[StudyRow]:
        """Yield the studies: those with failures first, then the newest first.

        The parameters restrict them to studies that have files with one of some outcomes, or to studies with failures.
        """
        wanted = f" {' '.join(outcomes)} " if outcomes else None
        for row in self._rows(_BY_STUDY, wanted, wanted):
            destination, study_uid, modalities, study_date, *counts, level, first_at_s, last_at_s, is_complete = row
            if is_incomplete and is_complete:
                return
            modality = ",".join(sorted((modalities or "").split(",")))
            level = "" if level is None else LEVELS[level]
            times = (first_at_s, last_at_s, bool(is_complete))
            values: tuple[Any, ...] = (destination, study_uid, modality, study_date or "", *counts, level, *times)
            yield StudyRow(*values)

    def by_reason(self) -> Iterator[ReasonRow]:
        """Yield outcomes with the kinds of their reasons: failures first, then the most frequent first."""
        for outcome, reason, files, size_bytes, accepted, studies, example in self._rows(_BY_REASON):
            path = os.fsdecode(example)
            yield ReasonRow(Outcome(outcome), reason, files, size_bytes, accepted, studies, path)

    def by_modality(self) -> Iterator[ModalityRow]:
        """Yield the modalities, the most frequent first."""
        for modality, studies, files, size_bytes, accepted, *counts in self._rows(_BY_MODALITY):
            yield ModalityRow(modality, studies, files, size_bytes, accepted, dict(zip(Outcome, counts, strict=True)))

    def by_outcome(self) -> list[OutcomeRow]:
        """Return the outcomes that occur, in their usual order."""
        rows = {row[0]: row for row in self._rows(_BY_OUTCOME)}
        return [OutcomeRow(outcome, *rows[outcome.value][1:]) for outcome in Outcome if outcome.value in rows]

    def by_level(self) -> list[LevelRow]:
        """Return the levels at which files are verified, the lowest first."""
        return [LevelRow(LEVELS[level], *row) for level, *row in self._rows(_BY_LEVEL)]

    def by_note(self, limit: int) -> list[tuple[str, Outcome, int]]:
        """Return the notes of accepted failures, with their outcomes and numbers of files, the most frequent first."""
        return [(note, Outcome(outcome), files) for note, outcome, files in self._rows(_BY_NOTE, limit)]

    def count_studies(self) -> StudyCounts:
        """Count the studies."""
        (row,) = self._rows(_STUDIES)
        return StudyCounts(*row)

    def count_destinations(self) -> int:
        """Return the number of destinations that the files were sent to."""
        ((destinations,),) = self._rows(_DESTINATIONS)
        return int(destinations)

    @property
    def period_s(self) -> tuple[int | None, int | None]:
        """When the first and the last outcome were recorded, since 1970; None if it is not known."""
        (period_s,) = self._rows(_PERIOD)
        return period_s

    def examples(self, row: ReasonRow, limit: int, *, is_accepted: bool) -> list[tuple[str, str]]:
        """Return the first paths of failures of a kind, with their whole reasons."""
        rows = self._rows(_EXAMPLES, row.outcome.value, row.reason, is_accepted, limit)
        return [(os.fsdecode(path), reason) for path, reason in rows]

    def _flush(self) -> None:
        with _explained():
            parts = ((*key, *figures.row) for key, figures in self._groups.items())
            self._database.executemany(_INSERT_PART, parts)
            self._database.executemany(_INSERT_FAILURE, self._failures)
        self._groups.clear()
        self._failures.clear()

    def _rows(self, query: str, *parameters: object) -> Iterator[tuple[Any, ...]]:
        self._flush()
        with _explained():
            found = self._database.execute(query, parameters)
        while True:
            with _explained():
                rows = found.fetchmany(LIST_LENGTH)
            if not rows:
                return
            yield from rows


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"a report needs a temporary file: {error}; make room there, or set SQLITE_TMPDIR") from error
