"""The stage that looks into archives and compressed files, which the inspect stage has found.

Several containers at once; their members are looked up and passed on as the scan does with files. A container itself is
no file of the run, unless it cannot be read to its end.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import NoReturn

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.blocking import CALL_S, ReadLimit, map_in_threads
from bulkstow.errors import HeadError, SpoolError
from bulkstow.model import Candidate, Container, FileResult, Outcome
from bulkstow.pipeline.unsettled import Unsettled
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.ports import Found, Members, Room, Source

MEMBERS_PER_LIST = 256
"""Members that are looked up and passed on together; a list may have some more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookInto:
    """Passes on the members of containers that the ledger has not settled, and the reasons of those that cannot be
    read."""

    source: Source
    containers: MemoryObjectReceiveStream[Container]
    unsettled: Unsettled
    threads: WorkerThreads
    limit: ReadLimit
    candidates: MemoryObjectSendStream[list[Candidate]]
    results: MemoryObjectSendStream[list[FileResult]]
    at_once: int = 1
    """Containers that are read at once. One, where a container may itself take room that its members then wait for."""
    forget: Callable[[Candidate], None] | None = None
    """Removes the outcome that a container has from an earlier run. Blocks."""
    on_end: Callable[[], None] | None = None

    async def run(self) -> None:
        """Look into all containers."""
        found_in, found = anyio.create_memory_object_stream[Sequence[Found]](self.at_once)
        async with self.candidates, self.results, self.containers, found, anyio.create_task_group() as reading:
            for _ in range(self.at_once):
                reading.start_soon(self._read_containers, found_in.clone())
            found_in.close()
            async for members in found:
                await self._pass_on(_with_waiting(members, found))
        if self.on_end is not None:
            self.on_end()

    async def _read_containers(self, found: MemoryObjectSendStream[Sequence[Found]]) -> None:
        async with found:
            async for container in self.containers:
                has_outcome = False
                async with aclosing(self._members(container)) as lists:
                    async for members in lists:
                        has_outcome = has_outcome or _is_among(members, container)
                        await found.send(members)
                if self.forget is not None and not has_outcome:
                    await run_blocking(self.threads.calls, self.forget, container.candidate)
                self.source.release([container.candidate])

    async def _pass_on(self, found: Sequence[Found]) -> None:
        candidates, results = await self.unsettled.choose(found)
        if results:
            await self.results.send(results)
        if candidates:
            await self.candidates.send(candidates)

    async def _members(self, container: Container) -> AsyncGenerator[Sequence[Found], None]:
        """Yield the members in lists; at the end the outcome of the container, if it could not be read or is empty."""
        members = self.source.members(container)
        is_empty = True
        try:
            is_at_end = False
            while not is_at_end:
                step = await self._step(members)
                is_at_end = step.is_last
                if step.found:
                    is_empty = False
                    yield step.found
                if step.error is not None:
                    raise step.error
                if step.room is not None:
                    await self.source.reserve(step.room)
            reason = f"{container.format_name} without files" if is_empty else ""
            outcome = Outcome.SKIPPED
        except (HeadError, SpoolError) as error:
            reason, outcome = str(error), Outcome.UNREADABLE
        except OSError as error:
            reason, outcome = f"cannot be read: {error.strerror or error}", Outcome.UNREADABLE
        finally:
            with suppress(ValueError):  # a thread that hangs is still in it
                members.close()
        if reason:
            yield [FileResult(container.candidate, None, outcome, reason)]

    async def _step(self, members: Members) -> _Step:
        drawn = map_in_threads(_draw, [members], _on_timeout, self.threads.heads, self.limit)
        (step,) = [step async for several in drawn for step in several]
        return step


@dataclass(frozen=True, slots=True)
class _Step:
    """The result of one call in a thread that draws members from a container."""

    found: Sequence[Found]
    room: Room | None = None
    """Room that the next step needs."""
    is_last: bool = False
    error: HeadError | SpoolError | OSError | None = None
    """Why the container cannot be read further."""


def _draw(members: Members) -> _Step:
    """Draw members until there is something to wait for, a list is full, or the call has taken long enough."""
    until_s = time.monotonic() + CALL_S
    found: list[Found] = []
    try:
        for step in members:
            if isinstance(step, Room):
                return _Step(found, step)
            found += step
            if not step or len(found) >= MEMBERS_PER_LIST or time.monotonic() > until_s:
                return _Step(found)
    except (HeadError, SpoolError, OSError) as error:
        return _Step(found, error=error)
    return _Step(found, is_last=True)


def _is_among(found: Sequence[Found], container: Container) -> bool:
    """Return whether a container has an outcome of its own, or is itself the only file in it."""
    location = container.candidate.location
    return any((item.candidate if isinstance(item, FileResult) else item).location == location for item in found)


def _with_waiting(members: Sequence[Found], more: MemoryObjectReceiveStream[Sequence[Found]]) -> Sequence[Found]:
    """Join a list with those that wait behind it: a compressed file has only one member."""
    joined = list(members)
    with suppress(anyio.WouldBlock, anyio.EndOfStream):
        while len(joined) < MEMBERS_PER_LIST:
            joined += more.receive_nowait()
    return joined


def _on_timeout(_members: Members, why: str) -> NoReturn:
    raise OSError(None, why)
