"""The limits and the resources of this process: open files, processors, memory."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
"""Of Linux's prctl(2)."""

STATM = Path("/proc/self/statm")
STAT = Path("/proc/stat")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""The processor time that a container may use, as two numbers: so many µs in so many µs; the first may be `max`."""


def raise_open_files_limit(wanted: int) -> int:
    """Raise the limit on open files to `wanted`, as far as the system allows it; return how many may be open.

    Returns `wanted` where the system has no limit, or a higher one.
    """
    try:
        import resource
    except ImportError:  # Windows: it allows 8,192 files, and sockets are not counted
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(OSError, ValueError):  # macOS has a bound below its hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        return raised
    return soft


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> float:
    """Return how many processors' worth of time this process may use; in a container that may be a fraction."""
    try:
        quota, period = QUOTA.read_text().split()
        return min(float(cores()), int(quota) / int(period))
    except (OSError, ValueError):  # no limit, or another system
        return float(cores())


def idle_s() -> float | None:
    """Return the time in which processors of this computer were free for this process, summed up; None if unknown.

    Processes of a lower priority (nice) give way, so their time is free, unless this one has such a priority, too.
    """
    try:
        _user, nice, _system, idle, waiting = map(int, STAT.read_text().split(maxsplit=6)[1:6])
    except (OSError, ValueError):
        return None
    return (idle + waiting + (nice if os.nice(0) <= 0 else 0)) / os.sysconf("SC_CLK_TCK")


def end_with_parent() -> None:
    """Have the system kill this process when its parent ends (Linux only)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leave_group() -> NoReturn:
    """End this process at once, and with it the commands that it has started, if it leads a process group."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def rss_bytes() -> int:
    """Return the resident set size of this process; 0 where the system does not tell."""
    try:
        return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def thread_cpu_clock() -> Callable[[], float]:
    """Return a function for any thread that returns the seconds of processor time that the calling thread has used.

    It always returns 0 if a thread's time is not readable from another one (macOS, Windows).
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        return float
    return partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))
