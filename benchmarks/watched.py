"""bulkstow with someone looking over its shoulder: `python -m benchmarks.watched upload …`.

Writes `USE rss_bytes descriptors threads tasks` to standard error every now and then, from within its event loop.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading

from benchmarks.inside import status_with

INTERVAL_S = 1.0


def _look(loop: asyncio.AbstractEventLoop) -> None:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        rss_bytes = int(statm.read().split()[1]) * page_bytes
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    tasks = len(asyncio.all_tasks(loop))
    print(f"USE {rss_bytes} {descriptors} {threading.active_count()} {tasks}", file=sys.stderr, flush=True)
    loop.call_later(INTERVAL_S, _look, loop)


if __name__ == "__main__":
    sys.exit(status_with(_look))
