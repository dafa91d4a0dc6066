"""`bulkstow demo`: the whole of it in a few seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bulkstow.cli.demo import make_archive
from bulkstow.ledger import read_entries
from tests.cli.command import call
from tests.server.samples import files_below


@pytest.mark.parametrize("instances", [1, 25])
def test_it_shows_what_it_promises(capsys: pytest.CaptureFixture[str], instances: int) -> None:
    """An archive with junk, two runs of which the second sends nothing, a report of the junk, and what to try next."""
    ended = call(capsys, "demo", "top dir", "--instances", str(instances))
    assert (ended.status, ended.err) == (0, "")
    out = ended.out
    assert f"1. An archive of {instances + 8} files, some of them junk: top dir/archive" in out
    assert "2. Uploading to a STOW-RS server in this process: http://127.0.0.1:" in out
    assert "3. The same command again: only what has no final word would be sent." in out
    assert f"\nstored {instances:>17}\n" in out
    assert "requests and the second 0; the 3 files that failed would make `bulkstow upload` end with status 1." in out
    assert "bulkstow upload 'top dir'/archive --url http://127.0.0.1:8080/dicom-web --ledger 'top dir'/second.db" in out
    for reason in ("not DICOM", "a DICOMDIR", "empty", "same bytes", "other bytes", "cut off"):
        assert reason in out.partition("4. What was not stored, and why:")[2]


def test_everything_is_stored_under_the_directory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What the archive holds is under `stored`, byte for byte, and the ledger knows of every file."""
    call(capsys, "demo", "top", "--instances", "25")
    archive = {path.read_bytes() for path in Path("top/archive").rglob("IM*") if path.suffix == ""}
    assert {path.read_bytes() for path in Path("top/stored").rglob("*.dcm")} == archive
    assert len(archive) == 25
    entries = {entry.outcome.candidate.location for entry in read_entries(Path("top/bulkstow.db"))}
    assert entries == {str(path) for path in (tmp_path / "top" / "archive").rglob("*") if path.is_file()}


def test_what_to_try_next_works(capsys: pytest.CaptureFixture[str]) -> None:
    """The report that it names has a line for each file."""
    call(capsys, "demo", "top", "--instances", "3")
    ended = call(capsys, "report", "top/bulkstow.db", "--format", "jsonl")
    assert len([json.loads(line) for line in ended.out.splitlines()]) == 11


def test_a_directory_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a directory it makes a temporary one, and says how to remove it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = call(capsys, "demo", "--instances", "1")
    (made,) = tmp_path.glob("bulkstow-demo-*")
    assert f"rm -r {made} " in ended.out


def test_the_same_archive_every_time(tmp_path: Path) -> None:
    """Nothing in it is left to chance."""
    counts = [make_archive(tmp_path / name, 61) for name in ("one", "two")]
    one, two = (files_below(tmp_path / name) for name in ("one", "two"))
    assert one == two
    assert counts == [69, 69] == [len(one), len(two)]
