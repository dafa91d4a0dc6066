"""kill -9 at any moment loses nothing, and repeats only the requests in flight."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import anyio
import pytest
from aiohttp import web
from anyio.abc import Process

from bulkstow.ledger import LedgerReader, read_entries
from bulkstow.model import Outcome, StoreResponse
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage
from tests.archives import write_instance

pytestmark = pytest.mark.anyio

INSTANCES = 120
BATCH = 4
SENDERS = 3

UPLOAD = f"""
import os, signal, sys
from bulkstow.cli.app import status

def die():
    os.kill(os.getpid(), signal.SIGKILL)

{{trap}}

sys.exit(status(["upload", {{archive!r}}, "--url", {{url!r}}, "--ledger", {{ledger!r}}, "--progress", "none",
    "--batch-instances", "{BATCH}", "--concurrency", "{SENDERS}", "--processes", {{processes!r}}]))
"""

BEFORE_THE_COMMIT = """
from bulkstow.ledger import Ledger
record, calls = Ledger.record, []
def die_before(self, outcomes):
    calls.append(1)
    if len(calls) == 3:
        die()
    return record(self, outcomes)
Ledger.record = die_before
"""

AFTER_THE_COMMIT = """
from bulkstow.ledger import Ledger
record, calls = Ledger.record, []
def die_after(self, outcomes):
    recorded = record(self, outcomes)
    calls.append(1)
    if len(calls) == 3:
        die()
    return recorded
Ledger.record = die_after
"""

IN_THE_SCAN = """
from bulkstow.source.files import FileSource
from bulkstow.source.walk import Walk
FileSource.__init__.__kwdefaults__["list_length"] = 10
run_steps, calls = Walk.run_steps, []
def die_midway(self, worker, **how):
    calls.append(1)
    if len(calls) == 6:
        die()
    return run_steps(self, worker, **how)
Walk.run_steps = die_midway
"""

IN_THE_BODY = """
from bulkstow.destination.sendfile import SendfileWriter
push, bodies = SendfileWriter._push, {}
def die_midway(self, segment, wanted_bytes):
    bodies.setdefault(self, len(bodies))
    if bodies[self] == 7:
        push(self, segment, wanted_bytes // 2)
        die()
    return push(self, segment, wanted_bytes)
SendfileWriter._push = die_midway
"""


MARK = "MARK_OF_A_TEST"
"""A variable that the processes of one test have."""


def marked(mark: Path) -> list[str]:
    """Return the numbers of the processes with a mark, without this one (Linux only)."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            has_mark = f"{MARK}={mark}\0".encode() in (directory / "environ").read_bytes()
            if has_mark and directory.name != str(os.getpid()):
                found.append(directory.name)
    return found


class Witness:
    """Counts the instances that the origin stores, and can kill the sender."""

    def __init__(self) -> None:
        self.stored: Counter[str] = Counter()
        self.kill_at: int | None = None
        self.process: Process | None = None

    async def before(self, request: web.Request, number: int) -> web.StreamResponse | None:
        """Leave the request alone."""
        return None

    async def after(
        self, request: web.Request, number: int, response: StoreResponse
    ) -> StoreResponse | web.StreamResponse:
        """Count the stored instances, and kill the sender before it gets the response, if requested."""
        self.stored.update(item.sop_instance_uid for item in response.stored)
        if self.kill_at is not None and number >= self.kill_at and self.process is not None:
            self.kill_at = None
            self.process.kill()
        return response


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive of a few studies."""
    for number in range(INSTANCES):
        write_instance(tmp_path / "archive" / f"s{number // 30}", number, study=number // 30 + 1)
    return tmp_path / "archive"


async def run_once(
    url: str, archive: Path, ledger: Path, witness: Witness, trap: str = "", *, processes: int | str = 1
) -> int:
    """Run the command line in its own process, with a trap in it, and return its exit status."""
    script = UPLOAD.format(trap=trap, archive=str(archive), url=url, ledger=str(ledger), processes=str(processes))
    async with await anyio.open_process(
        [sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=None
    ) as process:
        witness.process = process
        return await process.wait()


def check_whole(archive: Path, storage: DirectoryStorage, *ledgers: Path) -> None:
    """Check that every file is recorded as stored, and is stored unchanged."""
    held = storage.digests()
    with LedgerReader(ledgers) as reader:
        entries = [entry.result for entry in reader.entries()]
    assert len(entries) == INSTANCES
    for result in entries:
        assert result.outcome is Outcome.STORED
        assert result.header is not None
        content = Path(result.candidate.location).read_bytes()
        assert held[result.header.sop_instance_uid] == sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("trap", "kill_at", "processes"),
    [
        ("", 5, 1),
        (BEFORE_THE_COMMIT, None, 1),
        (AFTER_THE_COMMIT, None, 1),
        (IN_THE_SCAN, None, 1),
        (IN_THE_BODY, None, 1),
        ("", 5, 3),
        (AFTER_THE_COMMIT, None, 3),
    ],
    ids=[
        *("before the answer", "before the commit", "after the commit", "in the scan", "in the body"),
        *("before the answer, with senders", "after the commit, with senders"),
    ],
)
async def test_killed_at_a_point(
    archive: Path, tmp_path: Path, trap: str, kill_at: int | None, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill at a named point, a second run stores all files; only unrecorded ones are sent twice.

    The processes that sent for it end by themselves.
    """
    monkeypatch.setenv(MARK, str(tmp_path))
    storage, witness, ledger = DirectoryStorage(tmp_path / "origin"), Witness(), tmp_path / "l.db"
    witness.kill_at = kill_at
    async with serving(Origin(storage, fault=witness)) as url:
        assert await run_once(url, archive, ledger, witness, trap, processes=processes) == -signal.SIGKILL
        while marked(tmp_path):  # noqa: ASYNC110 - other processes set no event here
            await anyio.sleep(0.01)
        recorded = len(list(read_entries(ledger)))
        assert await run_once(url, archive, ledger, witness, processes=processes) == 0
    assert not marked(tmp_path)
    check_whole(archive, storage, ledger)
    assert recorded < INSTANCES
    repeated = sum(times - 1 for times in witness.stored.values())
    # Under way with each sender, and answered but on the way to the ledger: two batches each, and a commit's gathering.
    assert repeated <= 3 * SENDERS * BATCH


async def test_killed_again_and_again(archive: Path, tmp_path: Path) -> None:
    """After kills at random requests, all files are stored in the end."""
    storage, witness, ledger = DirectoryStorage(tmp_path / "origin"), Witness(), tmp_path / "l.db"
    chance = random.Random(7)
    kills = 0
    async with serving(Origin(storage, fault=witness)) as url:
        requests = 0
        while True:
            requests += chance.randint(2, 12)
            witness.kill_at = requests
            status = await run_once(url, archive, ledger, witness)
            if status == 0:
                break
            assert status == -signal.SIGKILL
            kills += 1
            assert kills < 30
    check_whole(archive, storage, ledger)
    assert kills >= 2
    assert sum(times - 1 for times in witness.stored.values()) <= 3 * SENDERS * BATCH * kills


async def test_a_killed_shard_continues(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards store all files once, but for what was under way in the one that was killed and repeated."""
    storage, witness = DirectoryStorage(tmp_path / "origin"), Witness()
    monkeypatch.setenv("BULKSTOW_SHARD_LEVEL", "file")
    async with serving(Origin(storage, fault=witness)) as url:
        for number in (1, 2, 3):
            monkeypatch.setenv("BULKSTOW_SHARD", f"{number}/3")
            if number == 2:
                witness.kill_at = 0
                assert await run_once(url, archive, tmp_path / "2.db", witness) == -signal.SIGKILL
            assert await run_once(url, archive, tmp_path / f"{number}.db", witness) == 0
    ledgers = [tmp_path / f"{number}.db" for number in (1, 2, 3)]
    check_whole(archive, storage, *ledgers)
    assert sum(len(list(read_entries(ledger))) for ledger in ledgers) == INSTANCES
    assert sum(times - 1 for times in witness.stored.values()) <= 3 * SENDERS * BATCH


def files_in(archive: Path) -> list[Path]:
    """Return the files of the archive."""
    return list(archive.glob("*/*"))


@pytest.mark.parametrize(("form", "processes"), [("zip", 1), ("gztar", 1), ("gztar", 3)])
async def test_a_killed_run_of_an_archive_continues(archive: Path, tmp_path: Path, form: str, processes: int) -> None:
    """A second run takes the members that the first has not recorded, also those that were in the spool."""
    packed = Path(await anyio.to_thread.run_sync(shutil.make_archive, str(tmp_path / "packed"), form, archive))
    contents = {sha256(path.read_bytes()).hexdigest() for path in await anyio.to_thread.run_sync(files_in, archive)}
    storage, witness, ledger = DirectoryStorage(tmp_path / "origin"), Witness(), tmp_path / "l.db"
    witness.kill_at = 5
    async with serving(Origin(storage, fault=witness)) as url:
        assert await run_once(url, packed, ledger, witness, processes=processes) == -signal.SIGKILL
        assert await run_once(url, packed, ledger, witness, processes=processes) == 0
    outcomes = [entry.result.outcome for entry in read_entries(ledger)]
    assert outcomes == [Outcome.STORED] * INSTANCES
    assert set(storage.digests().values()) == contents
    assert sum(times - 1 for times in witness.stored.values()) <= 3 * SENDERS * BATCH
