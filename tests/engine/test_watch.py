"""Watching directories: whole runs with real files, the system's events, and the embedded server."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else is done meanwhile

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from bulkstow.config import DestinationSettings, SelectionSettings, UploadSettings
from bulkstow.engine import watch
from bulkstow.engine.job import Job
from bulkstow.engine.local import run
from bulkstow.errors import ConfigurationError
from bulkstow.events import Event, Vanished, WatchNote
from bulkstow.ledger import read_entries
from bulkstow.model import Candidate, Container, Instance, Outcome, Summary
from bulkstow.policy.quiet import Quiet
from bulkstow.ports import Members
from bulkstow.progress.display import Nothing
from bulkstow.progress.tally import Tally
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DiscardStorage
from bulkstow.setting_types import AfterStored
from bulkstow.source.files import FileSource
from bulkstow.source_settings import SourceSettings, WatchSettings
from tests.archives import header, write_instance

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0
"""Time after which an awaited event counts as missing."""

HOUR_S = 3600.0


@dataclass
class Watched:
    """A run that watches a directory."""

    directory: Path
    ledger: Path
    storage: DiscardStorage
    tally: Tally = field(default_factory=Tally)
    notes: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    _told: anyio.Event = field(default_factory=anyio.Event)

    def tell(self, event: Event) -> None:
        """Take an event of the run, after the tally."""
        match event:
            case WatchNote(text):
                self.notes.append(text)
            case Vanished(locations):
                self.gone += locations
            case _:
                pass
        self._told.set()
        self._told = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is checked at each event."""
        with anyio.fail_after(PATIENCE_S):
            while not condition():
                await self._told.wait()

    async def until_stored(self, count: int) -> None:
        """Wait until so many files are stored, and the run waits for changes again."""
        await self.until(lambda: self.tally.outcomes[Outcome.STORED] >= count and self.is_idle)

    @property
    def is_idle(self) -> bool:
        """Whether the run waits, and no file waits to be read."""
        return self.tally.is_watching and not self.tally.pending

    def outcomes(self) -> dict[str, Outcome]:
        """Return the outcomes in the ledger, by file name."""
        return {Path(e.result.candidate.location).name: e.result.outcome for e in read_entries(self.ledger)}


@asynccontextmanager
async def watching(
    directory: Path,
    *,
    quiet_s: float = 0.2,
    rescan_s: float = HOUR_S,
    after_stored: AfterStored | None = None,
    storage: DiscardStorage | None = None,
    edit: Path | None = None,
    settings: dict[str, object] | None = None,
) -> AsyncIterator[Watched]:
    """Watch a directory until the end of the block; give the run after its first pass."""
    ledger = directory.parent / "l.db"
    run_ = Watched(directory, ledger, storage or DiscardStorage(remember=True))
    async with serving(Origin(run_.storage)) as url, anyio.create_task_group() as tasks:
        job = Job(
            (str(directory),),
            DestinationSettings(url=url),
            UploadSettings(ledger=ledger, **(settings or {})),  # type: ignore[arg-type]
            selection=SelectionSettings(min_age_s=quiet_s),
            source_settings=SourceSettings(edit=edit),
            watch=WatchSettings(watch=True, rescan_s=rescan_s, after_stored=after_stored or AfterStored("nothing")),
        )

        async def upload() -> None:
            await run(job, run_.tally, Nothing(), heed_signals=False, log=run_, on_pass=run_.summaries.append)

        tasks.start_soon(upload)
        await run_.until(lambda: run_.tally.is_watching)
        yield run_
        tasks.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for further files."""
    monkeypatch.setattr(watch, "GATHER_S", 0.05)


@pytest.fixture(params=["told", "scanned"])
def rescan_s(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Give the interval of the scans: never if the system reports changes, and short if it does not."""
    if request.param == "told":
        if sys.platform != "linux":
            pytest.skip("inotify")
        return HOUR_S
    monkeypatch.setattr(watch, "remote_type", lambda _path: "nfs4")
    return 0.1


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """Give a directory with one instance."""
    write_instance(tmp_path / "in", 1)
    return tmp_path / "in"


async def test_new_files_are_sent(incoming: Path, rescan_s: float) -> None:
    """A file, one renamed into place, a directory that is moved in as a whole: each is stored once."""
    async with watching(incoming, rescan_s=rescan_s) as watched:
        await watched.until_stored(1)
        write_instance(incoming, 2)
        part = Path(write_instance(incoming.parent / "elsewhere", 3).candidate.location)
        (part.rename(incoming / "x.part")).rename(incoming / "x")
        write_instance(incoming.parent / "study", 4, study=2)
        write_instance(incoming.parent / "study" / "deep", 5, study=2)
        (incoming.parent / "study").rename(incoming / "study")
        await watched.until_stored(5)
    assert watched.storage.received == 5
    assert set(watched.outcomes().values()) == {Outcome.STORED}
    assert watched.tally.found_files == 5
    assert watched.tally.failed == 0


async def test_new_files_are_edited(incoming: Path) -> None:
    """Edits hold for files that are found later, too; their names and changes are those of the source."""
    edit = incoming.parent / "edits.toml"
    edit.write_text('[uids]\nmethod = "suffix"\nsuffix = ".77"')
    async with watching(incoming, rescan_s=0.1, edit=edit) as watched:
        await watched.until_stored(1)
        write_instance(incoming, 2)
        await watched.until_stored(2)
    sent = [entry.result.header for entry in read_entries(watched.ledger)]
    assert [header and header.sop_instance_uid for header in sent] == ["2.25.1.1.1.77", "2.25.1.1.2.77"]


async def test_a_file_that_is_being_written_is_sent_once_it_is_quiet(incoming: Path, rescan_s: float) -> None:
    """Its beginning is not sent: it is damaged until the rest is there, and no failure is ever recorded."""
    async with watching(incoming, rescan_s=rescan_s, quiet_s=1.0) as watched:
        await watched.until_stored(1)
        content = Path(write_instance(incoming.parent / "elsewhere", 2).candidate.location).read_bytes()
        with (incoming / "IM2").open("wb", buffering=0) as file:
            for at in range(0, len(content), 100):
                file.write(content[at : at + 100])
                await anyio.sleep(0.05)
        await watched.until_stored(2)
    assert watched.outcomes() == {"IM001000001": Outcome.STORED, "IM2": Outcome.STORED}
    assert watched.tally.failed == 0


async def test_a_failure_is_retried_when_the_file_changes(incoming: Path, rescan_s: float) -> None:
    """A damaged file fails; once it is fixed, it is stored, and the figures no longer count the failure."""
    async with watching(incoming, rescan_s=rescan_s) as watched:
        whole = Path(write_instance(incoming.parent / "elsewhere", 2).candidate.location).read_bytes()
        (incoming / "IM2").write_bytes(whole[:300])
        await watched.until(lambda: watched.tally.failed == 1 and watched.is_idle)
        (incoming / "IM2").write_bytes(whole)
        await watched.until_stored(2)
        assert watched.tally.failed == 0
        assert watched.tally.settled_files == watched.tally.found_files == 2


async def test_a_file_that_is_rewritten_is_sent_again(incoming: Path, rescan_s: float) -> None:
    """A name that is used again has another instance, which is stored, too."""
    async with watching(incoming, rescan_s=rescan_s) as watched:
        await watched.until_stored(1)
        path = Path(write_instance(incoming.parent / "elsewhere", 7).candidate.location)
        path.replace(incoming / "IM001000001")
        await watched.until_stored(2)
    assert set(watched.storage.digests()) == {header(n).sop_instance_uid for n in (1, 7)}


async def test_a_file_that_is_gone_before_it_is_read_is_no_failure(
    incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no outcome, and the log says that it is gone; later it may come back."""
    path, kept = incoming / "IM2", incoming.parent / "kept"
    read_head, removed = FileSource.read_head, list[Path]()

    def remove_then_read(source: FileSource, candidate: Candidate) -> Instance | Container:
        if candidate.location == str(path) and not removed:
            removed.append(path.rename(kept))
        return read_head(source, candidate)

    monkeypatch.setattr(FileSource, "read_head", remove_then_read)
    async with watching(incoming) as watched:
        await watched.until_stored(1)
        Path(write_instance(incoming.parent / "elsewhere", 2).candidate.location).rename(path)
        await watched.until(lambda: watched.gone == [str(path)] and watched.is_idle)
        assert watched.tally.found_files == 1
        kept.rename(path)
        await watched.until_stored(2)
    assert watched.tally.failed == 0


async def test_more_files_than_are_remembered_are_found_by_a_scan(
    incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst: a scan follows once it is over, and nothing is lost."""
    quiet = Quiet
    monkeypatch.setattr(watch, "Quiet", lambda quiet_s: quiet(quiet_s, most=5))
    async with watching(incoming) as watched:
        await watched.until_stored(1)
        for number in range(2, 102):
            write_instance(incoming, number)
        await watched.until_stored(101)
    assert watched.storage.received == 101


async def test_files_that_are_there_at_the_start_and_young_wait(incoming: Path) -> None:
    """They may still be written; they are not left out, but sent by a further pass, also if their clock is fast."""
    os.utime(incoming / "IM001000001", (2_000_000_000, 2_000_000_000))
    async with watching(incoming, quiet_s=1.0) as watched:
        assert watched.tally.pending == 1
        await watched.until_stored(1)
    assert not watched.tally.left_out


async def test_scans_do_not_count_what_they_have_seen(incoming: Path) -> None:
    """A file that was found before has one outcome, however often the directory is scanned."""
    (incoming / "notes.txt").write_text("nothing")
    (incoming / "link").symlink_to("/etc")
    (incoming / "cut").write_bytes(Path(write_instance(incoming, 2).candidate.location).read_bytes()[:300])
    async with watching(incoming, rescan_s=0.05) as watched:
        await watched.until_stored(2)
        scans = 0

        def several() -> bool:
            nonlocal scans
            scans += watched.tally.is_watching
            return scans > 6

        await watched.until(several)
        assert watched.tally.found_files == watched.tally.settled_files == 5
    assert watched.tally.outcomes[Outcome.UNREADABLE] == 1
    assert watched.storage.received == 2


async def test_an_archive_is_looked_into_when_it_is_new_and_not_at_each_scan(
    incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its members have outcomes, the archive itself has none: it is remembered."""
    members, looked_into = FileSource.members, list[str]()

    def count(source: FileSource, container: Container) -> Members:
        looked_into.append(container.candidate.location)
        return members(source, container)

    monkeypatch.setattr(FileSource, "members", count)
    async with watching(incoming, rescan_s=0.05) as watched:
        await watched.until_stored(1)
        with zipfile.ZipFile(incoming.parent / "x.zip", "w") as archive:
            for number in (2, 3):
                archive.write(write_instance(incoming.parent / "elsewhere", number).candidate.location, str(number))
        (incoming.parent / "x.zip").rename(incoming / "x.zip")
        await watched.until_stored(3)
        scans = 0

        def several() -> bool:
            nonlocal scans
            scans += watched.tally.is_watching
            return scans > 6

        await watched.until(several)
        assert looked_into == [str(incoming / "x.zip")]
        assert watched.tally.found_files == watched.tally.settled_files == 3
    assert watched.storage.received == 3


async def test_storage_that_is_away_for_a_while_does_not_end_the_watch(
    incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory disappears and comes back, as a share does: files that are new then are sent."""
    monkeypatch.setattr(watch, "remote_type", lambda _path: "nfs4")
    async with watching(incoming, rescan_s=0.1) as watched:
        await watched.until_stored(1)
        incoming.rename(incoming.parent / "away")
        await watched.until(lambda: str(incoming) in watched.gone)
        write_instance(incoming.parent / "away", 2)
        (incoming.parent / "away").rename(incoming)
        await watched.until_stored(2)
    assert watched.tally.failed == 0
    assert any("nfs4" in note for note in watched.notes)


async def test_stored_files_are_moved_and_their_names_used_again(incoming: Path, rescan_s: float) -> None:
    """Each is moved after it is stored; the next of its name gets a number there."""
    done = incoming.parent / "done"
    async with watching(incoming, rescan_s=rescan_s, after_stored=AfterStored("move", str(done))) as watched:
        await watched.until(lambda: watched.tally.disposed == 1 and watched.is_idle)
        path = Path(write_instance(incoming.parent / "elsewhere", 7).candidate.location)
        path.replace(incoming / "IM001000001")
        await watched.until(lambda: watched.tally.disposed == 2 and watched.is_idle)
    assert sorted(path.name for path in done.iterdir()) == ["IM001000001", "IM001000001~2"]
    assert list(incoming.iterdir()) == []
    assert watched.tally.outcomes[Outcome.STORED] == 2


async def test_the_summary_is_written_when_the_run_begins_to_wait(incoming: Path) -> None:
    """It says that the run waits, with the figures so far; it is not written again without news."""
    async with watching(incoming, rescan_s=0.05) as watched:
        await watched.until_stored(1)
        await watched.until(lambda: bool(watched.summaries))
        write_instance(incoming, 2)
        await watched.until(lambda: len(watched.summaries) == 2)
    first, second = watched.summaries[:2]
    assert (first.outcomes[Outcome.STORED], second.outcomes[Outcome.STORED]) == (1, 2)
    assert first.watching
    assert not first.complete


async def test_links_in_a_watched_directory_are_followed_as_in_a_scan(incoming: Path) -> None:
    """A file that appears behind a link that is not followed is not sent, although the system reports it."""
    write_instance(incoming.parent / "outside", 8)
    (incoming / "link").symlink_to(incoming.parent / "outside")
    async with watching(incoming) as watched:
        await watched.until_stored(1)
        write_instance(incoming.parent / "outside", 9)
        os.utime(incoming / "link" / "IM001000009")
        (incoming / "single").symlink_to(incoming.parent / "outside" / "IM001000008")
        write_instance(incoming, 2)
        await watched.until_stored(2)
    assert watched.storage.received == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"files_from": "list"}, "a list of files ends"), ({"source": object()}, "only files and directories")],
)
async def test_what_cannot_be_watched_is_refused(
    incoming: Path, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    """A list of names, and a source that is an object."""
    from tests.memory_source import MemorySource

    source = MemorySource({}) if "source" in changes else (str(incoming),)
    job = Job(
        source,
        DestinationSettings(url="http://127.0.0.1:9/x"),
        UploadSettings(ledger=tmp_path / "l.db"),
        files_from="list" if "files_from" in changes else None,
        watch=WatchSettings(watch=True),
    )
    with pytest.raises(ConfigurationError, match=says):
        await run(job, Tally(), Nothing(), heed_signals=False)
