"""Claims about reading ahead: only where the storage is slow, and no further than a little."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from bulkstow.destination import prefetch
from bulkstow.destination.prefetch import AHEAD_FILES, SLOW_S, StorageSpeed
from bulkstow.model import Candidate, Instance
from bulkstow.policy.slowness import QUICK_READS, SLOW_READS
from bulkstow.source.files import PREFETCH_BYTES, FileSource
from tests.archives import header


@pytest.fixture
def readers() -> Iterator[ThreadPoolExecutor]:
    """Give one thread, so that what is asked for is fetched in order."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Disk:
    """A slow disk that keeps account of what is fetched."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def fetch(self, instance: Instance) -> int:
        """Note the location."""
        self.fetched.append(instance.candidate.location)
        return 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Give a slow disk."""
    monkeypatch.setattr(prefetch, "QUICK_S", 0.0)
    return Disk()


def find_slow(reading: StorageSpeed) -> None:
    """Have it learn that the storage is slow."""
    for _ in range(SLOW_READS):
        reading.learn(1, 1000, SLOW_S * 2)


INSTANCES = [Instance(Candidate(f"/archive/{n}", 1000, 0), header(n)) for n in range(100)]


def test_nothing_is_fetched_from_fast_storage(readers: ThreadPoolExecutor, disk: Disk) -> None:
    """As long as files come quickly nobody reads them twice."""
    reading = StorageSpeed(readers, disk.fetch)
    for _ in range(SLOW_READS):
        reading.learn(10, 5_000_000, 10 * SLOW_S / 2)
        reading.learn(0, 16_000_000, 60.0)  # a part of one large file says nothing of the next
        reading.learn(2, 16_000_000, 0.05)  # large ones take their time, from memory too
    for _ in range(SLOW_READS):
        for turn_s in [SLOW_S * 2] * (SLOW_READS - 1) + [0.0]:
            reading.learn(1, 1000, turn_s)  # one that was slow now and then
    reading.begin(INSTANCES).keep_ahead(0)
    readers.shutdown()
    assert disk.fetched == []


def test_the_next_files_are_fetched_from_slow_storage(readers: ThreadPoolExecutor, disk: Disk) -> None:
    """Each file behind the body's place is asked for once, in order, and no more than so many ahead of it."""
    reading = StorageSpeed(readers, disk.fetch)
    find_slow(reading)
    body = reading.begin(INSTANCES)
    for place in (0, 0, 5, 3, 80):
        body.keep_ahead(place)
    readers.shutdown()
    wanted = [*range(1, 6 + AHEAD_FILES), *range(81, 100)]
    assert disk.fetched == [f"/archive/{n}" for n in wanted]


def test_what_was_not_begun_is_not_fetched_for_a_body_that_ended(readers: ThreadPoolExecutor, disk: Disk) -> None:
    """A body that is given up leaves no work behind."""
    may_read = threading.Event()
    readers.submit(may_read.wait)
    reading = StorageSpeed(readers, disk.fetch)
    find_slow(reading)
    body = reading.begin(INSTANCES)
    body.keep_ahead(0)
    body.end()
    may_read.set()
    readers.shutdown()
    assert disk.fetched == []


def test_storage_that_has_become_fast_is_left_alone(
    readers: ThreadPoolExecutor, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When what is fetched is there already, time after time, fetching ends; until the storage is slow again."""
    monkeypatch.setattr(prefetch, "QUICK_S", 60.0)
    reading = StorageSpeed(readers, disk.fetch)
    find_slow(reading)
    for _ in range(QUICK_READS):
        fetch = reading.fetch(INSTANCES[0])
        assert fetch is not None
        fetch.result()
    assert reading.fetch(INSTANCES[0]) is None
    find_slow(reading)
    assert reading.fetch(INSTANCES[0]) is not None


@pytest.mark.parametrize(("fetching_s", "is_quick"), [(0.004, True), (0.006, False)])
def test_a_fetch_is_quick_for_its_bytes(
    readers: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetching_s: float, is_quick: bool
) -> None:
    """MiBs from memory take longer than a small file would be allowed."""
    large = Candidate(str(tmp_path / "large"), PREFETCH_BYTES, 0)
    (tmp_path / "large").write_bytes(bytes(large.size_bytes))
    clock = itertools.count(0.0, fetching_s)  # looked at before and after each fetch
    monkeypatch.setattr(prefetch, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    reading = StorageSpeed(readers, FileSource().prefetch)
    find_slow(reading)
    for _ in range(QUICK_READS):
        fetch = reading.fetch(Instance(large, header(1)))
        assert fetch is not None
        fetch.result()
    assert (reading.fetch(Instance(large, header(1))) is None) is is_quick


def test_files_that_cannot_be_read_are_not_our_affair(readers: ThreadPoolExecutor, tmp_path: Path) -> None:
    """A file that is gone, or empty, or longer than is fetched: whatever is wrong shows when it is sent."""
    (tmp_path / "0").touch()
    (tmp_path / "1").write_bytes(bytes(PREFETCH_BYTES + 1))
    reading = StorageSpeed(readers, FileSource().prefetch)
    find_slow(reading)
    for name in ("0", "1", "2"):
        fetch = reading.fetch(Instance(Candidate(str(tmp_path / name), 1, 0), header(1)))
        assert fetch is not None
        assert fetch.result() is None
