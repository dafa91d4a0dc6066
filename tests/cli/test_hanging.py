"""Storage that does not answer: one read hangs, the rest is sent, and the run ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from aiohttp import web

from bulkstow import blocking
from bulkstow.ledger import read_entries
from bulkstow.model import Header, Outcome, StoreResponse
from bulkstow.server.storage import DiscardStorage
from bulkstow.source.windows import open_file
from tests.archives import write_instance
from tests.cli.command import call, served

FILES = 40
LIMIT = "400ms"

PEER_PATIENCE_S = 0.4
"""How long a server waits for the next piece of a body."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give two studies in a directory each."""
    for study in (1, 2):
        for number in range(FILES // 2):
            write_instance(tmp_path / f"archive/d{study}", number, study=study)
    return tmp_path / "archive"


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Give an event that nothing sets before the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def hanging(call: Callable[..., Any], name: str, never: threading.Event) -> Callable[..., Any]:
    """Return a system call that does not return for a path that ends with `name`."""

    def hang(path: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(path, str) and path.endswith(name):
            never.wait()
        return call(path, *arguments, **options)

    return hang


def results(tmp_path: Path) -> dict[str, tuple[Outcome, str]]:
    """Return the outcomes of the ledger by file name."""
    entries = [entry.result for entry in read_entries(tmp_path / "bulkstow.db")]
    return {Path(o.candidate.location).name: (o.outcome, o.reason) for o in entries}


def told(tmp_path: Path) -> dict[str, str]:
    """Return the reasons of unreadable files by name."""
    return {name: reason for name, (outcome, reason) in results(tmp_path).items() if outcome is Outcome.UNREADABLE}


@pytest.mark.parametrize(
    ("system_call", "name", "stored", "says"),
    [
        ("open", "IM001000003", FILES - 1, "cannot be read: the storage has not answered for"),
        ("scandir", "d1", FILES // 2, "a directory that cannot be listed: the storage has not answered for"),
    ],
    ids=["head", "directory"],
)
def test_what_hangs_is_unreadable_and_the_rest_is_stored(
    capsys: pytest.CaptureFixture[str],
    archive: Path,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    system_call: str,
    name: str,
    stored: int,
    says: str,
) -> None:
    """After the time limit the run continues without the file, and ends with the right status."""
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        monkeypatch.setattr(os, system_call, hanging(getattr(os, system_call), name, never))
        ended = call(capsys, "upload", "archive", "--url", url, "--read-timeout", LIMIT)
    assert ended.status == 1
    assert len(storage.digests()) == stored
    outcome, reason = results(tmp_path)[name]
    assert (outcome, reason.startswith(says)) == (Outcome.UNREADABLE, True)


def test_a_comparison_that_hangs_is_given_up(
    capsys: pytest.CaptureFixture[str],
    archive: Path,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy that cannot be compared is a failure; all other files are stored."""
    original = archive / "d1/IM001000003"
    (archive / "d2/copy").write_bytes(original.read_bytes())
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        monkeypatch.setattr(
            "bulkstow.source.files.open_file",
            hanging(lambda path, **_: os.open(path, os.O_RDONLY), "copy", never),
        )
        ended = call(capsys, "upload", "archive", "--url", url, "--read-timeout", LIMIT)
    assert ended.status == 1
    assert len(storage.digests()) == FILES
    found = results(tmp_path)
    assert [name for name, (outcome, _) in found.items() if outcome is Outcome.UNREADABLE] in (
        ["copy"],
        [original.name],
    )


def test_a_source_that_hangs_is_told_at_the_start(
    capsys: pytest.CaptureFixture[str], archive: Path, never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent, and the message names the source."""
    monkeypatch.setattr(os, "stat", hanging(os.stat, "archive", never))
    ended = call(capsys, "upload", "archive", "--url", "http://127.0.0.1:9", "--read-timeout", LIMIT)
    assert ended.status == 2
    assert "cannot look at 'archive': the storage has not answered for" in ended.err


class Impatient:
    """A fault with a time limit for each piece of a body, after which it responds with a status; 0 disconnects."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._request: web.Request | None = None

    async def before(self, request: web.Request, number: int) -> Impatient:
        """Take this request."""
        struck = Impatient(self._status)
        struck._request = request
        return struck

    async def body(self, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """Yield the pieces that arrive in time."""
        coming = aiter(pieces)
        while True:
            try:
                async with asyncio.timeout(PEER_PATIENCE_S):
                    piece = await anext(coming, None)
            except TimeoutError:
                self._give_up()
            if piece is None:
                return
            yield piece

    def _give_up(self) -> NoReturn:
        if self._status:
            answer = web.HTTPException()
            answer.set_status(self._status)
            raise answer
        assert self._request is not None
        assert self._request.transport is not None
        self._request.transport.abort()
        raise ConnectionResetError

    def judge(self, header: Header) -> None:
        """Store everything."""

    async def after(self, request: web.Request, number: int, response: StoreResponse) -> StoreResponse:
        """Do nothing."""
        return response


@pytest.fixture
def body_hangs(monkeypatch: pytest.MonkeyPatch, never: threading.Event) -> threading.Event:
    """Let the opening of one file hang; return the event of its start."""
    begun = threading.Event()
    hang = hanging(open_file, "IM001000003", never)

    def open_for_body(location: str, *, by_link: bool) -> int:
        if location.endswith("IM001000003"):
            begun.set()
        descriptor: int = hang(location, by_link=by_link)
        return descriptor

    monkeypatch.setattr("bulkstow.source.files.open_file", open_for_body)
    return begun


def test_ctrl_c_ends_a_run_whose_body_hangs(
    capsys: pytest.CaptureFixture[str],
    archive: Path,
    tmp_path: Path,
    body_hangs: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first SIGINT ends the run before the time limit, with status 130; the file is not recorded as stored."""
    monkeypatch.setattr(blocking, "GRACE_S", 0.2)

    def interrupt() -> None:
        body_hangs.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        ended = call(capsys, "upload", "archive", "--url", url, "--read-timeout", "1h")
    assert ended.status == 130
    assert "IM001000003" in told(tmp_path)
    stored = [outcome for outcome, _ in results(tmp_path).values() if outcome is Outcome.STORED]
    assert len(stored) == len(storage.digests())


@pytest.mark.parametrize("answer", [0, 400, 408, 502, 200], ids=["hangs up", "400", "408", "502", "200"])
def test_a_server_that_does_not_wait_for_the_disk(
    capsys: pytest.CaptureFixture[str],
    archive: Path,
    tmp_path: Path,
    body_hangs: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    answer: int,
) -> None:
    """The hanging file is unreadable before the time limit; the others of its batch are stored."""
    monkeypatch.setattr(blocking, "STUCK_S", PEER_PATIENCE_S / 4)
    storage = DiscardStorage(remember=True)
    with served(storage, fault=Impatient(answer)) as url:
        ended = call(capsys, "upload", "archive", "--url", url, "--read-timeout", "1h", "--batch-instances", "40")
    assert body_hangs.is_set()
    assert ended.status == 1
    assert set(told(tmp_path)) == {"IM001000003"}
    assert len(storage.digests()) == FILES - 1


def test_a_file_that_hangs_after_the_answer_is_unreadable_alone(
    capsys: pytest.CaptureFixture[str],
    archive: Path,
    tmp_path: Path,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that cannot be verified is not recorded as stored; the others in the response are."""
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        monkeypatch.setattr(os, "stat", hanging(os.stat, "IM001000003", never))
        ended = call(capsys, "upload", "archive", "--url", url, "--read-timeout", LIMIT, "--batch-instances", "40")
    assert ended.status == 1
    ((name, reason),) = told(tmp_path).items()
    assert (name, "cannot be looked at again: the storage has not answered for" in reason) == ("IM001000003", True)
    assert [outcome for outcome, _ in results(tmp_path).values()].count(Outcome.STORED) == FILES - 1


def test_a_body_leaves_out_what_hangs(
    capsys: pytest.CaptureFixture[str], archive: Path, never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bulkstow body` lists a hanging directory and file; all other files are in the body."""
    monkeypatch.setattr(os, "scandir", hanging(os.scandir, "d2", never))
    monkeypatch.setattr(os, "open", hanging(os.open, "IM001000003", never))
    ended = call(capsys, "body", "archive", "--read-timeout", LIMIT)
    assert ended.status == 1
    assert f"left out: '{archive}/d1/IM001000003': cannot be read: the storage has not answered" in ended.err
    assert f"left out: '{archive}/d2': a directory that cannot be listed: the storage has not answered" in ended.err
    assert f"{FILES // 2 - 1} instances" in ended.out


@pytest.mark.usefixtures("body_hangs")
def test_a_body_ends_where_a_read_hangs(capsys: pytest.CaptureFixture[str], archive: Path) -> None:
    """A file that hangs after its head was read is named in the error, and no command is printed."""
    ended = call(capsys, "body", "archive", "--read-timeout", LIMIT)
    assert (ended.status, ended.out) == (2, "")
    assert f"{archive}/d1/IM001000003: cannot be read: the storage has not answered" in ended.err
