"""The walk of slow storage: statuses are read by several threads, and the results are those of one thread."""

from __future__ import annotations

import os
import threading
from os import DirEntry
from pathlib import Path
from typing import Any

import anyio
import pytest

from bulkstow import blocking
from bulkstow.blocking import Helpers, ReadLimit, Worker, run_in_threads
from bulkstow.model import Candidate, FileResult
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import Found
from bulkstow.source import walk
from bulkstow.source.walk import Walk

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0
HELPERS = 3


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give directories of several files, of one, and of none."""
    for directory, files in {"a": 9, "a/below": 5, "b": 1, "c": 0, "d": 20}.items():
        (tmp_path / directory).mkdir()
        for number in range(files):
            (tmp_path / directory / f"f{number:02}").touch()
    return tmp_path


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every list late, and no step quick."""
    monkeypatch.setattr(walk, "LIST_S", -1.0)
    monkeypatch.setattr(blocking, "SLOW_STEP_S", -1.0)


async def walked(root: Path, limit_s: float = PATIENCE_S) -> list[Found]:
    """Return what is found with helpers."""
    found: list[Found] = []
    limit = ReadLimit(limit_s)
    threads = WorkerThreads(HELPERS, stuck_s=limit.stuck_s)
    helpers = Helpers(threads.heads, HELPERS)
    with anyio.fail_after(PATIENCE_S):
        async for several in run_in_threads(Walk([str(root)]), threads.scans, limit, helpers=helpers):
            found += several
    threads.shutdown(wait=False)
    return found


def sequential(root: Path) -> list[Found]:
    """Return what one thread finds."""
    work = Walk([str(root)])
    return [found for several in iter(lambda: work.run_steps(Worker()), []) for found in several]


@pytest.mark.usefixtures("slow")
async def test_statuses_are_read_at_once_and_found_in_order(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many are read at the same time as there are helpers, and no more."""
    expected = sequential(archive)
    lock, all_at_once, at_once, most = threading.Lock(), threading.Event(), 0, 0
    look = Walk._look

    def count(self: Walk, entry: DirEntry[str], real_path: str) -> Any:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            if at_once == HELPERS:
                all_at_once.set()
        if entry.name >= "f02":  # the first statuses of a directory are read alone
            assert all_at_once.wait(PATIENCE_S)
        found = look(self, entry, real_path)
        with lock:
            at_once -= 1
        return found

    monkeypatch.setattr(Walk, "_look", count)
    assert await walked(archive) == expected
    assert most == HELPERS


@pytest.mark.usefixtures("slow")
async def test_an_entry_that_hangs_is_given_up_alone(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All others are found, whoever was to read their status."""
    answered, look = threading.Event(), Walk._look

    def hang(self: Walk, entry: DirEntry[str], real_path: str) -> Any:
        if entry.path.endswith("d/f07"):
            answered.wait(PATIENCE_S)
        return look(self, entry, real_path)

    monkeypatch.setattr(Walk, "_look", hang)
    found = await walked(archive, limit_s=0.3)
    answered.set()
    candidates = [Path(one.location) for one in found if isinstance(one, Candidate)]
    results = [one for one in found if isinstance(one, FileResult)]
    assert len(candidates) == len(set(candidates)) == 34
    assert [Path(one.candidate.location).name for one in results] == ["f07"]
    assert "the storage has not answered for" in results[0].reason


async def test_quick_statuses_are_read_by_one_thread(archive: Path) -> None:
    """As long as lists are full in time, nothing is asked of the helpers."""
    threads = WorkerThreads(HELPERS)
    helpers = Helpers(threads, HELPERS)
    threads.shutdown()
    found: list[Found] = []
    with WorkerThreads(1) as scanning:
        async for several in run_in_threads(
            Walk([str(archive)], list_length=5), scanning.scans, ReadLimit(PATIENCE_S), helpers=helpers
        ):
            found += several
    assert found == sequential(archive)


@pytest.mark.usefixtures("slow")
async def test_storage_that_has_become_quick_is_walked_by_one_thread(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that helpers find quick end their help."""
    monkeypatch.setattr(blocking, "SLOW_STEP_S", PATIENCE_S)
    monkeypatch.setattr(walk, "LIST_S", PATIENCE_S)
    helped: list[object] = []
    monkeypatch.setattr(Walk, "run_ahead", lambda _self, step: helped.append(step))
    work, limit = Walk([str(archive)]), ReadLimit(PATIENCE_S)
    work._is_slow = True
    with WorkerThreads(HELPERS) as threads:
        lists = run_in_threads(work, threads.scans, limit, helpers=Helpers(threads.heads, HELPERS))
        found = [one async for several in lists for one in several]
    assert found == sequential(archive)
    assert len(helped) == 4  # the directories in the first one


def test_an_entry_keeps_its_status(tmp_path: Path) -> None:
    """The status that a helper has read is not read again."""
    (tmp_path / "f").touch()
    (entry,) = os.scandir(tmp_path)
    assert entry.stat() is entry.stat()
