"""The ledger of a run: look-ups and records."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from bulkstow.errors import LedgerError
from bulkstow.ledger.database import (
    OWN_SUFFIXES,
    check_head,
    connect,
    create,
    damaged,
    explained,
    prepare,
    schema_version,
    wal_of,
)
from bulkstow.ledger.lock import LOCK_SUFFIX, Lock
from bulkstow.ledger.rows import (
    COLUMN_COUNT,
    COLUMNS,
    INSTANCE_COLUMNS,
    OUTCOMES,
    SUCCESSES,
    DamagedRow,
    as_instance,
    as_kept,
    as_result,
    as_row,
)
from bulkstow.ledger.upgrade import KEPT_SUFFIXES, upgrade
from bulkstow.model import Candidate, FileResult, Instance, Outcome

_FINAL = frozenset(
    outcome
    for outcome in Outcome
    if outcome.is_success or outcome in (Outcome.REFUSED, Outcome.CONFLICT, Outcome.SKIPPED)
)
"""Outcomes that the next run keeps; of a copy, or a file in conflict, only while the other file is on the server."""

_UPDATES = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS.split(", ")[1:-2])

_RECORD = f"""
    INSERT INTO file (destination, run, {COLUMNS}, recorded_at_s) VALUES ({", ".join("?" * (COLUMN_COUNT + 3))})
    ON CONFLICT (destination, path) DO UPDATE SET
        accepted = CASE WHEN size_bytes = excluded.size_bytes AND version = excluded.version
            AND outcome = excluded.outcome THEN coalesce(excluded.accepted, accepted) END,
        sha256 = CASE WHEN size_bytes = excluded.size_bytes AND version = excluded.version
            THEN coalesce(excluded.sha256, sha256) ELSE excluded.sha256 END,
        run = excluded.run, recorded_at_s = excluded.recorded_at_s, verified_level = NULL, verified_at_s = NULL,
        {_UPDATES}"""  # noqa: S608 - only ? and constants
"""A row of the same file keeps its digest, and the note of an accepted failure as long as the outcome is the same."""

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


class Ledger(AbstractContextManager["Ledger"]):
    """The outcomes of the files for one destination; open for one run at a time.

    The command, bulkstow's version and the settings, which contain no secret, are kept with the run. Raises LedgerError
    if the file cannot be opened or written, is in use by another run, or was not written by bulkstow or by a newer
    version. A ledger of an older version is upgraded.
    """

    def __init__(
        self,
        path: Path,
        destination: str,
        *,
        command: str = "upload",
        version: str = "",
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.path = path
        self._real_path = path.resolve()
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._changed: set[bytes] = set()
        """Paths of files that this run found changed, up to MOST_CHANGED_KEPT."""
        with ExitStack() as opened:
            opened.callback(Lock(path).release)
            check_head(path)
            with explained(path):
                create(path)
                self._writer = opened.enter_context(closing(connect(path)))
                prepare(self._writer, path)
                self.schema_before = schema_version(self._writer)
                self.kept_copy = upgrade(self._writer, path)
                """The path of a copy of the ledger before it was upgraded; None if it had the current schema."""
                self._reader = opened.enter_context(closing(connect(path)))
                self._destination = self._destination_id(destination)
                self._run = self._begin_run(command, version, settings or {})
            self._identities = self._identify()
            self._opened = opened.pop_all()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the ledger and release its lock.

        Raises LedgerError if the file at its path was replaced meanwhile, unless the run has failed.
        """
        with self._opened:
            if exc is None:
                self._check_in_place()

    @property
    def files(self) -> frozenset[str]:
        """Absolute paths of the ledger's own files, which the scan excludes."""
        spelled = os.path.abspath(self.path)  # noqa: PTH100 - like the walk, links unresolved
        suffixes = (*OWN_SUFFIXES, LOCK_SUFFIX, *KEPT_SUFFIXES)
        return frozenset(path + suffix for path in (spelled, str(self._real_path)) for suffix in suffixes)

    def look_up(self, candidates: Sequence[Candidate], again: Collection[Outcome] = ()) -> list[Known | None]:
        """Return for each candidate its known outcome; None if it is new or has changed since.

        Outcomes in `again` are not final, because the user asks for them again. A copy, or a file in conflict, is final
        only while the file that was sent instead is on the server unchanged: not if this run found it changed, nor if a
        later run sent it again.
        """
        query = f"""
            SELECT f.path, f.size_bytes, f.version, f.outcome,
                f.copy_of IS NULL OR (o.outcome IN ({SUCCESSES}) AND o.run <= f.run),
                f.reason, f.accepted, f.run = ? AND f.copy_of IS NULL, f.copy_of
            FROM file AS f LEFT JOIN file AS o ON o.destination = f.destination AND o.path = f.copy_of
                AND o.sop_instance_uid = f.sop_instance_uid
            WHERE f.destination = ? AND f.path IN ({_marks(len(candidates))})"""  # noqa: S608 - only ? and constants
        final = _FINAL.difference(again)
        keys = [os.fsencode(candidate.location) for candidate in candidates]
        rows = {row[0]: row for row in self._read(query, (self._run, self._destination, *keys))}
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

        with explained(self.path):
            # Most files have the same outcome, so there is one object for all of them.
            known_by_columns = {columns: known(*columns) for columns in {row[3:] for row in rows.values()}}
            return [known_by_columns[rows[key][3:]] if key in rows else None for key in keys]

    def owners(self, sop_instance_uids: Sequence[str]) -> dict[str, list[Instance]]:
        """Return, by SOP Instance UID, the files that are on the server, in the order of their paths."""
        if not sop_instance_uids:
            return {}
        # Without INDEXED BY, SQLite uses the primary key and reads the whole destination for every list of files.
        query = f"""
            SELECT {INSTANCE_COLUMNS} FROM file INDEXED BY file_by_instance
            WHERE destination = ? AND sop_instance_uid IS NOT NULL
            AND sop_instance_uid IN ({_marks(len(sop_instance_uids))})
            AND outcome IN ({SUCCESSES})"""  # noqa: S608 - only ? and constants
        rows = self._read(query, (self._destination, *sop_instance_uids))
        with explained(self.path):
            instances = [as_instance(row) for row in rows]
        owners: dict[str, list[Instance]] = {}
        for owner in sorted(instances, key=lambda instance: os.fsencode(instance.candidate.location)):
            owners.setdefault(owner.header.sop_instance_uid, []).append(owner)
        return owners

    def orphaned_copies(self, limit: int) -> list[FileResult]:
        """Return this run's copies of files that did not reach the server, in the order of their paths.

        The scan finds such copies of an earlier run, if they are in its sources.
        """
        columns = ", ".join(f"f.{column}" for column in COLUMNS.split(", "))
        query = f"""
            SELECT {columns}
            FROM file AS f INDEXED BY file_by_copy
            JOIN file AS o ON o.destination = f.destination AND o.path = f.copy_of
            WHERE f.destination = ? AND f.run = ? AND f.copy_of IS NOT NULL
            AND (o.outcome NOT IN ({SUCCESSES}) OR o.sop_instance_uid IS NOT f.sop_instance_uid)
            ORDER BY f.path LIMIT ?"""  # noqa: S608 - only constants
        return self._results(query, limit)

    def conflicts(self, limit: int) -> list[FileResult]:
        """Return this run's files in conflict in the order of their paths: the first of each SOP Instance UID."""
        query = f"""
            SELECT {COLUMNS}, min(path) FROM file INDEXED BY file_by_copy
            WHERE destination = ? AND run = ? AND copy_of IS NOT NULL AND outcome = '{Outcome.CONFLICT}'
            GROUP BY sop_instance_uid ORDER BY path LIMIT ?"""  # noqa: S608 - only constants
        return self._results(query, limit)

    def record(self, results: Iterable[FileResult]) -> list[FileResult]:
        """Write outcomes in one transaction; after that they survive a crash of the process.

        Return the results, failures that a user has accepted with the note. Raises LedgerError, before anything is
        written, if the file at the ledger's path was replaced or removed.
        """
        self._check_in_place()
        results, now_s = list(results), int(time.time())
        rows = [(self._destination, self._run, *as_row(result), now_s) for result in results]
        with self._writing, explained(self.path), self._writer:
            self._writer.execute("BEGIN")
            self._writer.executemany(_RECORD, rows)
        return self._with_notes(results)

    def _with_notes(self, results: list[FileResult]) -> list[FileResult]:
        """Return results as they were written, with the notes of accepted failures."""
        failed = [os.fsencode(result.candidate.location) for result in results if result.outcome.is_failure]
        if not failed:
            return results
        query = f"""
            SELECT path, accepted FROM file WHERE destination = ? AND path IN ({_marks(len(failed))})
            AND accepted IS NOT NULL"""  # noqa: S608 - only ?
        notes = {os.fsdecode(path): note for path, note in self._read(query, (self._destination, *failed))}
        return [
            replace(result, accepted=notes[result.candidate.location])
            if result.outcome.is_failure and result.candidate.location in notes
            else result
            for result in results
        ]

    def end(self, summary: Mapping[str, object]) -> None:
        """Keep the summary of the run, which a killed run does not have."""
        self._check_in_place()
        with self._writing, explained(self.path):
            self._writer.execute("UPDATE run SET summary = ? WHERE id = ?", (json.dumps(summary), self._run))

    def count_studies(self) -> int:
        """Return the number of studies of which this run sent files; takes 1 s for a million files in the ledger."""
        query = "SELECT count(DISTINCT study_uid) FROM file WHERE destination = ? AND run = ? AND attempts > 0"
        rows = self._read(query, (self._destination, self._run))
        studies: int = rows[0][0]
        return studies

    @property
    def ceiling_bytes(self) -> int | None:
        """The largest body that the destination accepts, as learned in this run or an earlier one."""
        rows = self._read("SELECT ceiling_bytes FROM destination WHERE id = ?", (self._destination,))
        ceiling_bytes = rows[0][0] if rows else "missing"
        if ceiling_bytes is None or (type(ceiling_bytes) is int and ceiling_bytes > 0):
            return ceiling_bytes
        raise damaged(self.path, f"the largest body is {ceiling_bytes!r}")

    def learn_ceiling(self, ceiling_bytes: int) -> None:
        """Record that the destination refuses larger bodies."""
        self._check_in_place()
        with self._writing, explained(self.path):
            self._writer.execute(
                "UPDATE destination SET ceiling_bytes = ? WHERE id = ?", (ceiling_bytes, self._destination)
            )

    def _destination_id(self, url: str) -> int:
        self._writer.execute("INSERT OR IGNORE INTO destination (url) VALUES (?)", (url,))
        row = self._writer.execute("SELECT id FROM destination WHERE url = ?", (url,)).fetchone()
        if row is None:
            raise damaged(self.path, "its table of destinations contradicts its index")
        return int(row[0])

    def _begin_run(self, command: str, version: str, settings: Mapping[str, object]) -> int:
        values = (self._destination, command, version, json.dumps(settings))
        query = "INSERT INTO run (destination, command, bulkstow_version, settings) VALUES (?, ?, ?, ?)"
        return self._writer.execute(query, values).lastrowid or 0

    def _read(self, query: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._reading, explained(self.path):
            return self._reader.execute(query, parameters).fetchall()

    def _results(self, query: str, limit: int) -> list[FileResult]:
        rows = self._read(query, (self._destination, self._run, limit))
        with explained(self.path):
            return [as_result(row[:COLUMN_COUNT]) for row in rows]

    def _identify(self) -> list[os.stat_result | None]:
        """Return the status of the database and of its WAL; None for one that does not exist."""
        return [_status(self.path), _status(wal_of(self._real_path))]

    def _check_in_place(self) -> None:
        """Raise LedgerError if the open files are no longer those at their paths."""
        for before, now in zip(self._identities, self._identify(), strict=True):
            if before is not None and (now is None or not os.path.samestat(before, now)):
                raise LedgerError(
                    f"the ledger {self.path} was deleted or replaced while the run went on, so nothing more can be "
                    "recorded: put it back, or start anew (stored files are then sent again)"
                )


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _marks(count: int) -> str:
    return ", ".join("?" * count)
