"""What this client runs on, and how much memory it has."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_STATM = Path("/proc/self/statm")


def described() -> str:
    """Return the machine in words, without its name: `Linux 6.1 x86_64, 8 cores, Python 3.12.1`."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{system}, {cores()} cores, Python {platform.python_version()}"


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rss_bytes() -> int:
    """Return the resident set size of this process; 0 where the system does not tell."""
    try:
        pages = int(_STATM.read_bytes().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
