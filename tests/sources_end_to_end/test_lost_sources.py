"""Sources that go away or change during an upload: waited for, or unreadable with the reason; no half instance."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bulkstow.ledger import read_entries
from bulkstow.model import FileResult, Outcome
from tests.cli.command import running
from tests.object_stores import BUCKET, LOGIN, faulty_store, moto
from tests.orthanc.command import Upload
from tests.orthanc.servers import wait_until
from tests.sources_end_to_end.held_server import HeldServer, held_server
from tests.sources_end_to_end.packing import PACKERS, missing_program
from tests.sources_end_to_end.sources import Archive, archive_of

STUDIES, INSTANCES = 4, 12

ROWS, COLUMNS = 256, 512
"""Instances of 128 KiB, of which the sockets do not take all of a request."""

HELD_FROM = 3

OPTIONS = ("--progress", "log", "--batch-instances", "6", "--concurrency", "2")

SMALL_SPOOL = ("--spool-bytes", "1MiB", "--source-concurrency", "1")
"""Room for a sixth of the archive, and one request, since the rest of each response that is under way is in the buffers
of its sockets: much is not requested yet when the destination holds its requests."""


@pytest.fixture(scope="module")
def archive() -> Archive:
    """Give an archive of 6 MiB."""
    return archive_of(STUDIES, INSTANCES, rows=ROWS, columns=COLUMNS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HeldServer]:
    """Give a destination that holds requests before it reads their bodies."""
    with held_server(tmp_path / "root", holds_from=HELD_FROM, before_body=True) as server:
        yield server


def wait_until_held(server: HeldServer, is_running: Callable[[], bool]) -> None:
    """Wait until the server answers no more requests."""
    wait_until(lambda: server.held > 0 or not is_running(), "the requests to be held")
    assert is_running()


@contextmanager
def unreachable(port: int) -> Iterator[Callable[[], int]]:
    """Close each connection to a port at once; give a function that counts them."""
    connections = 0
    is_over = threading.Event()

    def refuse() -> None:
        nonlocal connections
        while True:
            accepted, _ = listener.accept()
            accepted.close()
            if is_over.is_set():
                return
            connections += 1

    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=refuse)
        thread.start()
        try:
            yield lambda: connections
        finally:
            is_over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def check_complete(server: HeldServer, archive: Archive, ledger: Path) -> None:
    """Check that all instances are stored unchanged, each by one request."""
    assert server.storage.digests() == archive.digests
    assert {entry.result.outcome for entry in read_entries(ledger)} == {Outcome.STORED}
    assert set(server.stored.values()) == {1}


def test_a_dicomweb_server_that_is_killed_and_comes_back(archive: Archive, server: HeldServer, tmp_path: Path) -> None:
    """The upload waits for it, says so, and ends with every instance stored once."""
    archive.store(tmp_path / "source")
    words = ("serve", str(tmp_path / "source"), "--port")
    with running(*words, "0") as source:
        assert source.stdout is not None
        url = next(word for line in source.stdout for word in line.decode().split() if word.startswith("http://"))
        port = url.rpartition(":")[2].partition("/")[0]
        upload = Upload(f"dicomweb+{url}", server.url, tmp_path, (*OPTIONS, *SMALL_SPOOL))
        with upload.running() as run:
            wait_until_held(server, lambda: run.process.poll() is None)
            source.kill()
            source.wait()
            server.open()
            wait_until(
                lambda: "the source does not answer" in run.err.read_text() or run.process.poll() is not None,
                "the word that the source does not answer",
            )
            with running(*words, port):
                ended = run.wait()
    assert ended.status == 0, ended.says
    assert "the source answers again after" in ended.says
    check_complete(server, archive, upload.ledger)


def test_a_bucket_whose_server_stops_and_comes_back(archive: Archive, server: HeldServer, tmp_path: Path) -> None:
    """The upload repeats its requests, and ends with every instance stored once."""
    with moto() as store:
        store.clear()
        for uid, content in archive.contents.items():
            store.put(uid, content)
        options = (*OPTIONS, *SMALL_SPOOL, "--source-endpoint", store.endpoint)
        upload = Upload(f"s3://{BUCKET}", server.url, tmp_path, options, LOGIN)
        with upload.running() as run:
            wait_until_held(server, lambda: run.process.poll() is None)
            store.stop()
            try:
                with unreachable(store.port) as connections:
                    server.open()
                    wait_until(lambda: connections() > 0, "a request to the bucket")
            finally:
                store.start()
            ended = run.wait()
    assert ended.status == 0, ended.says
    check_complete(server, archive, upload.ledger)


def test_a_bucket_that_is_gone(archive: Archive, server: HeldServer, tmp_path: Path) -> None:
    """The run stops with the reason; fetched objects are stored; once the bucket is back, the next run completes it."""
    with faulty_store(contents=dict(archive.contents)) as store:
        options = (*OPTIONS, *SMALL_SPOOL, "--source-endpoint", store.endpoint)
        upload = Upload(f"s3://{BUCKET}", server.url, tmp_path, options, LOGIN)
        with upload.running() as run:
            wait_until_held(server, lambda: run.process.poll() is None)
            store.refusal = (404, "NoSuchBucket")
            server.open()
            ended = run.wait()
        assert ended.status == 3, ended.says
        assert "the bucket is gone" in ended.says
        stored = server.storage.digests()
        assert 0 < len(stored) < STUDIES * INSTANCES
        assert stored.items() <= archive.digests.items()
        store.refusal = None
        assert upload.run().status == 0
    check_complete(server, archive, upload.ledger)


def replace(packed: Path, other: Path) -> None:
    """Put another archive with the same names in its place."""
    os.replace(other, packed)  # noqa: PTH105 - a rename


def overwrite(packed: Path, other: Path) -> None:
    """Write the bytes of another archive into it, as `cp` does."""
    packed.write_bytes(other.read_bytes())


def truncate(packed: Path, other: Path) -> None:
    """Cut off its end, which is not sent yet."""
    os.truncate(packed, packed.stat().st_size * 3 // 4)


def change_midway(
    kind: str, change: Callable[[Path, Path], None], archive: Archive, server: HeldServer, directory: Path
) -> list[FileResult]:
    """Upload an archive that changes in the middle; return the results."""
    if program := missing_program(kind):
        pytest.skip(f"the program {program} is not installed")
    packed, other = (pack(kind, contents, directory / name) for name, contents in two_versions(archive).items())
    original = packed.read_bytes()
    upload = Upload(packed, server.url, directory, (*OPTIONS, *SMALL_SPOOL))
    with upload.running() as run:
        wait_until_held(server, lambda: run.process.poll() is None)
        change(packed, other)
        server.open()
        run.wait()
    results = [entry.result for entry in read_entries(upload.ledger)]
    assert {result.outcome for result in results} <= {Outcome.STORED, Outcome.UNREADABLE}
    assert server.storage.digests().items() <= archive.digests.items()

    packed.write_bytes(original)
    assert upload.run().status == 0
    assert server.storage.digests() == archive.digests
    return results


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("zip, stored", overwrite),
        ("zip, stored", truncate),
        ("zip, deflated", overwrite),
        ("tar.gz", truncate),
    ],
)
def test_an_archive_that_changes(
    kind: str, change: Callable[[Path, Path], None], archive: Archive, server: HeldServer, tmp_path: Path
) -> None:
    """Each instance not sent yet is unreadable with the reason; each stored instance has its bytes of the scan."""
    results = change_midway(kind, change, archive, server, tmp_path)
    reasons = [result.reason for result in results if result.outcome is Outcome.UNREADABLE]
    assert reasons
    assert {reason.partition(":")[0] for reason in reasons} == {"changed while it was sent"}
    assert Outcome.STORED in {result.outcome for result in results}


def test_a_compressed_archive_that_is_replaced_is_read_to_its_end(
    archive: Archive, server: HeldServer, tmp_path: Path
) -> None:
    """It is open while its members are staged: all of them are those of the scan."""
    results = change_midway("tar.gz", replace, archive, server, tmp_path)
    assert {result.outcome for result in results} == {Outcome.STORED}


def two_versions(archive: Archive) -> dict[str, Archive]:
    """Return an archive, and another with the same names and lengths and other pixels."""
    changed = {uid: content[:-1000] + bytes(1000) for uid, content in archive.contents.items()}
    return {"one": archive, "other": Archive(changed, archive.headers)}


def pack(kind: str, archive: Archive, directory: Path) -> Path:
    """Write an archive and pack it."""
    archive.write(directory / "tree")
    (directory / "packed").mkdir()
    return PACKERS[kind](directory / "tree", directory / "packed")
