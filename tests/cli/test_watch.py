"""`upload --watch` on the command line: its end by a signal, and the state after its end."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkstow.server.storage import DiscardStorage
from tests.archives import write_instance
from tests.cli.command import Ended, end, running, served

WAITING = "waiting for changes"


@pytest.fixture
def storage() -> DiscardStorage:
    """Give a server's memory."""
    return DiscardStorage(remember=True)


@pytest.fixture
def url(storage: DiscardStorage) -> Iterator[str]:
    """Give a server."""
    with served(storage) as url:
        yield url


def words(directory: Path, url: str, *others: str) -> list[str]:
    """Return a command that watches a directory."""
    ledger = str(directory.parent / "l.db")
    return ["upload", str(directory), "--url", url, "--ledger", ledger, "--watch", "--progress", "log", *others]


def ended_by(process: subprocess.Popen[bytes], number: signal.Signals, says: str) -> Ended:
    """Send a signal once the process says something on standard error, and wait for its end."""
    assert process.stderr is not None
    for line in process.stderr:
        if says in line.decode():
            process.send_signal(number)
            return end(process)
    raise AssertionError(f"it did not say {says!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_watch_that_waits_ends_as_a_complete_run(tmp_path: Path, url: str, number: signal.Signals) -> None:
    """Everything is stored: exit status 0, the closing table, and a complete summary."""
    write_instance(tmp_path / "in", 1)
    summary = tmp_path / "summary.json"
    with running(*words(tmp_path / "in", url, "--min-age", "10ms", "--summary", str(summary))) as process:
        ended = ended_by(process, number, WAITING)
    assert ended.status == 0, ended.says
    assert "stored                 1" in ended.out
    assert "not complete" not in ended.out
    figures = json.loads(summary.read_text())
    assert (figures["complete"], figures["watching"], figures["exit_status"]) == (True, False, 0)


def test_a_watch_with_failures_ends_with_1(tmp_path: Path, url: str) -> None:
    """As every run with a failure."""
    path = Path(write_instance(tmp_path / "in", 1).candidate.location)
    path.write_bytes(path.read_bytes()[:300])
    with running(*words(tmp_path / "in", url, "--min-age", "10ms")) as process:
        assert ended_by(process, signal.SIGTERM, WAITING).status == 1


def test_a_watch_with_a_file_that_is_not_quiet_yet_is_interrupted(tmp_path: Path, url: str) -> None:
    """There was more to do: exit status 130, and the next run sends the file."""
    write_instance(tmp_path / "in", 1)
    with running(*words(tmp_path / "in", url, "--min-age", "1h")) as process:
        ended = ended_by(process, signal.SIGTERM, f"{WAITING}, 1 not quiet yet")
    assert ended.status == 130
    assert "not complete" in ended.out


def test_a_source_without_files_is_no_failure_of_a_watch(tmp_path: Path, url: str) -> None:
    """The first file may come later."""
    (tmp_path / "in").mkdir()
    with running(*words(tmp_path / "in", url)) as process:
        assert ended_by(process, signal.SIGTERM, WAITING).status == 0


def test_a_watch_that_is_killed_leaves_figures_and_a_ledger(tmp_path: Path, url: str, storage: DiscardStorage) -> None:
    """`kill -9` while it waits: the summary says so, and the next run sends nothing again, and moves the rest."""
    write_instance(tmp_path / "in", 1)
    summary = tmp_path / "summary.json"
    with running(*words(tmp_path / "in", url, "--min-age", "10ms", "--summary", str(summary))) as process:
        ended_by(process, signal.SIGKILL, WAITING)
    figures = json.loads(summary.read_text())
    assert (figures["complete"], figures["watching"], figures["exit_status"]) == (False, True, None)
    assert figures["outcomes"]["stored"] == 1
    done = tmp_path / "done"
    with running(*words(tmp_path / "in", url, "--min-age", "10ms", "--after-stored", f"move {done}")) as process:
        assert ended_by(process, signal.SIGTERM, WAITING).status == 0
    assert storage.received == 1
    assert [path.name for path in done.iterdir()] == ["IM001000001"]
