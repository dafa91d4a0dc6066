"""`upload`, `plan` and `verify` of an object store, from the command line to the server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from bulkstow.model import StoreResponse
from bulkstow.server.storage import DirectoryStorage, DiscardStorage
from bulkstow.wire.synthetic import part10
from tests.archives import header
from tests.cli.command import Ended, call, end, running, served
from tests.object_stores import BUCKET, LOGIN, FaultyStore, Moto, faulty_store, moto

INSTANCES = 40


def content_of(number: int, rows: int = 16) -> bytes:
    """Return an instance."""
    return part10(header(number), rows=rows, columns=16, number=number)


@pytest.fixture(scope="module")
def server() -> Iterator[Moto]:
    """Run one server for all tests."""
    with moto() as server:
        yield server


@pytest.fixture
def store(server: Moto) -> Moto:
    """Give a server with a bucket of instances, a text and an archive."""
    server.clear()
    for number in range(INSTANCES):
        server.put(f"2024/{number % 4}/im {number:03}.dcm", content_of(number))
    server.put("2024/read me.txt", b"hello")
    server.put("2024/old.zip", b"PK\x03\x04" + bytes(100))
    return server


@pytest.fixture(autouse=True)
def _login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def faulty() -> Iterator[FaultyStore]:
    """Give a store with instances, whose faults a test sets."""
    contents = {f"{number:03}.dcm": content_of(number) for number in range(INSTANCES)}
    with faulty_store(contents=contents) as store:
        yield store


def words(command: str, url: str, store: Moto | FaultyStore, *options: str) -> list[str]:
    """Return a command for the bucket."""
    return [command, f"s3://{BUCKET}", "--url", url, "--source-endpoint", store.endpoint, *options]


def summary_of(ended: Ended) -> dict[str, object]:
    """Return the summary that a command has printed."""
    found = json.loads(ended.out)
    assert isinstance(found, dict)
    return found


QUIET = ("--summary", "-", "--progress", "none")


def test_a_bucket_is_sent_once_and_what_changes_is_sent_again(store: Moto, capsys: pytest.CaptureFixture[str]) -> None:
    """The second run fetches nothing that is settled; a replaced object has another ETag."""
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        first = summary_of(call(capsys, *words("upload", url, store, *QUIET)))
        assert first["outcomes"]["stored"] == INSTANCES  # type: ignore[index]
        assert (first["outcomes"]["unreadable"], first["outcomes"]["skipped"]) == (1, 1)  # type: ignore[index]
        assert len(storage.digests()) == INSTANCES
        second = summary_of(call(capsys, *words("upload", url, store, *QUIET)))
        assert (second["delivered"], second["requests"]) == (0, 0)
        store.put("2024/1/im 001.dcm", content_of(INSTANCES + 1))
        third = summary_of(call(capsys, *words("upload", url, store, *QUIET)))
        assert third["delivered"] == 1
        assert len(storage.digests()) == INSTANCES + 1
        reported = call(capsys, "report", "bulkstow.db", "--outcome", "unreadable").out
        assert f"s3://{BUCKET}/2024/old.zip" in reported
        assert "a zip archive, which was not looked into" in reported


def test_plan_and_verify_read_a_bucket(store: Moto, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`plan` reads heads by ranges, and `verify --level content` compares objects with the server's instances."""
    with served(DirectoryStorage(tmp_path / "server")) as url:
        planned = call(capsys, *words("plan", url, store))
        assert f"instances                   {INSTANCES}" in planned.out
        assert call(capsys, *words("upload", url, store, *QUIET)).status == 1
        verified = call(capsys, *words("verify", url, store, "--level", "content"))
        assert f"{INSTANCES} of {INSTANCES} instances found, level content" in verified.says


def test_sender_processes_send_what_was_fetched(store: Moto, capsys: pytest.CaptureFixture[str]) -> None:
    """They open the spool of the process that fetches."""
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        summary = summary_of(call(capsys, *words("upload", url, store, *QUIET, "--processes", "2")))
    assert summary["outcomes"]["stored"] == INSTANCES  # type: ignore[index]
    assert len(storage.digests()) == INSTANCES


class _Restarts:
    """A fault of the destination that restarts the source at the third request."""

    def __init__(self, store: Moto) -> None:
        self._store = store

    async def before(self, _request: web.Request, number: int) -> None:
        """Restart, while some objects are being fetched."""
        if number == 3:
            self._store.stop()
            self._store.start()

    async def after(self, _request: web.Request, _number: int, response: StoreResponse) -> StoreResponse:
        """Do nothing."""
        return response


def test_a_store_that_is_restarted_is_waited_for(store: Moto, capsys: pytest.CaptureFixture[str]) -> None:
    """Requests that were cut off are made again, and every instance arrives whole."""
    storage = DiscardStorage(remember=True)
    with served(storage, fault=_Restarts(store)) as url:
        options = ("--batch-instances", "2", "--concurrency", "1", "--spool-bytes", "20kB")
        summary = summary_of(call(capsys, *words("upload", url, store, *QUIET, *options)))
    assert summary["outcomes"]["stored"] == INSTANCES  # type: ignore[index]
    assert summary["outcomes"]["unreadable"] == 1  # type: ignore[index]


def test_after_kill_9_nothing_settled_is_fetched_again(faulty: FaultyStore) -> None:
    """The ledger has the stored instances, and the second run completes the rest."""
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        options = (*QUIET, "--batch-instances", "1", "--concurrency", "1", "--source-concurrency", "1")
        command = words("upload", url, faulty, *options, "--spool-bytes", "4kB")
        with running(*command) as process:

            def kill(key: str) -> None:
                if key.startswith("030"):
                    process.kill()

            faulty.on_object = kill
            assert end(process).status == -9
        faulty.on_object = None
        before, faulty.requests = faulty.requests, []
        stored_before = len(storage.digests())
        with running(*command) as process:
            summary = summary_of(end(process))
    fetched = Counter(path for path in faulty.requests if path.endswith(".dcm"))
    assert 0 < stored_before < INSTANCES
    assert len(storage.digests()) == INSTANCES
    assert summary["settled_before"] == INSTANCES - len(fetched)
    assert INSTANCES - stored_before <= len(fetched) <= INSTANCES - stored_before + 1
    assert set(fetched.values()) == {1}
    assert len([path for path in before if path.endswith(".dcm")]) > stored_before


@pytest.mark.parametrize(
    ("name", "status", "code", "said"),
    [
        ("s3://archive", 403, "AccessDenied", "access is refused (403, AccessDenied: AccessDenied was said)"),
        ("s3://archive", 404, "NoSuchBucket", "there is no such bucket (404, NoSuchBucket: NoSuchBucket was said)"),
        ("s3://", 0, "", "expected s3://BUCKET/PREFIX"),
        ("s3://key:secret@archive", 0, "", "the source holds a user or password"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_a_usage_error(
    faulty: FaultyStore, capsys: pytest.CaptureFixture[str], name: str, status: int, code: str, said: str
) -> None:
    """Nothing is sent, and no secret is printed."""
    faulty.refusal = status, code
    storage = DiscardStorage(remember=True)
    with served(storage) as url:
        ended = call(capsys, "upload", name, "--url", url, "--source-endpoint", faulty.endpoint)
    assert ended.status == 2
    assert said in ended.err
    assert "secret" not in ended.says
    assert not storage.digests()


def test_one_kind_of_source_at_a_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A bucket and a directory are two runs."""
    ended = call(capsys, "upload", f"s3://{BUCKET}", str(tmp_path), "--url", "http://127.0.0.1:1/dicom-web")
    assert ended.status == 2
    assert "one kind of source at a time" in ended.err


@pytest.mark.parametrize("option", ["--source-user=me", "--source-header=X-Key: 1", "--source-bearer-file=token"])
def test_a_login_of_another_kind_is_a_usage_error(capsys: pytest.CaptureFixture[str], option: str) -> None:
    """A setting that would have no effect is no login."""
    ended = call(capsys, "upload", f"s3://{BUCKET}", "--url", "http://127.0.0.1:1/dicom-web", option)
    assert ended.status == 2
    assert f"{option.partition('=')[0]} is for DICOMweb servers" in ended.err
