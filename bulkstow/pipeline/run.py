"""One run: the stages joined by streams, from sources to the ledger.

The end of input closes the streams one after the other, and that ends everything: there are no sentinels and no joins.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import anyio

from bulkstow.blocking import ReadLimit
from bulkstow.config import UploadSettings
from bulkstow.destination.stow import Destination
from bulkstow.errors import BulkstowError
from bulkstow.events import Reopened, Reporter, Waited
from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, FileResult, Instance, Outcome
from bulkstow.pipeline.assemble import Assemble
from bulkstow.pipeline.delivery import Delivery
from bulkstow.pipeline.health_monitor import HealthMonitor
from bulkstow.pipeline.in_flight import FirstFileInFlight, InFlight, NewestFileInFlight
from bulkstow.pipeline.inspect import Inspect, Inspection
from bulkstow.pipeline.newest import NewestFiles
from bulkstow.pipeline.record import Record
from bulkstow.pipeline.scan import Found, Scan
from bulkstow.pipeline.scheduler import Scheduler
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.batch_size import BatchSize
from bulkstow.policy.batching import Batcher
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.pacing import Pacer
from bulkstow.policy.request_rate import RequestRate
from bulkstow.policy.retry import Backoff, RetryBudget
from bulkstow.policy.study_limiter import StudyLimiter
from bulkstow.policy.work_items import Rules
from bulkstow.source.walk import Walk
from bulkstow.wire.server_profile import DEFAULT, ServerProfile

REOPENED_PER_PASS = 10_000
"""Bounds memory; an archive with more copies of failed files than that, or more conflicts, takes several passes."""

RESULTS_AHEAD = 16
"""Answers that wait for the ledger: a commit of 2,000 rows takes 15 ms, in which few requests end."""

LISTS_AHEAD = 4
"""Lists between two stages: enough that a slow directory or a slow commit does not stop the stage after it."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """Files to send, and by which rules."""

    lists: Iterator[Found]
    inspection: Inspection
    in_flight: InFlight
    batch_size: BatchSize
    newest: NewestFiles | None = None
    """With it nothing is sent before all files are known."""


class Run:
    """An upload to one destination; `drain` ends it early and in good order."""

    def __init__(
        self,
        settings: UploadSettings,
        destination: Destination,
        ledger: Ledger,
        reporter: Reporter,
        *,
        trust_status: bool = False,
        profile: ServerProfile = DEFAULT,
        backoff: Backoff | None = None,
        breaker: CircuitBreaker | None = None,
        budget: RetryBudget | None = None,
        request_rate: RequestRate | None = None,
        threads: WorkerThreads | None = None,
        limit: ReadLimit | None = None,
    ) -> None:
        self._settings = settings
        self._destination = destination
        self._ledger = ledger
        self._reporter = reporter
        self._limit = limit or ReadLimit(settings.read_timeout_s)
        self._threads = threads or WorkerThreads(settings.read_concurrency, stuck_s=self._limit.stuck_s)
        self._rules = Rules(attempts=settings.retries + 1, trust_status=trust_status, profile=profile)
        self._backoff = backoff or Backoff()
        self._breaker = breaker or CircuitBreaker()
        self._budget = budget or RetryBudget()
        self.concurrency = Concurrency(lowest=settings.concurrency.lowest, highest=settings.concurrency.highest)
        self.batch_size = BatchSize(settings.batch_bytes, settings.batch_instances)
        if (ceiling_bytes := ledger.ceiling_bytes) is not None:
            self.batch_size.learn_ceiling(ceiling_bytes)
        self._request_rate = request_rate or RequestRate()
        self._pacer = None if settings.requests_per_s is None else Pacer(settings.requests_per_s)
        self._scheduler: Scheduler | None = None
        self.is_draining = False

    def drain(self) -> None:
        """Start nothing more, finish and record what is under way."""
        self.is_draining = True
        self._limit.hurry()
        if self._scheduler is not None:
            self._scheduler.abandon()

    @property
    def is_over(self) -> bool:
        """True when nothing more is begun: it was drained, or stopped by what no retry mends."""
        return self._scheduler is not None and self._scheduler.is_abandoned

    async def carry_out(self, lists: Iterator[Found]) -> None:
        """Send what the lists name and the ledger has not settled.

        Files that were not sent because of another one, which then did not reach the server, have their own turn at the
        end. After them come those in conflict, if the user has them sent: each in a request of its own, and one of each
        SOP Instance UID in a pass, so that no two requests with one UID are under way at once.
        Raises RunStopped for what no retry mends.
        """
        await self._pass(lists)
        admits = lists.admits if isinstance(lists, Walk) else _no_link
        while not self.is_draining:
            reopened = orphans = await self._reopened(self._ledger.orphaned_copies)
            if not orphans and self._settings.on_conflict == "send":
                reopened = await self._reopened(self._ledger.conflicts)
            if not reopened:
                break
            self._reporter.tell(Reopened(tuple(reopened)))
            await self._pass(iter([[result.candidate for result in reopened]]), admits, are_conflicts=not orphans)

    async def _reopened(self, find: Callable[[int], list[FileResult]]) -> list[FileResult]:
        return await run_blocking(self._threads.calls, find, REOPENED_PER_PASS)

    async def _pass(
        self,
        lists: Iterator[Found],
        admits: Callable[[str], bool] | None = None,
        *,
        are_conflicts: bool = False,
    ) -> None:
        settings = self._settings
        inspection = Inspection(
            accept_missing_preamble=settings.accept_missing_preamble,
            skip_truncated=settings.skip_truncated,
            admits=admits,
        )
        ledger, threads = self._ledger, self._threads
        with NewestFiles() as newest:
            if are_conflicts:
                alone = BatchSize(settings.batch_bytes, 1)
                await self._send(
                    _Pass(lists, inspection, FirstFileInFlight(ledger, threads, sends_conflicts=True), alone)
                )
            elif settings.on_conflict == "newest":
                in_flight = NewestFileInFlight(ledger, threads, newest)
                await self._send(_Pass(lists, inspection, in_flight, self.batch_size, newest))
            else:
                await self._send(_Pass(lists, inspection, FirstFileInFlight(ledger, threads), self.batch_size))

    async def _send(self, files: _Pass) -> None:
        batcher = Batcher(files.batch_size.limits, keep_studies=self._settings.affinity == "study")
        scheduler = self._scheduler = self._new_scheduler()
        delivery = Delivery(
            destination=self._destination,
            scheduler=scheduler,
            batcher=batcher,
            batch_size=files.batch_size,
            backoff=self._backoff,
            rules=self._rules,
            threads=self._threads,
            ledger=self._ledger,
            reporter=self._reporter,
            concurrency=self.concurrency,
            request_rate=self._request_rate,
        )
        delivery.tell_limits()
        if self.is_draining:
            scheduler.abandon()
        try:
            await self._carry_out_stages(files, batcher, scheduler, delivery)
        except BaseExceptionGroup as group:
            # When one stage stops the run, the streams that it leaves break the others: only the first tells anything.
            ours, _ = group.split(BulkstowError)
            raise group if ours is None else _first(ours) from None
        if delivery.stopped_by is not None:
            raise delivery.stopped_by

    def _new_scheduler(self) -> Scheduler:
        return Scheduler(
            concurrency=self.concurrency,
            study_limiter=StudyLimiter(self._settings.per_study),
            breaker=self._breaker,
            budget=self._budget,
            pacer=self._pacer,
            request_rate=self._request_rate,
            on_wait=lambda wait, duration_s: self._reporter.tell(Waited(wait, duration_s)),
        )

    async def _carry_out_stages(self, files: _Pass, batcher: Batcher, scheduler: Scheduler, delivery: Delivery) -> None:
        """Join the stages by streams, and wait until the last of them has ended."""
        settings, reporter, threads, ledger = self._settings, self._reporter, self._threads, self._ledger
        candidates_in, candidates = anyio.create_memory_object_stream[list[Candidate]](LISTS_AHEAD)
        instances_in, instances = anyio.create_memory_object_stream[list[Instance]](0)
        results_in, results = anyio.create_memory_object_stream[list[FileResult]](RESULTS_AHEAD)
        # Batches of a size that the user chose are not closed early to keep senders busy.
        is_left_to_us = settings.batch_bytes == "auto" and settings.batch_instances == "auto"
        async with anyio.create_task_group() as stages, results_in:
            monitor = HealthMonitor(
                breaker=self._breaker,
                destination=self._destination,
                scheduler=scheduler,
                reporter=reporter,
                tasks=stages,
                stop=delivery.stop,
                give_up=delivery.give_up,
                give_up_after_s=settings.give_up_after_s,
            )
            monitor.begin()
            scan = Scan(
                lists=files.lists,
                retried=_retried(settings),
                allow_empty=settings.allow_empty,
                threads=threads,
                limit=self._limit,
                ledger=ledger,
                candidates=candidates_in,
                results=results_in.clone(),
                reporter=reporter,
            )
            inspect = Inspect(
                inspection=files.inspection,
                readers=settings.read_concurrency,
                in_flight=files.in_flight,
                newest=files.newest,
                threads=threads,
                limit=self._limit,
                candidates=candidates,
                instances=instances_in,
                results=results_in.clone(),
                reporter=reporter,
            )
            assemble = Assemble(
                batcher=batcher,
                keep_busy=is_left_to_us,
                scheduler=scheduler,
                is_ready=scheduler.is_ready,
                instances=instances,
            )
            record = Record(
                ledger=ledger, in_flight=files.in_flight, threads=threads, results=results, reporter=reporter
            )
            stages.start_soon(_until, scheduler.abandoned, scan.run, inspect.run)
            stages.start_soon(assemble.run)
            stages.start_soon(delivery.send, monitor, results_in.clone())
            stages.start_soon(record.run)
            results_in.close()


async def _until(end: anyio.Event, *stages: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Carry out stages to their ends, or to a sudden one: what they look for and read may hang."""

    async def wait_for_end() -> None:
        await end.wait()
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_end)
        async with anyio.create_task_group() as under_way:
            for stage in stages:
                under_way.start_soon(stage)
        tasks.cancel_scope.cancel()


def _no_link(_location: str) -> bool:
    return False


def _retried(settings: UploadSettings) -> frozenset[Outcome]:
    """Return the outcomes of earlier runs that the user asks for once more."""
    return frozenset(
        outcome
        for outcome, is_asked in (
            (Outcome.REFUSED, settings.retry_failed),
            (Outcome.CONFLICT, settings.retry_failed or settings.on_conflict != "report"),
        )
        if is_asked
    )


def _first(group: BaseExceptionGroup[BulkstowError]) -> BaseException:
    """Return the one exception that matters to a person: stages fail together when one of them does."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
