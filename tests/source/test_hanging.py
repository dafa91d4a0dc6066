"""The walk of a file system that hangs: entries that hang are reported, and all others are found."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from os import DirEntry
from pathlib import Path
from typing import Any

import pytest

from bulkstow.blocking import ReadLimit, run_in_threads
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import Found
from bulkstow.source.walk import HANGING_AT_ONCE, Walk

pytestmark = pytest.mark.anyio

LIMIT_S = 0.3


@pytest.fixture
def answered() -> Iterator[threading.Event]:
    """Give an event that is set at the end of the test at the latest."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give two directories of ten files, the first with a directory below it."""
    for directory in ("d1", "d1/below", "d2"):
        (tmp_path / directory).mkdir()
        for number in range(10):
            (tmp_path / directory / f"f{number}").touch()
    return tmp_path


def hang_at(monkeypatch: pytest.MonkeyPatch, answered: threading.Event, *names: str) -> None:
    """Let reading the status of some entries of d1 hang."""
    look = Walk._look

    def wait(self: Walk, entry: DirEntry[str], real_path: str) -> Any:
        if entry.path.endswith(tuple(f"d1/{name}" for name in names)):
            answered.wait()
        return look(self, entry, real_path)

    monkeypatch.setattr(Walk, "_look", wait)


async def walked(root: Path, limit: ReadLimit, *, until_stuck: threading.Event | None = None) -> list[Found]:
    """Return all results; `until_stuck` is set once only hanging entries are left."""
    found: list[Found] = []
    with WorkerThreads(2, stuck_s=limit.stuck_s) as threads:
        async for several in run_in_threads(Walk([str(root)]), threads.scans, limit):
            found += several
            if until_stuck is not None and not several:
                until_stuck.set()
        if until_stuck is None:
            threads.shutdown(wait=False)
    return found


def names(found: list[Found], root: Path) -> list[str]:
    """Return the candidates."""
    return sorted(str(Path(one.location).relative_to(root)) for one in found if isinstance(one, Candidate))


def told(found: list[Found], root: Path) -> dict[str, str]:
    """Return the reasons of unreadable files."""
    results = [one for one in found if isinstance(one, FileResult) and one.outcome is Outcome.UNREADABLE]
    return {str(Path(one.candidate.location).relative_to(root)): one.reason for one in results}


async def test_entries_that_hang_are_unreadable_one_by_one(
    archive: Path, monkeypatch: pytest.MonkeyPatch, answered: threading.Event
) -> None:
    """With fewer than HANGING_AT_ONCE all other entries of the directory are found."""
    hang_at(monkeypatch, answered, "f3", "f7")
    monkeypatch.setattr(WorkerThreads, "__exit__", lambda *_: None)
    found = await walked(archive, ReadLimit(LIMIT_S))
    assert len(names(found, archive)) == 28
    reasons = told(found, archive)
    assert set(reasons) == {"d1/f3", "d1/f7"}
    assert all("cannot be looked at: the storage has not answered for" in reason for reason in reasons.values())


async def test_a_directory_whose_entries_all_hang_is_given_up_whole(
    archive: Path, monkeypatch: pytest.MonkeyPatch, answered: threading.Event
) -> None:
    """After a few of its entries it is reported once; the other directories are found."""
    hang_at(monkeypatch, answered, *(f"f{number}" for number in range(10)))
    monkeypatch.setattr(WorkerThreads, "__exit__", lambda *_: None)
    found = await walked(archive, ReadLimit(LIMIT_S))
    assert names(found, archive) == [f"{name}/f{number}" for name in ("d1/below", "d2") for number in range(10)]
    reasons = told(found, archive)
    assert len(reasons) == HANGING_AT_ONCE + 1
    assert "a directory that cannot be listed: several entries hang" in reasons["d1"]


async def test_entries_that_end_within_the_limit_are_found(
    archive: Path, monkeypatch: pytest.MonkeyPatch, answered: threading.Event
) -> None:
    """If a file server comes back, no entry is lost, even if all of a directory hung."""
    hang_at(monkeypatch, answered, *(f"f{number}" for number in range(10)))
    limit = ReadLimit(60.0)
    monkeypatch.setattr(ReadLimit, "stuck_s", 0.05)
    found = await walked(archive, limit, until_stuck=answered)
    assert len(names(found, archive)) == 30
    assert told(found, archive) == {}
