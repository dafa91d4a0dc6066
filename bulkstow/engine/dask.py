"""The workers of a Dask cluster as senders.

Dask says which workers there are, and its connections lead to them (`engine.dask_cluster`). Batches and exchanges are
messages on these connections (`engine.dask_worker`), not tasks: Dask neither schedules nor repeats them.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import anyio

from bulkstow.blocking import ReadLimit
from bulkstow.config import LOCAL_CLUSTER
from bulkstow.engine.dask_cluster import Cluster, Unusable, local_cluster
from bulkstow.engine.remote import RemoteSender
from bulkstow.engine.senders import Senders
from bulkstow.errors import RunStopped
from bulkstow.events import Reporter, SendersChanged
from bulkstow.platform.process import usable_cores
from bulkstow.quantities import counted
from bulkstow.setting_types import Automatic
from bulkstow.source_check import SourceCheck

PERIOD_S = 0.5
"""Interval of the looks at the cluster: a worker takes longer than that to start, and one costs the scheduler 1 ms."""

SILENT_PERIODS = 120
"""Periods without a message after which a sender is taken for hanging; it sends a sign of life every 0.25 s."""

RETRY_S = 15.0
"""Pause before a worker that cannot be used is tried again: its files may be mounted by then."""

RECONNECT_S = 1.0
"""The same for a worker that has sent something and was lost: its connection may have been."""

LOST = "its connection has ended"


class DaskWorkers:
    """Keeps a sender in each worker that can be used; `say` shows a line to the user.

    A worker can be used if it has the same bulkstow, reaches the server, and sees the same files.
    """

    def __init__(
        self,
        cluster: Cluster,
        senders: Senders,
        source_check: SourceCheck,
        *,
        reporter: Reporter,
        say: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._senders = senders
        self._source_check = source_check
        self._reporter = reporter
        self._say = say
        self._kept: set[str] = set()
        """The workers that have a sender, or wait for their next try."""
        self._unusable: dict[str, str] = {}
        """The reasons of the others."""
        self._has_accepted = False
        self._waiting_for = ""
        self._told = 0

    async def run(self) -> None:
        """Keep the senders, for ever."""
        looked_s = -math.inf
        async with anyio.create_task_group() as tasks:
            while True:
                connected = await self._cluster.workers()
                for address in (connected or frozenset()) - self._kept:
                    self._kept.add(address)
                    tasks.start_soon(self._keep, address)
                ready = len(self._senders.ready)
                is_period_over = anyio.current_time() - looked_s >= PERIOD_S
                if is_period_over or ready == len((connected or frozenset()) - self._unusable.keys()):
                    self._tell(ready)
                if is_period_over:
                    looked_s = anyio.current_time()
                    self._look(connected)
                await self._senders.wait_for_change(PERIOD_S)

    def _tell(self, ready: int) -> None:
        """Tell how many workers send; those that begin together are told together."""
        if ready and ready != self._told:
            self._told = ready
            self._reporter.tell(SendersChanged(ready, are_workers=True))

    async def _keep(self, address: str) -> None:
        """Use a worker until it is lost, or say why it cannot be used."""
        try:
            sender = await self._use(address)
        except Unusable as error:
            if self._unusable.get(address) != str(error):
                self._say(f"worker {address} is not used: {error}")
            self._unusable[address] = str(error)
            await anyio.sleep(RETRY_S)
        else:
            self._say(f"{sender.name} was lost ({sender.failure or LOST}); its requests are sent again")
            await anyio.sleep(RECONNECT_S if sender.requests_ended else RETRY_S)
        self._kept.discard(address)

    async def _use(self, address: str) -> RemoteSender:
        """Return the sender that a worker had, once it has ended. Raises Unusable if the check has not let it send."""
        stream = await self._cluster.open(address)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.write)
            sender = await self._senders.attach(stream, partial(self._check, address))
            tasks.cancel_scope.cancel()
        if not sender.is_checked:
            raise Unusable(str(sender.failure or LOST))
        return sender

    async def _check(self, address: str, sender: RemoteSender) -> str:
        """Return why a sender cannot be used: it does not reach the server, or does not see an instance as we do.

        A file that has changed since the scan has changed for both.
        """
        instance = await self._senders.sample()
        try:
            there = await sender.verify(instance)
        except RunStopped as stop:
            return str(stop)
        if there is None:
            return LOST
        here = await self._source_check.changed([instance]) if there else {}
        if there == (seen := here.get(instance.header.sop_instance_uid, "")):
            self._has_accepted = True
            self._unusable.pop(address, None)
            return ""
        return (
            f"{instance.candidate.location} there: {there}; on this computer: {seen or 'as the scan found it'}; "
            "workers have to see the same files under the same names"
        )

    def _look(self, connected: frozenset[str] | None) -> None:
        """Measure what was sent, end the senders that hang, and say why requests wait."""
        self._senders.measure()
        for sender in self._senders.attached:
            if sender.silent_looks() >= SILENT_PERIODS:
                self._say(f"{sender.name} gives no sign of life")
                self._senders.end(sender)
        self._say_why_requests_wait(connected)

    def _say_why_requests_wait(self, connected: frozenset[str] | None) -> None:
        """Say once why no worker sends; end the run if the only reasons are those of workers that cannot be used."""
        why, address = "", self._cluster.address
        if self._senders.ready:
            pass
        elif connected is None:
            why = f"the Dask scheduler {address} does not answer"
        elif not connected:
            why = f"no worker is connected to the Dask scheduler {address}"
        elif connected <= self._unusable.keys():
            worker = min(connected)
            why = f"no worker of {address} can be used, of {len(connected)}: {worker}: {self._unusable[worker]}"
            if not self._has_accepted:
                self._senders.stop(RunStopped(f"{why}; then run the same command again"))
                return
        if why and why != self._waiting_for:
            self._say(f"{why}: requests wait")
        self._waiting_for = why


@asynccontextmanager
async def dask_workers(
    address: str,
    processes: int | Automatic,
    senders: Senders,
    source_check: SourceCheck,
    *,
    timeout_s: float,
    limit: ReadLimit,
    reporter: Reporter,
    say: Callable[[str], None],
) -> AsyncIterator[None]:
    """Keep senders in a cluster's workers meanwhile; a cluster of our own has ended afterwards.

    Raises ConfigurationError for an address that is none, and RunStopped if no scheduler answers.
    """
    async with AsyncExitStack() as stack:
        stack.callback(senders.measure)
        if address == LOCAL_CLUSTER:
            workers = math.ceil(usable_cores()) if processes == "auto" else processes - 1
            say(f"starting {counted(workers, 'worker')}")
            address = await stack.enter_async_context(local_cluster(workers))
        cluster = await stack.enter_async_context(Cluster(address, timeout_s))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.enter_context(limit.on_shortened(senders.shorten_reads))
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(DaskWorkers(cluster, senders, source_check, reporter=reporter, say=say).run)
        yield
