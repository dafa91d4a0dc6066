"""What `bulkstow upload` takes from the sources it is given, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkstow.destination.contents import Files
from bulkstow.ledger import read_entries
from bulkstow.model import Fate
from bulkstow.server.storage import DiscardStorage
from bulkstow.source.heads import read_header
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


def outcomes(tmp_path: Path) -> dict[str, tuple[Fate, str]]:
    """Return what the ledger says, by path from `tmp_path` on."""
    entries = [entry.outcome for entry in read_entries(tmp_path / "bulkstow.db")]
    return {str(Path(o.candidate.location).relative_to(tmp_path)): (o.fate, o.reason) for o in entries}


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
    found = outcomes(tmp_path)
    assert found["archive/loop"] == (
        Fate.SKIPPED,
        "a link to a directory, not followed: --follow-links follows it",
    )
    assert found["archive/out"] == (Fate.SKIPPED, "a link to a file outside the sources: --follow-links sends it")
    skipped = [found[f"archive/{name}"] for name in ("again", "IM001000000")]
    assert sorted(fate for fate, _ in skipped) == [Fate.SKIPPED, Fate.STORED]
    assert "skipped 1: a link to a directory, not followed" in ended.out
    assert "skipped 1: a link to a file outside the sources" in ended.out
    assert "skipped 1: a second copy of the SOP instance, same bytes" in ended.out


def test_follow_links_follows_all_of_them(
    capsys: pytest.CaptureFixture[str], linked: Path, tmp_path: Path, url: str, storage: DiscardStorage
) -> None:
    """The user said so; the circle ends."""
    ended = call(capsys, "upload", "archive", "--url", url, "--follow-links")
    assert ended.status == 0, ended.says
    assert set(storage.digests()) == uids(OWN, 2) | uids(FOREIGN, 1)
    assert storage.received == 3


@pytest.mark.parametrize("how", ["argument", "list", "argument below another"])
def test_a_link_that_is_named_is_followed(
    capsys: pytest.CaptureFixture[str], archive: Path, tmp_path: Path, url: str, storage: DiscardStorage, how: str
) -> None:
    """A link that the user names is what the user means, also where the walk would not follow it."""
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
    """Between the scan and the reading, and between that and the sending: the foreign file does not leave."""
    victims = [archive / "IM001000000", archive / "IM001000001"]

    def replace(victim: Path) -> None:
        victim.unlink()
        victim.symlink_to(archive.parent / "foreign/IM002000000")

    segments = Files.segments

    def read_after(path: str, **options: object) -> object:
        if path == str(victims[0]):
            replace(victims[0])
        return read_header(path, **options)  # type: ignore[arg-type]

    def send_after(self: Files, instance: object) -> object:
        if not victims[1].is_symlink():
            replace(victims[1])
        return segments(self, instance)  # type: ignore[arg-type]

    monkeypatch.setattr("bulkstow.pipeline.intake.read_header", read_after)
    monkeypatch.setattr(Files, "segments", send_after)
    ended: Ended = call(capsys, "upload", "archive", "--url", url)
    assert ended.status == 1
    assert storage.digests() == {}
    assert ended.out.count("it was replaced by a symbolic link after the scan") == 2
