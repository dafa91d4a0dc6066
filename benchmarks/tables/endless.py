"""What takes its time: a long link, and an upload of minutes whose use of the machine must not grow."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.corpus import CT, TINY
from benchmarks.measure import Figures, Goal, Table, take_turns
from benchmarks.processes import CHECKOUT, HOST, Sample, Server, sink
from benchmarks.relay import Link, relay

LINK_BYTES_PER_S = 25e6
"""200 Mbit/s, which takes five connections of 256 KiB each 50 ms: a client that opens four cannot fill it."""
ROUND_TRIP_S = 0.05
WINDOW_BYTES = 256 * 2**10
FIXED = (4, 8, 16)

SAMPLE_S = 1.0
SETTLED = 0.25
"""Of the soak, in which caches and pools fill: growth is looked for behind it."""
GROWTH = 1.1
"""What an allocator may drift by; a leak of 200 bytes a file would be 40 MB over the tiny archive, 15 MB of it between
the middles of the halves: a quarter more."""


def link(bench: Bench) -> Table:
    """Return how much of a long link is used."""
    archive = bench.corpus(CT, 0.2)
    compared = {f"bulkstow --concurrency {n}": peers.bulkstow("--concurrency", str(n)) for n in FIXED}
    compared |= {"bulkstow": peers.bulkstow()}
    with sink() as near, _far(near) as server:
        runs = {name: (lambda peer=peer: bench.run(peer, archive, server)) for name, peer in compared.items()}
        taken: dict[str, list[Sample]] = take_turns(runs, bench.repeats)
    used = {
        name: statistics.median(archive.size_bytes / sample.wall_s for sample in samples) / LINK_BYTES_PER_S
        for name, samples in taken.items()
    }
    rows = [(name, f"{Figures(taken[name]).wall_s:.2f}", f"{part:.0%}") for name, part in used.items()]
    goal = Goal("bulkstow uses >= 90 % of the link", f"{used['bulkstow']:.0%}", used["bulkstow"] >= 0.9)
    of_link = f"{LINK_BYTES_PER_S / 1e6:.0f} MB/s, {ROUND_TRIP_S * 1000:.0f} ms round trip"
    title = f"Link: {of_link}, {WINDOW_BYTES // 1024} KiB a connection; {archive.size_bytes / 1e6:.0f} MB"
    return Table(title, ("peer", "wall s", "of the link"), rows, [goal], samples=taken)


@contextmanager
def _far(near: Server) -> Iterator[Server]:
    """Give the same server at the far end of a link, which runs in a thread."""
    loop = asyncio.new_event_loop()
    ports: list[int] = []
    is_up, is_over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        long = Link(LINK_BYTES_PER_S, ROUND_TRIP_S, WINDOW_BYTES)
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


@dataclass(frozen=True, slots=True)
class Use:
    """What a process holds at one moment."""

    at_s: float
    rss_bytes: int
    descriptors: int
    threads: int
    tasks: int


def soak(bench: Bench) -> Table:
    """Return whether memory, descriptors, threads and tasks stay where they are over minutes of upload."""
    archive = bench.corpus(TINY, 1.0)
    # A server slow enough that the archive lasts: four requests at once, each instance taking its time.
    instance_ms = bench.minutes * 60_000 * 4 / archive.files
    with (
        sink("--slots", "4", "--instance-ms", f"{instance_ms:.3f}") as server,
        tempfile.TemporaryDirectory(dir=bench.scratch) as own,
    ):
        command = peers.bulkstow("--concurrency", "4", "--progress", "none")(archive, server, Path(own))
        command[1:3] = ["-m", "benchmarks.watched"]
        uses = _watch(command)
    settled = [use for use in uses if use.at_s >= uses[-1].at_s * SETTLED]
    half = len(settled) // 2
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    for name in ("rss_bytes", "descriptors", "threads", "tasks"):
        early = statistics.median(getattr(use, name) for use in settled[:half])
        late = statistics.median(getattr(use, name) for use in settled[half:])
        scale, unit = (1e6, " MB") if name == "rss_bytes" else (1, "")
        shown = [f"{value / scale:,.0f}{unit}" for value in (early, late, max(getattr(use, name) for use in uses))]
        rows.append((name.removesuffix("_bytes"), *shown))
        goals.append(Goal(f"no growth of {rows[-1][0]}", f"{shown[0]} to {shown[1]}", late <= early * GROWTH))
    title = f"Soak: {archive.files:,} files in {uses[-1].at_s / 60:.1f} minutes"
    return Table(title, ("what", "first half", "second half", "peak"), rows, goals, samples={"uses": uses})


def _watch(command: list[str]) -> list[Use]:
    uses: list[Use] = []
    started_s = time.monotonic()
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=CHECKOUT
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            word, *numbers = line.split()
            if word == "USE":
                rss, descriptors, threads, tasks = map(int, numbers)
                uses.append(Use(time.monotonic() - started_s, rss, descriptors, threads, tasks))
    if process.returncode or len(uses) < 8:
        sys.exit(f"{' '.join(command)} ended with {process.returncode} after {len(uses)} samples")
    return uses
