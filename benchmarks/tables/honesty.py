"""Whether the figures of `bulkstow bench` are true: the whole command, against sinks of which the truth is known.

Owns the loads, and what is known of each: how long a sink was frozen, what queueing theory says of it, what the sink
itself took. Times nothing but the processor: the other figures are the command's own.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.bench import Bench
from benchmarks.corpus import CT, MR, SMALL, Kind, corpus
from benchmarks.measure import Goal, Table, take_turns
from benchmarks.processes import Sample, Server, measured, sink
from bulkstow.bench.document import from_json
from bulkstow.bench.result import Result

FROZEN_S = 3.0
FREEZE = f"--slots 64 --service-ms 20 --freeze-at 8 --freeze-for {FROZEN_S:g}"
"""The issue's, in the middle of the 20 s. 64 slots clear what has piled up in a tenth of a second."""

SLOTS, SERVICE_S = 4, 0.2
"""A client has its own 3 ms a request (making 5 instances, sending 0.65 MB, hearing the answer), in which theory has a
connection do nothing: of 50 ms that is 6 %, of 200 ms it is 1.5 %."""
QUEUE = f"--slots {SLOTS} --service-ms {SERVICE_S * 1000:g}"

QUIET = {
    "open": (FREEZE, "--mode open --rate 60 --workload sr --batch-instances 1 --warmup 2s --duration 20s"),
    "closed": (FREEZE, "--connections 4 --workload sr --batch-instances 1 --warmup 2s --duration 20s"),
    "sweep": (
        QUEUE,
        "--mode sweep --connections 1,2,4,8,16 --batch-instances 5 --workload mr --warmup 1s --duration 10s",
    ),
}
"""Sinks, and what is measured of them, side by side: they mostly wait. A load of the sweep is measured for 10 s twice,
100 requests with a single connection: one more or less is 1 %."""

ALONE = {
    "slow": ("--slots 4 --service-ms 200", "--connections 8 --batch-instances 5 --warmup 1s --duration 5s"),
    "ct": ("", "--workload ct --warmup 1s --duration 5s"),
    "sr": ("", "--workload sr --warmup 1s --duration 5s"),
}
"""One after the other: the client's ceiling is measured first, which takes the whole machine. The slow sink does 20
requests of 5 CT slices a second; a plain one took 270 of this client, on 2 cores."""

START_S, LONG_S = 0.01, 6.0
"""A load that has hardly begun, and one of several GB."""

NOTES = [
    f"Truth of a queue: min(connections, {SLOTS}) / {SERVICE_S} s; max(connections / {SLOTS}, 1) x {SERVICE_S} s.",
    "In its place beside throughput: the client's ceiling; beside CPU: what the upload takes.",
    "CPU is user and system time of whole processes by the bytes that the sink took. A load has the connections and",
    "batches that the upload settled at. Behind the start: less what a process takes that sends next to nothing; a",
    "load of seconds and an upload of a corpus spread their starts over different numbers of bytes.",
]

Row = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time of a whole process, and what the sink took of it."""

    cpu_s: float
    body_bytes: int

    @property
    def per_gb_s(self) -> float:
        """Return the processor time of a GB."""
        return self.cpu_s / self.body_bytes * 1e9

    def behind(self, start: Cost) -> Cost:
        """Return what is left without the start."""
        return Cost(self.cpu_s - start.cpu_s, self.body_bytes - start.body_bytes)


def honesty(bench: Bench) -> Table:
    """Return what `bulkstow bench` says of sinks, beside the truth."""
    found = {name: _result(bench, *words) for name, words in ALONE.items()}
    costs = {kind.name.upper(): _costs(bench, kind) for kind in (CT, MR)}
    with ThreadPoolExecutor(len(QUIET)) as together:
        quiet = together.map(lambda words: _result(bench, words[0], f"{words[1]} --skip-ceiling"), QUIET.values())
        found |= zip(QUIET, quiet, strict=True)
    parts = [_freeze(found), _queue(found["sweep"]), _client(found), *(_processor(*one) for one in costs.items())]
    told = [one for part in parts for one in part]
    rows = [one for one in told if not isinstance(one, Goal)]
    goals = [one for one in told if isinstance(one, Goal)]
    columns = ("figure", "truth", "found", "x")
    samples = {**found, "costs": costs}
    return Table("Honesty of `bulkstow bench`", columns, rows, goals, NOTES, samples)


def _result(bench: Bench, options: str, words: str) -> Result:
    """Return what the command says of a load on a sink of its own."""
    with sink(*options.split()) as server, tempfile.TemporaryDirectory(dir=bench.scratch) as own:
        into = Path(own) / "result.json"
        _load(server, "--json", str(into), *words.split())
        return from_json(into.read_text())


def _load(server: Server, *words: str) -> Sample:
    return measured([sys.executable, "-m", "bulkstow", "bench", "--url", server.url, "--progress", "none", *words])


def _row(figure: str, truth: float, found: float) -> Row:
    return figure, f"{truth:,.4g}", f"{found:,.4g}", f"{found / truth:.3f}"


def _told(time_s: float | None) -> float:
    """Return a percentile; one that too few requests could tell makes every goal miss."""
    return math.nan if time_s is None else time_s


def _freeze(found: Mapping[str, Result]) -> Iterator[Row | Goal]:
    opened, closed = found["open"].best.latency, found["closed"].best.latency
    for name, latency in (("open load of 60/s", opened), ("closed load, 4 connections", closed)):
        yield _row(f"frozen for 3 s, {name}: p99 s", FROZEN_S, _told(latency.p99_s))
        yield _row(f"frozen for 3 s, {name}: longest s", FROZEN_S, latency.max_s)
    opened_s, closed_s = _told(opened.p99_s), _told(closed.p99_s)
    holds = abs(opened_s / FROZEN_S - 1) <= 0.1
    yield Goal("a freeze of 3 s shows in an open load: p99 within 10 %", f"{opened_s:.2f} s", holds)
    yield Goal("a closed load hides it: p99 < 0.3 s", f"{closed_s:.3f} s", closed_s < 0.3)


def _queue(sweep: Result) -> Iterator[Row | Goal]:
    shares: dict[str, list[float]] = {"requests/s": [], "p50 s": []}
    for point in sweep.points:
        number = point.load.connections or 0
        for what, truth, found in (
            ("requests/s", min(number, SLOTS) / SERVICE_S, point.requests_per_s),
            ("p50 s", max(number / SLOTS, 1) * SERVICE_S, _told(point.latency.p50_s)),
        ):
            yield _row(f"{SLOTS} slots of {SERVICE_S * 1000:g} ms, {number} at once: {what}", truth, found)
            shares[what].append(found / truth)
    for what, of_truth in shares.items():
        holds = len(of_truth) == 5 and all(abs(share - 1) <= 0.05 for share in of_truth)
        text = f"{what} with 1, 2, 4, 8, 16 connections within 5 % of queueing theory"
        yield Goal(text, f"{min(of_truth):.3f} to {max(of_truth):.3f} x", holds)
    knee = sweep.knee.load.connections if sweep.knee else None
    yield Goal(f"the knee of {SLOTS} slots is at {SLOTS} connections", f"{knee}", knee == SLOTS)


def _client(found: Mapping[str, Result]) -> Iterator[Row | Goal]:
    for name, is_wanted in (("slow", False), ("ct", True), ("sr", True)):
        best, ceiling = found[name].best, found[name].ceiling
        if ceiling is not None:
            sent = f"{name} sink" if name == "slow" else f"plain sink, {name}, {best.load.batch_instances} a request"
            yield _row(f"{sent}: instances/s", ceiling.instances_per_s, best.instances_per_s)
            yield _row(f"{sent}: MB/s", ceiling.megabytes_per_s, best.megabytes_per_s)
        is_bound = bool(best.client_bound)
        text = "a plain sink shows the client" if is_wanted else "a slow sink is not taken for a slow client"
        said = "client-bound" if is_bound else "not client-bound"
        yield Goal(f"{text} ({found[name].workload})", said, ceiling is not None and is_bound is is_wanted)
    ct, sr = found["ct"].best, found["sr"].best
    yield Goal("--workload ct >= 1 GB/s", f"{ct.megabytes_per_s / 1000:.2f} GB/s", ct.megabytes_per_s >= 1000)
    text = f"--workload sr, {sr.load.batch_instances} a request as by default, >= 10,000 instances/s"
    yield Goal(text, f"{sr.instances_per_s:,.0f}", sr.instances_per_s >= 10_000)


def _costs(bench: Bench, kind: Kind) -> dict[str, Cost]:
    """Return what an upload takes, and what a load of the same files takes, each beside its start."""
    archive, single = bench.corpus(kind, 0.25), corpus(SMALL, bench.corpora, 1 / SMALL.files)
    summary = bench.scratch / "summary.json"
    # One study: all that is read before a load begins is start.
    study = str(archive.directory / "study0000")

    def load(duration_s: float) -> Sample:
        settled = json.loads(summary.read_text())
        size = f"--batch-instances {settled['batch_instances']} --batch-bytes {settled['batch_bytes']}"
        words = f"--skip-ceiling --warmup 0s --duration {duration_s}s --connections {settled['concurrency']} {size}"
        return _load(server, "--workload", study, *words.split())

    def cost(run: Callable[[], Sample]) -> Callable[[], Cost]:
        def counted() -> Cost:
            before = server.counts()["body_bytes"]
            sample = run()
            return Cost(sample.cpu_s, server.counts()["body_bytes"] - before)

        return counted

    with sink() as server:
        runs = {
            "upload": cost(lambda: bench.run(peers.bulkstow("--summary", str(summary)), archive, server)),
            "load": cost(lambda: load(LONG_S)),
            "upload's start": cost(lambda: bench.run(peers.bulkstow(), single, server)),
            "load's start": cost(lambda: load(START_S)),
        }
        taken = take_turns(runs, bench.repeats_of(1))
    return {name: sorted(costs, key=lambda cost: cost.cpu_s)[len(costs) // 2] for name, costs in taken.items()}


def _processor(name: str, costs: Mapping[str, Cost]) -> Iterator[Row | Goal]:
    upload, load = costs["upload"], costs["load"]
    pairs = {"whole": (upload, load)}
    pairs["behind the start"] = (upload.behind(costs["upload's start"]), load.behind(costs["load's start"]))
    for what, (theirs, ours) in pairs.items():
        yield _row(f"{name}, CPU s/GB, {what}: upload and load", theirs.per_gb_s, ours.per_gb_s)
    shares = [ours.per_gb_s / theirs.per_gb_s for theirs, ours in pairs.values()]
    text = f"CPU s/GB of a load of {name} files <= 1.0 x upload's, whole and behind the start"
    yield Goal(text, ", ".join(f"{share:.2f} x" for share in shares), max(shares) <= 1.0)
