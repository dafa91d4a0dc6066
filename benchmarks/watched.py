"""bulkstow with someone looking over its shoulder: `python -m benchmarks.watched upload …`.

Writes `USE rss_bytes descriptors threads tasks` to standard error every now and then, from a thread of its own. The
thread counts itself and its look into /proc in every sample alike.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time

from bulkstow.cli import main

INTERVAL_S = 1.0


def _look() -> None:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    while True:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
            rss_bytes = int(statm.read().split()[1]) * page_bytes
        # The loop's own list of tasks can only be had within it.
        tasks = sum(isinstance(found, asyncio.Task) or type(found).__name__ == "Task" for found in gc.get_objects())
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        print(f"USE {rss_bytes} {descriptors} {threading.active_count()} {tasks}", file=sys.stderr, flush=True)
        time.sleep(INTERVAL_S)


if __name__ == "__main__":
    threading.Thread(target=_look, daemon=True).start()
    main()
