"""`bulkstow upload` as a user sees it: exit status, messages, figures, signals, secrets."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.from_thread
import pytest
from aiohttp import web

from bulkstow.ledger import read_entries
from bulkstow.model import Header, Outcome, StoreResponse, Summary
from bulkstow.pipeline.run import Run
from bulkstow.policy.retry import Backoff
from bulkstow.server.login import Login
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage, DiscardStorage
from bulkstow.source.walk import LIST_LENGTH
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, part10
from tests.archives import write_instance
from tests.cli.command import PATIENCE_S, Says, call, end, nobody, running, served, spawn, spawn_unread

INSTANCES = 6


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive of one study."""
    for number in range(INSTANCES):
        write_instance(tmp_path / "archive", number)
    return tmp_path / "archive"


@pytest.fixture
def storage() -> DiscardStorage:
    """Give a server's memory."""
    return DiscardStorage(remember=True)


@pytest.fixture
def url(storage: DiscardStorage) -> Iterator[str]:
    """Give a server."""
    with served(storage) as url:
        yield url


def write_refused(directory: Path) -> Path:
    """Write an instance that no server accepts, as its UID is invalid."""
    path = directory / "refused"
    path.write_bytes(
        part10(Header("2.25.1", "2.25.1.1", "no.uid", SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN), number=1)
    )
    return path


def test_an_archive_is_stored(archive: Path, url: str, tmp_path: Path) -> None:
    """A run in its own process stores every byte, ends with 0 and shows the result."""
    with served(DirectoryStorage(tmp_path / "stored")) as url:
        ended = spawn("upload", "archive", "--url", url)
    assert ended.status == 0, ended.err
    found = sorted(path.read_bytes() for path in (tmp_path / "stored").rglob("*.dcm"))
    assert found == sorted(path.read_bytes() for path in archive.iterdir())
    table, stored, *_, report = ended.out.splitlines()
    assert table.split() == ["outcome", "files", "studies"]
    assert stored.split() == ["stored", str(INSTANCES), "1"]
    assert "everything arrived: 1 of 1 study" in ended.out.splitlines()
    assert report == "every file: bulkstow report bulkstow.db"
    assert f"{INSTANCES} of {INSTANCES} files done" in ended.err


def test_a_refused_file_is_status_1(
    capsys: pytest.CaptureFixture[str], archive: Path, url: str, storage: DiscardStorage
) -> None:
    """The other files are stored; the failure and the command that lists all failures are shown."""
    refused = write_refused(archive)
    ended = call(capsys, "upload", "archive", "--url", url)
    assert ended.status == 1
    assert len(storage.digests()) == INSTANCES
    assert f"\n  refused {refused}: " in ended.out
    assert ended.out.endswith("\nall failures: bulkstow report bulkstow.db --outcome refused\n")


def test_a_second_run_sends_nothing(
    capsys: pytest.CaptureFixture[str], archive: Path, url: str, storage: DiscardStorage
) -> None:
    """Settled files are not sent again, and a file that was refused leads to status 1 again."""
    write_refused(archive)
    call(capsys, "upload", "archive", "--url", url)
    received = storage.received
    ended = call(capsys, "upload", "archive", "--url", url, "--summary", "-")
    assert (ended.status, storage.received) == (1, received)
    figures = json.loads(ended.out)
    assert (figures["requests"], figures["bytes_sent"]) == (0, 0)
    assert figures["settled_before"] == INSTANCES + 1
    assert (figures["outcomes"]["stored"], figures["outcomes"]["refused"]) == (INSTANCES, 1)


def test_the_summary_is_all_there_is_on_standard_output(archive: Path, url: str) -> None:
    """--summary -: one JSON object on one line of standard output; all other output goes to standard error."""
    (archive / "notes.txt").write_text("hello")
    ended = spawn("upload", "archive", "--url", url, "--summary", "-", "--progress", "none")
    assert ended.status == 0
    (line,) = ended.out.splitlines()
    figures = json.loads(line)
    assert figures.keys() == {field.name for field in dataclasses.fields(Summary)}
    assert figures["outcomes"] == {outcome.value: 0 for outcome in Outcome} | {"stored": INSTANCES, "skipped": 1}
    words = "stored warned duplicate refused unconfirmed conflict missing unreadable skipped"
    assert " ".join(figures["outcomes"]) == words
    assert (figures["destination"], figures["complete"], figures["settled_before"]) == (url, True, 0)
    assert figures["requests"] >= 1
    assert figures["retries"] == 0
    assert figures["bytes_sent"] > sum(path.stat().st_size for path in archive.glob("IM*"))
    assert "skipped 1: not DICOM" in ended.err


def test_the_summary_is_written_to_a_file(capsys: pytest.CaptureFixture[str], archive: Path, url: str) -> None:
    """--summary FILE: the same object replaces that of the last run; the closing text goes to standard output."""
    Path("figures.json").write_text("the last run's")
    ended = call(capsys, "upload", "archive", "--url", url, "--summary", "figures.json")
    assert ended.status == 0
    assert json.loads(Path("figures.json").read_text())["outcomes"]["stored"] == INSTANCES
    assert ended.out.startswith("outcome ")


def test_a_run_that_is_stopped_has_its_summary(capsys: pytest.CaptureFixture[str], archive: Path, url: str) -> None:
    """A run that is stopped by a wrong URL ends with 3, and its summary is not complete."""
    ended = call(capsys, "upload", "archive", "--url", f"{url}/wrong", "--summary", "figures.json", "--no-preflight")
    assert ended.status == 3
    assert "run the same command again" in ended.out
    figures = json.loads(Path("figures.json").read_text())
    assert not figures["complete"]
    assert figures["requests"] == 1


def test_nothing_to_store_is_status_0(capsys: pytest.CaptureFixture[str], tmp_path: Path, url: str) -> None:
    """A directory without DICOM is not a failure, and is shown."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("hello")
    ended = call(capsys, "upload", "notes", "--url", url)
    assert ended.status == 0
    assert "skipped 1: not DICOM" in ended.out


# Lists of files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "standard input"])
@pytest.mark.parametrize("null", [False, True], ids=["lines", "NULs"])
def test_sources_from_a_list(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    archive: Path,
    url: str,
    storage: DiscardStorage,
    place: str,
    null: bool,
) -> None:
    """Names in a file or on standard input are sources; with NULs a name may contain a newline."""
    odd = archive.parent / ("odd\nname" if null else "odd name")
    Path(write_instance(archive.parent, 77).candidate.location).rename(odd)
    names = b"".join(os.fsencode(path) + (b"\0" if null else b"\n") for path in (archive / "IM001000001", odd))
    Path("list").write_bytes(names)
    words = ["archive/IM001000002", "--files-from", "list" if place == "file" else "-", *(["-0"] if null else [])]
    with Path("list").open() as stdin, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", stdin)
        ended = call(capsys, "upload", *words, "--url", url)
    assert ended.status == 0, ended.says
    assert len(storage.digests()) == 3


def test_a_name_that_is_not_there_is_unreadable(
    capsys: pytest.CaptureFixture[str], archive: Path, url: str, storage: DiscardStorage
) -> None:
    """A listed name that does not exist fails, and the other files are stored."""
    Path("list").write_text("gone\narchive\n")
    ended = call(capsys, "upload", "--files-from", "list", "--url", url)
    assert ended.status == 1
    assert f"unreadable {archive.parent / 'gone'}: no such file" in ended.out
    assert len(storage.digests()) == INSTANCES


# Odd names --------------------------------------------------------------------------------------------------------


def test_odd_names_cannot_steer_the_terminal(archive: Path, url: str) -> None:
    """Control characters and bytes that are not UTF-8 are escaped in names and targets of links."""
    (archive / os.fsdecode(b"\xfelink\x1b[0m")).symlink_to(os.fsdecode(b"no\xffwhere\x1b[31m"))
    ended = spawn("upload", "archive", "--url", url, environment={"PYTHONIOENCODING": "utf-8:strict"})
    assert ended.status == 1
    assert r"\udcfelink\x1b[0m: a link to nothing: no\udcffwhere\x1b[31m" in ended.out
    assert "\x1b" not in ended.says


@pytest.mark.parametrize("summary", [(), ("--summary", "-")], ids=["words", "summary"])
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_reader_that_leaves_does_not_change_the_status(
    archive: Path, url: str, summary: tuple[str, ...], unbuffered: str
) -> None:
    """If standard output is closed during the run, the status stays 1 for a failed file, without a traceback."""
    write_refused(archive)
    words = ("upload", "archive", "--url", url, "--progress", "none", *summary)
    ended = spawn_unread(*words, environment={"PYTHONUNBUFFERED": unbuffered})
    assert ended.status == 1
    assert "Traceback" not in ended.err
    assert "Exception" not in ended.err


# Signals ----------------------------------------------------------------------------------------------------------


class Hold:
    """A fault that serves the first store request and delays the second until it is released."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.held = threading.Event()
        self._go_on = anyio.Event()

    def let_go(self) -> None:
        """Release all requests; to be called in the server's thread."""
        self._go_on.set()

    async def before(self, request: web.Request, number: int) -> None:
        """Delay the request."""
        self.begun.set()
        if number > 1:
            self.held.set()
            await self._go_on.wait()

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Do nothing."""
        return response


@pytest.fixture
def portal() -> Iterator[anyio.from_thread.BlockingPortal]:
    """Give a thread for the server."""
    with anyio.from_thread.start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def hold(portal: anyio.from_thread.BlockingPortal) -> Hold:
    """Give a way to stop the server midway."""
    return portal.call(Hold)


@pytest.fixture
def held_url(portal: anyio.from_thread.BlockingPortal, hold: Hold, storage: DiscardStorage) -> Iterator[str]:
    """Give a server that delays the second request."""
    with portal.wrap_async_context_manager(serving(Origin(storage, fault=hold))) as url:
        yield url
        portal.call(hold.let_go)


def midway(url: str) -> tuple[str, ...]:
    """Return the command of a run with a request for each instance, one after the other."""
    pace = ("--concurrency", "1", "--batch-instances", "1", "--progress", "log")
    return ("upload", "archive", "--url", url, "--summary", "figures.json", *pace)


def read_until(process: subprocess.Popen[bytes], word: bytes) -> None:
    """Wait until a process writes a word to standard error."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    raise AssertionError(f"it never said {word.decode()}")


def stored_in(ledger: Path) -> set[str]:
    """Return the SOP Instance UIDs that are stored by an intact ledger."""
    connection = sqlite3.connect(ledger)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    headers = [entry.result.header for entry in read_entries(ledger, [Outcome.STORED])]
    return {header.sop_instance_uid for header in headers if header is not None}


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_drains_the_run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    portal: anyio.from_thread.BlockingPortal,
    hold: Hold,
    held_url: str,
    storage: DiscardStorage,
    number: signal.Signals,
) -> None:
    """The current requests are finished and recorded, none is started; the next run sends only the rest."""
    with running(*midway(held_url)) as process:
        assert hold.held.wait(PATIENCE_S)
        process.send_signal(number)
        read_until(process, b"finishing the current requests; press Ctrl-C again to stop immediately")
        portal.call(hold.let_go)
        ended = end(process)
    assert ended.status == 130
    assert ended.out.endswith("not complete: run the same command again to continue where it stopped\n")
    assert "Traceback" not in ended.says
    assert stored_in(tmp_path / "bulkstow.db") == storage.digests().keys()
    assert storage.received == 2
    assert not json.loads(Path("figures.json").read_text())["complete"]

    again = call(capsys, *midway(held_url))
    assert again.status == 0
    assert storage.received == INSTANCES
    assert stored_in(tmp_path / "bulkstow.db") == storage.digests().keys()


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_second_signal_ends_the_run_at_once(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    portal: anyio.from_thread.BlockingPortal,
    hold: Hold,
    held_url: str,
    storage: DiscardStorage,
    number: signal.Signals,
) -> None:
    """The run ends though the server does not respond; the ledger is intact, and only stored files are stored in it."""
    with running(*midway(held_url)) as process:
        assert hold.held.wait(PATIENCE_S)
        process.send_signal(number)
        read_until(process, b"finishing")
        process.send_signal(number)
        ended = end(process)
    assert ended.status == 130
    assert "Traceback" not in ended.says
    assert "run the same command again" in ended.out
    assert len(stored_in(tmp_path / "bulkstow.db")) == 1

    portal.call(hold.let_go)
    again = call(capsys, *midway(held_url))
    assert again.status == 0
    assert len(stored_in(tmp_path / "bulkstow.db")) == len(storage.digests()) == INSTANCES


@pytest.mark.usefixtures("archive")
def test_a_hangup_that_is_ignored_stays_so(portal: anyio.from_thread.BlockingPortal, hold: Hold, held_url: str) -> None:
    """Under `nohup` the run continues when the terminal is closed, and ends with 0."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a new process inherits it
    try:
        with running(*midway(held_url)) as process:
            assert hold.held.wait(PATIENCE_S)
            process.send_signal(signal.SIGHUP)
            portal.call(hold.let_go)
            assert end(process).status == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert json.loads(Path("figures.json").read_text())["outcomes"]["stored"] == INSTANCES


@pytest.mark.usefixtures("archive")
def test_a_signal_ends_the_wait_for_a_list(hold: Hold, held_url: str) -> None:
    """A run that waits for more names on standard input ends with the first signal."""
    with running("upload", "--files-from", "-", "--url", held_url, "--batch-instances", "1") as process:
        assert process.stdin is not None
        process.stdin.write(LIST_LENGTH * b"archive/IM001000001\n")
        process.stdin.flush()
        assert hold.begun.wait(PATIENCE_S)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130


@pytest.mark.usefixtures("archive")
def test_a_wrong_url_ends_the_wait_for_a_list(url: str) -> None:
    """A run that fails ends although more names may arrive."""
    with running("upload", "--files-from", "-", "--url", f"{url}/wrong", "--batch-instances", "1") as process:
        assert process.stdin is not None
        process.stdin.write(LIST_LENGTH * b"archive/IM001000001\n")
        process.stdin.flush()
        assert process.wait(PATIENCE_S) == 3


@pytest.mark.usefixtures("archive")
def test_a_report_beside_a_run(
    capsys: pytest.CaptureFixture[str], portal: anyio.from_thread.BlockingPortal, hold: Hold, held_url: str
) -> None:
    """During a run its ledger can be read, and a second run with it is refused."""
    with running(*midway(held_url)) as process:
        assert hold.held.wait(PATIENCE_S)
        report = call(capsys, "report", "bulkstow.db", "--format", "jsonl")
        second = call(capsys, *midway(held_url))
        portal.call(hold.let_go)
        assert end(process).status == 0
    assert report.status == 0
    assert [json.loads(line)["outcome"] for line in report.out.splitlines()] == ["stored"]
    assert (second.status, second.out) == (3, "")
    assert "bulkstow.db is in use by another run" in second.err


# Secrets ----------------------------------------------------------------------------------------------------------

SECRET = "s3cret"
LOGINS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "password": (("--user", "ada"), {"BULKSTOW_PASSWORD": SECRET}),
    "password file": (("--user", "ada", "--password-file", "secret"), {}),
    "bearer": ((), {"BULKSTOW_BEARER": SECRET}),
    "bearer file": (("--bearer-file", "secret"), {}),
    "bearer command": (("--bearer-command", "cat secret"), {}),
    "header": (("--header", f"Authorization: Bearer {SECRET}"), {}),
    "header variable": ((), {"BULKSTOW_HEADER": f"Authorization: Bearer {SECRET}"}),
}


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, str]]:
    """Give servers that refuse a run, each in a different way."""
    with (
        served(login=Login(token="another")) as locked,
        served(fault=Says(401)) as refused,
        served(fault=Says(403)) as forbidden,
        served(fault=Says(500)) as broken,
        nobody() as gone,
    ):
        yield {"401 at once": locked, "401": refused, "403": forbidden, "500": broken, "refused connection": gone}


@pytest.fixture
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the waits between attempts from runs in this process."""
    monkeypatch.setattr("bulkstow.engine.local.Run", functools.partial(Run, backoff=Backoff(base_s=0.001, cap_s=0.005)))


@pytest.mark.usefixtures("archive", "_in_a_hurry")
@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize(
    ("answer", "exit_status"), [("401 at once", 3), ("401", 3), ("403", 3), ("500", 1), ("refused connection", 3)]
)
def test_no_secret_is_shown(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, str],
    login: str,
    answer: str,
    exit_status: int,
) -> None:
    """For any response of the server, no secret is in output, summary, report or ledger."""
    words, environment = LOGINS[login]
    Path("secret").write_text(f"{SECRET}\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    one = Path("archive") / "IM001000001"
    figures = ("--summary", "figures.json", "--retries", "0", "--progress", "log")
    ended = call(capsys, "upload", str(one), "--url", answers[answer], *figures, *words)
    assert ended.status == exit_status, ended.err
    report = call(capsys, "report", "bulkstow.db", "--format", "jsonl")
    assert report.status == 0
    written = b"".join(path.read_bytes() for path in Path().iterdir() if path.is_file() and path.name != "secret")
    for secret in (SECRET, base64.b64encode(f"ada:{SECRET}".encode()).decode()):
        assert secret not in ended.says
        assert secret not in report.says
        assert secret.encode() not in written


def test_the_login_is_used(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, archive: Path) -> None:
    """Each way to configure a login works."""
    with served(login=Login(users={"ada": SECRET}, token=SECRET)) as url:
        Path("secret").write_text(f"{SECRET}\n")
        for number, (words, environment) in enumerate(LOGINS.values()):
            with monkeypatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                ended = call(capsys, "upload", "archive", "--url", url, "--ledger", f"{number}.db", *words)
            assert ended.status == 0, ended.says


# The log ----------------------------------------------------------------------------------------------------------


def test_a_log_tells_the_whole_run(capsys: pytest.CaptureFixture[str], archive: Path, url: str) -> None:
    """The log has one JSON object per line from start to end, and is not sent itself."""
    refused = write_refused(archive)
    words = ("upload", "archive", "--url", url, "--log", "archive/run.log", "--log-format", "json")
    ended = call(capsys, *words, "--header", "Authorization: Bearer s3cret")
    assert ended.status == 1
    path = archive / "run.log"
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [lines[0]["event"], lines[-1]["event"]] == ["start", "end"]
    assert (lines[0]["destination"], lines[0]["sources"], lines[0]["retries"]) == (url, ["archive"], 4)
    assert (lines[-1]["exit_status"], lines[-1]["stored"], lines[-1]["refused"]) == (1, INSTANCES, 1)
    assert {"connect", "limits", "scan_end", "request", "failure"} <= {line["event"] for line in lines}
    assert [line["path"] for line in lines if line["event"] == "failure"] == [str(refused)]
    requests = [line for line in lines if line["event"] == "request"]
    assert all(line["status"] in (200, 202, 409) and "waiting_s" in line for line in requests)
    assert "s3cret" not in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert "run.log" not in call(capsys, "report", "bulkstow.db").out
    call(capsys, *words)
    assert path.read_text().startswith(text)
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()].count("start") == 2


def test_a_log_on_a_full_disk_stops_nothing(capsys: pytest.CaptureFixture[str], archive: Path, url: str) -> None:
    """A full disk leads to one warning; a log that cannot be opened is an error before anything is sent."""
    ended = call(capsys, "upload", "archive", "--url", url, "--log", "/dev/full", "--progress", "log")
    assert ended.status == 0
    assert ended.err.count("--log /dev/full: ends here, cannot be written (No space left on device)") == 1
    ended = call(capsys, "upload", "archive", "--url", url, "--log", "gone/run.log", "--ledger", "new.db")
    assert ended.status == 2
    assert ended.err == "bulkstow: --log gone/run.log: cannot be written (No such file or directory)\n"
    assert not Path("new.db").exists()


def test_a_stopped_terminal_holds_up_nothing(archive: Path, url: str) -> None:
    """A full pipe on standard error, as a terminal after Ctrl-S, does not stop the run."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    program = [sys.executable, "-m", "bulkstow", "upload", "archive", "--url", url, "--progress", "bar"]
    ended = subprocess.run(program, stderr=writer, stdout=subprocess.PIPE, timeout=PATIENCE_S)
    os.close(reader)
    os.close(writer)
    assert ended.returncode == 0
    assert b"stored                 6" in ended.stdout
