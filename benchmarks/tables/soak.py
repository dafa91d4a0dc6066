"""An upload of minutes, whose use of the machine must not grow."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.corpus import TINY
from benchmarks.measure import Goal, Table
from benchmarks.processes import CHECKOUT, PeerFailed, environment, sink

SETTLED = 0.25
"""Of the soak, in which caches and pools fill: growth is looked for behind it."""
GROWTH = 1.1
"""What an allocator may drift by; a leak of 200 bytes a file would be 40 MB over the tiny archive, 15 MB of it between
the middles of the halves: a quarter more."""

SPARE = 2
"""Threads, descriptors, tasks that may come late all the same: pools make theirs when they are first wanted. What leaks
with every request, or every hundredth, leaks more: ten minutes are a thousand requests."""


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
        if (taken := server.instances()) != archive.files:
            raise PeerFailed(f"{' '.join(command)}\nthe server took {taken} of {archive.files} instances")
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
        goals.append(Goal(f"no growth of {rows[-1][0]}", f"{shown[0]} to {shown[1]}", not grows(name, early, late)))
    title = f"Soak: {archive.files:,} files in {uses[-1].at_s / 60:.1f} minutes"
    return Table(title, ("what", "first half", "second half", "peak"), rows, goals, samples={"uses": uses})


def grows(name: str, early: float, late: float) -> bool:
    """Say whether the median of the second half is more than the first half's, by more than what is no leak."""
    return late > early * GROWTH and (name == "rss_bytes" or late > early + SPARE)


def _watch(command: list[str]) -> list[Use]:
    uses: list[Use] = []
    started_s = time.monotonic()
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment(), cwd=CHECKOUT
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("USE "):
                rss, descriptors, threads, tasks = map(int, line.split()[1:])
                uses.append(Use(time.monotonic() - started_s, rss, descriptors, threads, tasks))
    if process.returncode or len(uses) < 8:
        raise PeerFailed(f"{' '.join(command)}\nended with {process.returncode} after {len(uses)} samples")
    return uses
