"""Several senders as one destination: the coordinator's batches go to the sender with the fewest requests under way.

Queries and the check at the start are the coordinator's own. `engine.processes` and `engine.dask` attach senders, and
replace those that are lost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.destination.auth import LOGIN_VARIABLES
from bulkstow.destination.body import ByteLimiter
from bulkstow.destination.given_headers import GivenHeaders
from bulkstow.destination.stow import StowDestination
from bulkstow.engine.messages import Begin
from bulkstow.engine.remote import Channel, RemoteSender, Used
from bulkstow.errors import BulkstowError, RunStopped
from bulkstow.events import Reporter, SendersMeasured
from bulkstow.model import Batch, Cause, Exchange, Instance, NoResponse, Response
from bulkstow.policy.concurrency import INSTANCE_BYTES
from bulkstow.ports import Destination

if TYPE_CHECKING:
    from bulkstow.wire.edit_rules import Edits


def begin_of(
    destination: DestinationSettings,
    settings: UploadSettings,
    environ: Mapping[str, str],
    headers: GivenHeaders,
    edits: Edits | None = None,
) -> Begin:
    """Return the first message to each sender; `environ` holds the login of the destination.

    The paths of its files are absolute, as a worker of a cluster has a working directory of its own.
    """
    values = {field.name: getattr(destination, field.name) for field in fields(destination)}
    files: dict[str, Any] = {name: value.absolute() for name, value in values.items() if isinstance(value, Path)}
    return Begin(
        destination=replace(destination, **files),
        environment={name: environ[name] for name in LOGIN_VARIABLES if name in environ},
        read_concurrency=settings.read_concurrency,
        read_timeout_s=settings.read_timeout_s,
        is_throttled=settings.bandwidth is not None,
        headers=headers,
        edits=edits,
    )


def _is_spooled(instance: Instance) -> bool:
    """Return whether only processes of this computer can read an instance."""
    return instance.candidate.extent is not None and instance.candidate.extent.is_spooled


def _own() -> Used:
    return Used(time.process_time(), os.times().user)


class Senders(Destination):
    """A STOW-RS server, to which several senders send.

    `sends_here` says whether this process sends by itself while no sender is ready; otherwise batches wait,
    except those with content of the spool, which senders on other computers cannot open.
    """

    def __init__(
        self,
        local: StowDestination,
        begin: Begin,
        *,
        throttle: ByteLimiter | None,
        reporter: Reporter,
        sends_here: bool,
    ) -> None:
        self._local = local
        self._begin = begin
        self._throttle = throttle
        self._reporter = reporter
        self._sends_here = sends_here
        self._senders: dict[RemoteSender, anyio.CancelScope] = {}
        self._changed = anyio.Event()
        self._sample: Instance | None = None
        """An instance of the last batch; senders elsewhere have to see the same file."""
        self._stopped_by: BulkstowError | None = None
        self._is_ending = False
        self._used_before: dict[RemoteSender, Used] = {}
        self._lost_cpu_s = 0.0
        """Processor time of senders that have ended since the last measurement."""
        self._own_before = _own()
        self.in_flight = 0
        """Requests under way, of this process and of all senders."""
        self.work = 0.0
        """Bytes of the batches that were accepted so far, and the equivalent in bytes for each instance."""

    @property
    def name(self) -> str:
        """The DICOMweb root."""
        return self._local.name

    @property
    def ready(self) -> list[RemoteSender]:
        """The senders that take batches."""
        return [sender for sender in self._senders if sender.is_ready]

    async def reach(self) -> None:
        """Check the destination, as `StowDestination.reach` does."""
        await self._local.reach()

    async def send(self, batch: Batch) -> Exchange:
        """Have a batch sent once. Raises RunStopped if no sender can be used."""
        self.in_flight += 1
        is_sent_here = not self._sends_here and any(map(_is_spooled, batch.instances))
        if not is_sent_here:
            if self._sample is None:
                self._notify()
            self._sample = batch.instances[0]
        try:
            exchange = await (self._local.send(batch) if is_sent_here else self._send(batch))
        finally:
            self.in_flight -= 1
        if isinstance(exchange, Response) and exchange.status < 300:
            self.work += batch.size_bytes + INSTANCE_BYTES * len(batch.instances)
        return exchange

    async def _send(self, batch: Batch) -> Exchange:
        while not (ready := self.ready):
            if self._stopped_by is not None:
                raise self._stopped_by
            if self._sends_here:
                return await self._local.send(batch)
            if self._is_ending:
                return NoResponse(Cause.SENDER_LOST, body_started=False, detail="no sender is ready")
            await self._changed.wait()
        return await min(ready, key=lambda sender: sender.in_flight).send(batch)

    async def find(self, instances: tuple[Instance, ...]) -> frozenset[str] | Response | NoResponse:
        """Search instances, from this process."""
        return await self._local.find(instances)

    async def probe(self) -> Response | NoResponse:
        """Send a small query, from this process."""
        return await self._local.probe()

    async def sample(self) -> Instance:
        """Wait for a batch, and return an instance of the last one."""
        while self._sample is None:
            await self._changed.wait()
        return self._sample

    def stop(self, error: RunStopped) -> None:
        """End the run: no sender can be used, nor will be."""
        self._stopped_by = error
        self._notify()

    @property
    def is_ending(self) -> bool:
        """The run is about to end."""
        return self._is_ending

    async def wait_for_change(self, timeout_s: float) -> None:
        """Wait until a sender is ready or lost, at most for a time."""
        with anyio.move_on_after(timeout_s):
            await self._changed.wait()

    async def attach(
        self, channel: Channel, check: Callable[[RemoteSender], Awaitable[str]] | None = None
    ) -> RemoteSender:
        """Use a sender until it is lost or retired, and return it then.

        `check` returns why the sender cannot be used, or nothing; it gets no batch before that.
        """
        sender = RemoteSender(channel, throttle=self._throttle, reporter=self._reporter, is_checked=check is None)

        async def check_it(check: Callable[[RemoteSender], Awaitable[str]]) -> None:
            if why := await check(sender):
                sender.refuse(why)
                tasks.cancel_scope.cancel()
            else:
                sender.accept()
                self._notify()

        try:
            async with anyio.create_task_group() as tasks:
                self._senders[sender] = tasks.cancel_scope
                if check is not None:
                    tasks.start_soon(check_it, check)
                await sender.run(self._begin, tasks, self._notify, is_ending=self._is_ending)
                tasks.cancel_scope.cancel()
        finally:
            self._lost_cpu_s += self._spent(sender).cpu_s
            del self._senders[sender], self._used_before[sender]
            await sender.close()
        return sender

    def retire(self) -> None:
        """Give the sender that was attached last no more batches; it ends after its requests."""
        if ready := self.ready:
            ready[-1].retire()

    def end_retired(self) -> None:
        """End the retired senders whose requests have ended."""
        for sender, scope in self._senders.items():
            if sender.is_retired and not sender.in_flight:
                scope.cancel()

    def end(self, sender: RemoteSender) -> None:
        """End a sender at once; its requests end without a response."""
        self._senders[sender].cancel()

    def shorten_reads(self) -> None:
        """Wait only a moment longer for storage that hangs, and not for senders: the run is about to end."""
        self._is_ending = True
        self._notify()
        for sender in self._senders:
            sender.shorten_reads()

    def measure(self) -> tuple[Used, list[Used]]:
        """Report the processor time since the last call; return that of this process, and that of each sender.

        Called at intervals, and once more after the last sender has ended.
        """
        own = _own()
        spent, self._own_before = own.since(self._own_before), own
        by_sender = [Used(self._lost_cpu_s), *map(self._spent, self._senders)]
        self._lost_cpu_s = 0.0
        cpu_s = [used.cpu_s for used in by_sender]
        self._reporter.tell(SendersMeasured(sum(cpu_s), max(cpu_s)))
        return spent, by_sender

    def _spent(self, sender: RemoteSender) -> Used:
        before = self._used_before.get(sender, Used())
        self._used_before[sender] = sender.used
        return sender.used.since(before)

    @property
    def attached(self) -> tuple[RemoteSender, ...]:
        """All senders, ready or not."""
        return tuple(self._senders)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
