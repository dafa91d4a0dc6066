"""A whole measurement: check the server, find the client's ceiling, put the loads on, conclude.

Owns the order of these steps and the meaning of signals: the first ends the load and waits for requests in flight, the
second ends at once. The figures so far are concluded in any case.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import anyio
import anyio.to_thread

from bulkstow.bench import ceiling, load_plan
from bulkstow.bench.conclusion import Facts, conclude
from bulkstow.bench.driver import Driver, LoadPhase
from bulkstow.bench.live import Live
from bulkstow.bench.load_plan import LoadPlan, TimeLeft
from bulkstow.bench.recorder import Measured
from bulkstow.bench.removal import Removal, TestServer, open_test_server
from bulkstow.bench.report.words import load_words
from bulkstow.bench.result import Ceiling, Load, Result, Second
from bulkstow.bench.searchable import Probe
from bulkstow.bench.sender import Sender, sending
from bulkstow.bench.settings import BenchSettings
from bulkstow.bench.workload import Workload, run_tag
from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import login
from bulkstow.destination.stow import StowDestination
from bulkstow.errors import BulkstowError
from bulkstow.platform.process import cores, rss_bytes
from bulkstow.platform.signals import receive_ending_signals

AS_IT_GOES_S = 60.0
"""Between two results of a soak: a crash loses a minute."""

AS_IT_GOES_SHARE = 0.005
"""The most time, as a share, that writing results may take from the load."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What to measure, on which server, with which settings."""

    destination: DestinationSettings
    settings: BenchSettings
    workload: Workload
    facts: Facts


@dataclass(slots=True)
class Finished:
    """The end of a run, however it came about."""

    result: Result | None = None
    """None where nothing was measured."""
    stopped_by: BulkstowError | None = None
    is_complete: bool = True
    removal: Removal | None = None


@dataclass(slots=True)
class Listeners:
    """Callbacks of a run."""

    live: Live
    on_second: Callable[[Load, Second, Sequence[float]], None] = lambda *_: None
    """Called with each second that is over, and the latencies of the requests that ended in it."""
    on_result: Callable[[Result], None] = lambda _: None
    """Called in a thread with the result of a soak so far."""


class Bench:
    """Carries out a measurement, once."""

    def __init__(self, measurement: Measurement, plan: LoadPlan, listeners: Listeners) -> None:
        self._measurement = measurement
        self._plan = plan
        self._listeners = listeners
        self._visits: list[tuple[Load, Measured]] = []
        self._ceilings: dict[Load, Ceiling | None] = {}
        self._driver: Driver | None = None
        self._removal: Removal | None = None
        self._has_sent = False
        """Whether something was sent since the last deletion."""
        self._time_left = TimeLeft(plan.phase(plan.rows[0][0]))
        self._is_ending = False

    async def run(self, *, heed_signals: bool = True) -> Finished:
        """Measure, and return the result and the error that stopped it, if any."""
        finished = Finished(is_complete=False)
        try:
            async with anyio.create_task_group() as beside:
                if heed_signals:
                    beside.start_soon(self._heed_signals, beside.cancel_scope)
                try:
                    await self._carry_out(finished)
                except BulkstowError as stop:
                    finished.stopped_by = stop  # in a field, as the task group would wrap it in a group of one
                beside.cancel_scope.cancel()
        finally:
            self._listeners.live.close()
        has_any = any(measured.instances for _, measured in self._visits)
        if self._visits and (finished.stopped_by is None or has_any):
            finished.result = self._concluded(self._visits, is_complete=finished.is_complete)
        return finished

    async def _carry_out(self, finished: Finished) -> None:
        measurement = self._measurement
        auth = login(measurement.destination, os.environ)
        async with (
            open_test_server(measurement.destination, auth) as place,
            sending(measurement.destination, auth, measurement.workload) as (server, sender),
        ):
            await server.reach()
            if not measurement.settings.yes_this_is_a_test_server:
                await place.check_empty()
            try:
                await self._find_ceilings()
                await self._put_loads_on(server, sender, place)
                finished.is_complete = not self._is_ending
            finally:
                await self._clean_up(place)
                finished.removal = self._removal

    async def _find_ceilings(self) -> None:
        """Measure this client against a sink, once for all loads with the same ceiling."""
        if self._measurement.settings.skip_ceiling:
            return
        if not ceiling.has_tls(self._measurement.destination):
            self._listeners.live.say("this client is measured without TLS, which flatters it: openssl is not installed")
        loads = [load for row in self._plan.rows for load in row]
        found: dict[Load, Ceiling | None] = {}
        distinct = list(dict.fromkeys(map(ceiling.alike, loads)))
        for number, alike in enumerate(distinct, 1):
            if self._is_ending:
                break
            words = f"this client against a sink: {load_words(alike)}"
            self._listeners.live.stage(words, f"{number} of {len(distinct)}" if len(distinct) > 1 else "")
            found[alike] = await ceiling.measure(self._measurement.destination, self._measurement.workload, alike)
            if found[alike] is None:
                self._listeners.live.say("this client could not be measured against a sink of its own")
        self._ceilings = {load: found.get(ceiling.alike(load)) for load in loads}

    async def _clean_up(self, place: TestServer) -> None:
        """Delete the stored studies if --cleanup is set and no deletion has failed so far."""
        if not self._measurement.settings.cleanup or not self._has_sent or (self._removal and self._removal.why):
            return

        def on_listed(studies: int) -> None:
            self._listeners.live.stage(f"deleting {studies:,} {'study' if studies == 1 else 'studies'}")

        began_s = time.perf_counter()
        removal = await place.remove(run_tag(self._measurement.facts.run_id), on_listed=on_listed)
        self._time_left.cleanup_took(time.perf_counter() - began_s)
        self._has_sent = False
        before = self._removal.removed if self._removal else 0
        self._removal = replace(removal, removed=before + removal.removed)

    async def _put_loads_on(self, server: StowDestination, sender: Sender, place: TestServer) -> None:
        if self._plan.warmup is not None and not self._is_ending:
            loads, _ = self._plan.total([])
            await self._put_on(self._plan.warmup, server, sender, "warm-up", loads)
        while not self._is_ending:
            visited = [(load, one.instances / one.elapsed_s if one.elapsed_s else 0.0) for load, one in self._visits]
            phase = self._plan.next(visited)
            if phase is None:
                return
            # Each load finds the server as the first one did, and a sweep needs no more space than one load.
            await self._clean_up(place)
            total, is_exact = self._plan.total(visited)
            number = len(visited) + 1
            where = f"point {number} of {total}{'' if is_exact else ' at most'}" if total > 1 else ""
            began_s = time.perf_counter()
            measured = await self._put_on(phase, server, sender, where, total - number)
            self._time_left.load_took(time.perf_counter() - began_s)
            self._keep(phase.load, measured)

    async def _put_on(
        self, phase: LoadPhase, server: StowDestination, sender: Sender, where: str, loads_after: int
    ) -> Measured:
        """Put one load on. Raises RunStopped after keeping the figures so far."""
        listeners = self._listeners
        listeners.live.stage(load_words(phase.load), where)
        self._has_sent = True

        def on_second(second: Second, latencies_s: Sequence[float]) -> None:
            of_load_s = load_plan.of_load_s(phase, second.at_s + 1, driver.recorder.warmup_s)
            left_s = self._time_left.of_run_s(of_load_s, loads_after)
            listeners.live.second(second, None if second.is_drain else left_s)
            listeners.on_second(phase.load, second, latencies_s)

        probe = Probe(server.find)
        driver = self._driver = Driver(phase, sender, on_second=on_second, on_answered=probe.heard, rss_bytes=rss_bytes)
        try:
            async with anyio.create_task_group() as beside:
                if self._measurement.settings.searchable:
                    beside.start_soon(probe.run, driver.recorder.searchable)
                if self._measurement.settings.mode == "soak":
                    beside.start_soon(self._tell_as_it_goes, phase.load, driver)
                measured = await driver.carry_out()
                beside.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            self._is_ending = True
            self._keep(phase.load, driver.recorder.finish(sender.now()))
            raise
        finally:
            self._driver = None
        if driver.stopped_by is not None:
            self._is_ending = True
            self._keep(phase.load, measured)
            raise driver.stopped_by
        return measured

    def _keep(self, load: Load, measured: Measured) -> None:
        """Keep the figures; those of an interrupted load only where there are no others."""
        if not self._is_ending or not self._visits:
            self._visits.append((load, measured))

    async def _tell_as_it_goes(self, load: Load, driver: Driver) -> None:
        pause_s = AS_IT_GOES_S
        while True:
            await anyio.sleep(pause_s)
            began_s = time.perf_counter()
            so_far = driver.recorder.so_far(began_s)
            result = self._concluded([*self._visits, (load, so_far)], is_complete=False)
            try:
                await anyio.to_thread.run_sync(self._listeners.on_result, result)
            except BulkstowError as error:  # a disk that is full now may have room when the hours are over
                self._listeners.live.say(str(error))
            pause_s = max(AS_IT_GOES_S, (time.perf_counter() - began_s) / AS_IT_GOES_SHARE)

    def _concluded(self, visits: Sequence[tuple[Load, Measured]], *, is_complete: bool) -> Result:
        ceilings = {load: found for load, found in self._ceilings.items() if found is not None}
        return conclude(self._measurement.facts, visits, ceilings, is_complete=is_complete)

    async def _heed_signals(self, scope: anyio.CancelScope) -> None:
        with receive_ending_signals() as signals:
            async for _ in signals:
                if self._is_ending:
                    scope.cancel()
                    return
                self._is_ending = True
                if self._driver is None:
                    scope.cancel()
                    return
                self._listeners.live.say("finishing the current requests; press Ctrl-C again to stop immediately")
                self._driver.end()


def describe_machine() -> str:
    """Return the machine in words, without its name: `Linux 6.1 x86_64, 8 cores, Python 3.12.1`."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{system}, {cores()} cores, Python {platform.python_version()}"
