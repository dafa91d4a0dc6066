"""Runs while reads hang: draining, and a file system that is gone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from bulkstow import blocking
from bulkstow.config import UploadSettings
from bulkstow.errors import StorageGone
from bulkstow.ledger import Ledger
from bulkstow.pipeline import worker_threads
from bulkstow.progress.tally import Tally
from bulkstow.source.files import FileSource
from tests.archives import write_instance
from tests.pipeline.runs import new_run
from tests.pipeline.test_run import URL, Server

pytestmark = pytest.mark.anyio

PATIENCE_S = 60


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive of 40 files."""
    for number in range(40):
        write_instance(tmp_path / "archive", number)
    return tmp_path / "archive"


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let opening a file hang until the end of the test; give an event that is set when one is opened."""
    begun, answered = threading.Event(), threading.Event()
    opens = os.open

    def hang(path: Any, *arguments: Any, **options: Any) -> int:
        if isinstance(path, str) and "/IM" in path:
            begun.set()
            answered.wait()
        return opens(path, *arguments, **options)

    monkeypatch.setattr(os, "open", hang)
    yield begun
    answered.set()


async def test_a_drained_run_ends_though_all_heads_hang(archive: Path, tmp_path: Path, begun: threading.Event) -> None:
    """Hanging reads are not waited for and get no outcome; the next run reads their files."""
    settings = UploadSettings(ledger=tmp_path / "l.db")
    tally = Tally()
    with anyio.fail_after(PATIENCE_S), Ledger(settings.ledger, URL) as ledger:
        run = new_run(settings, FileSource([str(archive)]), Server(), ledger, tally)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.carry_out)
            await anyio.to_thread.run_sync(begun.wait)
            run.drain()
    assert tally.settled_files == 0


async def test_a_dead_file_system_stops_the_run(
    archive: Path, tmp_path: Path, begun: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the largest number of threads hang, the run stops with a reason; it does not wait for each file."""
    monkeypatch.setattr(worker_threads, "MOST_STUCK", 4)
    monkeypatch.setattr(blocking, "STUCK_S", 0.05)
    settings = UploadSettings(ledger=tmp_path / "l.db", read_concurrency=2)
    gone = pytest.raises(StorageGone, match="the storage does not answer")
    with anyio.fail_after(PATIENCE_S), Ledger(settings.ledger, URL) as ledger, gone:
        await new_run(settings, FileSource([str(archive)]), Server(), ledger, Tally()).carry_out()
