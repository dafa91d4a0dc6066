"""A run: the stages, joined by streams, from the source to the ledger.

    scan -> inspect -> assemble -> scheduler -> send -> record

The end of input closes the streams one after the other, and that ends every stage. Queues are bounded by settings, so
memory does not grow with the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import anyio

from bulkstow.blocking import ReadLimit
from bulkstow.config import UploadSettings
from bulkstow.errors import BulkstowError, first_of
from bulkstow.events import Reopened, Reporter
from bulkstow.ledger import Ledger
from bulkstow.model import FileResult, Instance
from bulkstow.pipeline.after_stored import AfterStoring, Disposition
from bulkstow.pipeline.assemble import Assemble
from bulkstow.pipeline.batch_check import BatchCheck
from bulkstow.pipeline.health_monitor import HealthMonitor
from bulkstow.pipeline.intake import Choice, Intake
from bulkstow.pipeline.record import Record
from bulkstow.pipeline.scheduler import Scheduler
from bulkstow.pipeline.send import Send
from bulkstow.pipeline.watching import EarlierPasses, GoneFiles, Watch
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.batch_size import BatchSize
from bulkstow.policy.batching import Batcher
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.controllers import Controllers
from bulkstow.policy.gates import ConcurrencyGate, Gate, PaceGate
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.pacing import Pacer
from bulkstow.policy.request_rate import RequestRate, ServerRateGate
from bulkstow.policy.retry import Backoff
from bulkstow.policy.retry_budget import RetryBudget
from bulkstow.policy.selection import EVERYTHING, Selection
from bulkstow.policy.study_limiter import StudyLimiter
from bulkstow.policy.work_items import Rules
from bulkstow.ports import Destination, Scanned, Source
from bulkstow.source_check import SourceCheck
from bulkstow.wire.server_profile import DEFAULT, ServerProfile

REOPENED_PER_PASS = 10_000
"""Bounds memory; an archive with more copies of failed files than that, or more conflicts, takes several passes."""

RESULTS_AHEAD = 16
"""Lists of outcomes that wait for the ledger: a commit of 2,000 rows takes 15 ms, in which few requests end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """Files to send, and what differs between the passes of a run."""

    lists: Scanned
    intake: Intake
    choice: Choice
    selection: Selection
    controllers: Controllers


class Run:
    """An upload to one destination; `drain` ends it early without losing responses.

    The policies are made from the settings, unless they are given.
    """

    def __init__(
        self,
        settings: UploadSettings,
        source: Source,
        destination: Destination,
        ledger: Ledger,
        reporter: Reporter,
        *,
        threads: WorkerThreads,
        limit: ReadLimit,
        selection: Selection = EVERYTHING,
        trust_status: bool = False,
        profile: ServerProfile = DEFAULT,
        only_members: bool = False,
        controllers: Controllers | None = None,
        backoff: Backoff | None = None,
        breaker: CircuitBreaker | None = None,
        budget: RetryBudget | None = None,
        disposition: Disposition | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._settings = settings
        self._source = source
        self._destination = destination
        self._ledger = ledger
        self._reporter = reporter
        self._threads = threads
        self._limit = limit
        self._selection = selection
        self._after_storing: AfterStoring | None = None
        if disposition is not None:
            self._after_storing = AfterStoring(disposition, destination, ledger, threads, limit, reporter)
        self._watch = watch
        self._earlier_passes = EarlierPasses(ledger.recorded)
        self._gone_files: GoneFiles | None = None
        if watch is not None:
            self._gone_files = GoneFiles(
                is_gone=watch.is_gone,
                earlier_passes=self._earlier_passes,
                threads=threads,
                limit=limit,
                reporter=reporter,
            )
        self._intake = Intake(
            settings=settings,
            source=source,
            known_files=ledger,
            threads=threads,
            limit=limit,
            reporter=reporter,
            fetches=True,
            only_members=only_members,
            forget_container=ledger.forget_container,
        )
        self._rules = Rules(attempts=settings.retries + 1, trust_status=trust_status, profile=profile)
        self._controllers = controllers or controllers_for(settings, ceiling_bytes=ledger.ceiling_bytes)
        self._backoff = backoff or Backoff()
        self._breaker = breaker or CircuitBreaker(give_up_after_s=settings.give_up_after_s)
        self._budget = budget or RetryBudget()
        self._pacer = None if settings.requests_per_s is None else Pacer(settings.requests_per_s)
        self._scheduler: Scheduler | None = None
        self.is_draining = False

    def drain(self) -> None:
        """Start nothing more; finish and record the requests in flight."""
        self.is_draining = True
        self._limit.shorten()
        if self._watch is not None:
            self._watch.end()
        if self._scheduler is not None:
            self._scheduler.abandon()

    @property
    def is_over(self) -> bool:
        """True when nothing more starts: the run was drained, or stopped by an error that no retry fixes."""
        return self._scheduler is not None and self._scheduler.is_abandoned

    @property
    def is_done(self) -> bool:
        """True while the run waits for changes, and everything that it has found has an outcome."""
        return self._watch is not None and self._watch.is_idle

    async def carry_out(self) -> None:
        """Send the instances that the source has and the ledger has not settled.

        Files that were not sent because of another file, which then did not reach the server, are sent in another pass.
        After that follow files in conflict, if the user wants them sent: each in a request of its own, and one of each
        SOP Instance UID in a pass, so that no two requests with the same UID are in flight at once. Raises RunStopped
        for an error that no retry fixes.
        """
        lists: Scanned | None = await run_blocking(self._threads.scans, self._source.scan)
        intake = self._intake if self._watch is None else replace(self._intake, admit=self._watch.admit)
        while lists is not None:
            await self._pass(lists, self._selection, intake)
            await self._send_reopened()
            if self._watch is None or self.is_draining:
                break
            intake = replace(intake, earlier_passes=self._earlier_passes)
            lists = await self._watch.next_lists()

    async def _send_reopened(self) -> None:
        while not self.is_draining:
            reopened = orphans = await self._reopened(self._ledger.orphaned_copies)
            if not orphans and self._settings.on_conflict == "send":
                reopened = await self._reopened(self._ledger.conflicts)
            if not reopened:
                break
            self._reporter.tell(Reopened(tuple(reopened)))
            again = iter([[result.candidate for result in reopened]])
            # They are selected files, and members of archives without these.
            intake = replace(self._intake, only_members=False)
            await self._pass(again, EVERYTHING, intake, are_conflicts=not orphans)

    async def _reopened(self, find: Callable[[int], list[FileResult]]) -> list[FileResult]:
        return await run_blocking(self._threads.calls, find, REOPENED_PER_PASS)

    async def _pass(self, lists: Scanned, selection: Selection, intake: Intake, *, are_conflicts: bool = False) -> None:
        controllers = self._controllers
        if are_conflicts:
            controllers = controllers.with_batch_size(BatchSize(self._settings.batch_bytes, 1))
        with intake.choice(are_conflicts=are_conflicts) as choice:
            files = _Pass(lists=lists, intake=intake, choice=choice, selection=selection, controllers=controllers)
            await self._send(files)

    async def _send(self, files: _Pass) -> None:
        study_limiter = StudyLimiter(self._settings.per_study)
        scheduler = self._scheduler = Scheduler(
            concurrency=ConcurrencyGate(files.controllers.concurrency),
            gates=self._gates(study_limiter),
            rank=self._breaker.rank,
            reporter=self._reporter,
        )
        if self.is_draining:
            scheduler.abandon()
        try:
            await self._run_stages(files, scheduler, study_limiter)
        except BaseExceptionGroup as group:
            # When one stage stops the run, the streams that it closes break the others: only the first error matters.
            ours, _ = group.split(BulkstowError)
            raise group if ours is None else first_of(ours) from None
        if scheduler.stopped_by is not None:
            raise scheduler.stopped_by

    def _gates(self, study_limiter: StudyLimiter) -> list[Gate]:
        """Return what a request waits for, beside the limit of requests at once."""
        return [
            self._breaker,
            *([] if self._pacer is None else [PaceGate(self._pacer)]),
            ServerRateGate(self._controllers.request_rate, self._breaker),
            study_limiter,
            self._budget,
        ]

    async def _run_stages(self, files: _Pass, scheduler: Scheduler, study_limiter: StudyLimiter) -> None:
        """Build the stages, join them by streams, and wait until the last of them has ended."""
        settings, reporter, threads = self._settings, self._reporter, self._threads
        instances_in, instances = anyio.create_memory_object_stream[list[Instance]](0)
        results_in, results = anyio.create_memory_object_stream[list[FileResult]](RESULTS_AHEAD)
        after_storing = self._after_storing
        after_stored = (
            None if after_storing is None else after_storing.stage(scheduler.abandoned, scheduler.wait_to_query)
        )
        async with anyio.create_task_group() as stages, results_in:
            on_settled = None if after_stored is None else after_stored.take_settled
            intake = replace(files.intake, on_settled=on_settled).stages(
                files.lists, files.choice, files.selection, instances_in, results_in
            )
            assemble = Assemble(
                batcher=Batcher(lambda: files.controllers.batch_limits, keep_studies=settings.affinity == "study"),
                # Batches of a size that the user chose are not closed early to keep connections busy.
                keep_busy=settings.batch_bytes == "auto" and settings.batch_instances == "auto",
                scheduler=scheduler,
                is_ready=study_limiter.allow_study,
                until_full=self._source.until_full,
                instances=instances,
            )
            send = Send(
                source=self._source,
                batch_check=BatchCheck(SourceCheck(self._source, threads, self._limit)),
                destination=self._destination,
                scheduler=scheduler,
                breaker=self._breaker,
                monitor=HealthMonitor(
                    breaker=self._breaker,
                    destination=self._destination,
                    scheduler=scheduler,
                    reporter=reporter,
                    tasks=stages,
                ),
                controllers=files.controllers,
                backoff=self._backoff,
                rules=self._rules,
                ledger=self._ledger,
                threads=threads,
                results=results_in.clone(),
                reporter=reporter,
            )
            record = Record(
                ledger=self._ledger,
                in_flight=files.choice.in_flight,
                release=self._source.release,
                threads=threads,
                results=results,
                recorded=None if after_stored is None else after_stored.recorded_in,
                gone_files=self._gone_files,
                reporter=reporter,
            )
            stages.start_soon(_until, scheduler.abandoned, *(stage.run for stage in intake))
            for stage in (assemble, send, record, *(() if after_stored is None else (after_stored,))):
                stages.start_soon(stage.run)
            results_in.close()


def controllers_for(
    settings: UploadSettings, *, ceiling_bytes: int | None = None, request_rate: RequestRate | None = None
) -> Controllers:
    """Return the controllers of a run; `ceiling_bytes` is the largest body that the destination accepts, if known."""
    batch_size = BatchSize(settings.batch_bytes, settings.batch_instances)
    if ceiling_bytes is not None:
        batch_size.learn_ceiling(ceiling_bytes)
    return Controllers(
        concurrency=Concurrency(lowest=settings.concurrency.lowest, highest=settings.concurrency.highest),
        batch_size=batch_size,
        request_rate=request_rate or RequestRate(),
    )


async def _until(end: anyio.Event, *stages: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run stages until they end, or cancel them at an event: the storage that they read may hang."""

    async def wait_for_end() -> None:
        await end.wait()
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_end)
        async with anyio.create_task_group() as under_way:
            for stage in stages:
                under_way.start_soon(stage)
        tasks.cancel_scope.cancel()
