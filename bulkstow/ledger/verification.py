"""The ledger of a verification: records how the server confirmed the files, and unfinished verifications."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from bulkstow.errors import ConfigurationError
from bulkstow.ledger.database import check_head, connect, explained
from bulkstow.ledger.journal import Ledger
from bulkstow.ledger.look_ups import marks
from bulkstow.ledger.reading import destinations_in
from bulkstow.policy.findings import Change

COMMAND = "verify"
"""The command of a run that verifies."""

PATHS_PER_UPDATE = 1000
"""Files per statement. One statement per file takes 10 instead of 6.7 µs per file."""

_CONFIRM = "UPDATE file SET verified_level = ?, verified_at_s = ? WHERE destination = ? AND path IN ({})"
_CHANGE = """
    UPDATE file SET verified_level = ?, verified_at_s = ?, outcome = ?, reason = ?, recorded_at_s = ?, run = ?,
        copy_of = NULL, accepted = NULL
    WHERE destination = ? AND path = ?"""


CONTINUED_WITHIN_S = 7 * 24 * 3600
"""The age up to which an unfinished run is continued, because instances may be deleted meanwhile. Verifying 10 TB takes
a day at 1 Gbit/s."""

SHOWN_URLS = 3
"""Destinations that a message names; most ledgers have one."""


def check_has_files(path: Path, destination: str) -> None:
    """Raise ConfigurationError if a ledger has no file for a destination, such as a misspelt URL; or LedgerError."""
    check_head(path)
    with explained(path), closing(connect(path)) as connection:
        has_tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,)
        urls = [url for url, _ in destinations_in(connection, path)] if has_tables else []
    if destination not in urls:
        others = f"it has those for {', '.join(urls[:SHOWN_URLS])}" if urls else "nor for another URL"
        raise ConfigurationError(f"--ledger {path}: no files for {destination}; {others}")


class VerificationLedger(Ledger):
    """The ledger while a verification is the run; no upload can run with it meanwhile.

    `scope` describes the verification: level, sample, filters. Raises LedgerError as `Ledger`.
    """

    def __init__(
        self,
        path: Path,
        destination: str,
        *,
        version: str,
        scope: Mapping[str, object],
        settings: Mapping[str, object],
    ) -> None:
        super().__init__(path, destination, command=COMMAND, version=version, settings={**settings, **scope})
        self._scope = json.loads(json.dumps(scope))

    @property
    def destination_number(self) -> int:
        """The number of the destination in the ledger."""
        return self._destination

    def unfinished_since_s(self) -> int | None:
        """Return when the first unfinished run with this scope since the last finished one began, in s since 1970.

        None if there is no such run, or it began more than CONTINUED_WITHIN_S ago.
        """
        query = """
            SELECT CAST(strftime('%s', started_at) AS INTEGER), settings, summary FROM run
            WHERE destination = ? AND command = ? AND id < ? ORDER BY id DESC"""
        since_s: int | None = None
        earliest_s = time.time() - CONTINUED_WITHIN_S
        for began_s, settings, summary in self._look_ups.read(query, (self._destination, COMMAND, self._run)):
            if not self._scope.items() <= json.loads(settings or "{}").items():
                continue
            if began_s < earliest_s or (summary is not None and json.loads(summary).get("complete")):
                break
            since_s = began_s
        return since_s

    def record_changes(self, changes: Iterable[tuple[bytes, Change]]) -> None:
        """Write the findings of a verification about files, by their paths, in one transaction.

        Raises LedgerError, before anything is written, if the file at the ledger's path was replaced or removed.
        """
        self._check_in_place()
        now_s = int(time.time())
        confirmed: dict[str, list[bytes]] = {}
        changed = []
        for path, change in changes:
            if change.outcome is None:
                confirmed.setdefault(change.level, []).append(path)
            else:
                verified = (change.level, now_s) if change.level else (None, None)
                outcome = (change.outcome.value, change.reason, now_s, self._run)
                changed.append((*verified, *outcome, self._destination, path))
        with self._writing, explained(self.path), self._writer:
            self._writer.execute("BEGIN")
            for level, paths in confirmed.items():
                for several in _parts(paths, PATHS_PER_UPDATE):
                    query = _CONFIRM.format(marks(len(several)))
                    self._writer.execute(query, (level, now_s, self._destination, *several))
            self._writer.executemany(_CHANGE, changed)


def _parts(paths: list[bytes], length: int) -> Iterator[list[bytes]]:
    """Yield a list in parts."""
    return (paths[start : start + length] for start in range(0, len(paths), length))
