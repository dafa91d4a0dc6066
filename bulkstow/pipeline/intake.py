"""The stages that read from the source: the same for an upload and for a plan of it.

    scan -> [fetch] -> inspect -> [digest]
                          └─> look into -> inspect

Archives that the inspect stage finds are looked into, and their members inspected; so are archives in archives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bulkstow.blocking import ReadLimit
from bulkstow.config import UploadSettings
from bulkstow.events import LeftOut, Reporter, ScanEnded
from bulkstow.model import Candidate, Container, FileResult, Instance, Outcome
from bulkstow.pipeline.digest import Digest
from bulkstow.pipeline.fetch import Fetch
from bulkstow.pipeline.in_flight import FirstFileInFlight, InFlight, NewestFileInFlight
from bulkstow.pipeline.inspect import Inspect
from bulkstow.pipeline.known_files import KnownFiles
from bulkstow.pipeline.look_into import LookInto
from bulkstow.pipeline.newest import NewestFiles
from bulkstow.pipeline.pass_on import PassOn, PassOnNewest
from bulkstow.pipeline.scan import Scan
from bulkstow.pipeline.unsettled import Unsettled
from bulkstow.pipeline.watching import EarlierPasses, UnsettledAgain
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.selection import Selection
from bulkstow.ports import Found, Scanned, Source

LISTS_AHEAD = 4
"""Lists that wait between two stages, so that a slow directory or a slow commit does not stop the next stage."""


LEVELS = 3
"""Files, members of archives, and members of archives in archives."""

CONTAINERS_AHEAD = 16
"""Archives that wait while others are looked into."""

CONTAINERS_AT_ONCE = 4
"""Archives that are looked into at once. Each is decompressed in a thread, with up to 128 MiB of memory."""


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


@dataclass(slots=True)
class _Shared:
    """The objects that the stages of a pass share."""

    choice: Choice
    selection: Selection
    instances: MemoryObjectSendStream[list[Instance]]
    results: MemoryObjectSendStream[list[FileResult]]


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
    fetches: bool = False
    """Instances are going to be sent, so their content is fetched from a source on another machine."""
    only_members: bool = False
    """Files that are no archives are left out."""
    forget_container: Callable[[Candidate], None] | None = None
    """Removes the outcome that an archive has from an earlier run, if its members are found now."""
    admit: Callable[[Sequence[Found]], Sequence[Found]] | None = None
    """Returns the found files that may be read now, if the source is watched."""
    earlier_passes: EarlierPasses | None = None
    """The results of earlier passes of this run, if this is a further pass over the same source."""

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
        lists: Scanned,
        choice: Choice,
        selection: Selection,
        instances: MemoryObjectSendStream[list[Instance]],
        results: MemoryObjectSendStream[list[FileResult]],
    ) -> list[Stage]:
        """Return the stages of a pass over some lists of files, joined by streams; they close `instances`."""
        shared = _Shared(choice, selection, instances, results)
        stages: list[Stage] = []
        if self.settings.digest != "none":
            shared.instances, inspected = anyio.create_memory_object_stream[list[Instance]](0)
            stages.append(self._digest(inspected, instances, shared))
        known: tuple[MemoryObjectSendStream[None], MemoryObjectReceiveStream[None]] | None = None
        if choice.newest is not None:
            known = anyio.create_memory_object_stream[None](0)
            stages.append(
                PassOnNewest(
                    newest=choice.newest, all_known=known[1], pass_on=self._pass_on(shared), threads=self.threads
                )
            )
        candidates_in, candidates = anyio.create_memory_object_stream[list[Candidate]](LISTS_AHEAD)
        is_fetched = self.source.is_fetched and self.fetches
        on_end = partial(self._end_scan, selection)
        stages.append(self._scan(lists, candidates_in, shared, on_end if self.source.is_fetched else None))
        if is_fetched:
            fetched_in, fetched = anyio.create_memory_object_stream[list[Candidate]](LISTS_AHEAD)
            stages.append(self._fetch(candidates, fetched_in, shared))
            candidates = fetched
        levels = 1 if self.source.is_fetched else LEVELS
        for level in range(levels):
            is_last = level == levels - 1
            containers_in, containers = anyio.create_memory_object_stream[Container](CONTAINERS_AHEAD)
            known_in = None if known is None else known[0].clone()
            stages.append(self._inspect(candidates, None if is_last else containers_in, known_in, level, shared))
            if not is_last:
                candidates_in, candidates = anyio.create_memory_object_stream[list[Candidate]](LISTS_AHEAD)
                look_into = self._look_into(
                    containers, candidates_in, shared, level, on_end if level == levels - 2 else None
                )
                stages.append(look_into)
            else:
                containers_in.close()
                containers.close()
        if known is not None:
            known[0].close()
        shared.instances.close()
        return stages

    def _end_scan(self, selection: Selection) -> None:
        if selection.exclude and (directories := self.source.pruned_parts):
            self.reporter.tell(LeftOut({}, directories))
        empty = () if self.settings.allow_empty else self.source.empty_parts
        self.reporter.tell(ScanEnded(tuple(empty)))

    def _unsettled(self, selection: Selection) -> Unsettled:
        earlier = self.earlier_passes
        kind = Unsettled if earlier is None else partial(UnsettledAgain, earlier_passes=earlier)
        return kind(
            source=self.source,
            selection=selection,
            retried=_retried(self.settings),
            known_files=self.known_files,
            on_settled=self.on_settled,
            threads=self.threads,
            reporter=self.reporter,
        )

    def _scan(
        self,
        lists: Scanned,
        candidates: MemoryObjectSendStream[list[Candidate]],
        shared: _Shared,
        on_end: Callable[[], None] | None,
    ) -> Scan:
        return Scan(
            lists=lists,
            unsettled=self._unsettled(shared.selection),
            readers=self.settings.read_concurrency,
            threads=self.threads,
            limit=self.limit,
            candidates=candidates,
            results=shared.results.clone(),
            on_end=on_end,
            admit=self.admit,
        )

    def _fetch(
        self,
        candidates: MemoryObjectReceiveStream[list[Candidate]],
        fetched: MemoryObjectSendStream[list[Candidate]],
        shared: _Shared,
    ) -> Fetch:
        return Fetch(
            source=self.source,
            candidates=candidates,
            fetched=fetched,
            results=shared.results.clone(),
            reporter=self.reporter,
        )

    def _look_into(
        self,
        containers: MemoryObjectReceiveStream[Container],
        candidates: MemoryObjectSendStream[list[Candidate]],
        shared: _Shared,
        level: int,
        on_end: Callable[[], None] | None,
    ) -> LookInto:
        return LookInto(
            source=self.source,
            at_once=CONTAINERS_AT_ONCE if level == 0 else 1,
            containers=containers,
            unsettled=self._unsettled(shared.selection.of_members),
            threads=self.threads,
            limit=self.limit,
            candidates=candidates,
            results=shared.results.clone(),
            forget=self.forget_container,
            on_end=on_end,
        )

    def _inspect(
        self,
        candidates: MemoryObjectReceiveStream[list[Candidate]],
        containers: MemoryObjectSendStream[Container] | None,
        known_in: MemoryObjectSendStream[None] | None,
        level: int,
        shared: _Shared,
    ) -> Inspect:
        return Inspect(
            source=self.source,
            selection=shared.selection,
            readers=self.settings.read_concurrency,
            pass_on=self._pass_on(shared),
            newest=shared.choice.newest,
            known_in=known_in,
            threads=self.threads,
            limit=self.limit,
            candidates=candidates,
            containers=containers,
            only_members=self.only_members and level == 0,
        )

    def _pass_on(self, shared: _Shared) -> PassOn:
        return PassOn(
            source=self.source,
            in_flight=shared.choice.in_flight,
            threads=self.threads,
            limit=self.limit,
            instances=shared.instances.clone(),
            results=shared.results.clone(),
            reporter=self.reporter,
        )

    def _digest(
        self,
        inspected: MemoryObjectReceiveStream[list[Instance]],
        digested: MemoryObjectSendStream[list[Instance]],
        shared: _Shared,
    ) -> Digest:
        return Digest(
            source=self.source,
            readers=self.settings.read_concurrency,
            threads=self.threads,
            limit=self.limit,
            instances=inspected,
            digested=digested,
            results=shared.results.clone(),
        )


def _retried(settings: UploadSettings) -> frozenset[Outcome]:
    """Return the outcomes of earlier runs that are not final, because the user wants these files to be sent again."""
    if settings.retry_failed:
        return frozenset((Outcome.REFUSED, Outcome.CONFLICT))
    return frozenset(() if settings.on_conflict == "report" else (Outcome.CONFLICT,))
