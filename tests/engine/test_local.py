"""A job in this process: it closes its resources, and its values can be pickled."""

from __future__ import annotations

import pickle
import signal
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.engine.job import Job
from bulkstow.engine.local import run
from bulkstow.engine.summary import summary_of
from bulkstow.errors import ConfigurationError, DestinationRefused, LedgerError, LoginRefused, RunStopped
from bulkstow.events import BytesSent, Recorded, SettledBefore
from bulkstow.ledger import Ledger, read_entries
from bulkstow.model import Candidate, FileResult, Outcome, StoreResponse
from bulkstow.progress.tally import Tally
from bulkstow.quantities import Span
from bulkstow.server.login import Login
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DiscardStorage
from tests.archives import write_instance

pytestmark = pytest.mark.anyio

URL = "http://pacs.example/dicom-web"


class Watching:
    """A display that records its calls."""

    interval_s = 0.001

    def __init__(self) -> None:
        self.seen = anyio.Event()
        self.said: list[str] = []
        self.closed: list[int] = []

    def show(self, tally: Tally) -> None:
        """Record that the figures were shown."""
        self.seen.set()

    def say(self, text: str) -> None:
        """Record a line."""
        self.said.append(text)

    def close(self, tally: Tally) -> None:
        """Record the number of files at the end."""
        self.closed.append(tally.settled_files)


class Wait:
    """A fault that holds store requests until an event."""

    def __init__(self) -> None:
        self.begun, self.go_on = anyio.Event(), anyio.Event()

    async def before(self, request: web.Request, number: int) -> None:
        """Wait."""
        self.begun.set()
        await self.go_on.wait()

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Leave the response alone."""
        return response


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give four instances."""
    for number in range(4):
        write_instance(tmp_path / "archive", number)
    return tmp_path / "archive"


@pytest.fixture
def storage() -> DiscardStorage:
    """Give a server's memory."""
    return DiscardStorage(remember=True)


@pytest.fixture
async def url(storage: DiscardStorage) -> AsyncIterator[str]:
    """Give a server."""
    async with serving(Origin(storage)) as url:
        yield url


def job(url: str, *sources: Path, ledger: Path, files_from: str | None = None, **changes: object) -> Job:
    """Return a job."""
    settings = UploadSettings(ledger=ledger, **changes)  # type: ignore[arg-type]
    return Job(tuple(map(str, sources)), DestinationSettings(url=url), settings, files_from)


async def test_a_job_is_run(
    archive: Path, tmp_path: Path, url: str, storage: DiscardStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files are stored, the summary has the figures, and the display is closed with the last ones."""
    clock = SimpleNamespace(monotonic=iter([10.0, 12.5]).__next__)
    monkeypatch.setattr("bulkstow.engine.local.time", clock)
    tally, display = Tally(), Watching()
    summary = await run(job(url, archive, ledger=tmp_path / "l.db"), tally, display)
    assert len(storage.digests()) == 4
    assert summary.outcomes == dict.fromkeys(Outcome, 0) | {Outcome.STORED: 4}
    assert (summary.destination, summary.complete, summary.retries) == (url, True, 0)
    assert summary.bytes_sent == tally.sent_bytes > 4 * 256
    assert summary.elapsed_s == 2.5
    assert display.closed == [4]


async def test_studies_are_counted_also_if_nothing_is_sent(archive: Path, tmp_path: Path, url: str) -> None:
    """A run with nothing left to do says for how many studies everything arrived."""
    for sent in (1, 0):
        summary = await run(job(url, archive, ledger=tmp_path / "l.db"), Tally(), Watching())
        assert (summary.studies, summary.studies_known, summary.studies_complete) == (sent, 1, 1)


async def test_a_count_of_studies_that_takes_too_long_ends(
    archive: Path, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends without the count, and everything else is as always."""
    interrupted = threading.Event()

    def count_studies(_: Ledger) -> None:
        interrupted.wait()
        raise LedgerError("interrupted")

    monkeypatch.setattr("bulkstow.engine.local.STUDIES_TIMEOUT_S", 0.0)
    monkeypatch.setattr(Ledger, "count_studies", count_studies)
    monkeypatch.setattr(Ledger, "interrupt", lambda _: interrupted.set())
    tally = Tally()
    summary = await run(job(url, archive, ledger=tmp_path / "l.db"), tally, Watching())
    assert (summary.studies, summary.studies_known, summary.studies_complete) == (None, None, None)
    assert (summary.outcomes[Outcome.STORED], summary.exit_status) == (4, 0)


async def test_the_display_is_shown_during_the_run(archive: Path, tmp_path: Path) -> None:
    """The figures are shown at intervals, even if the server does not respond."""
    wait, display = Wait(), Watching()
    async with serving(Origin(DiscardStorage(), fault=wait)) as url, anyio.create_task_group() as tasks:
        tasks.start_soon(run, job(url, archive, ledger=tmp_path / "l.db"), Tally(), display)
        await wait.begun.wait()
        display.seen = anyio.Event()
        await display.seen.wait()
        assert display.closed == []
        wait.go_on.set()
    assert display.closed == [4]


def test_a_job_can_be_pickled() -> None:
    """It has only plain values."""
    sent = job(URL, Path("/archive"), ledger=Path("l.db"), files_from="-")
    assert pickle.loads(pickle.dumps(sent)) == sent


async def test_signals_are_left_alone_unless_asked(archive: Path, tmp_path: Path) -> None:
    """A library does not handle its caller's signals."""
    wait = Wait()
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with serving(Origin(DiscardStorage(), fault=wait)) as url, anyio.create_task_group() as tasks:

        async def carry_out() -> None:
            await run(job(url, archive, ledger=tmp_path / "l.db"), Tally(), Watching(), heed_signals=False)

        tasks.start_soon(carry_out)
        await wait.begun.wait()
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
        wait.go_on.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_drains_the_run(archive: Path, tmp_path: Path, number: signal.Signals) -> None:
    """It drains the run: the request in flight ends, the run is incomplete, and the former handlers are restored."""
    wait, display, tally = Wait(), Watching(), Tally()
    before = signal.getsignal(number)
    async with serving(Origin(DiscardStorage(), fault=wait)) as url, anyio.create_task_group() as tasks:

        async def carry_out() -> None:
            what = job(url, archive, ledger=tmp_path / "l.db", concurrency=Span(1, 1), batch_instances=1)
            assert not (await run(what, tally, display)).complete

        tasks.start_soon(carry_out)
        await wait.begun.wait()
        signal.raise_signal(number)
        while not display.said:
            await anyio.lowlevel.checkpoint()
        wait.go_on.set()
    assert display.said == ["finishing the current requests; press Ctrl-C again to stop immediately"]
    assert tally.outcomes == {Outcome.STORED: 1}
    assert signal.getsignal(number) == before


async def test_a_second_signal_counts_no_studies(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is to stop at once does not read its ledger through."""

    def count_studies(_: Ledger) -> None:
        raise AssertionError("counted")

    monkeypatch.setattr(Ledger, "count_studies", count_studies)
    wait, display, tally = Wait(), Watching(), Tally()
    async with serving(Origin(DiscardStorage(), fault=wait)) as url, anyio.create_task_group() as tasks:

        async def carry_out() -> None:
            summary = await run(job(url, archive, ledger=tmp_path / "l.db"), tally, display)
            assert (summary.complete, summary.studies, summary.studies_complete) == (False, None, None)

        tasks.start_soon(carry_out)
        await wait.begun.wait()
        signal.raise_signal(signal.SIGINT)
        while not display.said:
            await anyio.lowlevel.checkpoint()
        signal.raise_signal(signal.SIGINT)
        while not display.closed:
            await anyio.lowlevel.checkpoint()
        wait.go_on.set()


async def test_a_cancelled_run_closes_its_resources(archive: Path, tmp_path: Path) -> None:
    """A run that its caller cancels closes the display and the ledger; recorded outcomes stay for the next run."""
    wait, display = Wait(), Watching()
    async with serving(Origin(DiscardStorage(), fault=wait)) as url:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, job(url, archive, ledger=tmp_path / "l.db"), Tally(), display)
            await wait.begun.wait()
            tasks.cancel_scope.cancel()
        wait.go_on.set()
    assert display.closed == [0]
    with Ledger(tmp_path / "l.db", URL):
        pass


async def test_an_error_that_stops_a_run_is_raised_without_a_group(archive: Path, tmp_path: Path, url: str) -> None:
    """A wrong URL is DestinationRefused and no group; the display is closed, the tally filled, the ledger free."""
    tally, display = Tally(), Watching()
    wrong = job(f"{url}/wrong", archive, ledger=tmp_path / "l.db")
    wrong = replace(wrong, destination=DestinationSettings(url=f"{url}/wrong", no_preflight=True))
    with pytest.raises(DestinationRefused, match="404"):
        await run(wrong, tally, display)
    assert display.closed == [0]
    assert tally.found_files == 4
    with Ledger(tmp_path / "l.db", URL):
        pass


async def test_a_login_is_tried_before_a_file_is_read(archive: Path, tmp_path: Path, storage: DiscardStorage) -> None:
    """If the login fails, no file is scanned."""
    tally = Tally()
    async with serving(Origin(storage, login=Login(token="x"))) as url:
        with pytest.raises(LoginRefused):
            await run(job(url, archive, ledger=tmp_path / "l.db"), tally, Watching())
    assert tally.found_files == 0


@pytest.mark.parametrize(
    ("sources", "files_from", "expected"),
    [(["gone"], None, ConfigurationError), ([], "gone", ConfigurationError), ([], None, RunStopped)],
    ids=["source", "list", "ledger"],
)
async def test_wrong_settings_are_reported_at_the_start(
    archive: Path, tmp_path: Path, url: str, sources: list[str], files_from: str | None, expected: type[Exception]
) -> None:
    """It is raised before anything is shown or sent."""
    display = Watching()
    ledger = tmp_path / "l.db" if expected is ConfigurationError else archive
    with pytest.raises(expected):
        await run(job(url, archive, *map(Path, sources), ledger=ledger, files_from=files_from), Tally(), display)
    assert display.closed == []


async def test_the_ledger_is_no_part_of_the_archive(archive: Path, url: str) -> None:
    """If the ledger is in the archive, it and its other files are not scanned."""
    summary = await run(job(url, archive, ledger=archive / "l.db"), Tally(), Watching())
    assert sum(summary.outcomes.values()) == 4
    assert {Path(e.result.candidate.location).suffix for e in read_entries(archive / "l.db")} == {""}


async def test_a_list_adds_to_the_sources(archive: Path, tmp_path: Path, url: str, storage: DiscardStorage) -> None:
    """A file that is named in both is sent once."""
    write_instance(tmp_path / "more", 9)
    (tmp_path / "list").write_text(f"{tmp_path / 'more'}\n{archive / 'IM001000001'}\n")
    what = job(url, archive, ledger=tmp_path / "l.db", files_from=str(tmp_path / "list"))
    summary = await run(what, Tally(), Watching())
    assert summary.outcomes[Outcome.STORED] == 5 == sum(summary.outcomes.values())
    assert storage.received == 5


def test_a_summary_has_every_word() -> None:
    """Each outcome has its count, also where it is 0; figures are the tally's."""
    tally = Tally()
    tally.tell(SettledBefore({Outcome.STORED: 2}))
    tally.tell(BytesSent(100))
    tally.tell(Recorded((FileResult(Candidate("/a", 1, 0), None, Outcome.REFUSED, "no"),)))
    summary = summary_of(job(f"{URL}/", ledger=Path("l.db")), tally, 1.5, complete=False)
    assert summary.outcomes == dict.fromkeys(Outcome, 0) | {Outcome.STORED: 2, Outcome.REFUSED: 1}
    assert (summary.destination, summary.settled_before, summary.bytes_sent) == (URL, 2, 100)
    assert (summary.elapsed_s, summary.complete, summary.failures) == (1.5, False, 1)
