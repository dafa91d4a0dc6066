"""The stage that looks into archives and compressed files, which the inspect stage has found.

One container at a time; its members are looked up and passed on as the scan does with files. A container itself is no
file of the run, unless it cannot be read to its end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import NoReturn

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.errors import HeadError, SpoolExceeded
from bulkstow.model import Candidate, Container, FileResult, Outcome
from bulkstow.pipeline.unsettled import Unsettled
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.ports import Found, Members, Room, Source


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
    on_end: Callable[[], None] | None = None

    async def run(self) -> None:
        """Look into all containers."""
        async with self.candidates, self.results, self.containers:
            async for container in self.containers:
                async with aclosing(self._members(container)) as lists:
                    async for found in lists:
                        await self._pass_on(found)
                self.source.release([container.candidate])
        if self.on_end is not None:
            self.on_end()

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
            while (step := await self._step(members)) is not None:
                if isinstance(step, Room):
                    await self.source.reserve(step)
                elif step:
                    is_empty = False
                    yield step
            reason = f"{container.format_name} without files" if is_empty else ""
            outcome = Outcome.SKIPPED
        except (HeadError, SpoolExceeded) as error:
            reason, outcome = str(error), Outcome.UNREADABLE
        except OSError as error:
            reason, outcome = f"cannot be read: {error.strerror or error}", Outcome.UNREADABLE
        finally:
            with suppress(ValueError):  # a thread that hangs is still in it
                members.close()
        if reason:
            yield [FileResult(container.candidate, None, outcome, reason)]

    async def _step(self, members: Members) -> Sequence[Found] | Room | None:
        step = map_in_threads(_next, [members], _on_timeout, self.threads.scans, self.limit)
        (found,) = [found async for several in step for found in several]
        return found


def _next(members: Members) -> Sequence[Found] | Room | None:
    return next(members, None)


def _on_timeout(_members: Members, why: str) -> NoReturn:
    raise OSError(None, why)
