"""Counting: what a run has done so far. Prints nothing."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from datetime import datetime
from itertools import islice, zip_longest

from bulkstow.events import (
    BytesSent,
    CeilingLearned,
    Connecting,
    Event,
    FilesFound,
    LedgerUpgraded,
    LimitsChanged,
    Outage,
    OutageBegan,
    OutageContinues,
    OutageEnded,
    Recorded,
    Reopened,
    RequestEnded,
    RequestStarted,
    RequestTimed,
    RetryScheduled,
    ScanEnded,
    SettledBefore,
    StudiesCounted,
    Waited,
)
from bulkstow.model import FileResult, Outcome
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.bottleneck import Usage
from bulkstow.policy.health import OutageCause

SHOWN_FAILURES = 5
"""Enough to see what is wrong; `bulkstow report` has them all."""


class Tally:
    """The figures of a run, fed by its events."""

    def __init__(self) -> None:
        self.found_files = 0
        self.found_bytes = 0
        self.scan_ended = False
        self.settled_before = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.skip_reasons: Counter[str] = Counter()
        """Why files were skipped, up to the colon; what follows it may name a file, and would grow with the archive."""
        self.failures: list[FileResult] = []
        """The first few of each fate, of this run and of earlier ones."""
        self.empty_sources: tuple[str, ...] = ()
        self.delivered = 0
        """Instances that the server has by this run's doing."""
        self.sent_bytes = 0
        self.requests = 0
        self.retries = 0
        self.requests_in_flight = 0
        self.outage: OutageCause | None = None
        """Why the server counts as gone or full; None while it does not."""
        self.next_attempt_s: float | None = None
        """When it is tried next, by `time.monotonic`."""
        self.server_requests_per_s: float | None = None
        """Requests a second that the server accepts; None while it rejects none."""
        self.concurrency = 0
        """Requests at once that the run came to."""
        self.allowed_requests = 0
        """Requests that may be under way now: while it looks for a better number, that is another one."""
        self.connecting_to = ""
        """The destination, until it has answered."""
        self.studies: int | None = 0
        """Studies that the run sent something of; counted at its end."""
        self.batch_limits = BatchLimits(0, 0)
        """What a request held in the end at most."""
        self._settled_bytes = 0
        self._settled_before_bytes = 0
        self._past_outages_s = 0.0
        self._outage_began_s: float | None = None
        self._started_at = datetime.now().astimezone()
        self._started_s = time.monotonic()
        self._started_cpu_s = time.process_time()
        self._usage = Usage()

    @property
    def started_at(self) -> datetime:
        """When the run began, in local time with its offset."""
        return self._started_at

    @property
    def settled_files(self) -> int:
        """Files whose fate is known."""
        return self.outcomes.total()

    @property
    def settled_bytes(self) -> int:
        """Their size."""
        return self._settled_bytes + self._settled_before_bytes

    @property
    def settled_before_bytes(self) -> int:
        """The size of those that an earlier run settled."""
        return self._settled_before_bytes

    @property
    def has_begun(self) -> bool:
        """True when a file was found, or it is certain that there is none."""
        return self.found_files > 0 or self.scan_ended

    @property
    def failed(self) -> int:
        """Files that are refused, unconfirmed, in conflict or unreadable."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.is_failure)

    @property
    def first_failures(self) -> list[FileResult]:
        """The failures to show: the first ones, of each fate that occurs at least one."""
        by_fate = [[failure for failure in self.failures if failure.outcome is outcome] for outcome in Outcome]
        in_turn = (failure for turn in zip_longest(*by_fate) for failure in turn if failure is not None)
        order = list(Outcome)
        return sorted(islice(in_turn, SHOWN_FAILURES), key=lambda failure: order.index(failure.outcome))

    @property
    def usage(self) -> Usage:
        """What the time was spent on, from the tally's beginning until now."""
        elapsed_s = time.monotonic() - self._started_s
        cpu_s = time.process_time() - self._started_cpu_s
        return replace(self._usage, elapsed_s=elapsed_s, cpu_s=cpu_s, outage_s=self.outage_s)

    @property
    def outage_s(self) -> float:
        """For how long the server has been gone or full, all outages together."""
        current_s = 0.0 if self._outage_began_s is None else time.monotonic() - self._outage_began_s
        return self._past_outages_s + current_s

    def tell(self, event: Event) -> None:
        """Count an event."""
        match event:
            case BytesSent(size_bytes):
                self.sent_bytes += size_bytes
            case Recorded(results):
                self._count(results)
            case FilesFound(files, size_bytes):
                self.found_files += files
                self.found_bytes += size_bytes
            case SettledBefore(outcomes, not_stored, size_bytes):
                self._settled_before_bytes += size_bytes
                self.outcomes.update(outcomes)
                self.settled_before += sum(outcomes.values())
                self._note_reasons(not_stored)
            case ScanEnded(empty_sources):
                self.scan_ended = True
                self.empty_sources += empty_sources
            case RequestStarted() | RequestEnded() | RequestTimed():
                self._count_request(event)
            case Waited(wait, duration_s):
                self._usage = self._usage.with_wait(wait, duration_s)
            case Reopened(results):
                self._take_back(results)
            case OutageBegan() | OutageContinues() | OutageEnded():
                self._count_outage(event)
            case Connecting() | LimitsChanged() | StudiesCounted():
                self._take_state(event)
            case CeilingLearned() | RetryScheduled() | LedgerUpgraded():
                pass  # the limits come with `LimitsChanged`, and a retry is counted when it is sent

    def _count_request(self, event: RequestStarted | RequestEnded | RequestTimed) -> None:
        match event:
            case RequestStarted(batch):
                self.requests += 1
                self.retries += batch.requests > 0
                self.requests_in_flight += 1
            case RequestEnded():
                self.requests_in_flight -= 1
            case RequestTimed(timing):
                self._usage = self._usage.with_request(timing)

    def _take_state(self, event: Connecting | LimitsChanged | StudiesCounted) -> None:
        match event:
            case Connecting(url):
                self.connecting_to = url
            case LimitsChanged(allowed, settled, batch_limits, server_requests_per_s):
                self.connecting_to = ""
                self.server_requests_per_s = server_requests_per_s
                self.allowed_requests, self.concurrency, self.batch_limits = allowed, settled, batch_limits
            case StudiesCounted(studies):
                self.studies = studies

    def _count_outage(self, event: Outage) -> None:
        match event:
            case OutageBegan(cause, lasted_s, next_attempt_in_s) | OutageContinues(cause, lasted_s, next_attempt_in_s):
                now_s = time.monotonic()
                self.outage, self.next_attempt_s = cause, now_s + next_attempt_in_s
                self._outage_began_s = now_s - lasted_s
            case OutageEnded(duration_s):
                self.outage = self.next_attempt_s = self._outage_began_s = None
                self._past_outages_s += duration_s

    def _count(self, results: tuple[FileResult, ...]) -> None:
        for result in results:
            self.outcomes[result.outcome] += 1
            self._settled_bytes += result.candidate.size_bytes
            self.delivered += result.outcome.is_success
        self._note_reasons(results)

    def _note_reasons(self, results: tuple[FileResult, ...]) -> None:
        """Count why files were skipped, and keep the first failures of each fate."""
        for result in results:
            if result.outcome is Outcome.SKIPPED:
                self.skip_reasons[_kind(result)] += 1
            elif result.outcome.is_failure and self._kept(result.outcome) < SHOWN_FAILURES:
                self.failures.append(result)

    def _kept(self, outcome: Outcome) -> int:
        return sum(failure.outcome is outcome for failure in self.failures)

    def _take_back(self, results: tuple[FileResult, ...]) -> None:
        locations = {result.candidate.location for result in results}
        self.failures = [failure for failure in self.failures if failure.candidate.location not in locations]
        for result in results:
            self.outcomes[result.outcome] -= 1
            if result.outcome is Outcome.SKIPPED:
                self.skip_reasons[_kind(result)] -= 1
            self.found_files -= 1
            self._settled_bytes -= result.candidate.size_bytes
            self.found_bytes -= result.candidate.size_bytes


def _kind(result: FileResult) -> str:
    return result.reason.partition(":")[0]
