"""bulkstow with a finger on the pulse of its event loop: `python -m benchmarks.pulse FILE upload …`.

A thread of its own asks the loop every now and then to do next to nothing; FILE gets, as one JSON list, how many
seconds the loop took to come to it. Whatever blocks in the loop, a read from a slow disk above all, makes it late; so
do, by a few milliseconds, other threads that hold the interpreter.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from pathlib import Path

from benchmarks.inside import status_with

INTERVAL_S = 0.02
"""Fifty questions a second cost nothing that shows, and a loop that is late by a read of 5 ms is met now and again."""


def observe(loop: asyncio.AbstractEventLoop, late_s: list[float]) -> None:
    """Ask the loop again and again, until it is closed, and note how late it was."""
    try:
        while True:
            came = threading.Event()
            asked_s = time.perf_counter()
            loop.call_soon_threadsafe(came.set)
            came.wait()
            late_s.append(time.perf_counter() - asked_s)
            time.sleep(INTERVAL_S)
    except RuntimeError:  # it is closed
        return


def _main() -> None:
    file = Path(sys.argv.pop(1))
    late_s: list[float] = []

    def begin(loop: asyncio.AbstractEventLoop) -> None:
        threading.Thread(target=observe, args=(loop, late_s), daemon=True).start()

    try:
        sys.exit(status_with(begin))
    finally:
        file.write_text(json.dumps(late_s))


if __name__ == "__main__":
    _main()
