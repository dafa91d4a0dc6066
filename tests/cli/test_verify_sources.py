"""Claims about files that `bulkstow verify` compares: copies, conflicts, and files that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bulkstow.server.fault_plan import plan_of
from bulkstow.server.read_faults import ReadFaultInjector
from bulkstow.server.storage import DirectoryStorage
from tests.archives import header
from tests.cli.command import Ended, call, served, spawn_unread
from tests.lost_instances import content


@dataclass(frozen=True, slots=True)
class Upload:
    """A directory with originals in `a`, other files with their UIDs in `b`, a server, and the ledger of an upload."""

    directory: Path
    storage: DirectoryStorage
    url: str
    capsys: pytest.CaptureFixture[str]

    @property
    def source(self) -> Path:
        """The directory of the files."""
        return self.directory / "source"

    def write(self, name: str, number: int, *, pixels: int = 1) -> Path:
        """Write a file of a study with one instance per number."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(header(number), number=pixels))
        return path

    def run(self, command: str, *words: str, ledger: str = "l.db") -> Ended:
        """Run a command with this server and a ledger."""
        where = ("--url", self.url, "--ledger", str(self.directory / ledger), "--progress", "none")
        return call(self.capsys, command, *words, *where)

    def verify(self, *words: str, ledger: str = "l.db") -> tuple[int, list[tuple[str, list[str]]]]:
        """Compare content, and return the exit status and state and different instances of each study."""
        options = ("--level", "content", "--settle", "0s", "--format", "jsonl")
        ended = self.run("verify", *words, *options, ledger=ledger)
        lines = [json.loads(line) for line in ended.out.splitlines()]
        return ended.status, [(line["state"], line["different"]) for line in lines]


@pytest.fixture
def upload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Upload]:
    """Give a server that stores instances."""
    storage = DirectoryStorage(tmp_path / "root")
    with served(storage) as url:
        yield Upload(tmp_path, storage, url, capsys)


def test_a_copy_alone_is_compared(upload: Upload) -> None:
    """If only a copy is verified, not its original, the server's content is compared with the copy."""
    upload.write("a/1", 1)
    upload.write("b/1", 1)
    assert upload.run("upload", str(upload.source)).status == 0
    assert upload.verify("--include", "**/b/*") == (0, [("complete", [])])
    upload.storage.path(header(1)).write_bytes(content(header(1), number=2))
    assert upload.verify("--include", "**/b/*") == (1, [("different", ["2.25.1.1.1"])])


def test_a_file_in_conflict_is_not_at_the_server(upload: Upload) -> None:
    """Of two files with one UID and other content only one is at the server, so the study is never complete."""
    upload.write("a/1", 1)
    upload.write("b/1", 1, pixels=2)
    assert upload.run("upload", str(upload.source)).status == 1
    different = (1, [("different", ["2.25.1.1.1"])])
    assert upload.verify() == different
    assert upload.verify(str(upload.source)) == different
    assert upload.verify(str(upload.source), ledger="new.db") == different
    assert upload.verify("--include", "**/b/*") == different
    assert upload.verify("--include", "**/a/*") == (0, [("complete", [])])
    ledger = str(upload.directory / "l.db")
    assert call(upload.capsys, "accept", ledger, "--outcome", "conflict", "--note", "known").status == 0
    assert upload.verify() == (0, [("complete", [])])


def test_received_bytes_are_those_of_the_files(upload: Upload) -> None:
    """Bytes of series that are retrieved at the same time are counted once."""
    sizes = [upload.write(f"a/{number}", number).stat().st_size for number in range(1, 41)]
    sizes += [path.stat().st_size for path in _other_studies(upload)]
    assert upload.run("upload", str(upload.source)).status == 0
    summary = upload.directory / "summary.json"
    ended = upload.run("verify", "--level", "content", "--summary", str(summary))
    assert ended.status == 0, ended.says
    lists = json.loads(summary.read_text())["received_bytes"] - sum(sizes)
    assert 0 < lists < 200_000


def _other_studies(upload: Upload, *, studies: int = 10, instances: int = 40) -> Iterator[Path]:
    for study in range(2, studies + 2):
        for number in range(1, instances + 1):
            path = upload.source / f"s{study}" / str(number)
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(content(header(number, study=study)))
            yield path


def test_a_lost_series_does_not_slow_down_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a 404 for one series, its instances are requested one by one, and the other series still as a whole."""
    lost = {"kind": "status", "on": "retrieve", "status": 404, "requests": [1]}
    storage, injector = DirectoryStorage(tmp_path / "root"), ReadFaultInjector(plan_of({"fault": [lost]}))
    with served(storage, read_fault=injector) as url:
        upload = Upload(tmp_path, storage, url, capsys)
        paths = [*_other_studies(upload, studies=6, instances=4)]
        assert upload.run("upload", str(upload.source)).status == 0
        summary = tmp_path / "summary.json"
        ended = upload.run("verify", "--level", "content", "--concurrency", "1", "--summary", str(summary))
    assert ended.status == 0, ended.says
    lists, retrievals = 2 * 6, 6 + 4
    assert (json.loads(summary.read_text())["requests"], len(paths)) == (lists + retrievals, 24)


def test_a_file_that_cannot_be_read_is_no_success(upload: Upload) -> None:
    """A source with a file whose instance is not known is not verified, and the file is named; accepted ones are."""
    upload.write("a/1", 1)
    cut = upload.write("a/2", 2)
    cut.write_bytes(cut.read_bytes()[:200])
    assert upload.run("upload", str(upload.source)).status == 1
    ended = upload.run("verify", str(upload.source))
    assert ended.status == 1
    assert f"{cut}: cut off" in ended.out
    assert upload.run("verify").status == 1
    ledger = str(upload.directory / "l.db")
    assert call(upload.capsys, "accept", ledger, "--outcome", "unreadable", "--note", "known").status == 0
    assert upload.run("verify", str(upload.source)).status == 0
    assert upload.run("verify").status == 0


def test_a_reader_that_leaves_does_not_end_the_verification(upload: Upload) -> None:
    """If the reader of the lines closes the pipe, all studies are still verified, and the exit status is the same."""
    upload.write("a/1", 1)
    assert upload.run("upload", str(upload.source)).status == 0
    upload.storage.path(header(1)).write_bytes(content(header(1), number=2))
    where = ("--url", upload.url, "--ledger", str(upload.directory / "l.db"), "--progress", "none")
    for notation in ("jsonl", "csv", "table"):
        assert spawn_unread("verify", *where, "--level", "content", "--format", notation).status == 1


def test_an_empty_ledger_has_no_files(upload: Upload) -> None:
    """An empty file is a new ledger: a verification of it is wrong usage."""
    (upload.directory / "l.db").touch()
    ended = upload.run("verify")
    assert (ended.status, ended.out) == (2, "")
    assert "no files for" in ended.err


def test_a_list_that_cannot_be_read_twice_is_not_repaired(upload: Upload) -> None:
    """--repair reads the sources twice, so a list from standard input is wrong usage."""
    ended = upload.run("verify", "--files-from", "-", "--repair")
    assert ended.status == 2
    assert "read twice" in ended.err
