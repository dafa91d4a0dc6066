"""Queries of a run to its ledger: outcomes of files, and files that are on the server. Reads only."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bulkstow.ledger.database import explained
from bulkstow.ledger.rows import (
    COLUMNS,
    INSTANCE_COLUMNS,
    OUTCOMES,
    SUCCESSES,
    DamagedRow,
    as_header,
    as_instance,
    as_kept,
    as_result,
)
from bulkstow.model import Candidate, FileResult, Instance, Outcome

_FINAL = frozenset(
    outcome
    for outcome in Outcome
    if outcome.is_success or outcome in (Outcome.REFUSED, Outcome.CONFLICT, Outcome.SKIPPED)
)
"""Outcomes that the next run keeps. A copy or a file in conflict keeps its outcome while the other file is stored."""

FOUND_BY_VERIFY = "the instance that verify found there"
"""The conflicting file of a file that has other content at the server."""

MOST_CHANGED_KEPT = 50_000
"""Changed files whose copies are compared again; they take 10 MB. With more of them every copy is compared again."""


@dataclass(frozen=True, slots=True)
class Known:
    """The outcome of a file that has not changed since."""

    outcome: Outcome
    is_final: bool
    """The file is not sent again, unless the user asks for it."""
    reason: str = ""
    accepted: str = ""
    """The note of a user who accepted this failure."""
    is_of_this_run: bool = field(default=False, compare=False)
    """This run has recorded it already: the file was named twice."""


class LookUps:
    """Looks up files of one destination, for one run; threads take turns. Raises LedgerError."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, destination: int, run: int) -> None:
        self._connection = connection
        self._path = path
        self._destination = destination
        self._run = run
        self._reading = threading.Lock()
        self._changed: set[bytes] = set()
        """Paths of files that this run found changed, up to MOST_CHANGED_KEPT."""

    def read(self, query: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._reading, explained(self._path):
            return self._connection.execute(query, parameters).fetchall()

    def interrupt(self) -> None:
        """End the current query: it raises LedgerError."""
        self._connection.interrupt()

    def look_up(self, candidates: Sequence[Candidate], again: Collection[Outcome] = ()) -> list[Known | None]:
        """Return for each candidate its known outcome; None if it is new or has changed since.

        Outcomes in `again` are not final, because the user asks for them again. A copy, or a file in conflict, is final
        only while the file sent in its place is unchanged on the server: not if this run found that file changed, nor
        if a later run sent it again.
        """
        query = f"""
            SELECT f.path, f.size_bytes, f.version, f.outcome,
                f.copy_of IS NULL OR (o.outcome IN ({SUCCESSES}) AND o.run <= f.run),
                f.reason, f.accepted, f.run = ? AND f.copy_of IS NULL, f.copy_of
            FROM file AS f LEFT JOIN file AS o ON o.destination = f.destination AND o.path = f.copy_of
                AND o.sop_instance_uid = f.sop_instance_uid
            WHERE f.destination = ? AND f.path IN ({marks(len(candidates))})"""  # noqa: S608 - only ? and constants
        final = _FINAL.difference(again)
        keys = [os.fsencode(candidate.location) for candidate in candidates]
        rows = {row[0]: row for row in self.read(query, (self._run, self._destination, *keys))}
        for candidate, key in zip(candidates, keys, strict=True):
            row = rows.get(key)
            if row is not None and (row[1] != candidate.size_bytes or row[2] != as_kept(candidate.version)):
                del rows[key]
                if len(self._changed) < MOST_CHANGED_KEPT:
                    self._changed.add(key)

        def known(
            word: object,
            is_valid: int,
            reason: object,
            accepted: object,
            is_of_this_run: int,
            copy_of: bytes | None,
        ) -> Known:
            outcome = OUTCOMES.get(word)
            if outcome is None or type(reason) is not str or not (accepted is None or type(accepted) is str):
                raise DamagedRow(f"an outcome {word!r}, or a reason or a note of another type")
            is_outdated = copy_of is not None and (copy_of in self._changed or len(self._changed) == MOST_CHANGED_KEPT)
            is_final = outcome in final and bool(is_valid) and not is_outdated
            return Known(outcome, is_final, reason, accepted or "", bool(is_of_this_run))

        with explained(self._path):
            # Most files have the same outcome, so there is one object for all of them.
            known_by_columns = {columns: known(*columns) for columns in {row[3:] for row in rows.values()}}
            return [known_by_columns[rows[key][3:]] if key in rows else None for key in keys]

    def owners(self, sop_instance_uids: Sequence[str]) -> dict[str, list[Instance]]:
        """Return, by SOP Instance UID, the files that are on the server, in the order of their paths.

        Files with other content at the server, as found by `verify`, are included and have a `conflicting_file`.
        """
        if not sop_instance_uids:
            return {}
        # Without INDEXED BY, SQLite uses the primary key and reads the whole destination for every list of files.
        query = f"""
            SELECT {INSTANCE_COLUMNS}, outcome FROM file INDEXED BY file_by_instance
            WHERE destination = ? AND sop_instance_uid IN ({marks(len(sop_instance_uids))})
            AND (outcome IN ({SUCCESSES}) OR (outcome = '{Outcome.CONFLICT}' AND copy_of IS NULL))"""  # noqa: S608
        rows = self.read(query, (self._destination, *sop_instance_uids))
        with explained(self._path):
            instances = [
                replace(as_instance(row), conflicting_file=FOUND_BY_VERIFY)
                if outcome == Outcome.CONFLICT
                else as_instance(row)
                for *row, outcome in rows
            ]
        owners: dict[str, list[Instance]] = {}
        for owner in sorted(instances, key=lambda instance: os.fsencode(instance.candidate.location)):
            owners.setdefault(owner.header.sop_instance_uid, []).append(owner)
        return owners

    def with_notes(self, results: list[FileResult]) -> list[FileResult]:
        """Return results; accepted failures have the note, which applies to this outcome of this file."""
        failed = [os.fsencode(result.candidate.location) for result in results if result.outcome.is_failure]
        if not failed:
            return results
        query = f"""
            SELECT path, size_bytes, version, outcome, accepted FROM file
            WHERE destination = ? AND path IN ({marks(len(failed))}) AND accepted IS NOT NULL"""  # noqa: S608 - only ?
        notes = {tuple(row): note for *row, note in self.read(query, (self._destination, *failed))}
        return [replace(result, accepted=notes.get(_key(result), "")) for result in results] if notes else results

    def results(self, candidates: Sequence[Candidate]) -> list[FileResult]:
        """Return the recorded outcomes of files, whether they have changed since or not."""
        query = f"""
            SELECT {COLUMNS} FROM file
            WHERE destination = ? AND path IN ({marks(len(candidates))})"""  # noqa: S608 - only ? and constants
        rows = self.read(query, (self._destination, *(os.fsencode(c.location) for c in candidates)))
        with explained(self._path):
            return [as_result(row) for row in rows]

    def recorded(self, locations: Sequence[str]) -> dict[str, FileResult]:
        """Return, by location, the outcomes that this run has recorded."""
        query = f"""
            SELECT {COLUMNS} FROM file
            WHERE destination = ? AND run = ? AND path IN ({marks(len(locations))})"""  # noqa: S608 - only ?, constants
        rows = self.read(query, (self._destination, self._run, *map(os.fsencode, locations)))
        with explained(self._path):
            return {result.candidate.location: result for result in map(as_result, rows)}

    def instances(self, candidates: Sequence[Candidate]) -> dict[str, Instance]:
        """Return, by location, the recorded instances of the files that could be read as DICOM."""
        locations = {os.fsencode(candidate.location): candidate.location for candidate in candidates}
        query = f"""
            SELECT {INSTANCE_COLUMNS} FROM file
            WHERE destination = ? AND path IN ({marks(len(locations))})"""  # noqa: S608 - only ? and constants
        rows = self.read(query, (self._destination, *locations))
        with explained(self._path):
            return {locations[row[0]]: as_instance(row) for row in rows if as_header(row) is not None}


def _key(result: FileResult) -> tuple[object, ...]:
    candidate = result.candidate
    return os.fsencode(candidate.location), candidate.size_bytes, as_kept(candidate.version), result.outcome.value


def marks(count: int) -> str:
    """Return this number of placeholders for a query."""
    return ", ".join("?" * count)
