"""Sender processes: outcomes and limits are those of one process, and a sender that is lost costs only a retry."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from bulkstow.blocking import ReadLimit
from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.engine import process, processes
from bulkstow.engine.job import Job
from bulkstow.engine.local import run
from bulkstow.engine.process import ProcessChannel
from bulkstow.engine.processes import processes_of, sender_processes
from bulkstow.engine.senders import Senders, begin_of
from bulkstow.errors import ConfigurationError, LoginRefused
from bulkstow.events import Reporters
from bulkstow.ledger import read_entries
from bulkstow.model import Batch, Outcome, Response, StoreResponse, Summary
from bulkstow.policy.sender_count import Period, SenderCount
from bulkstow.progress.tally import Tally
from bulkstow.quantities import Span
from bulkstow.server.login import Login
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage, DiscardStorage
from bulkstow.source.spool import Spool
from bulkstow.wire.synthetic import part10
from tests.archives import header, write_instance
from tests.memory_source import MemorySource
from tests.stow import NO_HEADERS, FileStow

pytestmark = pytest.mark.anyio

INSTANCES = 24
STUDIES = 6


class Recorded:
    """A display that records its lines."""

    interval_s = 3600.0

    def __init__(self) -> None:
        self.said: list[str] = []

    def show(self, tally: Tally) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Record a line."""
        self.said.append(text)

    def close(self, tally: Tally) -> None:
        """Close nothing."""


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that processes bring about."""
    while not condition():  # noqa: ASYNC110 - they set no event here
        await anyio.sleep(0.01)


async def nothing(number: int) -> None:
    """Do nothing."""


class Watched:
    """A fault that does nothing but count the requests under way, and call `at` with the number of each."""

    def __init__(self, at: Callable[[int], Awaitable[object]] = nothing) -> None:
        self._at = at
        self._under_way = 0
        self.most = 0

    async def before(self, request: web.Request, number: int) -> web.StreamResponse | None:
        """Count a request in."""
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        await self._at(number)
        return None

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Count a request out."""
        self._under_way -= 1
        return response


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive of a few studies."""
    for number in range(INSTANCES):
        write_instance(tmp_path / "archive" / f"s{number % STUDIES}", number, study=number % STUDIES + 1)
    return tmp_path / "archive"


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> list[ProcessChannel]:
    """Give the channels to all processes that are started."""
    started: list[ProcessChannel] = []
    start = ProcessChannel.start

    async def started_too() -> ProcessChannel:
        started.append(await start())
        return started[-1]

    monkeypatch.setattr(ProcessChannel, "start", started_too)
    return started


def pid_of(channel: ProcessChannel) -> int:
    """Return the number of a sender's process."""
    return channel._process.pid


def is_running(channel: ProcessChannel) -> bool:
    """Return whether a sender's process has not ended."""
    return channel._process.returncode is None


async def upload(
    url: str,
    archive: Path,
    display: Recorded | None = None,
    tally: Tally | None = None,
    *,
    destination: dict[str, Any] | None = None,
    **settings: Any,
) -> Summary:
    """Send an archive in requests of two instances, from three processes unless the settings say otherwise."""
    ledger = archive.parent / "l.db"
    changed: dict[str, Any] = {"processes": 3, "batch_instances": 2, **settings}
    server = DestinationSettings(url=url, **(destination or {}))
    job = Job((str(archive),), server, UploadSettings(ledger=ledger, **changed))
    return await run(job, tally or Tally(), display or Recorded(), heed_signals=False)


def outcomes(archive: Path) -> set[Outcome]:
    """Return the outcomes in the ledger; each file has one."""
    results = [entry.result for entry in read_entries(archive.parent / "l.db")]
    assert len(results) == INSTANCES
    return {result.outcome for result in results}


async def test_all_that_was_sent_adds_up(archive: Path, tmp_path: Path, channels: list[ProcessChannel]) -> None:
    """The origin has every file, the summary adds up over the senders, and no process is left."""
    storage, tally = DirectoryStorage(tmp_path / "origin"), Tally()
    watched = Watched(lambda _: until(lambda: tally.senders == 2))
    async with serving(Origin(storage, fault=watched)) as url:
        summary = await upload(url, archive, tally=tally)
    assert len(storage.digests()) == INSTANCES
    assert outcomes(archive) == {Outcome.STORED}
    assert (summary.processes, summary.requests, summary.retries) == (3, INSTANCES // 2, 0)
    assert summary.bytes_sent == tally.sent_bytes > tally.found_bytes
    assert summary.spent_s["cpu"] > summary.spent_s["busiest_cpu"] > 0
    assert summary.spent_s["connecting"] > 0
    assert len(channels) == 2
    assert not any(map(is_running, channels))


async def test_limits_hold_for_all_senders_together(archive: Path) -> None:
    """Two senders have no more requests under way than one may have, and there are no more senders than that."""
    tally = Tally()
    watched = Watched(lambda _: until(lambda: tally.senders == 2))
    async with serving(Origin(DiscardStorage(), fault=watched)) as url:
        await upload(url, archive, tally=tally, processes=9, concurrency=Span(2, 2))
    assert watched.most == 2


async def test_a_sender_that_is_killed_costs_a_retry(
    archive: Path, tmp_path: Path, channels: list[ProcessChannel]
) -> None:
    """kill -9 of every sender while requests are under way: they are sent again."""
    storage, display, tally = DirectoryStorage(tmp_path / "origin"), Recorded(), Tally()

    async def kill(number: int) -> None:
        await until(lambda: tally.senders == 2)
        if number == 6:
            for channel in channels:
                os.kill(pid_of(channel), signal.SIGKILL)

    async with serving(Origin(storage, fault=Watched(kill))) as url:
        summary = await upload(url, archive, display, tally)
    assert outcomes(archive) <= {Outcome.STORED, Outcome.DUPLICATE}
    assert len(storage.digests()) == INSTANCES
    assert summary.retries > 0
    for channel in channels[:2]:
        line = f"a sender was lost: {channel.name} was ended by SIGKILL, with "
        assert any(said.startswith(line) for said in display.said)


GARBAGE = (
    "import struct, sys; sys.stdout.buffer.write(struct.pack('=Q', 3) + b'abc'); sys.stdout.flush(); sys.stdin.read()"
)


@pytest.mark.parametrize(
    ("start", "ending"),
    [("import sys; sys.exit(7)", "ended with status 7"), (GARBAGE, "ended with status 0")],
    ids=["ends at once", "another version"],
)
async def test_senders_that_never_send_are_done_without(
    archive: Path, channels: list[ProcessChannel], monkeypatch: pytest.MonkeyPatch, start: str, ending: str
) -> None:
    """If senders cannot be used, this process sends by itself."""
    monkeypatch.setattr(process, "_START", start)
    display = Recorded()
    async with serving(Origin(DiscardStorage(), fault=Watched(lambda _: until(lambda: display.said)))) as url:
        summary = await upload(url, archive, display, processes=2)
    assert outcomes(archive) == {Outcome.STORED}
    assert summary.processes == 1
    assert display.said[0] == f"a sender was lost: {channels[0].name} {ending}, with no requests under way"


async def test_a_system_without_more_processes_does_not_end_the_run(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If neither a process nor the thread that waits for it can be started, this process sends by itself."""

    async def fail() -> ProcessChannel:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ProcessChannel, "start", fail)
    display = Recorded()
    async with serving(Origin(DiscardStorage(), fault=Watched(lambda _: until(lambda: display.said)))) as url:
        await upload(url, archive, display, processes=2)
    assert outcomes(archive) == {Outcome.STORED}
    assert display.said[0] == "a sender was lost: no process can be started (can't start new thread)"


async def test_a_sender_that_hangs_is_replaced(
    archive: Path, channels: list[ProcessChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that is stopped gives no sign of life; it is killed, and its requests are sent again."""
    monkeypatch.setattr(processes, "SILENT_PERIODS", 8)
    monkeypatch.setattr(process, "END_TIMEOUT_S", 0.1)
    tally, display = Tally(), Recorded()

    async def stop(number: int) -> None:
        await until(lambda: tally.senders == 1)
        if number == 6:
            os.kill(pid_of(channels[0]), signal.SIGSTOP)

    async with serving(Origin(DiscardStorage(), fault=Watched(stop))) as url:
        await upload(url, archive, display, tally, processes=2)
    assert outcomes(archive) <= {Outcome.STORED, Outcome.DUPLICATE}
    assert f"{channels[0].name} gives no sign of life, and is ended" in display.said
    assert not any(map(is_running, channels))


async def test_a_login_that_a_sender_is_refused_ends_the_run(
    archive: Path, channels: list[ProcessChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the login of a sender is refused, the run ends as it does from one process."""
    monkeypatch.setenv("BULKSTOW_BEARER", "right")
    login, tally = Login(token="right"), Tally()

    async def change(number: int) -> None:
        await until(lambda: tally.senders == 2)
        if number == 6:
            monkeypatch.setattr(login, "accepts", lambda _: False)

    async with serving(Origin(DiscardStorage(), login=login, fault=Watched(change))) as url:
        with pytest.raises(LoginRefused, match="401"):
            await upload(url, archive, tally=tally)
    assert not any(map(is_running, channels))


@pytest.mark.parametrize("how", ["a pipe", "a command"])
async def test_logins_that_can_be_read_only_once(archive: Path, how: str) -> None:
    """A password in a pipe reaches the senders, and a command that reads its input takes none of their messages."""
    reading, writing = os.pipe()
    os.write(writing, b"secret\n")
    os.close(writing)
    by_pipe: dict[str, Any] = {"user": "me", "password_file": Path(f"/dev/fd/{reading}")}
    options = by_pipe if how == "a pipe" else {"bearer_command": "sh -c 'cat; echo secret'"}
    tally = Tally()
    login = Login(users={"me": "secret"}, token="secret")
    watched = Watched(lambda _: until(lambda: tally.senders == 2))
    try:
        async with serving(Origin(DiscardStorage(), login=login, fault=watched)) as url:
            await upload(url, archive, tally=tally, destination=options)
    finally:
        os.close(reading)
    assert outcomes(archive) == {Outcome.STORED}


class Meter:
    """A throttle that admits little at once, and counts."""

    def __init__(self) -> None:
        self.used_bytes = 0

    async def admit(self, wanted_bytes: int) -> int:
        """Admit some bytes."""
        admitted_bytes = min(wanted_bytes, 1000)
        self.used_bytes += admitted_bytes
        await anyio.lowlevel.checkpoint()
        return admitted_bytes

    def give_back(self, size_bytes: int) -> None:
        """Take some back."""
        self.used_bytes -= size_bytes


class Given(SenderCount):
    """Numbers of senders that are given, one for each period."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(9)
        self.numbers = list(numbers)
        self.count = numbers[0]

    def observe(self, period: Period) -> None:
        """Take the next number."""
        if self.numbers:
            self.count = self.numbers.pop(0)


async def test_the_bandwidth_of_all_is_admitted_in_one_place(tmp_path: Path) -> None:
    """Each byte that any sender sends was admitted by the coordinator's limit, and nothing that it did not send."""
    instances = tuple(write_instance(tmp_path, number, rows=64, columns=64) for number in range(6))
    meter, tally, limit = Meter(), Tally(), ReadLimit(10.0)
    settings = UploadSettings()
    async with serving(Origin(DiscardStorage())) as url, FileStow(DestinationSettings(url=url)) as local:
        begin = begin_of(DestinationSettings(url=url), settings, {}, NO_HEADERS)
        begin = type(begin)(**{name: getattr(begin, name) for name in begin.__slots__} | {"is_throttled": True})
        senders = Senders(local, begin, throttle=meter, reporter=tally, sends_here=False)
        async with sender_processes(senders, 2, limit=limit, reporter=tally, say=print):
            for number, instance in enumerate(instances):
                assert isinstance(await senders.send(Batch(number, (instance,))), Response)
    assert meter.used_bytes == tally.sent_bytes > sum(i.candidate.size_bytes for i in instances)


async def test_only_this_computer_sends_what_is_in_its_spool(tmp_path: Path) -> None:
    """Senders elsewhere cannot open content of the spool, so the coordinator sends it even while it sends no files."""
    instance = write_instance(tmp_path, 1)
    with closing(Spool(2**20)) as spool:
        await spool.reserve(instance.size_bytes)
        content = spool.begin(instance.size_bytes)
        content.write(part10(header(1), rows=16, columns=16, number=1))
        staged = replace(instance, candidate=replace(instance.candidate, extent=content.finish()))
        async with serving(Origin(DiscardStorage())) as url, FileStow(DestinationSettings(url=url)) as local:
            begin = begin_of(DestinationSettings(url=url), UploadSettings(), {}, NO_HEADERS)
            senders = Senders(local, begin, throttle=None, reporter=Tally(), sends_here=False)
            with anyio.fail_after(20):
                assert isinstance(await senders.send(Batch(1, (staged,))), Response)


async def test_a_sender_that_is_not_needed_any_more_ends_after_its_requests(
    tmp_path: Path, channels: list[ProcessChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retired sender answers what it has; later batches go elsewhere, and its process ends."""
    monkeypatch.setattr(processes, "PERIOD_S", 0.05)
    instance, arrived, release = write_instance(tmp_path, 1), anyio.Event(), anyio.Event()
    count, limit = Given(1), ReadLimit(10.0)

    class Hold(Watched):
        async def before(self, request: web.Request, number: int) -> web.StreamResponse | None:
            if number == 1:
                arrived.set()
                await release.wait()
            return None

    async with serving(Origin(DiscardStorage(), fault=Hold())) as url, FileStow(DestinationSettings(url=url)) as local:
        begin = begin_of(DestinationSettings(url=url), UploadSettings(), {}, NO_HEADERS)
        senders = Senders(local, begin, throttle=None, reporter=Reporters(()), sends_here=True)
        async with sender_processes(senders, count, limit=limit, reporter=Reporters(()), say=print):
            await until(lambda: senders.ready)
            (sender,) = senders.ready
            held: list[object] = []

            async def send() -> None:
                held.append(await senders.send(Batch(1, (instance,))))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await until(lambda: sender.in_flight)
                await arrived.wait()  # so that it is the sender's request that is held
                count.count = 0
                await until(lambda: not senders.ready)
                assert isinstance(await senders.send(Batch(2, (instance,))), Response)
                assert sender.in_flight == 1
                release.set()
            await until(lambda: not senders.attached)
    assert isinstance(held[0], Response)
    assert not any(map(is_running, channels))


@pytest.mark.parametrize("how", ["source", "auth"])
def test_objects_of_this_process_stay_here(how: str) -> None:
    """A source or login that is an object is used in this process; more processes on demand are an error."""

    def job(processes: Any) -> Job:
        settings, destination = UploadSettings(processes=processes), DestinationSettings(url="http://pacs.example")
        if how == "source":
            return Job(MemorySource({}), destination, settings)
        return Job(("/archive",), destination, settings, auth=FileStow)  # type: ignore[arg-type]

    assert processes_of(job("auto")) is None
    assert processes_of(job(1)) is None
    with pytest.raises(ConfigurationError, match="--processes 2"):
        processes_of(job(2))


@pytest.mark.parametrize(("cores", "expected"), [(1.0, None), (1.5, 1), (8.0, 7)])
def test_auto_leaves_a_processor_for_this_process(
    cores: float, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are at most as many processes as processors that this one may use."""
    monkeypatch.setattr(processes, "usable_cores", lambda: cores)
    count = processes_of(Job(("/archive",), DestinationSettings(url="http://pacs.example"), UploadSettings()))
    assert (count._most if isinstance(count, SenderCount) else count) == expected
