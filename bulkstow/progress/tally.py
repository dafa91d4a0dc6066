"""Counting: what a run has done so far. Prints nothing."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

from bulkstow.model import Fate, Outcome
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.bottleneck import Usage
from bulkstow.progress.events import (
    Ended,
    Event,
    Found,
    Known,
    Outage,
    Recorded,
    Reopened,
    ScanEnded,
    Started,
    Taken,
    Timed,
    Waited,
)

SHOWN_FAILURES = 5
"""Enough to see what is wrong; `bulkstow report` has them all."""


class Tally:
    """The figures of a run, fed by its events."""

    def __init__(self) -> None:
        self.found_files = 0
        self.found_bytes = 0
        self.scan_ended = False
        self.settled_before = 0
        self.outcomes: Counter[Fate] = Counter()
        self.skip_reasons: Counter[str] = Counter()
        """Why files were skipped, up to the colon; what follows it may name a file, and would grow with the archive."""
        self.failures: list[Outcome] = []
        """The first few of each kind."""
        self.empty_sources: tuple[str, ...] = ()
        self.delivered = 0
        """Instances that the server has by this run's doing."""
        self.sent_bytes = 0
        self.requests = 0
        self.retries = 0
        self.requests_in_flight = 0
        self.outage = False
        self.concurrency = 0
        """Requests at once that the run came to."""
        self.batch_limits = BatchLimits(0, 0)
        """What a request held in the end at most."""
        self._started_s = time.monotonic()
        self._started_cpu_s = time.process_time()
        self._usage = Usage()

    @property
    def settled_files(self) -> int:
        """Files whose fate is known."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """Files that are refused, unconfirmed, in conflict or unreadable."""
        return sum(count for fate, count in self.outcomes.items() if fate.is_failure)

    @property
    def usage(self) -> Usage:
        """What the time was spent on, from the tally's beginning until now."""
        elapsed_s = time.monotonic() - self._started_s
        return replace(self._usage, elapsed_s=elapsed_s, cpu_s=time.process_time() - self._started_cpu_s)

    def tell(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Taken(size_bytes):
                self.sent_bytes += size_bytes
            case Recorded(outcomes):
                self._count(outcomes)
            case Found(files, size_bytes):
                self.found_files += files
                self.found_bytes += size_bytes
            case Known(fates):
                self.outcomes.update(fates)
                self.settled_before += sum(fates.values())
            case ScanEnded(empty_sources):
                self.scan_ended = True
                self.empty_sources += empty_sources
            case Started(batch):
                self.requests += 1
                self.retries += batch.requests > 0
                self.requests_in_flight += 1
            case Ended():
                self.requests_in_flight -= 1
            case Timed(spent):
                self._usage = self._usage.with_request(spent)
            case Waited(wait, duration_s):
                self._usage = self._usage.with_wait(wait, duration_s)
            case Reopened(outcomes):
                self._take_back(outcomes)
            case Outage(is_over):
                self.outage = not is_over

    def _count(self, outcomes: tuple[Outcome, ...]) -> None:
        for outcome in outcomes:
            self.outcomes[outcome.fate] += 1
            self.delivered += outcome.fate.is_success
            if outcome.fate is Fate.SKIPPED:
                self.skip_reasons[_kind(outcome)] += 1
            if outcome.fate.is_failure and len(self.failures) < SHOWN_FAILURES:
                self.failures.append(outcome)

    def _take_back(self, outcomes: tuple[Outcome, ...]) -> None:
        locations = {outcome.candidate.location for outcome in outcomes}
        self.failures = [failure for failure in self.failures if failure.candidate.location not in locations]
        for outcome in outcomes:
            self.outcomes[outcome.fate] -= 1
            if outcome.fate is Fate.SKIPPED:
                self.skip_reasons[_kind(outcome)] -= 1
            self.found_files -= 1
            self.found_bytes -= outcome.candidate.size_bytes


def _kind(outcome: Outcome) -> str:
    return outcome.reason.partition(":")[0]
