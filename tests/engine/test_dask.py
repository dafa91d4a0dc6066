"""A Dask cluster: outcomes and limits are those of one process, and a worker that is lost costs only a retry."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import pytest
import trustme
from anyio.abc import Process

from bulkstow.blocking import ReadLimit
from bulkstow.config import READ_TIMEOUT_S, DestinationSettings, UploadSettings
from bulkstow.destination.auth import NoLogin
from bulkstow.engine import dask, dask_cluster, dask_worker
from bulkstow.engine.dask import dask_workers
from bulkstow.engine.dask_cluster import Cluster
from bulkstow.engine.job import Job
from bulkstow.engine.local import run
from bulkstow.engine.messages import Failed, ShortenReads
from bulkstow.engine.remote import RemoteSender
from bulkstow.engine.senders import Senders, begin_of
from bulkstow.errors import INTERRUPTED, ConfigurationError, RunStopped
from bulkstow.events import Reporter, Reporters
from bulkstow.ledger import Ledger, read_entries
from bulkstow.model import Batch, Exchange, Outcome, Response, SourceChanged, Summary
from bulkstow.pipeline.run import controllers_for
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.health import CircuitBreaker
from bulkstow.policy.request_rate import RequestRate
from bulkstow.policy.retry_budget import RetryBudget
from bulkstow.progress.tally import Tally
from bulkstow.quantities import Span
from bulkstow.server.login import Login
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage, DiscardStorage
from bulkstow.source.files import FileSource
from bulkstow.source_check import SourceCheck
from tests.archives import write_instance
from tests.engine.dask_cluster import DaskCluster
from tests.engine.test_killed import INSTANCES as KILLED_INSTANCES
from tests.engine.test_killed import MARK, Witness, check_whole, marked, run_once
from tests.engine.test_processes import Meter, Recorded, Watched, until
from tests.memory_source import MemorySource
from tests.pipeline.runs import new_run
from tests.pipeline.test_hostile import PASSING, QUICK, QUICK_PER_S, RETRIES, SHARE, Archive, check, planned
from tests.stow import NO_HEADERS, FileStow

pytestmark = pytest.mark.anyio

INSTANCES = 24
STUDIES = 6


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Give a scheduler; each test has as many workers as it keeps."""
    cluster = DaskCluster(tmp_path_factory.mktemp("dask"))
    yield cluster
    cluster.end()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive of a few studies."""
    for number in range(INSTANCES):
        write_instance(tmp_path / "archive" / f"s{number % STUDIES}", number, study=number % STUDIES + 1)
    return tmp_path / "archive"


@pytest.fixture
def senders_used(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Give the number of requests that each sender has answered."""
    used: Counter[str] = Counter()
    send = RemoteSender.send

    async def counted(self: RemoteSender, batch: Batch) -> Exchange:
        exchange = await send(self, batch)
        used[self.name] += isinstance(exchange, Response)
        return exchange

    monkeypatch.setattr(RemoteSender, "send", counted)
    return used


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the cluster often, and try again soon."""
    monkeypatch.setattr(dask, "PERIOD_S", 0.05)
    monkeypatch.setattr(dask, "RETRY_S", 0.05)
    monkeypatch.setattr(dask, "RECONNECT_S", 0.05)


async def upload(
    url: str,
    archive: Path,
    address: str,
    display: Recorded | None = None,
    tally: Tally | None = None,
    *,
    destination: DestinationSettings | None = None,
    **settings: Any,
) -> Summary:
    """Send an archive from a cluster, in requests of two instances."""
    chosen: dict[str, Any] = {"dask": address, "ledger": archive.parent / "l.db", "batch_instances": 2, **settings}
    job = Job((str(archive),), destination or DestinationSettings(url=url), UploadSettings(**chosen))
    return await run(job, tally or Tally(), display or Recorded(), heed_signals=False)


def outcomes(archive: Path) -> set[Outcome]:
    """Return the outcomes in the ledger; each file has one."""
    results = [entry.result for entry in read_entries(archive.parent / "l.db")]
    assert len(results) == INSTANCES
    return {result.outcome for result in results}


def command(archive: Path, url: str, *options: str) -> list[str]:
    """Return the command line of an upload in requests of two instances."""
    ledger = str(archive.parent / "l.db")
    words = ["upload", str(archive), "--url", url, "--ledger", ledger, "--batch-instances", "2", "--progress", "log"]
    return [sys.executable, "-m", "bulkstow", *words, *options]


async def test_without_workers_requests_wait_until_ctrl_c(archive: Path, cluster: DaskCluster) -> None:
    """While no worker is connected the user is told so, and the first SIGINT ends the run."""
    cluster.keep(0)
    log = archive.parent / "log"
    async with serving(Origin(DiscardStorage())) as url:
        words = command(archive, url, "--dask", cluster.address)
        with log.open("wb") as stderr:
            async with await anyio.open_process(words, stdout=subprocess.DEVNULL, stderr=stderr) as process:
                waiting = f"no worker is connected to the Dask scheduler {cluster.address}: requests wait"
                await until(lambda: waiting in log.read_text() or process.returncode is not None)
                process.send_signal(signal.SIGINT)
                assert await process.wait() == INTERRUPTED
    assert "Traceback" not in log.read_text()
    assert not list(read_entries(archive.parent / "l.db"))


async def test_a_worker_without_bulkstow_is_not_used(archive: Path, tmp_path: Path, cluster: DaskCluster) -> None:
    """The reason names the missing package."""
    cluster.keep(0)
    (tmp_path / "path" / "bulkstow").mkdir(parents=True)
    (tmp_path / "path" / "bulkstow" / "__init__.py").write_text("raise ModuleNotFoundError('No module')")
    without = cluster.start_worker(environment={"PYTHONPATH": str(tmp_path / "path")})
    async with serving(Origin(DiscardStorage())) as url:
        with pytest.raises(RunStopped, match=r"bulkstow [\d.]+ cannot be imported there"):
            await upload(url, archive, cluster.address)
    without.kill()


async def test_a_worker_that_joins_is_used(
    archive: Path, tmp_path: Path, cluster: DaskCluster, senders_used: Counter[str], quickly: None
) -> None:
    """A run that begins without workers uses the first one, and the second one as soon as it is there."""
    cluster.keep(0)
    display, tally, storage = Recorded(), Tally(), DirectoryStorage(tmp_path / "origin")

    async def join(number: int) -> None:
        if number == 3:
            await anyio.to_thread.run_sync(cluster.start_worker)
        if number >= 3:
            await until(lambda: tally.senders == 2)

    async with serving(Origin(storage, fault=Watched(join))) as url, anyio.create_task_group() as tasks:
        tasks.start_soon(partial(upload, url, archive, cluster.address, display, tally))
        await until(lambda: display.said)
        await anyio.to_thread.run_sync(cluster.start_worker)
    assert outcomes(archive) == {Outcome.STORED}
    assert len(storage.digests()) == INSTANCES
    assert senders_used.keys() == {f"worker {worker.address}" for worker in cluster.workers}
    assert display.said[0].endswith("requests wait")
    assert display.said[1:] == ["sending from 1 worker", "sending from 2 workers"]


async def test_all_that_was_sent_adds_up(archive: Path, tmp_path: Path, cluster: DaskCluster) -> None:
    """The origin has every file, and the summary adds up over the workers, which live on."""
    workers = cluster.keep(2)
    storage, tally = DirectoryStorage(tmp_path / "origin"), Tally()
    watched = Watched(lambda _: until(lambda: tally.senders == 2))
    async with serving(Origin(storage, fault=watched)) as url:
        summary = await upload(url, archive, cluster.address, tally=tally)
    assert len(storage.digests()) == INSTANCES
    assert outcomes(archive) == {Outcome.STORED}
    assert (summary.processes, summary.requests, summary.retries) == (3, INSTANCES // 2, 0)
    assert summary.bytes_sent == tally.sent_bytes > tally.found_bytes
    assert summary.spent_s["cpu"] > summary.spent_s["busiest_cpu"] > 0
    assert all(worker.process.poll() is None for worker in workers)


async def test_nothing_is_lost_and_nothing_is_claimed(tmp_path: Path, cluster: DaskCluster) -> None:
    """With 30 % faulty requests of every temporary kind, all is stored with equal bytes, as from one process."""
    cluster.keep(2)
    archive, ledger = Archive(tmp_path / "archive", studies=10, instances=50), tmp_path / "l.db"
    injector = planned(*({**fault, "probability": SHARE} for fault in PASSING), seed=5)
    storage = DirectoryStorage(tmp_path / "origin")
    async with serving(Origin(storage, fault=injector)) as url:
        await carry_out(archive, url, ledger, cluster.address)
    found = check(archive, storage.digests(), [entry.result for entry in read_entries(ledger)])
    assert Counter(found.values()) == Counter({Outcome.STORED: 500})
    assert storage.digests() == archive.digests
    assert len(injector.injected) > len(PASSING) / 2


async def carry_out(archive: Archive, url: str, ledger: Path, address: str) -> None:
    """Run an upload with the shortest delays."""
    settings = UploadSettings(ledger=ledger, retries=RETRIES, batch_instances=5)
    async with FileStow(DestinationSettings(url=url)) as stow, spread(stow, url, address) as senders:
        with Ledger(ledger, url) as opened:
            run = new_run(
                settings,
                archive.source(),
                senders,
                opened,
                Tally(),
                backoff=QUICK,
                breaker=CircuitBreaker(first_probe_s=0.001, cap_s=0.01),
                budget=RetryBudget(minimum_per_s=100_000),
                controllers=controllers_for(settings, request_rate=RequestRate(first_per_s=QUICK_PER_S)),
            )
            await run.carry_out()


@asynccontextmanager
async def spread(
    stow: FileStow, url: str, address: str, throttle: Meter | None = None, reporter: Reporter | None = None
) -> AsyncIterator[Senders]:
    """Give the workers of a cluster as a destination."""
    limit, reporter = ReadLimit(READ_TIMEOUT_S), reporter or Reporters(())
    begin = replace(
        begin_of(DestinationSettings(url=url), UploadSettings(), {}, NO_HEADERS), is_throttled=throttle is not None
    )
    senders = Senders(stow, begin, throttle=throttle, reporter=reporter, sends_here=False)
    threads = WorkerThreads(1)
    async with dask_workers(
        address,
        "auto",
        senders,
        SourceCheck(FileSource(), threads, limit),
        timeout_s=10.0,
        limit=limit,
        reporter=reporter,
        say=print,
    ):
        yield senders
    threads.shutdown(wait=False)


async def test_the_bandwidth_of_all_is_admitted_in_one_place(tmp_path: Path, cluster: DaskCluster) -> None:
    """Each byte that any worker sends was admitted by the coordinator's limit, and nothing that it did not send."""
    cluster.keep(2)
    instances = tuple(write_instance(tmp_path, number, rows=64, columns=64) for number in range(6))
    meter, tally = Meter(), Tally()
    async with (
        serving(Origin(DiscardStorage())) as url,
        FileStow(DestinationSettings(url=url)) as stow,
        spread(stow, url, cluster.address, meter, tally) as senders,
    ):
        for number, instance in enumerate(instances):
            assert isinstance(await senders.send(Batch(number, (instance,))), Response)
    assert meter.used_bytes == tally.sent_bytes > sum(i.candidate.size_bytes for i in instances)


async def test_a_worker_that_is_killed_costs_a_retry(
    archive: Path, tmp_path: Path, cluster: DaskCluster, quickly: None
) -> None:
    """kill -9 of a worker with requests under way: another one sends them again."""
    lost, _ = cluster.keep(2)
    storage, tally, display = DirectoryStorage(tmp_path / "origin"), Tally(), Recorded()
    begun: set[int] = set()

    async def kill(number: int) -> None:
        begun.add(number)
        if number <= 6:
            await until(lambda: tally.senders == 2)
        if number in (4, 5, 6):  # each of the workers has one of these
            await until(lambda: {4, 5, 6} <= begun)
        if number == 6:
            lost.kill()

    async with serving(Origin(storage, fault=Watched(kill))) as url:
        summary = await upload(url, archive, cluster.address, display, tally)
    assert outcomes(archive) <= {Outcome.STORED, Outcome.DUPLICATE}
    assert len(storage.digests()) == INSTANCES
    assert summary.retries > 0
    line = f"worker {lost.address} was lost (its connection has ended); its requests are sent again"
    assert line in display.said


async def test_a_worker_that_hangs_is_done_without(
    archive: Path, cluster: DaskCluster, quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is stopped gives no sign of life, and its requests are sent by another one."""
    monkeypatch.setattr(dask, "PERIOD_S", 0.3)
    monkeypatch.setattr(dask, "SILENT_PERIODS", 3)
    monkeypatch.setattr(dask_worker, "CLOSE_TIMEOUT_S", 0.1)
    hanging, _ = cluster.keep(2)
    tally, display = Tally(), Recorded()

    async def stop(number: int) -> None:
        if number <= 6:
            await until(lambda: tally.senders == 2)
        if number == 6:
            hanging.process.send_signal(signal.SIGSTOP)

    async with serving(Origin(DiscardStorage(), fault=Watched(stop))) as url:
        await upload(url, archive, cluster.address, display, tally)
    hanging.kill()
    assert outcomes(archive) <= {Outcome.STORED, Outcome.DUPLICATE}
    assert f"worker {hanging.address} gives no sign of life" in display.said


async def test_a_scheduler_that_is_lost_is_waited_for(
    archive: Path, tmp_path: Path, senders_used: Counter[str], quickly: None
) -> None:
    """Its workers end with it; requests wait until another one with a worker runs at the same address."""
    (tmp_path / "dask").mkdir()
    cluster, display = DaskCluster(tmp_path / "dask"), Recorded()
    settings: dict[str, Any] = {"concurrency": Span(1, 1)}

    async def kill(number: int) -> None:
        if number == 3:
            cluster.end()

    async def restart() -> None:
        waiting = f"the Dask scheduler {cluster.address} does not answer: requests wait"
        await until(lambda: waiting in display.said)
        await anyio.to_thread.run_sync(cluster.restart)

    try:
        (before,) = cluster.keep(1)
        async with serving(Origin(DiscardStorage(), fault=Watched(kill))) as url, anyio.create_task_group() as tasks:
            tasks.start_soon(restart)
            destination = DestinationSettings(url=url, connect_timeout_s=3.0)
            await upload(url, archive, cluster.address, display, destination=destination, **settings)
        assert senders_used.keys() == {f"worker {worker.address}" for worker in (before, *cluster.workers)}
        assert outcomes(archive) <= {Outcome.STORED, Outcome.DUPLICATE}
    finally:
        cluster.end()


async def test_a_coordinator_that_is_killed_loses_nothing(
    tmp_path: Path, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of the coordinator: its senders end and the workers live on; a second run sends the rest."""
    cluster.keep(2)
    monkeypatch.setenv("BULKSTOW_DASK", cluster.address)
    for number in range(KILLED_INSTANCES):
        write_instance(tmp_path / "archive" / f"s{number // 30}", number, study=number // 30 + 1)
    storage, witness, ledger = DirectoryStorage(tmp_path / "origin"), Witness(), tmp_path / "l.db"
    witness.kill_at = 5
    async with serving(Origin(storage, fault=witness)) as url:
        assert await run_once(url, tmp_path / "archive", ledger, witness, processes="auto") == -signal.SIGKILL
        recorded = [entry.result for entry in read_entries(ledger)]
        held = storage.digests()
        assert all(result.header and result.header.sop_instance_uid in held for result in recorded)
        assert await run_once(url, tmp_path / "archive", ledger, witness, processes="auto") == 0
    check_whole(tmp_path / "archive", storage, ledger)
    assert len(recorded) < KILLED_INSTANCES


SEEN_BY_EACH_PROCESS = Path("/proc/self/cwd")
"""A directory that differs between processes, as between computers without the same mounts (Linux only)."""


@pytest.fixture
def here(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the archive under a name that only processes in the same working directory see."""
    monkeypatch.chdir(archive.parent)
    return SEEN_BY_EACH_PROCESS / archive.name


async def test_workers_without_the_files_stop_the_run(archive: Path, here: Path, cluster: DaskCluster) -> None:
    """If no worker sees the files nothing is sent; the error says which file, where, and what was expected."""
    workers = cluster.keep(2)
    watched = Watched()
    async with serving(Origin(DiscardStorage(), fault=watched)) as url:
        with pytest.raises(RunStopped) as stopped:
            await upload(url, here, cluster.address, ledger=archive.parent / "l.db")
    assert watched.most == 0
    first = min(worker.address for worker in workers)
    text = str(stopped.value)
    assert text.startswith(f"no worker of {cluster.address} can be used, of 2: {first}: {here}/s")
    assert "there: cannot be looked at again: No such file or directory; on this computer: as the scan found it" in text
    assert text.endswith("under the same names; then run the same command again")


async def test_a_worker_without_the_files_is_not_used(
    archive: Path, here: Path, cluster: DaskCluster, senders_used: Counter[str]
) -> None:
    """A worker that does not see the files is named; those that see them send."""
    (blind,) = cluster.keep(1)
    seeing = cluster.start_worker(directory=archive.parent)
    display = Recorded()
    async with serving(Origin(DiscardStorage())) as url:
        await upload(url, here, cluster.address, display, ledger=archive.parent / "l.db")
    seeing.kill()
    assert outcomes(archive) == {Outcome.STORED}
    assert senders_used.keys() == {f"worker {seeing.address}"}
    assert any(said.startswith(f"worker {blind.address} is not used: {here}/s") for said in display.said)


async def test_a_file_that_has_changed_for_all_is_no_reason(tmp_path: Path, cluster: DaskCluster) -> None:
    """A file that was deleted after the scan is missing on both computers: the workers are used."""
    cluster.keep(1)
    gone, there = write_instance(tmp_path / "gone", 1), write_instance(tmp_path, 2)
    shutil.rmtree(tmp_path / "gone")
    async with (
        serving(Origin(DiscardStorage())) as url,
        FileStow(DestinationSettings(url=url)) as stow,
        spread(stow, url, cluster.address) as senders,
    ):
        assert isinstance(await senders.send(Batch(1, (gone,))), SourceChanged)
        assert isinstance(await senders.send(Batch(2, (there,))), Response)


async def test_a_worker_with_another_version_is_not_used(
    archive: Path, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions are compared before anything else is sent to a worker."""
    cluster.keep(1)
    monkeypatch.setattr(dask_cluster, "versions", lambda: {"bulkstow": "99.0", "Python": "3.99"})
    async with serving(Origin(DiscardStorage())) as url:
        with pytest.raises(RunStopped, match=r"it has bulkstow [\d.]+ and Python 3\.\d+, and this computer has bulkst"):
            await upload(url, archive, cluster.address)


async def test_a_login_reaches_the_workers_and_no_log(
    archive: Path, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login of the coordinator's environment is used; neither the workers nor the scheduler log it."""
    cluster.keep(1)
    monkeypatch.setenv("BULKSTOW_BEARER", "hidden-token")
    async with serving(Origin(DiscardStorage(), login=Login(token="hidden-token"))) as url:
        await upload(url, archive, cluster.address)
    assert outcomes(archive) == {Outcome.STORED}
    for process in (*cluster.workers, cluster.scheduler):
        assert "hidden" not in process.log.read_text()


async def test_messages_go_over_tls_as_the_cluster_does(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Dask's own settings for TLS, scheduler, workers and coordinator trust each other, and a login is used."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", str(tmp_path / "ca.pem"))
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT", str(tmp_path / "own.pem"))
    monkeypatch.setenv("BULKSTOW_BEARER", "token")
    (tmp_path / "dask").mkdir()
    cluster = DaskCluster(tmp_path / "dask", "--protocol", "tls")
    try:
        cluster.keep(1)
        assert cluster.address.startswith("tls://")
        async with (
            serving(Origin(DiscardStorage(), login=Login(token="token"))) as url,
            await anyio.open_process(command(archive, url, "--dask", cluster.address)) as process,
        ):
            assert await process.wait() == 0
    finally:
        cluster.end()
    assert outcomes(archive) == {Outcome.STORED}


async def test_paths_of_settings_are_those_of_this_process(
    archive: Path, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path to a token means the same file for workers, which have another working directory."""
    cluster.keep(1)
    monkeypatch.chdir(archive.parent)
    (archive.parent / "token").write_text("from-a-file")
    async with serving(Origin(DiscardStorage(), login=Login(token="from-a-file"))) as url:
        settings = DestinationSettings(url=url, bearer_file=Path("token"))
        await upload(url, archive, cluster.address, destination=settings)
    assert outcomes(archive) == {Outcome.STORED}


async def test_an_error_in_a_sender_does_not_end_its_worker(cluster: DaskCluster) -> None:
    """What a sender raises is told to the coordinator, and the worker takes the next sender."""
    (worker,) = cluster.keep(1)
    async with Cluster(cluster.address, 10.0) as connected, anyio.create_task_group() as tasks:
        for _ in range(2):
            stream = await connected.open(worker.address)
            tasks.start_soon(stream.write)
            stream.send(ShortenReads())
            message = await stream.receive()
            assert isinstance(message, Failed)
            assert message.text == "TypeError: the first message to a sender is Begin, not ShortenReads"
            assert await stream.receive() is None
            await stream.close()
            stream.end()


@pytest.mark.parametrize("signals", [1, 2])
async def test_ctrl_c_leaves_no_process_of_a_cluster_of_our_own(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    """Ctrl-C in a terminal, which all processes get: the first finishes the requests, the second ends them."""
    monkeypatch.setenv(MARK, str(tmp_path))
    storage, log, release = DirectoryStorage(tmp_path / "origin"), tmp_path / "log", anyio.Event()
    held = []

    async def hold(number: int) -> None:
        held.append(number)
        await release.wait()

    async with serving(Origin(storage, fault=Watched(hold))) as url:
        words = command(archive, url, "--dask", "local", "--processes", "2", "--concurrency", "1")
        with log.open("wb") as stderr:
            async with await anyio.open_process(
                words, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
            ) as process:
                await until(lambda: held or process.returncode is not None)
                assert marked(tmp_path)
                os.killpg(process.pid, signal.SIGINT)
                await until(lambda: "press Ctrl-C again" in log.read_text())
                if signals == 1:
                    release.set()
                else:
                    os.killpg(process.pid, signal.SIGINT)
                assert await process.wait() == INTERRUPTED
        await until(lambda: not marked(tmp_path))
        release.set()
    assert "Traceback" not in log.read_text()
    results = [entry.result for entry in read_entries(archive.parent / "l.db")]
    assert {result.header.sop_instance_uid for result in results if result.header} <= storage.digests().keys()
    assert len(results) == (2 if signals == 1 else 0)


async def test_a_killed_coordinator_leaves_no_process_of_its_own_cluster(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of the coordinator ends the workers that it has started."""
    monkeypatch.setenv(MARK, str(tmp_path))
    release = anyio.Event()
    process: Process | None = None

    async def kill(number: int) -> None:
        if number == 2 and process is not None:
            process.kill()
        if number >= 2:
            await release.wait()

    async with serving(Origin(DiscardStorage(), fault=Watched(kill))) as url:
        words = command(archive, url, "--dask", "local", "--processes", "2")
        async with await anyio.open_process(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            assert await process.wait() == -signal.SIGKILL
        await until(lambda: not marked(tmp_path))
        release.set()


async def test_workers_of_our_own_that_do_not_start_stop_the_run(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does not wait for processes that have ended."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    async with serving(Origin(DiscardStorage())) as url:
        with pytest.raises(RunStopped, match=r"--dask local: the workers do not start \(exit status 1\)"):
            await upload(url, archive, "local")


async def test_no_scheduler_at_the_address(archive: Path) -> None:
    """A port that nobody listens on, and one of another protocol, end the run before anything is sent."""
    async with serving(Origin(DiscardStorage())) as url:
        settings = DestinationSettings(url=url, connect_timeout_s=0.5)
        for address in ("tcp://127.0.0.1:1", f"tcp://127.0.0.1:{urlsplit(url).port}"):
            with pytest.raises(RunStopped, match=f"--dask {address}: no Dask scheduler answers there within 500ms"):
                await upload(url, archive, address, destination=settings)
        with pytest.raises(ConfigurationError, match=r"--dask tcp://127\.0\.0\.1: missing port number"):
            await upload(url, archive, "tcp://127.0.0.1")


@pytest.mark.parametrize("how", ["source", "auth", "destination"])
def test_objects_cannot_be_given_to_workers(how: str) -> None:
    """A source, login or destination that is an object of this process is an error with --dask."""
    settings = DestinationSettings(url="http://pacs.example")
    source: Any = MemorySource({}) if how == "source" else ("/archive",)
    destination: Any = FileStow(settings) if how == "destination" else settings
    auth = NoLogin() if how == "auth" else None
    with pytest.raises(ConfigurationError, match="--dask local"):
        Job(source, destination, UploadSettings(dask="local"), auth=auth)


async def test_dask_may_be_missing(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error says how to install it."""
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(ConfigurationError, match=r"pip install distributed, or pip install '\.\[dask\]'"):
        await upload("http://127.0.0.1:1", archive, "local")


def test_dask_is_imported_on_demand_only() -> None:
    """Without --dask neither dask nor distributed is imported, which would take a second."""
    code = "import sys, bulkstow.cli.app, bulkstow.engine.local; print({'dask', 'distributed'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_the_log_of_dask_is_not_shown() -> None:
    """A lost connection is told once, by bulkstow: Dask's loggers write nothing to standard error."""
    code = (
        "from bulkstow.engine import destinations as ours; ours._dask(); import logging\n"
        "for name in ('distributed', *ours.DASK_LOGGERS, 'distributed.core'): logging.getLogger(name).error('seen')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr == ""
