"""Sending and recording: what a sender does with an errand, and where outcomes come to rest.

Nothing sleeps on a slot: what has to wait goes back to the outbox with its time. An outcome is told to no one before
the ledger has it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from bulkstow.destination.stow import Destination
from bulkstow.errors import RunStopped
from bulkstow.events import (
    CeilingLearned,
    LimitsChanged,
    Reporter,
    RequestEnded,
    RequestStarted,
    RetryScheduled,
)
from bulkstow.ledger import Ledger
from bulkstow.model import Attempt, Batch, Cause, Exchange, FileResult, NoResponse, Response, SourceChanged
from bulkstow.pipeline.health_monitor import HealthMonitor
from bulkstow.pipeline.refusals import explain_refusals
from bulkstow.pipeline.scheduler import Scheduler
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy import batch_size, concurrency
from bulkstow.policy.batch_size import BatchSize
from bulkstow.policy.batching import Batcher
from bulkstow.policy.changed_directories import ChangedDirectories
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.conflicts import without_false_proof
from bulkstow.policy.query_settlement import settle_query
from bulkstow.policy.request_rate import RequestRate
from bulkstow.policy.retry import Backoff
from bulkstow.policy.settlement import settle
from bulkstow.policy.work_items import HealthSignal, Query, Rules, Scheduled, Settlement, Store, WorkItem

LARGE_ANSWER_BYTES = 100_000
"""An answer of 854 kB takes 15 ms to parse in JSON, and of 869 kB 55 ms in XML; a larger one than this is parsed in a
thread."""

MOST_SETBACKS_EXCUSED = 4
"""Rejections lengthen the backoff up to 8 s: the circuit breaker is what spares a server that rejects everything."""

SMALLEST_CEILING_BYTES = 2**18
"""nginx takes 1 MiB by default, framing included; a 413 for less speaks of the file, not of the batch."""


@dataclass(slots=True)
class Delivery:
    """What the senders of one run share."""

    destination: Destination
    scheduler: Scheduler
    batcher: Batcher
    batch_size: BatchSize
    backoff: Backoff
    rules: Rules
    threads: WorkerThreads
    ledger: Ledger
    reporter: Reporter
    concurrency: Concurrency
    request_rate: RequestRate
    changed_directories: ChangedDirectories = field(default_factory=ChangedDirectories)
    has_stored: bool = False
    """The destination has stored something for us."""
    stopped_by: RunStopped | None = None
    """What ended the run early: the other senders finish what they have, then it is raised."""
    _told: LimitsChanged | None = field(default=None, init=False)
    _under_way: set[anyio.CancelScope] = field(default_factory=set, init=False)

    async def send(self, monitor: HealthMonitor, results: MemoryObjectSendStream[list[FileResult]]) -> None:
        """Carry out errands, as many at once as the outbox gives, until there are no more."""
        async with results, anyio.create_task_group() as under_way:
            while (item := await self.scheduler.take()) is not None:
                under_way.start_soon(self._see_through, item, monitor, results)

    async def _see_through(
        self, item: WorkItem, monitor: HealthMonitor, results: MemoryObjectSendStream[list[FileResult]]
    ) -> None:
        ended: tuple[Settlement, Exchange | None] | None = None
        with anyio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                ended = await self._carry_out(item, monitor)
            except RunStopped as stop:
                self.stop(stop)
            finally:
                self._under_way.discard(scope)
        if ended is None:
            self.scheduler.done(item, (), answered=False)
            return
        settlement, exchange = without_false_proof(item, ended[0], self.rules.profile), ended[1]
        if settlement.too_large_bytes is not None:
            await self._lower_ceiling(settlement.too_large_bytes)
        if settlement.results:
            self.has_stored = self.has_stored or any(result.outcome.is_success for result in settlement.results)
            await results.send(await explain_refusals(settlement.results, item.batch, self.threads))
        monitor.observe(item, settlement.health_signal)
        answered = settlement.health_signal not in (HealthSignal.GONE, HealthSignal.NONE, HealthSignal.REJECTED)
        self.scheduler.done(item, self._times(settlement.again, exchange), answered=answered)

    async def _carry_out(self, item: WorkItem, monitor: HealthMonitor) -> tuple[Settlement, Exchange | None]:
        """Return what is settled, and how the exchange ended; None where a question was answered."""
        match item:
            case Store(batch):
                if (source_changed := await self._look_again(batch)) is not None:
                    return settle(Attempt(batch, source_changed), self.rules), source_changed
                self.reporter.tell(RequestStarted(batch))
                exchange = await self._send(batch, monitor)
                if isinstance(exchange, SourceChanged):
                    self.changed_directories.lost(exchange.directories)
                outage = monitor.excuses(item)
                settled = partial(
                    settle, Attempt(batch, exchange), self.rules, outage=outage, has_stored=self.has_stored
                )
                is_large = isinstance(exchange, Response) and len(exchange.body) > LARGE_ANSWER_BYTES
                return (await run_blocking(self.threads.calls, settled) if is_large else settled()), exchange
            case Query(batch):
                answer = await self.destination.find(batch.instances)
                settlement = settle_query(item, answer, self.rules, outage=monitor.excuses(item))
                return settlement, None if isinstance(answer, frozenset) else answer

    async def _send(self, batch: Batch, monitor: HealthMonitor) -> Exchange:
        started_s, at_once = anyio.current_time(), self.scheduler.in_flight
        exchange: Exchange | None = None
        try:
            exchange = await self.destination.send(batch)
        finally:
            elapsed_s = anyio.current_time() - started_s
            self.reporter.tell(RequestEnded(batch, exchange, elapsed_s))
        self._size(batch, exchange, elapsed_s)
        if not monitor.breaker.is_open:
            self._count(batch, exchange, started_s, at_once)
        self.tell_limits()
        return exchange

    def tell_limits(self) -> None:
        """Tell of the controllers' limits, if they have changed."""
        at_once, settled = self.concurrency.limit, self.concurrency.settled
        tuned = LimitsChanged(at_once, settled, self.batch_size.limits, self.request_rate.limit_per_s)
        if tuned != self._told:
            self._told = tuned
            self.reporter.tell(tuned)

    async def _look_again(self, batch: Batch) -> SourceChanged | None:
        """Look at a batch's files before they are sent, where files beside them were lost or changed."""
        if not self.changed_directories.touches(batch):
            return None
        source_changed = await self.destination.look(batch)
        if source_changed is None:
            self.changed_directories.unharmed(batch)
        else:
            self.changed_directories.lost(source_changed.directories)
        return source_changed

    def _count(self, batch: Batch, exchange: Exchange, started_s: float, at_once: int) -> None:
        """Let how a request ended bound the number and the rate of the next ones.

        A request that we broke off ourselves says nothing. `at_once` were under way when this one started.
        """
        now_s, is_rejected = anyio.current_time(), True
        match exchange:
            case SourceChanged() | NoResponse(cause=Cause.UNREACHABLE | Cause.DISCONNECTED | Cause.MALFORMED):
                return
            case Response(status=429 | 503):
                can_lower = self.concurrency.limit > self.concurrency.lowest
                if not (can_lower and self.request_rate.is_of_concurrency(at_once)):
                    self.request_rate.rejected(started_s, now_s)
                    return
            case Response():
                self.request_rate.accepted(now_s, at_once)
                is_rejected = False
            case NoResponse():
                pass
        self.concurrency.ended(
            concurrency.Sample(
                now_s,
                batch.size_bytes,
                len(batch.instances),
                is_rejected=is_rejected,
                is_wanted=self.scheduler.is_wanting,
            )
        )

    def _size(self, batch: Batch, exchange: Exchange, elapsed_s: float) -> None:
        """Let what a request took bound the next ones."""
        # A body that left twice took the time of two.
        is_answered = isinstance(exchange, Response) and 200 <= exchange.status < 300 and not exchange.is_replayed
        is_settled = self.concurrency.limit == self.concurrency.settled
        self.batch_size.ended(
            batch_size.Sample(
                batch.size_bytes,
                len(batch.instances),
                elapsed_s,
                is_answered=is_answered,
                is_plenty=self.scheduler.is_plentiful,
                is_settled=is_settled,
            )
        )
        self.batcher.limits = self.batch_size.limits

    def stop(self, stop: RunStopped) -> None:
        """End the run early, in good order."""
        self.stopped_by = self.stopped_by or stop
        self.scheduler.abandon()

    def give_up(self, stop: RunStopped) -> None:
        """End the run early, and break off what is under way: no answer is expected; the next run sends it again."""
        self.stop(stop)
        for scope in self._under_way:
            scope.cancel()

    def _times(self, again: tuple[Scheduled, ...], after: Exchange | None) -> Iterator[tuple[float, WorkItem]]:
        now_s = anyio.current_time()
        for later in again:
            match later.item:
                case Query(asked=asked, excused=excused):
                    setbacks = asked + 1
                case Store(batch):
                    setbacks, excused = batch.failed_attempts + batch.ambiguous_failures, batch.excused
            setbacks += min(excused, MOST_SETBACKS_EXCUSED)
            delay_s = self.backoff.delay_s(
                later.delay, failed_attempts=setbacks, jitter=random.random(), at_least_s=later.at_least_s
            )
            self.reporter.tell(RetryScheduled(later.item, delay_s, after))
            yield now_s + delay_s, later.item

    async def _lower_ceiling(self, refused_bytes: int) -> None:
        """Send no more bodies of a size that was refused, in this run and the next (413)."""
        ceiling_bytes = max(refused_bytes // 2, SMALLEST_CEILING_BYTES)
        if self.batch_size.learn_ceiling(ceiling_bytes):
            self.batcher.limits = self.batch_size.limits
            self.reporter.tell(CeilingLearned(ceiling_bytes))
            self.tell_limits()
            await run_blocking(self.threads.calls, self.ledger.learn_ceiling, ceiling_bytes)
