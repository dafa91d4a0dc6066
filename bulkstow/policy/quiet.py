"""When a file that is new or has changed may be read: a watched file may still be written.

Pure: the caller gives the times, by a clock that is never set (`now_s`) and by the clock of modification times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from bulkstow.model import Candidate

MOST_PENDING = 4096
"""Paths that wait at most; beyond that the sources are scanned again. They take 1 MB.
Linux queues 16,384 events, and a new file makes four, so a burst of more files may have lost events."""

MOST_RESCAN_S = 3600.0
"""The longest interval that a slow scan causes, beside the user's own."""

RESCAN_SHARE = 0.1
"""The most time that scans take: with 1,000,000 files one takes 10 s, so that they follow each other at 100 s."""


@dataclass(slots=True)
class _Pending:
    """A path that waits."""

    since_s: float
    """Since when nothing has happened to it."""
    state: tuple[int, int | str] | None
    """Size and version of the file, if a scan has found it."""


class Quiet:
    """The paths of new and changed files, until nothing has happened to them for `quiet_s`."""

    def __init__(self, quiet_s: float, *, most: int = MOST_PENDING) -> None:
        self._quiet_s = quiet_s
        self._most = most
        self._pending: dict[str, _Pending] = {}
        self._released: dict[str, tuple[int, int | str] | None] = {}
        """Paths that the current pass reads, with the states that were found before."""
        self._lost_s: float | None = None
        """When changes were lost last, since the last scan of everything."""

    @property
    def pending(self) -> int:
        """The number of paths that wait."""
        return len(self._pending)

    @property
    def has_lost(self) -> bool:
        """True if changes were lost, so that everything has to be scanned."""
        return self._lost_s is not None

    def note(self, paths: Iterable[str], now_s: float) -> None:
        """Take note that something has happened to paths."""
        for path in paths:
            self._wait(path, _Pending(now_s, None), now_s)

    def forget(self, paths: Iterable[str]) -> None:
        """Take note that paths were removed."""
        for path in paths:
            self._pending.pop(path, None)

    def lose(self, now_s: float) -> None:
        """Take note that changes may have been lost."""
        self._lost_s = now_s

    def begin_scan(self) -> None:
        """Take note that everything is scanned from now on."""
        self._lost_s = None

    def end_pass(self) -> None:
        """Take note that the files of a pass were read."""
        self._released.clear()

    def take_due(self, now_s: float) -> list[str]:
        """Return the paths that may be read, which no longer wait."""
        due = [path for path, waiting in self._pending.items() if now_s >= waiting.since_s + self._quiet_s]
        self._released |= {path: self._pending.pop(path).state for path in due}
        return due

    def next_s(self) -> float:
        """Return the time at which the next path may be read, or a scan may follow lost changes; inf if none waits."""
        since_s = (waiting.since_s for waiting in self._pending.values())
        earliest_s = min(since_s, default=math.inf)
        return min(earliest_s, math.inf if self._lost_s is None else self._lost_s) + self._quiet_s

    def may_scan(self, now_s: float) -> bool:
        """Return whether changes were lost, and enough time has passed since."""
        return self._lost_s is not None and now_s >= self._lost_s + self._quiet_s

    def admit(self, candidate: Candidate, now_s: float, now_ns: int) -> bool:
        """Return whether a file that a scan has found may be read now; otherwise it waits.

        A file may be read if its modification time is old enough, or if it has been seen to stay the same for so long:
        the clock of a modality or of a file server may be wrong. An event during that time counts as a change.
        """
        path, state = candidate.location, (candidate.size_bytes, candidate.version)
        if path in self._released and self._released[path] in (None, state):
            return True
        waiting = self._pending.get(path)
        if waiting is not None and waiting.state in (None, state) and now_s < waiting.since_s + self._quiet_s:
            waiting.state = state
            return False
        age_s = (now_ns - candidate.version) / 1e9 if isinstance(candidate.version, int) else math.inf
        if age_s >= self._quiet_s:
            self._pending.pop(path, None)
            return True
        self._wait(path, _Pending(now_s - max(0.0, age_s), state), now_s)
        return False

    def _wait(self, path: str, waiting: _Pending, now_s: float) -> None:
        if path in self._pending or len(self._pending) < self._most:
            self._pending[path] = waiting
        else:
            self._lost_s = now_s


def rescan_pause_s(rescan_s: float, scan_s: float) -> float:
    """Return the time between two scans of everything, the last of which took `scan_s`."""
    return max(rescan_s, min(scan_s / RESCAN_SHARE - scan_s, MOST_RESCAN_S))
