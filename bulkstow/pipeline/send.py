"""The sending stage: sends the work items that the scheduler releases.

No request slot is held while an item waits for its retry: it goes back to the scheduler with its time. An outcome is
reported only after the ledger has it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from bulkstow.errors import RunStopped
from bulkstow.events import CeilingLearned, LimitsChanged, Reporter, RequestEnded, RequestStarted, RetryScheduled
from bulkstow.ledger import Ledger
from bulkstow.model import Batch, Exchange, FileResult, Response
from bulkstow.pipeline.batch_check import BatchCheck
from bulkstow.pipeline.health_monitor import HealthMonitor
from bulkstow.pipeline.refusals import explain_refusals
from bulkstow.pipeline.scheduler import Scheduler
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.conflicts import without_false_proof
from bulkstow.policy.controllers import Controllers, EndedRequest
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.query_settlement import settle_query
from bulkstow.policy.retry import Backoff
from bulkstow.policy.settlement import settle
from bulkstow.policy.work_items import HealthSignal, Query, Rules, Scheduled, Settlement, Store, WorkItem
from bulkstow.ports import Destination, Source

LARGE_ANSWER_BYTES = 100_000
"""A response of 854 kB takes 15 ms to parse in JSON, and one of 869 kB 55 ms in XML; larger ones than this are parsed
in a worker thread."""

MOST_SETBACKS_EXCUSED = 4
"""Rejections lengthen the backoff up to 8 s: the circuit breaker spares a server that rejects everything."""


@dataclass(slots=True, kw_only=True)
class Send:
    """Sends batches, settles what the server answered, and schedules retries."""

    source: Source
    batch_check: BatchCheck
    destination: Destination
    scheduler: Scheduler
    breaker: CircuitBreaker
    monitor: HealthMonitor
    controllers: Controllers
    backoff: Backoff
    rules: Rules
    ledger: Ledger
    threads: WorkerThreads
    results: MemoryObjectSendStream[list[FileResult]]
    reporter: Reporter
    _has_stored: bool = field(default=False, init=False)
    """The destination has stored something."""
    _reported: LimitsChanged | None = field(default=None, init=False)

    async def run(self) -> None:
        """Send items until the scheduler ends."""
        self._report_limits()
        self.monitor.observe()
        async with self.results, anyio.create_task_group() as under_way:
            while (item := await self.scheduler.take()) is not None:
                under_way.start_soon(self._complete, item)

    async def _complete(self, item: WorkItem) -> None:
        settled: tuple[Settlement, Exchange | None] | None = None
        with self.scheduler.cancellable():
            try:
                settled = await self._send_item(item)
            except RunStopped as stop:
                self.scheduler.stop(stop)
        if settled is None:
            self.scheduler.done(item, HealthSignal.NONE)
            return
        settlement, exchange = without_false_proof(item, settled[0], self.rules.profile), settled[1]
        if settlement.too_large_bytes is not None:
            await self._learn_ceiling(settlement.too_large_bytes)
        if settlement.results:
            self._has_stored = self._has_stored or any(result.outcome.is_success for result in settlement.results)
            await self.results.send(await explain_refusals(settlement.results, item.batch, self.source, self.threads))
        self.scheduler.done(item, settlement.health_signal, self._scheduled(settlement.again, exchange))
        self.monitor.observe()

    async def _send_item(self, item: WorkItem) -> tuple[Settlement, Exchange | None]:
        """Return the settlement, and the exchange that it comes from; None if a query was answered."""
        match item:
            case Store(batch):
                if (source_changed := await self.batch_check.check(batch)) is not None:
                    return settle(batch, source_changed, self.rules), source_changed
                exchange = await self._send(batch)
                outage = self._is_excused(item)
                settled = partial(settle, batch, exchange, self.rules, outage=outage, has_stored=self._has_stored)
                is_large = isinstance(exchange, Response) and len(exchange.body) > LARGE_ANSWER_BYTES
                return (await run_blocking(self.threads.calls, settled) if is_large else settled()), exchange
            case Query(batch):
                answer = await self.destination.find(batch.instances)
                settlement = settle_query(item, answer, self.rules, outage=self._is_excused(item))
                return settlement, None if isinstance(answer, frozenset) else answer

    async def _send(self, batch: Batch) -> Exchange:
        self.reporter.tell(RequestStarted(batch))
        scheduler, started_s, at_once = self.scheduler, anyio.current_time(), self.scheduler.in_flight
        exchange: Exchange | None = None
        try:
            exchange = await self.destination.send(batch)
        finally:
            ended_s = anyio.current_time()
            self.reporter.tell(RequestEnded(batch, exchange, ended_s - started_s))
        self.controllers.ended(
            EndedRequest(
                size_bytes=batch.size_bytes,
                instances=len(batch.instances),
                exchange=exchange,
                started_s=started_s,
                ended_s=ended_s,
                at_once=at_once,
                is_wanted=scheduler.is_wanting,
                is_plenty=scheduler.is_plentiful,
                is_outage=self.breaker.is_open,
            )
        )
        self._report_limits()
        self.batch_check.learn(exchange)
        return exchange

    def _is_excused(self, item: WorkItem) -> bool:
        return self.breaker.excuses(item, is_ending=self.scheduler.is_ending)

    def _scheduled(self, again: tuple[Scheduled, ...], after: Exchange | None) -> Iterator[tuple[float, WorkItem]]:
        """Yield the items to send again, with their times."""
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

    async def _learn_ceiling(self, refused_bytes: int) -> None:
        """Send no more bodies of a size that was refused, in this run and the next (413)."""
        if (ceiling_bytes := self.controllers.learn_ceiling(refused_bytes)) is not None:
            self.reporter.tell(CeilingLearned(ceiling_bytes))
            self._report_limits()
            await run_blocking(self.threads.calls, self.ledger.learn_ceiling, ceiling_bytes)

    def _report_limits(self) -> None:
        """Report the controllers' limits, if they have changed."""
        controllers = self.controllers
        limits = LimitsChanged(
            controllers.concurrency.limit,
            controllers.concurrency.settled,
            controllers.batch_limits,
            controllers.request_rate.limit_per_s,
        )
        if limits != self._reported:
            self._reported = limits
            self.reporter.tell(limits)
