"""What each stage costs: the product's own functions, one after the other, on one archive.

Owns no stage: each is called as the pipeline calls it, with lists of the length that the pipeline has, and nothing else
under way. In a run they overlap on as many cores as there are; their sum is what the client's processors have to do.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bench import Bench
from benchmarks.corpus import CT, MR, Corpus
from benchmarks.measure import Table
from benchmarks.processes import Server, sink

if TYPE_CHECKING:
    from bulkstow.ledger import Ledger
    from bulkstow.model import Batch, Candidate, FileResult, Instance, Response

CT_SCALE = 0.1
MR_SCALE = 0.1
BOUNDARY = "b" * 40

Clock = dict[str, list[float]]
"""Seconds of each repeat by stage."""


def stages(bench: Bench) -> Table:
    """Return the table of stages, and what a process costs before its first file."""
    archives = {"CT": bench.corpus(CT, CT_SCALE), "MR": bench.corpus(MR, MR_SCALE)}
    clocks: dict[str, Clock] = {name: {} for name in archives}
    with sink() as server:
        for _ in range(bench.repeats):
            for name, archive in archives.items():
                with tempfile.TemporaryDirectory(dir=bench.scratch) as own:
                    _Walkthrough(archive, server, Path(own), clocks[name]).go()
    medians = {
        name: {stage: statistics.median(taken) for stage, taken in clock.items()} for name, clock in clocks.items()
    }
    rows = [(stage, *_cells(archives, medians, stage)) for stage in clocks["CT"]]
    for taken in medians.values():
        taken["all"] = sum(taken_s for stage, taken_s in taken.items() if not stage.startswith("("))
    rows.append(("all", *_cells(archives, medians, "all")))
    columns = ("stage", "CT us/file", "CT ms/MB", "MR us/file", "MR ms/MB")
    return Table("Stages, each alone, medians", columns, rows, samples=clocks)


def _cells(archives: dict[str, Corpus], medians: dict[str, dict[str, float]], stage: str) -> Iterator[str]:
    for name, archive in archives.items():
        yield f"{medians[name][stage] / archive.files * 1e6:.1f}"
        yield f"{medians[name][stage] / archive.size_bytes * 1e9:.3f}"


@dataclass(slots=True)
class _Walkthrough:
    """One archive through all stages, each timed into `clock`."""

    archive: Corpus
    server: Server
    scratch: Path
    clock: Clock
    _lists: list[list[Candidate]] = field(default_factory=list)
    _instances: list[list[Instance]] = field(default_factory=list)
    _batches: list[Batch] = field(default_factory=list)
    _replies: list[Response] = field(default_factory=list)
    _results: list[list[FileResult]] = field(default_factory=list)

    def go(self) -> None:
        """Take the archive through every stage."""
        self._look()
        self._gather()
        self._read()
        asyncio.run(self._send())
        self._settle()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started_s = time.perf_counter()
        yield
        self.clock.setdefault(stage, []).append(time.perf_counter() - started_s)

    def _look(self) -> None:
        from bulkstow.blocking import Worker
        from bulkstow.ledger import Ledger
        from bulkstow.model import Candidate
        from bulkstow.source.heads import read_instance
        from bulkstow.source.walk import Walk

        with self._timed("walk"):
            walk = Walk([str(self.archive.directory)])
            found = list(iter(lambda: walk.run_steps(Worker()), []))
        self._lists = [[item for item in several if isinstance(item, Candidate)] for several in found]
        with Ledger(self.scratch / "ledger.db", self.server.url) as ledger:
            with self._timed("ledger look-up"):
                for several in self._lists:
                    ledger.look_up(several)
            with self._timed("head"):
                self._instances = [[read_instance(one) for one in several] for several in self._lists]
            asyncio.run(self._sort_out(ledger))

    async def _sort_out(self, ledger: Ledger) -> None:
        from bulkstow.blocking import ReadLimit
        from bulkstow.pipeline.comparison import compare
        from bulkstow.pipeline.in_flight import FirstFileInFlight
        from bulkstow.pipeline.worker_threads import WorkerThreads

        with WorkerThreads(8) as threads, self._timed("deduplication"):
            in_flight = FirstFileInFlight(ledger, threads)
            for instances in self._instances:
                await in_flight.deduplicate(instances, partial(compare, threads=threads, limit=ReadLimit(60.0)))

    def _gather(self) -> None:
        from bulkstow.config import UploadSettings
        from bulkstow.policy.batch_size import BatchSize
        from bulkstow.policy.batching import Batcher

        settings = UploadSettings()
        limits = BatchSize(settings.batch_bytes, settings.batch_instances).limits
        batcher = Batcher(lambda: limits)
        with self._timed("batching"):
            for instances in self._instances:
                self._batches += batcher.add(instances)
            self._batches += batcher.flush()

    def _read(self) -> None:
        """Read every body as TLS and chunks have to: through memory."""
        from bulkstow.destination.body import READ_BYTES
        from bulkstow.destination.segments import BodyReader, segments
        from bulkstow.source.files import FileSource

        view = memoryview(bytearray(READ_BYTES))
        with self._timed("(TLS only: reading, framing)"):
            for batch in self._batches:
                reader = BodyReader(segments(batch.instances, BOUNDARY, FileSource()))
                while reader.read_into(view):
                    pass

    async def _send(self) -> None:
        """Send every batch, one after the other."""
        from bulkstow.blocking import ReadLimit
        from bulkstow.config import READ_TIMEOUT_S, DestinationSettings
        from bulkstow.destination.auth import NoLogin
        from bulkstow.destination.stow import StowDestination
        from bulkstow.events import Event, RequestTimed
        from bulkstow.model import Response
        from bulkstow.pipeline.worker_threads import WorkerThreads
        from bulkstow.source.files import FileSource

        waiting_s: list[float] = []
        settings, limit = DestinationSettings(url=self.server.url), ReadLimit(READ_TIMEOUT_S)

        class Timings:
            """Keeps the time that each request has waited for its response."""

            def tell(self, event: Event) -> None:
                """Keep a timing."""
                if isinstance(event, RequestTimed):
                    waiting_s.append(event.timing.waiting_s)

        with WorkerThreads(8) as threads:
            destination = StowDestination(
                settings, NoLogin(), source=FileSource(), readers=threads, limit=limit, reporter=Timings()
            )
            async with destination:
                with self._timed("sending, and waiting for the answer"):
                    for batch in self._batches:
                        response = await destination.send(batch)
                        assert isinstance(response, Response)
                        self._replies.append(response)
        self.clock.setdefault("(of that: waiting for the answer)", []).append(sum(waiting_s))

    def _settle(self) -> None:
        from bulkstow.events import Recorded
        from bulkstow.ledger import Ledger
        from bulkstow.policy.settlement import settle
        from bulkstow.policy.work_items import Rules
        from bulkstow.progress.tally import Tally

        rules = Rules(attempts=5, trust_status=False)
        with self._timed("answer and settlement"):
            for batch, response in zip(self._batches, self._replies, strict=True):
                settled = settle(batch, response, rules, outage=False, has_stored=True)
                self._results.append(list(settled.results))
        with Ledger(self.scratch / "ledger.db", self.server.url) as ledger, self._timed("ledger record"):
            for results in self._results:
                ledger.record(results)
        tally = Tally()
        with self._timed("tally"):
            for results in self._results:
                tally.tell(Recorded(tuple(results)))
