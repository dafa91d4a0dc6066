"""The ledger of a run: look-ups and records."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from types import TracebackType

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
from bulkstow.ledger.look_ups import Known, LookUps
from bulkstow.ledger.rows import (
    COLUMN_COUNT,
    COLUMNS,
    HEADER_COLUMNS,
    SENT_COLUMNS,
    SUCCESSES,
    as_result,
    as_row,
)
from bulkstow.ledger.studies import count_studies
from bulkstow.ledger.upgrade import KEPT_SUFFIXES, upgrade
from bulkstow.model import Candidate, FileResult, Instance, LedgerStudies, Outcome

_HAS_NO_HEAD = f"excluded.outcome = '{Outcome.UNREADABLE}' AND excluded.sop_instance_uid IS NULL"

_UPDATES = ", ".join(
    f"{column} = CASE WHEN {_HAS_NO_HEAD} THEN {column} ELSE excluded.{column} END"
    if column in (*HEADER_COLUMNS, *SENT_COLUMNS)
    else f"{column} = excluded.{column}"
    for column in COLUMNS.split(", ")
    if column not in ("path", "sha256", "accepted")
)
"""A file that can no longer be read keeps its UIDs: `verify` still knows that its instance should be at the server."""

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


class Ledger(AbstractContextManager["Ledger"]):
    """The outcomes of the files for one destination; open for one run at a time.

    The command, bulkstow's version and the settings, which contain no secret, are kept with the run. Raises LedgerError
    if the file cannot be opened or written, is in use by another run, was not written by bulkstow, or was written by a
    newer version. A ledger of an older version is upgraded.
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
        self._writing = threading.Lock()
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
                reader = opened.enter_context(closing(connect(path)))
                self._destination = self._destination_id(destination)
                self._run = self._begin_run(command, version, settings or {})
                self._look_ups = LookUps(reader, path, destination=self._destination, run=self._run)
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
        return files_of(self.path)

    def look_up(self, candidates: Sequence[Candidate], again: Collection[Outcome] = ()) -> list[Known | None]:
        """Return for each candidate its known outcome, as `LookUps.look_up` does."""
        return self._look_ups.look_up(candidates, again)

    def results(self, candidates: Sequence[Candidate]) -> list[FileResult]:
        """Return the recorded outcomes of files, as `LookUps.results` does."""
        return self._look_ups.results(candidates)

    def instances(self, candidates: Sequence[Candidate]) -> dict[str, Instance]:
        """Return recorded instances by location, as `LookUps.instances` does."""
        return self._look_ups.instances(candidates)

    def recorded(self, locations: Sequence[str]) -> dict[str, FileResult]:
        """Return, by location, the outcomes that this run has recorded."""
        return self._look_ups.recorded(locations)

    def owners(self, sop_instance_uids: Sequence[str]) -> dict[str, list[Instance]]:
        """Return, by SOP Instance UID, the files that are on the server, in the order of their paths."""
        return self._look_ups.owners(sop_instance_uids)

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
        return self._look_ups.with_notes(results)

    def forget_container(self, container: Candidate) -> None:
        """Remove the outcome of an archive that earlier could not be read, or was not: its members have theirs now."""
        location = os.fsencode(container.location)
        query = "FROM file WHERE destination = ? AND path = ? AND run < ? AND sop_instance_uid IS NULL"
        place = (self._destination, location, self._run)
        if self._look_ups.read(f"SELECT 1 {query}", place):
            with self._writing, explained(self.path):
                self._writer.execute(f"DELETE {query}", place)

    def with_notes(self, results: list[FileResult]) -> list[FileResult]:
        """Return results, failures that a user has accepted with the note, as `LookUps.with_notes` does."""
        return self._look_ups.with_notes(results)

    def end(self, summary: Mapping[str, object]) -> None:
        """Record the summary of the run; a killed run has none."""
        self._check_in_place()
        with self._writing, explained(self.path):
            self._writer.execute("UPDATE run SET summary = ? WHERE id = ?", (json.dumps(summary), self._run))

    def count_studies(self) -> LedgerStudies:
        """Count the studies of the files for this destination; takes 1 s for a million files in the ledger."""
        return count_studies(self._look_ups, destination=self._destination, run=self._run)

    def settings_before(self, command: str) -> Mapping[str, object] | None:
        """Return the settings of the last run of a command before this one; None if there is none."""
        query = """
            SELECT settings FROM run WHERE destination = ? AND command = ? AND id < ? AND settings IS NOT NULL
            ORDER BY id DESC LIMIT 1"""
        rows = self._look_ups.read(query, (self._destination, command, self._run))
        try:
            settings = json.loads(rows[0][0]) if rows else None
        except (TypeError, ValueError):
            raise damaged(self.path, "the settings of a run") from None
        return settings if isinstance(settings, dict) else None

    def interrupt(self) -> None:
        """End a look-up that takes too long; it then raises LedgerError in its thread."""
        self._look_ups.interrupt()

    @property
    def ceiling_bytes(self) -> int | None:
        """The largest body that the destination accepts, as learned in this run or an earlier one."""
        rows = self._look_ups.read("SELECT ceiling_bytes FROM destination WHERE id = ?", (self._destination,))
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

    def _results(self, query: str, limit: int) -> list[FileResult]:
        rows = self._look_ups.read(query, (self._destination, self._run, limit))
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


def files_of(path: Path) -> frozenset[str]:
    """Return the absolute paths of a ledger's own files, there or not."""
    spelled = os.path.abspath(path)  # noqa: PTH100 - like the walk, links unresolved
    suffixes = (*OWN_SUFFIXES, LOCK_SUFFIX, *KEPT_SUFFIXES)
    return frozenset(name + suffix for name in (spelled, str(path.resolve())) for suffix in suffixes)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
