"""A whole measurement in this process: its order, and what stops it."""

from __future__ import annotations

import platform
import socket
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import anyio
import pytest
from aiohttp import web

from bulkstow.bench import removal, run
from bulkstow.bench.conclusion import Facts
from bulkstow.bench.live import Live
from bulkstow.bench.load_plan import plan
from bulkstow.bench.removal import Removal
from bulkstow.bench.result import Result
from bulkstow.bench.run import Bench, Finished, Listeners, Measurement, describe_machine
from bulkstow.bench.settings import BenchSettings
from bulkstow.bench.workload import workload
from bulkstow.config import DestinationSettings
from bulkstow.errors import ConfigurationError, LoginRefused
from bulkstow.model import StoreResponse
from bulkstow.platform.process import cores
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DiscardStorage

pytestmark = pytest.mark.anyio

SR = workload("sr", "run")


class Fails:
    """An origin's fault: from some request on it answers with a status."""

    def __init__(self, status: int, from_number: int) -> None:
        self._status = status
        self._from_number = from_number

    async def before(self, request: web.Request, number: int) -> web.StreamResponse | None:
        """Answer with the status when it is time."""
        return web.Response(status=self._status) if number >= self._from_number else None

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Go on."""
        return response


class Words(Live):
    """Keeps what is shown."""

    def __init__(self) -> None:
        super().__init__("none")
        self.shown: list[str] = []

    def stage(self, words: str, position: str = "") -> None:
        """Keep it."""
        self.shown.append(f"{position}: {words}" if position else words)

    def say(self, words: str) -> None:
        """Keep it."""
        self.shown.append(words)


@pytest.fixture
async def url(anyio_backend: str) -> AsyncIterator[str]:
    """Give an origin that keeps nothing."""
    async with serving(Origin(DiscardStorage())) as url:
        yield url


def bench(url: str, listeners: Listeners, **changes: Any) -> Bench:
    """Return a short measurement."""
    settings: dict[str, Any] = {
        "connections": (2,),
        "batch_instances": (3,),
        "duration_s": 0.3,
        "warmup_s": 0.1,
        "skip_ceiling": True,
    }
    chosen = BenchSettings(**(settings | changes))
    facts = Facts(chosen.mode, "sr", SR.mean_bytes, url, "run", "2026", "1", "2 cores")
    measurement = Measurement(DestinationSettings(url=url), chosen, SR, facts)
    return Bench(measurement, plan(chosen, SR.mean_bytes, Random(1)), listeners)


async def measured(url: str, **changes: Any) -> Finished:
    """Carry out a short measurement."""
    return await bench(url, Listeners(Words()), **changes).run(heed_signals=False)


async def test_seconds_and_result_belong_together(url: str) -> None:
    """Whoever listens hears of every second; the result has them too."""
    seconds: list[float] = []
    listeners = Listeners(Words(), on_second=lambda _load, second, _latencies: seconds.append(second.at_s))
    finished = await bench(url, listeners, duration_s=1.2).run(heed_signals=False)
    assert finished.result is not None
    assert finished.is_complete
    assert seconds == [second.at_s for second in finished.result.best.series]
    assert finished.result.best.errors == {}


async def test_a_soak_is_told_as_it_goes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results until now, marked as incomplete; one that cannot be written ends nothing."""
    monkeypatch.setattr(run, "AS_IT_GOES_S", 0.05)
    monkeypatch.setattr(run, "AS_IT_GOES_SHARE", 1.0)
    told: list[Result] = []
    words = Words()

    def on_result(result: Result) -> None:
        told.append(result)
        raise ConfigurationError("the disk is full")

    listeners = Listeners(words, on_result=on_result)
    finished = await bench(url, listeners, mode="soak", duration_s=0.5).run(heed_signals=False)
    assert len(told) > 1
    assert not any(result.is_complete for result in told)
    assert "the disk is full" in words.shown
    assert finished.result is not None
    assert finished.result.best.instances >= max(result.best.instances for result in told) > 0


async def test_a_login_that_ends_midway_ends_the_run() -> None:
    """What was measured until then is told, as incomplete; repeats to come are not begun."""
    async with serving(Origin(DiscardStorage(), fault=Fails(401, 20))) as url:
        finished = await measured(url, repeats=3, duration_s=60.0, warmup_s=0.0)
    assert isinstance(finished.stopped_by, LoginRefused)
    assert finished.result is not None
    assert not finished.result.is_complete
    assert finished.result.best.instances > 0
    assert len(finished.result.best.goodputs_per_s) == 1


async def test_a_sweep_is_cleaned_up_between_its_loads(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each load meets the server as the first did; what was deleted adds up."""

    async def remove(_place: removal.TestServer, tag: str, **_listener: Any) -> Removal:
        assert tag == "bulkstow-bench-run"
        return Removal(5, 0)

    monkeypatch.setattr(removal.TestServer, "remove", remove)
    monkeypatch.setattr("bulkstow.bench.driver.FILL_S", 0.05)
    finished = await measured(url, mode="sweep", connections=(1, 2), duration_s=0.1, warmup_s=0.0, cleanup=True)
    assert finished.result is not None
    assert len(finished.result.points) == 2
    assert finished.removal == Removal(5 * 4, 0)


async def test_a_server_that_deletes_nothing_is_asked_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not let the next studies go either."""
    asked: list[str] = []

    async def remove(_place: removal.TestServer, tag: str, **_listener: Any) -> Removal:
        asked.append(tag)
        return Removal(0, 7, "HTTP 405")

    monkeypatch.setattr(removal.TestServer, "remove", remove)
    finished = await measured(url, repeats=2, cleanup=True)
    assert finished.removal == Removal(0, 7, "HTTP 405")
    assert len(asked) == 1


async def test_it_is_said_where_a_sweep_is_and_what_is_left(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The how-manieth load of how many, and for each second the time left; deleting is named when there is anything."""
    deleted = iter((3, 0, 1, 2))

    async def remove(_place: removal.TestServer, _tag: str, *, on_listed: Callable[[int], None]) -> Removal:
        if studies := next(deleted):
            on_listed(studies)
        return Removal(studies, 0)

    monkeypatch.setattr(removal.TestServer, "remove", remove)
    monkeypatch.setattr("bulkstow.bench.driver.FILL_S", 0.05)
    words = Words()
    sweep: dict[str, Any] = {"mode": "sweep", "connections": (1,), "batch_instances": (1, 2), "cleanup": True}
    await bench(url, Listeners(words), **sweep, duration_s=0.1, warmup_s=0.0, repeats=1).run(heed_signals=False)
    one, two = "1 connection, 1 instance a request", "1 connection, 2 instances a request"
    assert words.shown == [
        f"point 1 of 4 at most: {one}",
        "deleting 3 studies",
        f"point 2 of 4 at most: {two}",
        f"point 3 of 4: {two}",
        "deleting 1 study",
        f"point 4 of 4: {one}",
        "deleting 2 studies",
    ]


async def test_nothing_is_deleted_before_anything_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that refuses the first request's login was given nothing to delete."""
    words = Words()
    async with serving(Origin(DiscardStorage(), fault=Fails(401, 0))) as url:
        finished = await bench(url, Listeners(words), cleanup=True).run(heed_signals=False)
    assert isinstance(finished.stopped_by, LoginRefused)
    assert not any("deleting" in line for line in words.shown)


async def test_a_client_is_measured_before_its_loads(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all loads that are alike to it, and each point is held against its own."""
    monkeypatch.setattr("bulkstow.bench.ceiling.CEILING_S", 0.2)
    monkeypatch.setattr("bulkstow.bench.ceiling.CEILING_WARM_UP_S", 0.1)
    monkeypatch.setattr("bulkstow.bench.driver.FILL_S", 0.05)
    words = Words()
    sweep: dict[str, Any] = {
        "mode": "sweep",
        "connections": (1, 8, 16),
        "duration_s": 0.1,
        "warmup_s": 0.0,
        "skip_ceiling": False,
    }
    finished = await bench(url, Listeners(words), **sweep).run(heed_signals=False)
    assert [line for line in words.shown if "this client against a sink" in line] == [
        "1 of 2: this client against a sink: 1 connection, 3 instances a request",
        "2 of 2: this client against a sink: 4 connections, 3 instances a request",
    ]
    assert finished.result is not None
    assert finished.result.ceiling is not None


async def test_a_cancelled_run_leaves_no_task(url: str) -> None:
    """Whoever embeds it may end it at any time."""
    with anyio.move_on_after(0.3) as scope:
        await measured(url, duration_s=60.0)
    assert scope.cancelled_caught


def test_the_machine_is_told_without_its_name() -> None:
    """A result is passed on: what matters for its figures, and nothing of whose machine it was."""
    words = describe_machine()
    assert f"{cores()} cores, Python {platform.python_version()}" in words
    assert socket.gethostname() not in words.split()
