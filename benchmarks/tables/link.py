"""Long links, and how much of them is used."""

from __future__ import annotations

import asyncio
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from benchmarks.bench import Bench, Observed
from benchmarks.corpus import FAR, Corpus
from benchmarks.measure import Goal, Table, take_turns
from benchmarks.processes import HOST, Server, sink
from benchmarks.relay import Link, relay

RATE_BYTES_PER_S = 25e6
"""200 Mbit/s: more than a few connections with a window of their own can fill, and no work for the relay."""
DELAYS_S = (0.025, 0.05)
"""One way. The issue's 50 ms may be there and back, or one way: one link takes five connections, the other ten."""
WINDOW_BYTES = 256 * 2**10
FIXED = (8, 16)
SCALE = 0.35
"""42 s of transfer; two minutes at scale 1. Sixteen connections at once take ten seconds for a request of 16 MiB each,
so that whoever has to find the number of them sees few requests end."""

AUTO = "auto"
USED = 0.9
"""Of the link: the issue's."""

NOTES = [
    "Of the link: bytes that arrived, framing included, against what the link can carry, from the first byte to the",
    "last instance, which is what the goal is for; and from half of that time until the last request began. Requests",
    "have the default size; those of one study do not wait for each other here, as it is two of them, far apart.",
]


def link(bench: Bench) -> Table:
    """Return how much of long links is used."""
    archive = bench.corpus(FAR, SCALE)
    options: dict[str, tuple[str, ...]] = {AUTO: ()}
    options |= {str(number): ("--concurrency", str(number)) for number in FIXED}

    def crossing(delay_s: float, name: str) -> Callable[[], Observed]:
        return lambda: _cross(bench, archive, delay_s, options[name])

    taken = {
        delay_s: take_turns({name: crossing(delay_s, name) for name in options}, bench.repeats_of(1))
        for delay_s in DELAYS_S
    }
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    for delay_s, found in taken.items():
        name = f"{2000 * delay_s:.0f} ms there and back"
        rows += [_row(name, number, runs) for number, runs in found.items()]
        used = _used(found[AUTO])
        goals.append(Goal(f"link of {name}: >= 90 % used", f"{used:.0%}", used >= USED))
    of_link = f"{RATE_BYTES_PER_S / 1e6:.0f} MB/s, {WINDOW_BYTES // 1024} KiB a connection"
    columns = ("link", "at once", "wall s", "of the link", "once settled", "CPU s")
    samples = {f"{delay_s} s": found for delay_s, found in taken.items()}
    return Table(f"Links: {of_link}; {archive.size_bytes / 1e9:.2f} GB", columns, rows, goals, NOTES, samples)


def _cross(bench: Bench, archive: Corpus, delay_s: float, options: Sequence[str]) -> Observed:
    with sink() as near, _far(near, delay_s) as server:
        return bench.observe(archive, server, *options)


def _row(name: str, number: str, runs: Sequence[Observed]) -> tuple[str, ...]:
    return (
        name,
        f"auto: {', '.join(str(run.concurrency) for run in runs)}" if number == AUTO else number,
        f"{statistics.median(run.sample.wall_s for run in runs):.1f}",
        f"{_used(runs):.0%}",
        f"{statistics.median(run.settled.bytes_per_s for run in runs) / RATE_BYTES_PER_S:.0%}",
        f"{statistics.median(run.sample.cpu_s for run in runs):.1f}",
    )


def _used(runs: Sequence[Observed]) -> float:
    return statistics.median(run.whole.bytes_per_s for run in runs) / RATE_BYTES_PER_S


@contextmanager
def _far(near: Server, delay_s: float) -> Iterator[Server]:
    """Give the same server at the far end of a link, which runs in a thread."""
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    is_up, is_over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        long = Link(RATE_BYTES_PER_S, delay_s, WINDOW_BYTES)
        async with relay(long, HOST, urlsplit(near.url).port or 80) as port:
            ports.append(port)
            is_up.set()
            await is_over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    is_up.wait()
    try:
        yield replace(near, url=f"http://{HOST}:{ports[0]}/dicom-web")
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
        loop.close()
