"""The walk where a file system does not answer: what hangs is told, and nothing else is lost."""

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
    """Let the look at some entries of d1 wait."""
    look = Walk._look

    def wait(self: Walk, entry: DirEntry[str], real_path: str) -> Any:
        if entry.path.endswith(tuple(f"d1/{name}" for name in names)):
            answered.wait()
        return look(self, entry, real_path)

    monkeypatch.setattr(Walk, "_look", wait)


async def walked(root: Path, limit: ReadLimit, *, until_stuck: threading.Event | None = None) -> list[Found]:
    """Return all that is found; `until_stuck` is set once everything else is."""
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
    """Return the files that were found."""
    return sorted(str(Path(one.location).relative_to(root)) for one in found if isinstance(one, Candidate))


def told(found: list[Found], root: Path) -> dict[str, str]:
    """Return the reasons of what is unreadable."""
    results = [one for one in found if isinstance(one, FileResult) and one.outcome is Outcome.UNREADABLE]
    return {str(Path(one.candidate.location).relative_to(root)): one.reason for one in results}


async def test_entries_that_hang_are_unreadable_one_by_one(
    archive: Path, monkeypatch: pytest.MonkeyPatch, answered: threading.Event
) -> None:
    """Fewer than mean the directory: all others are found."""
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
    """A few of its entries are waited for, and it is told once; the other directories are found."""
    hang_at(monkeypatch, answered, *(f"f{number}" for number in range(10)))
    monkeypatch.setattr(WorkerThreads, "__exit__", lambda *_: None)
    found = await walked(archive, ReadLimit(LIMIT_S))
    assert names(found, archive) == [f"{name}/f{number}" for name in ("d1/below", "d2") for number in range(10)]
    reasons = told(found, archive)
    assert len(reasons) == HANGING_AT_ONCE + 1
    assert "a directory that cannot be listed: several entries hang" in reasons["d1"]


async def test_what_is_answered_within_the_limit_is_found(
    archive: Path, monkeypatch: pytest.MonkeyPatch, answered: threading.Event
) -> None:
    """A file server that comes back costs nothing, though every entry of a directory hung."""
    hang_at(monkeypatch, answered, *(f"f{number}" for number in range(10)))
    limit = ReadLimit(60.0)
    monkeypatch.setattr(ReadLimit, "stuck_s", 0.05)
    found = await walked(archive, limit, until_stuck=answered)
    assert len(names(found, archive)) == 30
    assert told(found, archive) == {}
