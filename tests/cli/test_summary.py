"""`bulkstow upload --summary`: the result of a run for every kind of end."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bulkstow.ledger import Ledger
from bulkstow.server.login import Login
from tests.archives import write_instance
from tests.cli.command import PATIENCE_S, call, end, names_in, nobody, running, served

LAST_NIGHT = '{"complete": true, "exit_status": 0}'


@pytest.fixture(scope="module")
def places() -> Iterator[Mapping[str, str]]:
    """Give URLs of a server, of one with a login, and of none."""
    with served() as url, served(login=Login(users={"ada": "right"})) as locked, nobody() as refused:
        yield {"url": url, "locked": locked, "refused": refused}


@pytest.fixture(autouse=True)
def _archive(tmp_path: Path) -> None:
    """Create an archive of two studies with three instances, and the summary of a previous run."""
    for study, numbers in ((1, 2), (2, 1)):
        for number in range(numbers):
            write_instance(tmp_path / "archive", number, study=study)
    Path("s.json").write_text(LAST_NIGHT)


def figures() -> dict[str, Any]:
    """Return the summary."""
    summary: dict[str, Any] = json.loads(Path("s.json").read_text())
    return summary


def test_it_says_when_what_and_how(capsys: pytest.CaptureFixture[str], places: Mapping[str, str]) -> None:
    """The summary has start and end with the offset from UTC, exit status, version, ledger and studies."""
    before = datetime.now(UTC)
    assert call(capsys, "upload", "archive", "--url", places["url"], "--summary", "s.json").status == 0
    summary = figures()
    began, ended = (datetime.fromisoformat(summary[name]) for name in ("started_at", "ended_at"))
    assert began.utcoffset() == datetime.now().astimezone().utcoffset()
    assert before.replace(microsecond=0) <= began <= ended
    assert (summary["complete"], summary["exit_status"], summary["stopped_because"]) == (True, 0, None)
    assert (summary["version"], summary["ledger"], summary["studies"]) == (version("bulkstow"), "bulkstow.db", 2)
    assert stat.S_IMODE(Path("s.json").stat().st_mode) == 0o600
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []

    write_instance(Path("archive"), 7, study=2)
    call(capsys, "upload", "archive", "--url", places["url"], "--summary", "s.json")
    assert figures()["studies"] == 1
    assert (figures()["studies_known"], figures()["studies_complete"]) == (2, 2)
    call(capsys, "upload", "archive", "--url", places["url"], "--summary", "s.json")
    assert figures()["studies"] == 0


ENDS = [
    # what is left of the command, exit status, the reason
    ("archive --url {refused}", 3, "cannot connect to {refused}: Connection refused"),
    ("archive --url {locked}", 3, "{locked}"),
    ("archive --url {url}/wrong", 3, "404"),
    ("gone --url {url}", 2, "no such file or directory: 'gone'"),
    ("--url {url}", 2, "nothing to send"),
    ("archive --url {url} --files-from gone", 2, "--files-from gone: cannot be read"),
    ("archive --url {url} --user ada", 2, "--user without a password"),
    ("archive --url {url} --ca-file gone", 2, "certificates gone cannot be loaded"),
    ("archive --url {url} --ledger used.db", 3, "the ledger used.db is in use by another run"),
]


@pytest.mark.parametrize(("words", "exit_status", "reason"), ENDS, ids=[words for words, *_ in ENDS])
@pytest.mark.parametrize("where", ["s.json", "-"])
def test_a_run_that_could_not_begin_has_one(
    capsys: pytest.CaptureFixture[str],
    places: Mapping[str, str],
    words: str,
    exit_status: int,
    reason: str,
    where: str,
) -> None:
    """The new summary replaces the old one, is not complete, and has the exit status and the reason in one line."""
    with Ledger(Path("used.db"), "http://pacs.example/dicom-web"):
        ended = call(capsys, "upload", *names_in(words, places).split(), "--summary", where, "--progress", "none")
    assert ended.status == exit_status
    summary = json.loads(ended.out) if where == "-" else figures()
    assert (summary["complete"], summary["exit_status"]) == (False, exit_status)
    assert names_in(reason, places) in summary["stopped_because"]
    assert "\n" not in summary["stopped_because"]
    assert summary["ended_at"] is not None


WRONG_USES = [
    ("upload archive", "--url is missing"),
    ("upload archive --url {url} --retries many", "'many' is not a whole number"),
    ("upload archive --url {url} --retris 3", "--retris"),
    ("upload archive --url {url} --retries 1 --retries 2", "--retries specified multiple times"),
    ("upload archive --url {url} --config c.toml", 'c.toml: no setting "bandwith" in [upload]'),
]


@pytest.mark.parametrize(("words", "reason"), WRONG_USES, ids=[words for words, _ in WRONG_USES])
@pytest.mark.parametrize("place", ["flag", "environment"])
def test_a_setting_that_cannot_be_used_has_one(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    places: Mapping[str, str],
    words: str,
    reason: str,
    place: str,
) -> None:
    """After wrong use the summary is not that of the previous run."""
    Path("c.toml").write_text("[upload]\nbandwith = '5MB/s'\n")
    if place == "environment":
        monkeypatch.setenv("BULKSTOW_SUMMARY", "s.json")
    given = names_in(words, places).split() + (["--summary", "s.json"] if place == "flag" else [])
    ended = call(capsys, *given)
    assert ended.status == 2
    assert reason in ended.err
    summary = figures()
    assert (summary["complete"], summary["exit_status"]) == (False, 2)
    assert f"bulkstow: {summary['stopped_because']}\n" == ended.err


def test_an_internal_error_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, places: Mapping[str, str]
) -> None:
    """An internal error leads to status 3; the reason has its type, but not its text, which may be confidential."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("PATIENT^NAME")

    monkeypatch.setattr("bulkstow.pipeline.run.Batcher.add", fail)
    ended = call(capsys, "upload", "archive", "--url", places["url"], "--summary", "s.json")
    assert ended.status == 3
    assert ended.err.endswith("bulkstow: internal error: ZeroDivisionError; please report it\n")
    assert (figures()["exit_status"], figures()["stopped_because"]) == (3, "internal error: ZeroDivisionError")


def test_a_summary_that_cannot_be_written_is_no_success(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, places: Mapping[str, str]
) -> None:
    """If only the summary cannot be written, the status is 2; another status is not changed."""
    Path("dir").mkdir()
    counts: list[str] = []

    def write_once(flag: str, path: Path, text: str) -> None:
        counts.append(text)
        if len(counts) % 2 == 0:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("bulkstow.cli.files.os.fsync", lambda fd: write_once("", Path(), ""))
    words = ("upload", "archive", "--summary", "dir/s.json")
    ended = call(capsys, *words, "--url", places["url"])
    assert ended.status == 2
    assert "--summary dir/s.json: cannot be written (No space left on device)" in ended.err
    assert call(capsys, *words, "--url", places["refused"]).status == 3
    assert [path.name for path in Path("dir").iterdir()] == ["s.json"]
    assert json.loads(Path("dir/s.json").read_text())["complete"] is False


def test_what_is_no_file_stays(capsys: pytest.CaptureFixture[str], places: Mapping[str, str]) -> None:
    """A link is kept; a pipe receives one object, and is not replaced by a file."""
    Path("link").symlink_to("s.json")
    call(capsys, "upload", "archive", "--url", places["url"], "--summary", "link")
    assert Path("link").is_symlink()
    assert figures()["complete"] is True
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE) as reader:
        call(capsys, "upload", "archive", "--url", places["url"], "--summary", "pipe")
        out, _ = reader.communicate(timeout=PATIENCE_S)
    assert json.loads(out)["exit_status"] == 0
    assert Path("pipe").is_fifo()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_run_that_is_ended_while_it_connects(number: signal.Signals) -> None:
    """The summary of a killed run says that the run is not complete."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with running("upload", "archive", "--url", url, "--summary", "s.json") as process:
            connection, _ = server.accept()
            assert connection.recv(1)
            process.send_signal(number)
            ended = end(process)
            connection.close()
    is_killed = number is signal.SIGKILL
    assert ended.status == (-number if is_killed else 130)
    assert "Traceback" not in ended.err
    summary = figures()
    assert (summary["complete"], summary["exit_status"]) == (False, None if is_killed else 130)
    assert summary["stopped_because"] == (None if is_killed else "interrupted")
    assert (summary["ended_at"] is None) == is_killed
