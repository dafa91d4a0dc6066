"""Keep sender processes of this computer: start them, replace those that are lost, and find their best number.

`policy.sender_count` decides on the number from the measurements made here; `engine.process` starts one.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from bulkstow.blocking import ReadLimit
from bulkstow.engine.job import Job
from bulkstow.engine.process import ProcessChannel
from bulkstow.engine.remote import RemoteSender
from bulkstow.engine.senders import Senders
from bulkstow.errors import ConfigurationError
from bulkstow.events import Reporter, SendersChanged
from bulkstow.platform.process import idle_s, usable_cores
from bulkstow.policy.sender_count import Period, SenderCount
from bulkstow.quantities import counted

PERIOD_S = 0.25
"""The period of a measurement: 20,000 MR slices took 2.2 s with a sender that was tried this soon, 2.5 s without."""

SILENT_PERIODS = 240
"""Periods without a message after which a sender is taken for hanging; it sends a sign of life every 0.25 s."""

RESTART_PAUSE_S = 1.0
RESTART_PAUSE_MOST_S = 60.0
"""Pause before a sender is replaced that has ended without having sent anything; it doubles from the first to the
second. A shortage of memory may be over then; without pauses, each start would take 0.3 s of a processor."""


def processes_of(job: Job) -> int | SenderCount | None:
    """Return how many processes send for this one, or the policy that finds the number; None if this one sends alone.

    Another process can open files by their names and log in from settings; a source or a login that is an object of
    this process stays here. More senders than requests at once would do nothing. Raises ConfigurationError if more
    processes were asked for nevertheless.
    """
    processes = job.settings.processes
    if processes == 1:
        return None
    can_share = isinstance(job.source, tuple) and job.auth is None
    if processes == "auto":
        most = min(math.ceil(usable_cores()) - 1, job.settings.concurrency.highest)
        return SenderCount(most) if can_share and most > 0 else None
    if not can_share:
        raise ConfigurationError(
            f"--processes {processes}: only paths and the logins of settings can be given to other processes; "
            "leave it out, or set it to 1"
        )
    return min(processes - 1, job.settings.concurrency.highest)


@asynccontextmanager
async def sender_processes(
    senders: Senders, count: int | SenderCount, *, limit: ReadLimit, reporter: Reporter, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Keep processes for `senders` meanwhile; none is left afterwards."""
    async with anyio.create_task_group() as tasks:
        with limit.on_shortened(senders.shorten_reads):
            tasks.start_soon(SenderProcesses(senders, count, reporter=reporter, say=say).run)
            yield
        tasks.cancel_scope.cancel()
    senders.measure()


class SenderProcesses:
    """Keeps `count` sender processes, or as many as help; `say` shows a line to the user."""

    def __init__(
        self, senders: Senders, count: int | SenderCount, *, reporter: Reporter, say: Callable[[str], None]
    ) -> None:
        self._senders = senders
        self._count = count
        self._reporter = reporter
        self._say = say
        self._kept = 0
        """Senders that run, or are about to; those that cannot send count, so that no other one is started for them."""
        self._told = self._ready_before = self._said = 0
        self._began_s = anyio.current_time()
        self._idle_before_s = idle_s()
        self._work_before = 0.0
        self._was_sending = False

    @property
    def _wanted(self) -> int:
        return self._count.count if isinstance(self._count, SenderCount) else self._count

    async def run(self) -> None:
        """Keep the processes, until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                while self._kept < self._wanted and not self._senders.is_ending:
                    self._kept += 1
                    tasks.start_soon(self._keep_one)
                await self._senders.wait_for_change(PERIOD_S)
                if anyio.current_time() - self._began_s >= PERIOD_S:
                    self._look()

    async def _keep_one(self) -> None:
        """Start senders one after the other, as long as one is wanted here."""
        pause_s = RESTART_PAUSE_S
        while self._kept <= self._wanted and not self._senders.is_ending:
            sender, why = await self._use_one()
            if why:
                self._say(f"a sender was lost: {why}")
            if sender is not None and sender.failure is not None:
                return  # it would be the same for the next one: this process sends by itself
            if sender is not None and (sender.requests_ended or sender.is_retired):
                pause_s = RESTART_PAUSE_S
                continue
            await anyio.sleep(pause_s)
            pause_s = min(RESTART_PAUSE_MOST_S, 2 * pause_s)
        self._kept -= 1

    async def _use_one(self) -> tuple[RemoteSender | None, str]:
        """Start a sender and use it until it ends; return it, and why it was lost, if that was not wanted."""
        try:
            channel = await ProcessChannel.start()
        except (OSError, RuntimeError) as error:
            return None, f"no process can be started ({getattr(error, 'strerror', None) or error})"
        sender = await self._senders.attach(channel)
        if sender.failure is not None:
            return sender, f"it cannot send ({sender.failure}), so this process sends by itself"
        if sender.is_retired:
            return sender, ""
        requests = counted(sender.requests_lost, "request")
        return sender, f"{channel.name} {channel.ending}, with {requests} under way"

    def _tell(self) -> None:
        """Tell how many send, once they have been as many for two looks: one that is replaced is soon back."""
        ready = len(self._senders.ready)
        if ready != self._told and ready == self._ready_before:
            self._told = ready
            self._reporter.tell(SendersChanged(ready))
        self._ready_before = ready

    def _look(self) -> None:
        """Measure the period that has passed, and decide on the number of senders."""
        senders, now_s, idle_now_s = self._senders, anyio.current_time(), idle_s()
        elapsed_s = now_s - self._began_s
        own, by_sender = senders.measure()
        free_cores = usable_cores() - (own.cpu_s + sum(used.cpu_s for used in by_sender)) / elapsed_s
        if idle_now_s is not None and self._idle_before_s is not None:
            free_cores = min(free_cores, (idle_now_s - self._idle_before_s) / elapsed_s)
        period = Period(
            elapsed_s=elapsed_s,
            work=senders.work - self._work_before,
            coordinator_s=own.user_s,
            sender_s=max(used.user_s for used in by_sender),
            idle_cores=free_cores,
            is_sending=self._was_sending and senders.in_flight > 0,
        )
        self._began_s, self._idle_before_s, self._work_before = now_s, idle_now_s, senders.work
        self._was_sending = senders.in_flight > 0
        if isinstance(self._count, SenderCount) and len(senders.ready) == self._count.count:
            self._count.observe(period)
            self._say_settled(self._count.settled)
        while len(senders.ready) > self._wanted:
            senders.retire()
        senders.end_retired()
        self._end_silent()
        self._tell()

    def _say_settled(self, settled: int) -> None:
        if settled > self._said:
            more = counted(settled, "more process sends", "more processes send")
            self._say(f"{more}, as this computer's processor was the limit")
        self._said = settled

    def _end_silent(self) -> None:
        """End the senders that hang: they are stopped, or their event loop is."""
        for sender in self._senders.attached:
            if sender.silent_looks() >= SILENT_PERIODS:
                self._say(f"{sender.name} gives no sign of life, and is ended")
                self._senders.end(sender)
