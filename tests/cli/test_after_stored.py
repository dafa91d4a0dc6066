"""`--after-stored` on the command line, with the embedded server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from bulkstow.ledger import read_entries
from bulkstow.model import Outcome
from bulkstow.server.fault_injector import FaultInjector
from bulkstow.server.fault_plan import plan_of
from bulkstow.server.read_faults import ReadFaultInjector
from bulkstow.server.storage import DiscardStorage
from tests.archives import header, write_instance
from tests.cli.command import Ended, call, running, served


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
    """Give an archive of two studies with three instances, a copy of one of them, and a text."""
    archive = tmp_path / "in"
    for study in (1, 2):
        for number in range(3):
            write_instance(archive / f"study{study}", number, study=study)
    (archive / "copy").write_bytes((archive / "study1" / "IM001000000").read_bytes())
    (archive / "notes.txt").write_text("nothing to send")
    return archive


def left(directory: Path) -> set[str]:
    """Return the relative paths of everything in a directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def upload(capsys: pytest.CaptureFixture[str], archive: Path, url: str, *words: str) -> Ended:
    """Run an upload with a ledger beside the archive."""
    return call(capsys, "upload", str(archive), "--url", url, "--ledger", str(archive.parent / "l.db"), *words)


def test_stored_files_are_moved_with_their_paths(
    archive: Path, storage: DiscardStorage, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six instances and the copy go; the text stays and is counted; emptied directories go, the source stays."""
    done = archive.parent / "done"
    summary = archive.parent / "summary.json"
    ended = upload(capsys, archive, url, "--after-stored", f"move {done}", "--summary", str(summary))
    assert ended.status == 0
    assert len(storage.digests()) == 6
    assert left(archive) == {"notes.txt"}
    assert len(left(done)) == 6 + 2 + 1
    assert "moved 7 files" in ended.out
    assert "kept 1: skipped" in ended.out
    figures = json.loads(summary.read_text())
    assert (figures["disposed"], figures["kept"]) == (7, {"skipped": 1})


def test_stored_files_are_deleted_once_they_are_found(
    archive: Path, storage: DiscardStorage, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each instance is found by a query; then its file and its copy go."""
    ended = upload(capsys, archive, url, "--after-stored", "delete")
    assert ended.status == 0
    assert len(storage.digests()) == 6
    assert left(archive) == {"notes.txt"}
    assert "deleted 7 files" in ended.out


def test_files_that_a_killed_run_has_left_are_dealt_with_by_the_next_run(
    archive: Path, storage: DiscardStorage, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are in the ledger, as after a kill between the record and the move: nothing is sent again."""
    upload(capsys, archive, url)
    assert len(left(archive)) == 6 + 2 + 2
    received = storage.received
    ended = upload(capsys, archive, url, "--after-stored", "delete")
    assert storage.received == received
    assert left(archive) == {"notes.txt"}
    assert "deleted 7 files" in ended.out
    assert {e.result.outcome for e in read_entries(archive.parent / "l.db")} == {Outcome.STORED, Outcome.SKIPPED}


def test_a_run_that_is_killed_between_the_record_and_the_deletion_loses_nothing(
    archive: Path, storage: DiscardStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    """`kill -9` while the server is asked: every file is there; the next run sends none again, and deletes them."""
    slow = {"kind": "slow-thinking", "on": "search", "delay": "60s", "times": 1}
    words = ["--ledger", str(archive.parent / "l.db"), "--progress", "log", "--after-stored", "delete"]
    with served(storage, read_fault=ReadFaultInjector(plan_of({"fault": [slow]}))) as url:
        with running("upload", str(archive), "--url", url, "--no-preflight", *words) as process:
            assert process.stderr is not None
            assert any(b"8 of 8 files done" in line for line in process.stderr)
            process.kill()
            process.communicate()
        assert len(left(archive)) == 6 + 2 + 2
        assert upload(capsys, archive, url, "--after-stored", "delete").status == 0
    assert left(archive) == {"notes.txt"}
    assert storage.received == 6


def test_a_file_whose_instance_is_not_found_stays(
    archive: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that says 'stored' and does not list the instances keeps every file in its place."""
    monkeypatch.setattr("bulkstow.engine.disposition.SETTLE_S", 0.0)
    with served(DiscardStorage()) as url:  # it remembers nothing
        ended = upload(capsys, archive, url, "--after-stored", "delete")
    assert ended.status == 0
    assert len(left(archive)) == 6 + 2 + 2
    assert "kept 7: not found on the server within 0ms" in ended.out


def test_a_server_that_indexes_late_is_asked_again(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No instance is listed at first; each is found at a later look, and its file goes."""
    late = {"kind": "late-index", "delay": "300ms"}
    with served(DiscardStorage(remember=True), read_fault=ReadFaultInjector(plan_of({"fault": [late]}))) as url:
        ended = upload(capsys, archive, url, "--after-stored", "delete")
    assert "deleted 7 files" in ended.out
    assert left(archive) == {"notes.txt"}


def test_a_search_that_fails_is_repeated(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first searches after the uploads get a 500; the files go nevertheless."""
    broken = {"kind": "status", "on": "search", "status": 500, "requests": [2, 3, 4]}
    with served(DiscardStorage(remember=True), read_fault=ReadFaultInjector(plan_of({"fault": [broken]}))) as url:
        ended = upload(capsys, archive, url, "--after-stored", "delete")
    assert "deleted 7 files" in ended.out


def test_a_server_that_answers_no_search_keeps_the_files(
    archive: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason says how the search failed; the run is no failure, as everything is stored."""
    monkeypatch.setattr("bulkstow.engine.disposition.SETTLE_S", 0.0)
    broken = {"kind": "status", "on": "search", "status": 500}
    with served(DiscardStorage(remember=True), read_fault=ReadFaultInjector(plan_of({"fault": [broken]}))) as url:
        ended = upload(capsys, archive, url, "--after-stored", "delete", "--no-preflight")
    assert ended.status == 0
    assert "kept 7: the search for it failed" in ended.out


def test_a_file_whose_uid_the_server_had_before_is_not_deleted(
    archive: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A duplicate may have other content at the server, so its file stays, with the reason; it may be moved."""
    for study, number in product((1, 2), range(3)):
        write_instance(archive.parent / "old", number, study=study, rows=32)
    assert call(capsys, "upload", str(archive.parent / "old"), "--url", url).status == 0
    contents = {path.read_bytes() for path in archive.rglob("*") if path.is_file()}
    ended = upload(capsys, archive, url, "--after-stored", "delete")
    assert "kept 6: the server had an instance of its UID before" in ended.out
    assert {path.read_bytes() for path in archive.rglob("*") if path.is_file()} == contents
    again = upload(capsys, archive, url, "--after-stored", "delete")
    assert "kept 6: the server had an instance of its UID before" in again.out
    moved = upload(capsys, archive, url, "--after-stored", f"move {archive.parent / 'done'}")
    assert "moved 6 files" in moved.out


def test_files_that_the_server_refuses_stay(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused instance is a failure, and its file is untouched."""
    refused = {"kind": "invalid", "instances": [header(1, study=2).sop_instance_uid]}
    with served(DiscardStorage(remember=True), fault=FaultInjector(plan_of({"fault": [refused]}))) as url:
        ended = upload(capsys, archive, url, "--after-stored", f"move {tmp_path / 'done'}")
    assert ended.status == 1
    assert left(archive) == {"notes.txt", "study2", "study2/IM002000001"}
    assert "kept 1: refused" in ended.out


def test_the_directory_of_moved_files_is_not_scanned(
    archive: Path, storage: DiscardStorage, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be in the source: the next run does not find the moved files there."""
    done = archive / "done"
    for _ in range(2):
        assert upload(capsys, archive, url, "--after-stored", f"move {done}").status == 0
    assert storage.received == 6
    assert len(left(done)) == 6 + 2 + 1


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ("move {archive}", "this directory is a source"),
        ("move {archive}/notes.txt/x", "Not a directory"),
        ("shred", "'shred' is not 'nothing', 'delete' or 'move DIR'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_sent(
    archive: Path, storage: DiscardStorage, url: str, action: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, with the reason."""
    ended = upload(capsys, archive, url, "--after-stored", action.format(archive=archive))
    assert ended.status == 2
    assert says in ended.err
    assert storage.received == 0


def test_files_in_conflict_are_not_sent_and_deleted(
    archive: Path, storage: DiscardStorage, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server keeps one of several files that share a UID, so deleting all of them would lose the others."""
    ended = upload(capsys, archive, url, "--after-stored", "delete", "--on-conflict", "send")
    assert ended.status == 2
    assert "not with --on-conflict send" in ended.err
    assert storage.received == 0


@pytest.mark.parametrize("is_equal", [True, False])
def test_a_later_file_is_compared_with_one_that_was_deleted(
    archive: Path, url: str, capsys: pytest.CaptureFixture[str], *, is_equal: bool
) -> None:
    """By its digest: an equal file is a copy and goes; one with other bytes is in conflict, and stays."""
    content = (archive / "study1" / "IM001000000").read_bytes()
    assert upload(capsys, archive, url, "--after-stored", "delete").status == 0
    assert left(archive) == {"notes.txt"}
    (archive / "later").write_bytes(content if is_equal else content[:-1] + bytes([content[-1] ^ 1]))
    ended = upload(capsys, archive, url, "--after-stored", "delete")
    assert ended.status == (0 if is_equal else 1)
    assert ("same bytes" if is_equal else "other bytes") in ended.out + ended.err
    assert left(archive) == ({"notes.txt"} if is_equal else {"notes.txt", "later"})
