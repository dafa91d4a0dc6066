"""From the file system to batches: scan, inspect, assemble.

Each stage takes lists from the one before and hands lists on; what blocks runs in threads, many files to a hop. A file
that cannot be sent goes straight to the record, with its reason.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.errors import DamagedHead, HeadError
from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, Fate, Instance, Outcome
from bulkstow.pipeline.claims import Claims
from bulkstow.pipeline.crew import Crew, by, read_by
from bulkstow.pipeline.newest import NewestFiles
from bulkstow.pipeline.outbox import Outbox
from bulkstow.policy.batching import Batcher
from bulkstow.progress.events import Event, Found, Known, Reporter, ScanEnded
from bulkstow.source.heads import read_instance
from bulkstow.source.walk import Walk

Outcomes = MemoryObjectSendStream[list[Outcome]]

FEWEST_HEADS = 8
"""Heads read in one job at least. A list is divided among all hands, as the storage may be slow; with the eight that
there are by default it is 32 a job, which take 0.5 ms from the page cache, and a job 0.03 ms by itself."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """How files are looked at."""

    again: frozenset[Fate] = frozenset()
    """Outcomes of earlier runs that are not final, as the user asks for them once more."""
    accept_missing_preamble: bool = False
    skip_truncated: bool = False
    allow_empty: bool = False
    """A source without any file is no failure."""
    hands: int = 8
    """Files that may be read at once."""
    admits: Callable[[str], bool] | None = None
    """Whether a link may be followed; set where the files do not come from the walk, which decides that itself."""


@dataclass(frozen=True, slots=True)
class _Sighting:
    """What one list of the scan came to."""

    candidates: list[Candidate]
    outcomes: list[Outcome]
    events: tuple[Event, ...]


async def scan(
    lists: Iterator[Sequence[Candidate | Outcome]],
    crew: Crew,
    ledger: Ledger,
    inspection: Inspection,
    outbox: Outbox,
    found: MemoryObjectSendStream[list[Candidate]],
    outcomes: Outcomes,
    reporter: Reporter,
) -> None:
    """Hand on the files that the ledger has not settled."""

    def look() -> _Sighting | None:
        sight = next(lists, None)
        return None if sight is None else _sift(sight, ledger, inspection)

    async with found, outcomes:
        while (sighting := await by(crew.errands, look)) is not None and not outbox.is_abandoned:
            for event in sighting.events:
                reporter.tell(event)
            if sighting.outcomes:
                await outcomes.send(sighting.outcomes)
            if sighting.candidates:
                await found.send(sighting.candidates)
    if not outbox.is_abandoned:
        empty = lists.empty_sources if isinstance(lists, Walk) and not inspection.allow_empty else ()
        reporter.tell(ScanEnded(tuple(empty)))


def _sift(sight: Sequence[Candidate | Outcome], ledger: Ledger, inspection: Inspection) -> _Sighting:
    by_path = {(item if isinstance(item, Candidate) else item.candidate).location: item for item in sight}
    candidates = [item for item in by_path.values() if isinstance(item, Candidate)]
    outcomes = [item for item in by_path.values() if isinstance(item, Outcome)]
    known = ledger.look_up(candidates, inspection.again)
    # What this run has recorded already was named twice: it is one file.
    new = [(c, k) for c, k in zip(candidates, known, strict=True) if k is None or not k.is_of_this_run]
    events: list[Event] = [Found(len(new) + len(outcomes), sum(candidate.size_bytes for candidate, _ in new))]
    if final := Counter(k.fate for _, k in new if k is not None and k.is_final):
        settled = ((c, k) for c, k in new if k is not None and k.is_final and not k.fate.is_success)
        size_bytes = sum(c.size_bytes for c, k in new if k is not None and k.is_final)
        events.append(Known(final, tuple(Outcome(c, None, k.fate, k.reason) for c, k in settled), size_bytes))
    return _Sighting([c for c, k in new if k is None or not k.is_final], outcomes, tuple(events))


async def inspect(
    found: MemoryObjectReceiveStream[list[Candidate]],
    crew: Crew,
    inspection: Inspection,
    claims: Claims,
    instances: MemoryObjectSendStream[list[Instance]],
    outcomes: Outcomes,
    reporter: Reporter,
    outbox: Outbox,
    newest: NewestFiles | None = None,
) -> None:
    """Read the heads of each list's files, several threads at a time, and hand on what can be sent, in order.

    With `newest` nothing is handed on before all files are known.
    """

    def take_back(again: Sequence[Candidate]) -> None:
        if again:
            reporter.tell(Found(-len(again), -sum(c.size_bytes for c in again)))

    async def hand_on(storable: Sequence[Instance]) -> None:
        fresh, settled, again = await by(crew.errands, claims.sort_out, storable)
        take_back(again)
        if settled:
            await outcomes.send(settled)
        if fresh:
            await instances.send(fresh)

    async with found, instances, outcomes:
        async for candidates in found:
            looked_at = await _read_heads(candidates, crew, inspection)
            storable = [item for item in looked_at if isinstance(item, Instance)]
            if settled := [item for item in looked_at if isinstance(item, Outcome)]:
                await outcomes.send(settled)
            if newest is None:
                await hand_on(storable)
            else:
                take_back(await by(crew.errands, newest.add, storable))
        if newest is not None:
            await by(crew.errands, newest.index)
            lists = newest.lists()
            while not outbox.is_abandoned and (storable := await by(crew.errands, next, lists, [])):
                await hand_on(storable)


async def _read_heads(candidates: Sequence[Candidate], crew: Crew, inspection: Inspection) -> list[Instance | Outcome]:
    each = max(FEWEST_HEADS, math.ceil(len(candidates) / inspection.hands))
    parts = [candidates[start : start + each] for start in range(0, len(candidates), each)]
    read: list[list[Instance | Outcome]] = [[] for _ in parts]

    async def read_part(number: int) -> None:
        read[number] = await read_by(crew, _look_into, parts[number], inspection)

    async with anyio.create_task_group() as tasks:
        for number in range(len(parts)):
            tasks.start_soon(read_part, number)
    return [item for part in read for item in part]


def _look_into(candidates: Iterable[Candidate], inspection: Inspection) -> list[Instance | Outcome]:
    looked_at: list[Instance | Outcome] = []
    for candidate in candidates:
        try:
            if inspection.admits is not None and os.path.islink(candidate.location):  # noqa: PTH114 - a str
                candidate = replace(candidate, by_link=inspection.admits(candidate.location))
            instance = read_instance(
                candidate,
                accept_missing_preamble=inspection.accept_missing_preamble,
                skip_truncated=inspection.skip_truncated,
            )
            looked_at.append(instance)
        except DamagedHead as error:
            looked_at.append(Outcome(candidate, None, Fate.UNREADABLE, str(error)))
        except HeadError as error:
            looked_at.append(Outcome(candidate, None, Fate.SKIPPED, str(error)))
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
            looked_at.append(Outcome(candidate, None, Fate.UNREADABLE, reason))
    return looked_at


async def assemble(
    instances: MemoryObjectReceiveStream[list[Instance]], batcher: Batcher, outbox: Outbox, *, keep_busy: bool = True
) -> None:
    """Gather instances into batches and offer them to the senders, which is where the pipeline waits.

    Where a sender has nothing to do a batch is closed early: with `keep_busy` even one that is not full, as fewer in a
    request is better than none under way. What is gathered is shared among all senders that have nothing to do.
    """
    async with instances:
        async for several in instances:
            for batch in batcher.add(several):
                await outbox.offer(batch)
            while (idle := outbox.idle) and (keep_busy or batcher.is_plentiful):
                least_instances = batcher.open_count / idle if keep_busy else math.inf
                oldest = batcher.close_oldest(least_instances, outbox.is_ready)
                if oldest is None:
                    break
                await outbox.offer(oldest)
    for batch in batcher.flush(batcher.open_count / outbox.at_once):
        await outbox.offer(batch)
    outbox.end()
