"""The progress of a verification on standard error, on the display that the user chose."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from bulkstow.events import Event, LedgerUpgraded, OutageBegan, OutageEnded, SourceOutageBegan, SourceOutageEnded
from bulkstow.progress.background import Stream
from bulkstow.progress.display import BAR_INTERVAL_S, LINE_INTERVAL_S
from bulkstow.progress.figures import Pace
from bulkstow.progress.terminal import DisplayKind, Panel, TimedLines, screen
from bulkstow.quantities import counted, show_duration
from bulkstow.verification.requests import Requests
from bulkstow.verification.tally import VerificationTally


class Live:
    """Shows the figures every `interval_s` seconds."""

    def __init__(self, kind: DisplayKind, stream: Stream, tally: VerificationTally) -> None:
        self._screen = screen(kind, stream)
        self.interval_s = BAR_INTERVAL_S if isinstance(self._screen, Panel) else LINE_INTERVAL_S
        self._tally = tally
        self._requests: Requests | None = None
        self._studies = Pace(60.0)
        self._instances = Pace()

    def say(self, text: str) -> None:
        """Show a line of text."""
        if self._screen is not None:
            self._screen.say(text)

    def tell(self, event: Event) -> None:
        """Show the line of an event, if it has one."""
        match event:
            case OutageBegan(_, _, next_attempt_in_s):
                at = datetime.now().astimezone() + timedelta(seconds=next_attempt_in_s)
                self.say(f"the server does not answer: nothing more is asked, next attempt at {at:%H:%M:%S}")
            case OutageEnded(duration_s):
                self.say(f"the server answers again after {show_duration(duration_s)}")
            case SourceOutageBegan(_, next_attempt_in_s):
                at = datetime.now().astimezone() + timedelta(seconds=next_attempt_in_s)
                self.say(f"the source does not answer: nothing more is read, next attempt at {at:%H:%M:%S}")
            case SourceOutageEnded(duration_s):
                self.say(f"the source answers again after {show_duration(duration_s)}")
            case LedgerUpgraded(kept_copy):
                self.say(f"the ledger of an older bulkstow is upgraded; a copy of it is kept in {kept_copy}")
            case _:
                pass

    def watch(self, requests: Requests) -> None:
        """Set the requests; their figures are shown."""
        self._requests = requests

    def close(self) -> None:
        """Erase the panel: the closing text has the final figures."""
        if isinstance(self._screen, Panel):
            self._screen.close()

    def show(self) -> None:
        """Show the figures as they are."""
        parts = self._parts()
        match self._screen:
            case Panel() as panel:
                label = f"{self._tally.studies - self._tally.done:,} studies left"
                panel.draw(parts, bar=(label, max(self._tally.studies, 1), self._tally.done))
            case TimedLines() as lines:
                lines.say(", ".join(parts))
            case None:
                pass

    def _parts(self) -> list[str]:
        tally, now_s, requests = self._tally, self._tally.elapsed_s, self._requests
        if not tally.studies:
            return [f"scanning, {counted(tally.scanned, 'file')} found" if tally.scanned else "starting"]
        parts = ["THE SERVER DOES NOT ANSWER, checking at intervals"] if tally.outage else []
        parts.append(f"{tally.done:,} of {counted(tally.studies, 'study', 'studies')}")
        parts += [f"{count:,} {state}" for state, count in sorted(tally.states.items()) if count]
        parts.append(f"{self._instances.rate(now_s, tally.expected):,.0f} instances/s")
        if requests is not None:
            parts.append(f"{requests.in_flight} of {max(requests.limit, requests.in_flight)} in flight")
        per_s = self._studies.rate(now_s, tally.done)
        if per_s and tally.studies > tally.done:
            parts.append(f"{show_duration(math.ceil((tally.studies - tally.done) / per_s))} left")
        return [*parts, show_duration(now_s)]
