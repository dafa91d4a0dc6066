"""The figures of a verification."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bulkstow.events import (
    Event,
    FilesFound,
    OutageBegan,
    OutageContinues,
    OutageEnded,
    Recorded,
    ScanEnded,
    StudyVerified,
)
from bulkstow.model import FileResult
from bulkstow.policy.health import OutageCause
from bulkstow.policy.study_state import StudyResult, StudyState

SHOWN_UNCOVERED = 3
"""Files of a source, and studies of a list, that the closing text names. The ledger has the files of an upload."""


@dataclass(slots=True)
class VerificationTally:
    """Counts results; takes the events of the scan, and of outages."""

    studies: int = 0
    """Studies to verify."""
    studies_in_all: int = 0
    """Studies that the sample was taken from."""
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
    """Failures that belong to no study, so that nothing is known about their instances."""
    first_uncovered: list[FileResult] = field(default_factory=list)
    """The first of them in a source."""
    unknown_studies: int = 0
    """Studies of `--studies` of which no instance is expected; they count as failures."""
    first_unknown_studies: tuple[str, ...] = ()
    scanned: int = 0
    """Files that the scan of a source found."""
    empty_sources: tuple[str, ...] = ()
    """The first sources without any file; they count as failures."""
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
        """True if all expected instances of the examined studies have arrived."""
        is_covered = not (self.empty_sources or self.uncovered or self.unknown_studies)
        return is_covered and all(state.is_complete for state, count in self.states.items() if count)

    def note_unknown(self, studies: Sequence[str]) -> None:
        """Record the studies of a list of which no instance is expected."""
        self.unknown_studies, self.first_unknown_studies = len(studies), tuple(studies[:SHOWN_UNCOVERED])

    def tell(self, event: Event) -> None:
        """Take an event of an outage."""
        match event:
            case OutageBegan(cause) | OutageContinues(cause):
                self.outage = cause
            case OutageEnded(duration_s):
                self.outage = None
                self.outage_s += duration_s
            case StudyVerified(result, is_from_before, is_listed_instead):
                self._count(result)
                self.confirmed_before += is_from_before
                self.listed_instead += is_listed_instead
            case FilesFound(files):
                self.scanned += files
            case ScanEnded(empty_sources):
                self.empty_sources = empty_sources
            case Recorded(results):
                failures = [result for result in results if result.is_failure]
                self.uncovered += len(failures)
                self.first_uncovered += failures[: SHOWN_UNCOVERED - len(self.first_uncovered)]
            case _:
                pass

    def _count(self, result: StudyResult) -> None:
        self.states[result.state] += 1
        self.expected += result.expected
        self.found += result.found or 0
        self.missing += len(result.missing)
        self.different += len(result.different)
        self.extra += len(result.extra)
