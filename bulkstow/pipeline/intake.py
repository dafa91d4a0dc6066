"""The stages that read from the source, scan, inspect and digest: the same for an upload and for a plan of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from bulkstow.blocking import ReadLimit, Work
from bulkstow.config import UploadSettings
from bulkstow.events import Reporter
from bulkstow.model import Candidate, FileResult, Instance, Outcome
from bulkstow.pipeline.digest import Digest
from bulkstow.pipeline.in_flight import FirstFileInFlight, InFlight, NewestFileInFlight
from bulkstow.pipeline.inspect import Inspect
from bulkstow.pipeline.known_files import KnownFiles
from bulkstow.pipeline.newest import NewestFiles
from bulkstow.pipeline.scan import Scan
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.selection import Selection
from bulkstow.ports import Found, Source

LISTS_AHEAD = 4
"""Lists that wait between two stages, so that a slow directory or a slow commit does not stop the next stage."""


class Stage(Protocol):
    """A part of a run, which ends when its input does."""

    async def run(self) -> None:
        """Do all the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The choice among files of a pass that share a SOP Instance UID."""

    in_flight: InFlight
    newest: NewestFiles | None = None
    """With it nothing is passed on before all files are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Builds the stages that read from a source."""

    settings: UploadSettings
    source: Source
    known_files: KnownFiles
    threads: WorkerThreads
    limit: ReadLimit
    reporter: Reporter
    on_settled: Callable[[Sequence[Candidate]], Awaitable[None]] | None = None
    """Takes the files that an earlier run settled."""

    @contextmanager
    def choice(self, *, are_conflicts: bool) -> Iterator[Choice]:
        """Open the resources with which a pass chooses among files with one SOP Instance UID, by the user's setting."""
        known_files, threads = self.known_files, self.threads
        if are_conflicts or self.settings.on_conflict != "newest":
            yield Choice(in_flight=FirstFileInFlight(known_files, threads, sends_conflicts=are_conflicts))
            return
        with closing(NewestFiles()) as newest:
            yield Choice(in_flight=NewestFileInFlight(known_files, threads, newest), newest=newest)

    def stages(
        self,
        lists: Iterator[Sequence[Found]] | Work[Any, Found],
        choice: Choice,
        selection: Selection,
        instances: MemoryObjectSendStream[list[Instance]],
        results: MemoryObjectSendStream[list[FileResult]],
    ) -> tuple[Stage, ...]:
        """Return the stages of a pass over some lists of files, joined by streams; they close `instances`."""
        settings = self.settings
        candidates_in, candidates = anyio.create_memory_object_stream[list[Candidate]](LISTS_AHEAD)
        inspected_in, inspected = instances, None
        if settings.digest != "none":
            inspected_in, inspected = anyio.create_memory_object_stream[list[Instance]](0)
        scan = Scan(
            lists=lists,
            empty_parts=lambda: self.source.empty_parts,
            pruned_parts=lambda: self.source.pruned_parts,
            selection=selection,
            retried=_retried(settings),
            readers=settings.read_concurrency,
            allow_empty=settings.allow_empty,
            threads=self.threads,
            limit=self.limit,
            known_files=self.known_files,
            on_settled=self.on_settled,
            candidates=candidates_in,
            results=results.clone(),
            reporter=self.reporter,
        )
        inspect = Inspect(
            source=self.source,
            selection=selection,
            readers=settings.read_concurrency,
            in_flight=choice.in_flight,
            newest=choice.newest,
            threads=self.threads,
            limit=self.limit,
            candidates=candidates,
            instances=inspected_in,
            results=results.clone(),
            reporter=self.reporter,
        )
        if inspected is None:
            return scan, inspect
        digest = Digest(
            source=self.source,
            readers=settings.read_concurrency,
            threads=self.threads,
            limit=self.limit,
            instances=inspected,
            digested=instances,
            results=results.clone(),
        )
        return scan, inspect, digest


def _retried(settings: UploadSettings) -> frozenset[Outcome]:
    """Return the outcomes of earlier runs that are not final, because the user wants these files to be sent again."""
    if settings.retry_failed:
        return frozenset((Outcome.REFUSED, Outcome.CONFLICT))
    return frozenset(() if settings.on_conflict == "report" else (Outcome.CONFLICT,))
