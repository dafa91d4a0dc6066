"""Claims about a process's limits and its use of memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bulkstow.platform import process

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "allowed", "soft_afterwards"),
    [
        (200, 4096, 100, 200),
        (64, 4096, 100, 100),
        (64, UNLIMITED, 100, 100),
        (64, 80, 80, 80),
        (UNLIMITED, UNLIMITED, 100, UNLIMITED),
    ],
    ids=["enough", "raised", "raised without bound", "clamped", "unlimited"],
)
def test_the_limit_is_raised_as_far_as_possible(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, allowed: int, soft_afterwards: int
) -> None:
    """A limit that suffices stays; the hard limit is the bound."""
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _what: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _what, changed: limits.append(changed))
    assert process.raise_open_files_limit(100) == allowed
    assert limits[-1][0] == soft_afterwards


def test_a_limit_that_cannot_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS refuses more than its own bound, whatever the hard limit says."""

    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _what: (64, UNLIMITED))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert process.raise_open_files_limit(100) == 64


def test_a_system_without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no `resource`, nothing is limited."""
    monkeypatch.setitem(sys.modules, "resource", None)
    assert process.raise_open_files_limit(100) == 100


def test_memory_grows_with_what_is_held() -> None:
    """It grows by about the size of what was allocated, in a process that frees nothing meanwhile."""
    program = (
        "from bulkstow.platform.process import rss_bytes; before = rss_bytes(); held = bytearray(b'x') * (64 * 2**20); "
        "print(rss_bytes() - before)"
    )
    grown_bytes = int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert 0.9 * 64 * 2**20 <= grown_bytes <= 1.1 * 64 * 2**20


def test_memory_is_zero_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only Linux has `/proc/self/statm`."""
    monkeypatch.setattr(process, "STATM", Path("/gone"))
    assert process.rss_bytes() == 0


def test_a_clock_shows_the_time_of_the_thread_that_made_it() -> None:
    """Another thread reads how much processor time this one has used."""
    clock, read_s = process.thread_cpu_clock(), []
    used_before_s = clock()
    while clock() == used_before_s:
        pass
    reader = threading.Thread(target=lambda: read_s.append(clock()))
    reader.start()
    reader.join()
    assert used_before_s < read_s[0] <= clock()


def test_a_clock_stands_still_if_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """MacOS does not tell a thread's time to others."""
    monkeypatch.delattr(time, "pthread_getcpuclockid")
    assert process.thread_cpu_clock()() == 0


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000\n", 4.0), ("150000 100000\n", 1.5), ("1600000 100000\n", 4.0), ("", 4.0)],
    ids=["no limit", "a part", "more than there are", "unreadable"],
)
def test_the_processors_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: float
) -> None:
    """A container's quota counts if it is less than the processors that the process may run on."""
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(process, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(process, "cores", lambda: 4)
    assert process.usable_cores() == expected
    monkeypatch.setattr(process, "QUOTA", tmp_path / "absent")
    assert process.usable_cores() == 4.0


@pytest.mark.parametrize(("own_nice", "expected_ticks"), [(0, 300 + 20 + 7), (10, 300 + 20)])
def test_the_time_that_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_nice: int, expected_ticks: int
) -> None:
    """Idle time is free, also while a disk is waited for, and that of processes with a lower priority than this one."""
    (tmp_path / "stat").write_text("cpu  100 7 50 300 20 0 1 0 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    monkeypatch.setattr(process, "STAT", tmp_path / "stat")
    monkeypatch.setattr(os, "nice", lambda _: own_nice)
    assert process.idle_s() == expected_ticks / os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(process, "STAT", tmp_path / "absent")
    assert process.idle_s() is None
