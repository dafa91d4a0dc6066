"""What each stage costs: the product's own functions, one after the other, on one archive.

Owns no stage: each is called as the pipeline calls it, with lists of the length that the pipeline has, and nothing else
under way. In a run they overlap on as many cores as there are; their sum is what the client's processors have to do.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    from bulkstow.model import Batch, Candidate, Instance, Outcome, Reply

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
        taken["all"] = sum(taken.values())
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
    _replies: list[Reply] = field(default_factory=list)
    _outcomes: list[list[Outcome]] = field(default_factory=list)

    def go(self) -> None:
        """Take the archive through every stage."""
        self._look()
        self._gather()
        try:
            import uvloop
        except ImportError:
            asyncio.run(self._send())
        else:
            uvloop.run(self._send())
        self._settle()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started_s = time.perf_counter()
        yield
        self.clock.setdefault(stage, []).append(time.perf_counter() - started_s)

    def _look(self) -> None:
        from bulkstow.ledger import Ledger
        from bulkstow.model import Candidate, Instance
        from bulkstow.pipeline.claims import Claims
        from bulkstow.source.heads import read_header
        from bulkstow.source.walk import walk

        with self._timed("walk"):
            found = list(walk([str(self.archive.directory)]))
        self._lists = [[item for item in several if isinstance(item, Candidate)] for several in found]
        with Ledger(self.scratch / "ledger.db", self.server.url) as ledger:
            with self._timed("ledger look-up"):
                for several in self._lists:
                    ledger.look_up(several)
            with self._timed("head"):
                self._instances = [
                    [Instance(one, read_header(one.location, size_bytes=one.size_bytes)) for one in several]
                    for several in self._lists
                ]
            claims = Claims(ledger)
            with self._timed("claims"):
                for instances in self._instances:
                    claims.sort_out(instances)

    def _gather(self) -> None:
        from bulkstow.config import UploadSettings
        from bulkstow.policy.batching import Batcher, BatchLimits

        settings = UploadSettings()
        batcher = Batcher(BatchLimits(settings.batch_bytes, settings.batch_instances))
        with self._timed("batching"):
            for instances in self._instances:
                self._batches += batcher.add(instances)
            self._batches += batcher.flush()

    async def _send(self) -> None:
        from bulkstow.destination.body import Body

        with ThreadPoolExecutor(8) as readers:
            bodies = [Body(batch.instances, BOUNDARY, readers) for batch in self._batches]
            with self._timed("reading, framing, thread hops"):
                for body in bodies:
                    async for _ in body.chunks():
                        pass
            await self._write(self._batches, partial(_kept, readers))

    async def _write(self, batches: Sequence[Batch], keep: Callable[[Batch], Awaitable[list[memoryview]]]) -> None:
        """Send bodies that are in memory already: what is left is aiohttp, the loop and the kernel."""
        from bulkstow.config import DestinationSettings
        from bulkstow.destination.http import HttpClient, Request
        from bulkstow.model import Reply
        from bulkstow.wire.multipart import content_type

        total_s = 0.0
        async with HttpClient(DestinationSettings(url=self.server.url)) as client:
            for batch in batches:
                pieces = await keep(batch)

                async def body(pieces: list[memoryview] = pieces) -> AsyncGenerator[memoryview]:
                    for piece in pieces:
                        yield piece

                headers = {"Content-Type": content_type(BOUNDARY), "Content-Length": str(sum(map(len, pieces)))}
                started_s = time.perf_counter()
                reply = await client.exchange(Request("POST", "/studies", headers, body=body))
                total_s += time.perf_counter() - started_s
                assert isinstance(reply, Reply)
                self._replies.append(reply)
        self.clock.setdefault("writing and waiting for the answer", []).append(total_s)

    def _settle(self) -> None:
        from bulkstow.ledger import Ledger
        from bulkstow.model import Attempt
        from bulkstow.policy.errands import Rules
        from bulkstow.policy.settlement import settle
        from bulkstow.progress.events import Recorded
        from bulkstow.progress.tally import Tally

        rules = Rules(attempts=5, trust_status=False)
        with self._timed("answer and settlement"):
            for batch, reply in zip(self._batches, self._replies, strict=True):
                settled = settle(Attempt(batch, reply), rules, outage=False, admitted=True)
                self._outcomes.append(list(settled.outcomes))
        with Ledger(self.scratch / "ledger.db", self.server.url) as ledger, self._timed("ledger record"):
            for outcomes in self._outcomes:
                ledger.record(outcomes)
        tally = Tally()
        with self._timed("tally"):
            for outcomes in self._outcomes:
                tally.tell(Recorded(tuple(outcomes)))


async def _kept(readers: ThreadPoolExecutor, batch: Batch) -> list[memoryview]:
    from bulkstow.destination.body import Body

    return [piece async for piece in Body(batch.instances, BOUNDARY, readers).chunks()]
