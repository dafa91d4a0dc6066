"""Messages to the user about events that are shown at once: outages, and failures as they happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from bulkstow.events import (
    Event,
    LedgerUpgraded,
    OutageBegan,
    OutageEnded,
    Recorded,
    SendersChanged,
    SourceOutageBegan,
    SourceOutageEnded,
    WatchNote,
)
from bulkstow.model import FileResult
from bulkstow.policy.health import OutageCause
from bulkstow.printing import shown
from bulkstow.quantities import counted, show_duration

_BEGAN = {
    OutageCause.NO_ANSWER: "the server does not answer",
    OutageCause.NO_ROOM: "the server is out of space",
}

FAILURES_AT_ONCE = 5
"""Number of failures that are all shown at once. The first few usually show the cause."""

FAILURES_PAUSE_S = 10.0
"""Shortest time between two later failures that are shown, so that a run in which everything fails stays readable."""


class Announcer:
    """Shows a line for each event that has one, by `say`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._failures = 0
        self._unshown = 0
        self._next_s = 0.0

    def tell(self, event: Event) -> None:
        """Show the line of an event, if it has one."""
        match event:
            case OutageBegan(cause, _, next_attempt_in_s):
                self._say(f"{_BEGAN[cause]}: sending stops, next attempt at {_clock(next_attempt_in_s)}")
            case OutageEnded(duration_s):
                self._say(f"the server stores again after {show_duration(duration_s)}: sending continues")
            case SourceOutageBegan(_, next_attempt_in_s):
                at = _clock(next_attempt_in_s)
                self._say(f"the source does not answer: nothing more is read, next attempt at {at}")
            case SourceOutageEnded(duration_s):
                self._say(f"the source answers again after {show_duration(duration_s)}")
            case Recorded(results):
                for result in results:
                    if result.is_failure:
                        self._announce_failure(result)
            case WatchNote(text):
                self._say(shown(text))
            case SendersChanged(senders, are_workers=True):
                names = ("worker", "workers")
                self._say(f"sending from {counted(senders, *names)}")
            case LedgerUpgraded(kept_copy, schema):
                effect = "files that were skipped are looked at again" if schema == 1 else "nothing is sent again"
                self._say(
                    f"the ledger of an older bulkstow is upgraded: {effect}; a copy of it is kept in {shown(kept_copy)}"
                )
            case _:
                pass

    def _announce_failure(self, failure: FileResult) -> None:
        """Show a failure and the number of those left out since the last one; leave it out if it is too soon."""
        now_s = time.monotonic()
        if self._failures >= FAILURES_AT_ONCE and now_s < self._next_s:
            self._unshown += 1
            return
        others = f" (and {counted(self._unshown, 'other')} since the last line)" if self._unshown else ""
        path, reason = shown(failure.candidate.location), shown(failure.reason)
        self._say(f"{failure.outcome} {path}: {reason}{others}")
        self._failures += 1
        self._unshown = 0
        self._next_s = now_s + FAILURES_PAUSE_S


def _clock(in_s: float) -> str:
    """Return the local time of day in so many seconds."""
    return f"{datetime.now().astimezone() + timedelta(seconds=in_s):%H:%M:%S}"
