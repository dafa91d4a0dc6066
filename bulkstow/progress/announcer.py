"""Lines for people about events that cannot wait for the next line of figures: outages, and failures as they happen."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from bulkstow.events import Event, LedgerUpgraded, OutageBegan, OutageEnded, Recorded
from bulkstow.model import FileResult
from bulkstow.policy.health import OutageCause
from bulkstow.printing import shown
from bulkstow.progress.display import Display
from bulkstow.quantities import counted, show_duration

_BEGAN = {
    OutageCause.NO_ANSWER: "the server does not answer",
    OutageCause.NO_ROOM: "the server has no room",
}


FAILURES_AT_ONCE = 5
"""The first few say what is wrong."""

FAILURES_PAUSE_S = 10.0
"""Then one line in so long: where everything fails, a screen is not flooded."""


class Announcer:
    """Says a line on a display as an event comes."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._failures = 0
        self._unsaid = 0
        self._next_s = 0.0

    def tell(self, event: Event) -> None:
        """Say the line of an event that has one."""
        match event:
            case OutageBegan(cause, _, next_attempt_in_s):
                at = datetime.now().astimezone() + timedelta(seconds=next_attempt_in_s)
                self._display.say(f"{_BEGAN[cause]}: sending stops, next attempt at {at:%H:%M:%S}")
            case OutageEnded(duration_s):
                self._display.say(f"the server stores again after {show_duration(duration_s)}: sending continues")
            case Recorded(results):
                for result in results:
                    if result.outcome.is_failure:
                        self._announce_failure(result)
            case LedgerUpgraded(kept_copy):
                self._display.say(
                    "the ledger of an older bulkstow is upgraded: files that were skipped are looked at again; "
                    f"a copy of it is kept in {shown(kept_copy)}"
                )
            case _:
                pass

    def _announce_failure(self, failure: FileResult) -> None:
        """Say a failure, if it is time, and how many were not said since the last one."""
        now_s = time.monotonic()
        if self._failures >= FAILURES_AT_ONCE and now_s < self._next_s:
            self._unsaid += 1
            return
        others = f" (and {counted(self._unsaid, 'other')} since the last line)" if self._unsaid else ""
        path, reason = shown(failure.candidate.location), shown(failure.reason)
        self._display.say(f"{failure.outcome} {path}: {reason}{others}")
        self._failures += 1
        self._unsaid = 0
        self._next_s = now_s + FAILURES_PAUSE_S
