"""Lines for people about events that cannot wait for the next line of figures: the begin and the end of an outage."""

from __future__ import annotations

from datetime import datetime, timedelta

from bulkstow.policy.health import OutageCause
from bulkstow.progress.display import Display
from bulkstow.progress.events import Event, OutageBegan, OutageEnded
from bulkstow.quantities import show_duration

_BEGAN = {
    OutageCause.NO_ANSWER: "the server does not answer",
    OutageCause.NO_ROOM: "the server has no room",
}


class Announcer:
    """Says a line on a display as an event comes."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def tell(self, event: Event) -> None:
        """Say the line of an event that has one."""
        match event:
            case OutageBegan(cause, _, next_attempt_in_s):
                at = datetime.now().astimezone() + timedelta(seconds=next_attempt_in_s)
                self._display.say(f"{_BEGAN[cause]}: sending stops, next attempt at {at:%H:%M:%S}")
            case OutageEnded(duration_s):
                self._display.say(f"the server stores again after {show_duration(duration_s)}: sending continues")
            case _:
                pass
