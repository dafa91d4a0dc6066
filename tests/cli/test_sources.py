"""The files that `bulkstow upload` sends from its sources, and those that it leaves out."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from bulkstow.destination.stow import StowDestination
from bulkstow.ledger import read_entries
from bulkstow.model import Candidate, Instance, Outcome
from bulkstow.ports import Segment
from bulkstow.server.storage import DiscardStorage
from bulkstow.source.files import FileSource
from bulkstow.source.heads import read_instance
from tests.archives import header, write_instance
from tests.cli.command import Ended, call, served

OWN, FOREIGN = 1, 2


@pytest.fixture
def storage() -> DiscardStorage:
    """Give a server's memory."""
    return DiscardStorage(remember=True)


@pytest.fixture
def url(storage: DiscardStorage) -> Iterator[str]:
    """Give a server."""
    with served(storage) as url:
        yield url


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive of two instances beside one of another patient."""
    for number in range(2):
        write_instance(tmp_path / "archive", number, study=OWN)
    write_instance(tmp_path / "foreign", 0, study=FOREIGN)
    return tmp_path / "archive"


def uids(study: int, count: int) -> set[str]:
    """Return the SOP Instance UIDs of the first instances of a study."""
    return {header(number, study=study).sop_instance_uid for number in range(count)}


def results(tmp_path: Path) -> dict[str, tuple[Outcome, str]]:
    """Return the outcomes of the ledger, by path relative to `tmp_path`."""
    entries = [entry.result for entry in read_entries(tmp_path / "bulkstow.db")]
    return {str(Path(o.candidate.location).relative_to(tmp_path)): (o.outcome, o.reason) for o in entries}


@pytest.fixture
def linked(archive: Path) -> Path:
    """Give the archive with links out of it, and within it."""
    (archive / "loop").symlink_to("..")
    (archive / "out").symlink_to("../foreign/IM002000000")
    (archive / "again").symlink_to("IM001000000")
    return archive


def test_nothing_outside_the_sources_is_sent(
    capsys: pytest.CaptureFixture[str], linked: Path, tmp_path: Path, url: str, storage: DiscardStorage
) -> None:
    """Links out of the archive are skipped with a reason; a link within it costs no second request."""
    ended = call(capsys, "upload", "archive", "--url", url)
    assert ended.status == 0, ended.says
    assert set(storage.digests()) == uids(OWN, 2)
    assert storage.received == 2
    found = results(tmp_path)
    assert found["archive/loop"] == (
        Outcome.SKIPPED,
        "a link to a directory, not followed: --follow-links follows it",
    )
    assert found["archive/out"] == (Outcome.SKIPPED, "a link to a file outside the sources: --follow-links sends it")
    skipped = [found[f"archive/{name}"] for name in ("again", "IM001000000")]
    assert sorted(outcome for outcome, _ in skipped) == [Outcome.SKIPPED, Outcome.STORED]
    assert "skipped 1: a link to a directory, not followed" in ended.out
    assert "skipped 1: a link to a file outside the sources" in ended.out
    assert "skipped 1: a second copy of the SOP instance, same bytes" in ended.out


def test_follow_links_follows_all_of_them(
    capsys: pytest.CaptureFixture[str], linked: Path, tmp_path: Path, url: str, storage: DiscardStorage
) -> None:
    """--follow-links follows links, and a cycle of links ends."""
    ended = call(capsys, "upload", "archive", "--url", url, "--follow-links")
    assert ended.status == 0, ended.says
    assert set(storage.digests()) == uids(OWN, 2) | uids(FOREIGN, 1)
    assert storage.received == 3


@pytest.mark.parametrize("how", ["argument", "list", "argument below another"])
def test_a_link_that_is_named_is_followed(
    capsys: pytest.CaptureFixture[str], archive: Path, tmp_path: Path, url: str, storage: DiscardStorage, how: str
) -> None:
    """A source that is a link is followed."""
    (archive / "link").symlink_to("../foreign")
    (tmp_path / "list").write_text("archive/link\n")
    words = {
        "argument": ["archive/link"],
        "list": ["--files-from", "list"],
        "argument below another": ["archive", "archive/link"],
    }[how]
    ended = call(capsys, "upload", *words, "--url", url)
    assert ended.status == 0, ended.says
    assert uids(FOREIGN, 1) <= set(storage.digests())


def test_a_file_that_becomes_a_link_after_the_scan_is_not_followed(
    capsys: pytest.CaptureFixture[str],
    archive: Path,
    url: str,
    storage: DiscardStorage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that is replaced by a link between scan, reading and sending is not sent."""
    victims = [archive / "IM001000000", archive / "IM001000001"]

    def replace(victim: Path) -> None:
        victim.unlink()
        victim.symlink_to(archive.parent / "foreign/IM002000000")

    open_ = FileSource.open

    def read_after(candidate: Candidate, **options: bool) -> Instance:
        if candidate.location == str(victims[0]):
            replace(victims[0])
        return read_instance(candidate, **options)

    def send_after(self: FileSource, instance: Instance) -> Generator[Segment]:
        if not victims[1].is_symlink():
            replace(victims[1])
        return open_(self, instance)

    monkeypatch.setattr("bulkstow.source.files.read_instance", read_after)
    monkeypatch.setattr(FileSource, "open", send_after)
    ended: Ended = call(capsys, "upload", "archive", "--url", url)
    assert ended.status == 1
    assert storage.digests() == {}
    assert ended.out.count("it was replaced by a symbolic link after the scan") == 2


# Sources without files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["empty"], ["empty"]),
        (["archive", "empty"], ["empty"]),
        (["archive", "archive/share"], ["archive/share"]),
        (["hollow"], ["hollow"]),
        (["--files-from", "list"], ["empty"]),
        (["archive", "--files-from", "nothing"], ["--files-from nothing"]),
        (["empty", "hollow", "archive"], ["empty", "hollow"]),
        (["link"], ["link"]),
    ],
    ids=["one", "one of two", "below another", "directories only", "in a list", "an empty list", "two", "a link"],
)
def test_a_source_without_files_is_a_failure(
    capsys: pytest.CaptureFixture[str], archive: Path, tmp_path: Path, url: str, words: list[str], named: list[str]
) -> None:
    """A source without files leads to status 1, and is shown on both streams and in the summary, unless accepted."""
    for directory in ("empty", "hollow/deeper", "archive/share"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "list").write_text("archive/IM001000000\nempty\n")
    (tmp_path / "nothing").write_text("\n")
    (tmp_path / "link").symlink_to("empty")
    ended = call(capsys, "upload", *words, "--url", url, "--summary", "summary.json")
    assert ended.status == 1
    sources = [source if source.startswith("--") else str(tmp_path / source) for source in named]
    for source in sources:
        told = f"no file found in {source}: is it mounted, or the list empty? --allow-empty accepts this"
        assert told in ended.out
        assert f"bulkstow: {told}" in ended.err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["empty_sources"] == sources
    assert call(capsys, "upload", *words, "--url", url).status == 1, "also when all the rest was settled before"
    accepted = call(capsys, "upload", *words, "--url", url, "--allow-empty")
    assert accepted.status == 0
    assert "is it mounted" not in accepted.says


@pytest.mark.parametrize(("source", "own"), [("link", "share"), ("share", "link")])
def test_the_files_of_the_run_are_no_archive(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, url: str, source: str, own: str
) -> None:
    """A source that contains only the run's ledger, log and summary is empty, by any name of it."""
    (tmp_path / "share").mkdir()
    (tmp_path / "link").symlink_to("share")
    files = ("--ledger", f"{own}/l.db", "--log", f"{own}/run.log", "--summary", f"{own}/last.json")
    for _ in range(2):
        ended = call(capsys, "upload", source, "--url", url, *files)
        assert (ended.status, "no file found in" in ended.out) == (1, True)


def test_a_source_that_vanishes_after_the_start_is_a_failure(
    capsys: pytest.CaptureFixture[str], archive: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that disappears after the check at the start is a failure."""
    reach = StowDestination.reach

    async def unmount(self: StowDestination) -> None:
        await reach(self)
        archive.rename(archive.parent / "away")  # noqa: ASYNC240 - a test

    monkeypatch.setattr(StowDestination, "reach", unmount)
    ended = call(capsys, "upload", "archive", "foreign", "--url", url)
    assert ended.status == 1
    assert f"unreadable {archive}: no such file" in ended.out


def test_junk_is_found(capsys: pytest.CaptureFixture[str], tmp_path: Path, url: str) -> None:
    """A source that contains only other files than DICOM is not empty."""
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk/notes").write_text("hello")
    assert call(capsys, "upload", "junk", "--url", url).status == 0
