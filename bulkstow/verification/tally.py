"""The figures of a verification."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from bulkstow.events import Event, OutageBegan, OutageContinues, OutageEnded
from bulkstow.policy.health import OutageCause
from bulkstow.policy.study_state import StudyResult, StudyState


@dataclass(slots=True)
class VerificationTally:
    """Counts results; takes the events of outages."""

    studies: int = 0
    """Studies to verify."""
    studies_in_all: int = 0
    """Studies of which these are a sample."""
    states: Counter[StudyState] = field(default_factory=Counter)
    expected: int = 0
    """Instances of the studies so far."""
    found: int = 0
    missing: int = 0
    different: int = 0
    extra: int = 0
    confirmed_before: int = 0
    """Studies that an unfinished run had confirmed already."""
    listed_instead: int = 0
    """Studies that were listed, because the server does not count their instances."""
    uncovered: int = 0
    """Failures that belong to no study."""
    outage: OutageCause | None = None
    outage_s: float = 0.0
    started_at: datetime = field(default_factory=lambda: datetime.now().astimezone())
    _started_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the verification began."""
        return time.monotonic() - self._started_s

    @property
    def done(self) -> int:
        """Studies that have a result."""
        return self.states.total()

    @property
    def is_all_complete(self) -> bool:
        """True if all that was expected has arrived, as far as it was looked at."""
        return all(state.is_complete for state, count in self.states.items() if count)

    def add(self, result: StudyResult, *, was_listed: bool = False) -> None:
        """Count the result of a study."""
        self.states[result.state] += 1
        self.expected += result.expected
        self.found += result.found or 0
        self.missing += len(result.missing)
        self.different += len(result.different)
        self.extra += len(result.extra)
        self.listed_instead += was_listed

    def tell(self, event: Event) -> None:
        """Take an event of an outage."""
        match event:
            case OutageBegan(cause) | OutageContinues(cause):
                self.outage = cause
            case OutageEnded(duration_s):
                self.outage = None
                self.outage_s += duration_s
            case _:
                pass
