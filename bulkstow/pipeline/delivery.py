"""Sending and recording: what a sender does with an errand, and where outcomes come to rest.

Nothing sleeps on a slot: what has to wait goes back to the outbox with its time. An outcome is told to no one before
the ledger has it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.destination.stow import Destination
from bulkstow.errors import RunStopped
from bulkstow.ledger import Ledger
from bulkstow.model import Attempt, Batch, Cause, Interruption, Outcome, Reply, Result, Spoiled
from bulkstow.pipeline.claims import Claims
from bulkstow.pipeline.crew import Crew, by
from bulkstow.pipeline.outbox import Outbox
from bulkstow.pipeline.refusals import explain_refusals
from bulkstow.pipeline.watch import Watch
from bulkstow.policy import batch_size, concurrency
from bulkstow.policy.asking import settle_asked
from bulkstow.policy.batch_size import BatchSize
from bulkstow.policy.batching import Batcher
from bulkstow.policy.concurrency import Concurrency
from bulkstow.policy.errands import Ask, Errand, Later, Pressure, Rules, Send, Settlement
from bulkstow.policy.request_rate import RequestRate
from bulkstow.policy.retry import Backoff
from bulkstow.policy.rivals import without_false_proof
from bulkstow.policy.settlement import settle
from bulkstow.policy.suspicion import Suspicion
from bulkstow.progress.events import CeilingLearned, Ended, Recorded, Reporter, RetryScheduled, Started, Tuned

ROWS_PER_COMMIT = 2000
"""A commit costs about 0.1 ms in WAL mode and a row 5 µs; more rows at once would only hold outcomes back."""

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
    outbox: Outbox
    batcher: Batcher
    batch_size: BatchSize
    backoff: Backoff
    rules: Rules
    crew: Crew
    ledger: Ledger
    reporter: Reporter
    concurrency: Concurrency
    request_rate: RequestRate
    suspicion: Suspicion = field(default_factory=Suspicion)
    admitted: bool = False
    """The destination has stored something for us."""
    stopped_by: RunStopped | None = None
    """What ended the run early: the other senders finish what they have, then it is raised."""
    _told: Tuned | None = field(default=None, init=False)
    _under_way: set[anyio.CancelScope] = field(default_factory=set, init=False)

    async def send(self, watch: Watch, outcomes: MemoryObjectSendStream[list[Outcome]]) -> None:
        """Carry out errands, as many at once as the outbox gives, until there are no more."""
        async with outcomes, anyio.create_task_group() as under_way:
            while (errand := await self.outbox.take()) is not None:
                under_way.start_soon(self._see_through, errand, watch, outcomes)

    async def _see_through(self, errand: Errand, watch: Watch, outcomes: MemoryObjectSendStream[list[Outcome]]) -> None:
        ended: tuple[Settlement, Result | None] | None = None
        with anyio.CancelScope() as scope:
            self._under_way.add(scope)
            try:
                ended = await self._carry_out(errand, watch)
            except RunStopped as stop:
                self.stop(stop)
            finally:
                self._under_way.discard(scope)
        if ended is None:
            self.outbox.done(errand, (), answered=False)
            return
        settlement, result = without_false_proof(errand, ended[0]), ended[1]
        if settlement.too_large_bytes is not None:
            await self._lower_ceiling(settlement.too_large_bytes)
        if settlement.outcomes:
            self.admitted = self.admitted or any(outcome.fate.is_success for outcome in settlement.outcomes)
            await outcomes.send(await explain_refusals(settlement.outcomes, errand.batch, self.crew))
        watch.feel(errand, settlement.pressure)
        answered = settlement.pressure not in (Pressure.GONE, Pressure.NONE, Pressure.REJECTED)
        self.outbox.done(errand, self._times(settlement.again, result), answered=answered)

    async def _carry_out(self, errand: Errand, watch: Watch) -> tuple[Settlement, Result | None]:
        """Return what is settled, and how the exchange ended; None where a question was answered."""
        match errand:
            case Send(batch):
                if (spoiled := await self._look_again(batch)) is not None:
                    return settle(Attempt(batch, spoiled), self.rules), spoiled
                self.reporter.tell(Started(batch))
                result = await self._send(batch, watch)
                if isinstance(result, Spoiled):
                    self.suspicion.lost(result.beneath)
                outage = watch.excuses(errand)
                settled = partial(settle, Attempt(batch, result), self.rules, outage=outage, admitted=self.admitted)
                is_large = isinstance(result, Reply) and len(result.body) > LARGE_ANSWER_BYTES
                return (await by(self.crew.errands, settled) if is_large else settled()), result
            case Ask(batch):
                answer = await self.destination.find(batch.instances)
                settlement = settle_asked(errand, answer, self.rules, outage=watch.excuses(errand))
                return settlement, None if isinstance(answer, frozenset) else answer

    async def _send(self, batch: Batch, watch: Watch) -> Result:
        started_s, at_once = anyio.current_time(), self.outbox.in_flight
        result: Result | None = None
        try:
            result = await self.destination.send(batch)
        finally:
            elapsed_s = anyio.current_time() - started_s
            self.reporter.tell(Ended(batch, result, elapsed_s))
        self._size(batch, result, elapsed_s)
        if not watch.breaker.is_open:
            self._count(batch, result, started_s, at_once)
        self.tell_limits()
        return result

    def tell_limits(self) -> None:
        """Tell of the controllers' limits, if they have changed."""
        at_once, settled = self.concurrency.limit, self.concurrency.settled
        tuned = Tuned(at_once, settled, self.batch_size.limits, self.request_rate.limit_per_s)
        if tuned != self._told:
            self._told = tuned
            self.reporter.tell(tuned)

    async def _look_again(self, batch: Batch) -> Spoiled | None:
        """Look at a batch's files before they are sent, where files beside them were lost or changed."""
        if not self.suspicion.touches(batch):
            return None
        spoiled = await self.destination.look(batch)
        if spoiled is None:
            self.suspicion.unharmed(batch)
        else:
            self.suspicion.lost(spoiled.beneath)
        return spoiled

    def _count(self, batch: Batch, result: Result, started_s: float, at_once: int) -> None:
        """Let how a request ended bound the number and the rate of the next ones.

        A request that we broke off ourselves says nothing. `at_once` were under way when this one started.
        """
        now_s, is_rejected = anyio.current_time(), True
        match result:
            case Spoiled() | Interruption(cause=Cause.UNREACHABLE | Cause.DISCONNECTED | Cause.MALFORMED):
                return
            case Reply(status=429 | 503):
                can_lower = self.concurrency.limit > self.concurrency.lowest
                if not (can_lower and self.request_rate.is_of_concurrency(at_once)):
                    self.request_rate.rejected(started_s, now_s)
                    return
            case Reply():
                self.request_rate.accepted(now_s, at_once)
                is_rejected = False
            case Interruption():
                pass
        self.concurrency.ended(
            concurrency.Sample(
                now_s,
                batch.size_bytes,
                len(batch.instances),
                is_rejected=is_rejected,
                is_wanted=self.outbox.is_wanting,
            )
        )

    def _size(self, batch: Batch, result: Result, elapsed_s: float) -> None:
        """Let what a request took bound the next ones."""
        # A body that left twice took the time of two.
        is_answered = isinstance(result, Reply) and 200 <= result.status < 300 and not result.is_replayed
        is_settled = self.concurrency.limit == self.concurrency.settled
        self.batch_size.ended(
            batch_size.Sample(
                batch.size_bytes,
                len(batch.instances),
                elapsed_s,
                is_answered=is_answered,
                is_plenty=self.outbox.is_plentiful,
                is_settled=is_settled,
            )
        )
        self.batcher.limits = self.batch_size.limits

    def stop(self, stop: RunStopped) -> None:
        """End the run early, in good order."""
        self.stopped_by = self.stopped_by or stop
        self.outbox.abandon()

    def give_up(self, stop: RunStopped) -> None:
        """End the run early, and break off what is under way: no answer is expected; the next run sends it again."""
        self.stop(stop)
        for scope in self._under_way:
            scope.cancel()

    def _times(self, again: tuple[Later, ...], after: Result | None) -> Iterator[tuple[float, Errand]]:
        now_s = anyio.current_time()
        for later in again:
            match later.errand:
                case Ask(asked=asked, excused=excused):
                    setbacks = asked + 1
                case Send(batch):
                    setbacks, excused = batch.faults + batch.doubts, batch.excused
            setbacks += min(excused, MOST_SETBACKS_EXCUSED)
            delay_s = self.backoff.delay_s(
                later.delay, faults=setbacks, jitter=random.random(), at_least_s=later.at_least_s
            )
            self.reporter.tell(RetryScheduled(later.errand, delay_s, after))
            yield now_s + delay_s, later.errand

    async def _lower_ceiling(self, refused_bytes: int) -> None:
        """Send no more bodies of a size that was refused, in this run and the next (413)."""
        ceiling_bytes = max(refused_bytes // 2, SMALLEST_CEILING_BYTES)
        if self.batch_size.learn_ceiling(ceiling_bytes):
            self.batcher.limits = self.batch_size.limits
            self.reporter.tell(CeilingLearned(ceiling_bytes))
            self.tell_limits()
            await by(self.crew.errands, self.ledger.learn_ceiling, ceiling_bytes)


async def record(
    outcomes: MemoryObjectReceiveStream[list[Outcome]],
    crew: Crew,
    ledger: Ledger,
    claims: Claims,
    reporter: Reporter,
) -> None:
    """Write outcomes to the ledger, many to a commit, then tell of them.

    When the run is cancelled, what has arrived is written all the same: the server's word is in, and losing it would
    send those instances again.
    """
    async with outcomes:
        try:
            async for arrived in outcomes:
                await _write(_gather(arrived, outcomes.receive_nowait), crew, ledger, claims, reporter)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                while left := _gather([], outcomes.receive_nowait):
                    await _write(left, crew, ledger, claims, reporter)
            raise


def _gather(gathered: list[Outcome], receive_nowait: Callable[[], list[Outcome]]) -> list[Outcome]:
    """Add what has arrived meanwhile, up to a commit's worth."""
    gathered = list(gathered)
    while len(gathered) < ROWS_PER_COMMIT:
        try:
            gathered += receive_nowait()
        except (anyio.WouldBlock, anyio.EndOfStream):
            break
    return gathered


async def _write(outcomes: list[Outcome], crew: Crew, ledger: Ledger, claims: Claims, reporter: Reporter) -> None:
    with anyio.CancelScope(shield=True):
        await by(crew.errands, ledger.record, outcomes)
    claims.release(outcomes)
    reporter.tell(Recorded(tuple(outcomes)))
