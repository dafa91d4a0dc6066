"""Reading heads: lists overlap, and are passed on in their order."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from bulkstow.blocking import ReadLimit
from bulkstow.events import Reporters
from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, FileResult, Instance
from bulkstow.pipeline.in_flight import FirstFileInFlight
from bulkstow.pipeline.inspect import Inspect
from bulkstow.pipeline.pass_on import PassOn
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.selection import EVERYTHING
from tests.archives import header
from tests.memory_source import MemorySource

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


class Archive(MemorySource):
    """Files whose heads are read when others are."""

    def __init__(self, waits: dict[str, str]) -> None:
        super().__init__({})
        self._waits = waits
        self._begun = {name: threading.Event() for name in "abcdef"}

    def read_head(self, candidate: Candidate) -> Instance:
        """Wait until the file has begun to be read that this one waits for."""
        self._begun[candidate.location].set()
        if candidate.location in self._waits:
            assert self._begun[self._waits[candidate.location]].wait(PATIENCE_S)
        return Instance(candidate, header(ord(candidate.location)))


async def inspected(archive: Archive, lists: Sequence[str], directory: Path) -> list[str]:
    """Return the names of the files in each list that is passed on."""
    candidates_in, candidates = anyio.create_memory_object_stream[list[Candidate]](len(lists))
    instances_in, instances = anyio.create_memory_object_stream[list[Instance]](len(lists))
    results_in, results = anyio.create_memory_object_stream[list[FileResult]](len(lists))
    with WorkerThreads(2) as threads, Ledger(directory / "l.db", "url") as ledger, results, instances:
        limit, reporter = ReadLimit(PATIENCE_S), Reporters(())
        pass_on = PassOn(
            source=archive,
            in_flight=FirstFileInFlight(ledger, threads, sends_conflicts=False),
            threads=threads,
            limit=limit,
            instances=instances_in,
            results=results_in,
            reporter=reporter,
        )
        inspect = Inspect(
            source=archive,
            selection=EVERYTHING,
            readers=2,
            pass_on=pass_on,
            newest=None,
            known_in=None,
            threads=threads,
            limit=limit,
            candidates=candidates,
            containers=None,
        )
        async with candidates_in:
            for names in lists:
                await candidates_in.send([Candidate(name, 1, 0) for name in names])
        with anyio.fail_after(PATIENCE_S):
            await inspect.run()
        return ["".join(instance.candidate.location for instance in passed) async for passed in instances]


async def test_the_next_list_is_read_while_the_last_heads_of_a_list_are(tmp_path: Path) -> None:
    """A reader without a head to read takes one of the next list; nothing is passed on out of order."""
    archive = Archive(waits={"b": "c", "d": "e"})
    assert await inspected(archive, ["ab", "cd", "ef"], tmp_path) == ["ab", "cd", "ef"]
