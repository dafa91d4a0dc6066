"""Counts of what a run has done so far, from its events. Prints nothing."""

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
    Disposed,
    Event,
    FilesFound,
    LedgerUpgraded,
    LeftOut,
    LimitsChanged,
    Outage,
    OutageBegan,
    OutageContinues,
    OutageEnded,
    Planned,
    Recorded,
    Reopened,
    RequestEnded,
    RequestStarted,
    RequestTimed,
    RetryScheduled,
    ScanEnded,
    SendersChanged,
    SendersMeasured,
    SettledBefore,
    SourceOutageBegan,
    SourceOutageEnded,
    StudiesCounted,
    StudyVerified,
    Vanished,
    Waited,
    Watching,
    WatchNote,
)
from bulkstow.model import FileResult, LedgerStudies, Outcome
from bulkstow.policy.batching import BatchLimits
from bulkstow.policy.bottleneck import Usage
from bulkstow.policy.health import OutageCause
from bulkstow.policy.selection import Filter

SHOWN_FAILURES = 5
"""Number of failures shown at the end; `bulkstow report` lists all of them."""


class Tally:
    """The figures of a run, from its events."""

    def __init__(self) -> None:
        self.found_files = 0
        self.found_bytes = 0
        self.scan_ended = False
        self.left_out: Counter[Filter] = Counter()
        """Number of files by the filter that left them out."""
        self.pruned_directories = 0
        """Directories that were not entered because of a filter."""
        self.settled_before = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.accepted: Counter[Outcome] = Counter()
        """How many of the failures a user has accepted."""
        self.skip_reasons: Counter[str] = Counter()
        """Reasons for skipping, up to the colon: the text after it may name a file, so memory would grow."""
        self.failures: list[FileResult] = []
        """The first failures of each outcome, of this run and of earlier ones."""
        self.empty_sources: tuple[str, ...] = ()
        self.delivered = 0
        """Number of instances that the server has because of this run."""
        self.disposed = 0
        """Number of files that were moved or deleted after their instances were stored."""
        self.is_watching = False
        """The run waits for changes in its sources."""
        self.pending = 0
        """Number of files and directories that wait meanwhile until they are quiet."""
        self.disposed_as = ""
        """Which of both, as 'moved' or 'deleted'."""
        self.kept: Counter[str] = Counter()
        """Number of files that stay in place, by the reason."""
        self.sent_bytes = 0
        self.requests = 0
        self.retries = 0
        self.requests_in_flight = 0
        self.outage: OutageCause | None = None
        """Why the server counts as unreachable or full; None if it does not."""
        self.next_attempt_s: float | None = None
        """The time of the next attempt, by `time.monotonic`."""
        self.server_requests_per_s: float | None = None
        """Requests per second that the server accepts; None while it rejects none."""
        self.concurrency = 0
        """The concurrency that the run has settled on."""
        self.allowed_requests = 0
        """The current limit of concurrent requests, which differs while a better concurrency is being looked for."""
        self.senders = 0
        """Processes that send for this one; 0 while it sends by itself."""
        self.senders_are_workers = False
        """They are workers of a Dask cluster."""
        self.connecting_to = ""
        """The destination's URL until it has answered, then ""."""
        self.studies: LedgerStudies | None = LedgerStudies()
        """The studies of the ledger, counted at the end of the run; None if they could not be counted."""
        self.batch_limits = BatchLimits(0, 0)
        """The limits of a request at the end."""
        self._settled_bytes = 0
        self._settled_before_bytes = 0
        self._past_outages_s = 0.0
        self._outage_began_s: float | None = None
        self._started_at = datetime.now().astimezone()
        self._started_s = time.monotonic()
        self._started_cpu_s = self._measured_cpu_s = time.process_time()
        self._senders_cpu_s = self._busiest_cpu_s = 0.0
        self._usage = Usage()

    @property
    def started_at(self) -> datetime:
        """The start of the run, in local time with its offset."""
        return self._started_at

    @property
    def settled_files(self) -> int:
        """Number of files with an outcome."""
        return self.outcomes.total()

    @property
    def settled_bytes(self) -> int:
        """Size of the files with an outcome."""
        return self._settled_bytes + self._settled_before_bytes

    @property
    def settled_before_bytes(self) -> int:
        """Size of the files with an outcome of an earlier run."""
        return self._settled_before_bytes

    @property
    def has_begun(self) -> bool:
        """Whether a file was found or the scan has ended."""
        return self.found_files > 0 or self.scan_ended

    @property
    def failed(self) -> int:
        """Number of files that failed, without the accepted ones."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.is_failure) - self.accepted.total()

    @property
    def first_failures(self) -> list[FileResult]:
        """The failures to show: the first ones, at least one of each outcome that occurs."""
        by_outcome = [[failure for failure in self.failures if failure.outcome is outcome] for outcome in Outcome]
        in_turn = (failure for turn in zip_longest(*by_outcome) for failure in turn if failure is not None)
        order = list(Outcome)
        return sorted(islice(in_turn, SHOWN_FAILURES), key=lambda failure: order.index(failure.outcome))

    @property
    def usage(self) -> Usage:
        """What the time was spent on, from the creation of the tally until now."""
        elapsed_s = time.monotonic() - self._started_s
        now_cpu_s = time.process_time()
        return replace(
            self._usage,
            elapsed_s=elapsed_s,
            cpu_s=now_cpu_s - self._started_cpu_s + self._senders_cpu_s,
            busiest_cpu_s=self._busiest_cpu_s + now_cpu_s - self._measured_cpu_s,
            outage_s=self.outage_s,
        )

    @property
    def outage_s(self) -> float:
        """Time in which the server was unreachable or full, all outages together."""
        current_s = 0.0 if self._outage_began_s is None else time.monotonic() - self._outage_began_s
        return self._past_outages_s + current_s

    def tell(self, event: Event) -> None:
        """Count an event."""
        match event:
            case BytesSent(size_bytes):
                self.sent_bytes += size_bytes
            case Recorded(results):
                self._count(results)
            case FilesFound() | LeftOut() | SettledBefore() | ScanEnded():
                self._count_found(event)
            case RequestStarted() | RequestEnded() | RequestTimed():
                self._count_request(event)
            case Waited() | SendersMeasured():
                self._take_time(event)
            case Reopened(results):
                self._take_back(results)
            case OutageBegan() | OutageContinues() | OutageEnded():
                self._count_outage(event)
            case Connecting() | LimitsChanged() | StudiesCounted() | SendersChanged():
                self._take_state(event)
            case Disposed() | Vanished() | Watching():
                self._take_after(event)
            case WatchNote() | CeilingLearned() | RetryScheduled() | LedgerUpgraded() | Planned() | StudyVerified():
                pass  # the limits come with `LimitsChanged`, and a retry is counted when it is sent
            case SourceOutageBegan() | SourceOutageEnded():
                pass  # sending continues with the content of the spool

    def _take_after(self, event: Disposed | Vanished | Watching) -> None:
        match event:
            case Disposed(action, files, kept, kept_no_longer):
                self.disposed_as = action
                self.disposed += files
                self.kept.update(reason for _, reason in kept)
                self.kept.subtract(kept_no_longer)
            case Vanished(locations, size_bytes):
                self.found_files -= len(locations)
                self.found_bytes -= size_bytes
            case Watching(is_waiting, pending):
                self.is_watching, self.pending = is_waiting, pending

    def _count_found(self, event: FilesFound | LeftOut | SettledBefore | ScanEnded) -> None:
        match event:
            case FilesFound(files, size_bytes):
                self.found_files += files
                self.found_bytes += size_bytes
            case LeftOut(files_by_filter, directories):
                self.left_out.update(files_by_filter)
                self.pruned_directories += directories
            case SettledBefore(outcomes, not_stored, size_bytes):
                self._settled_before_bytes += size_bytes
                self.outcomes.update(outcomes)
                self.settled_before += sum(outcomes.values())
                self._note_reasons(not_stored)
            case ScanEnded(empty_sources):
                self.scan_ended = True
                self.empty_sources = empty_sources

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

    def _take_state(self, event: Connecting | LimitsChanged | StudiesCounted | SendersChanged) -> None:
        match event:
            case Connecting(url):
                self.connecting_to = url
            case LimitsChanged(allowed, settled, batch_limits, server_requests_per_s):
                self.connecting_to = ""
                self.server_requests_per_s = server_requests_per_s
                self.allowed_requests, self.concurrency, self.batch_limits = allowed, settled, batch_limits
            case StudiesCounted(studies):
                self.studies = studies
            case SendersChanged(senders, are_workers):
                self.senders, self.senders_are_workers = senders, are_workers

    def _take_time(self, event: Waited | SendersMeasured) -> None:
        match event:
            case Waited(wait, duration_s):
                self._usage = self._usage.with_wait(wait, duration_s)
            case SendersMeasured(cpu_s, busiest_cpu_s):
                now_cpu_s = time.process_time()
                self._senders_cpu_s += cpu_s
                self._busiest_cpu_s += max(busiest_cpu_s, now_cpu_s - self._measured_cpu_s)
                self._measured_cpu_s = now_cpu_s

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
            self._settled_bytes += result.candidate.content_bytes
            self.delivered += result.outcome.is_success
        self._note_reasons(results)

    def _note_reasons(self, results: tuple[FileResult, ...]) -> None:
        """Count the reasons for skipping and the accepted failures, and keep the first failures of each outcome."""
        for result in results:
            if result.outcome is Outcome.SKIPPED:
                self.skip_reasons[result.reason_kind] += 1
            elif result.accepted:
                self.accepted[result.outcome] += 1
            elif result.is_failure and self._kept(result.outcome) < SHOWN_FAILURES:
                self.failures.append(result)

    def _kept(self, outcome: Outcome) -> int:
        return sum(failure.outcome is outcome for failure in self.failures)

    def _take_back(self, results: tuple[FileResult, ...]) -> None:
        locations = {result.candidate.location for result in results}
        self.failures = [failure for failure in self.failures if failure.candidate.location not in locations]
        for result in results:
            self.outcomes[result.outcome] -= 1
            if result.outcome is Outcome.SKIPPED:
                self.skip_reasons[result.reason_kind] -= 1
            self.accepted[result.outcome] -= bool(result.accepted)
            self.found_files -= 1
            self._settled_bytes -= result.candidate.content_bytes
            self.found_bytes -= result.candidate.content_bytes
