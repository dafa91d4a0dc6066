"""Choose the found files that are inspected: those that no filter leaves out and no earlier run settled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bulkstow.events import Event, FilesFound, LeftOut, Reporter, SettledBefore
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.pipeline.known_files import KnownFiles
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.selection import Filter, Selection
from bulkstow.ports import Found, Source


@dataclass(frozen=True, slots=True)
class LookedUp:
    """A list of found files, divided by their state in the ledger."""

    candidates: list[Candidate]
    """Files that have not been settled."""
    results: list[FileResult]
    """Outcomes of the scan itself."""
    settled: list[Candidate]
    """Files that an earlier run settled."""
    events: list[Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """Looks up lists of found files, and reports the files that are found, left out, and settled before."""

    source: Source
    selection: Selection
    retried: frozenset[Outcome]
    """Outcomes of earlier runs that are not final, because the user wants these files to be sent again."""
    known_files: KnownFiles
    on_settled: Callable[[Sequence[Candidate]], Awaitable[None]] | None
    """Takes the files that an earlier run settled."""
    threads: WorkerThreads
    reporter: Reporter

    async def choose(self, found: Sequence[Found]) -> tuple[list[Candidate], list[FileResult]]:
        """Return the candidates to inspect, and outcomes; the content of the other candidates is released."""
        looked_up = await run_blocking(self.threads.calls, self._look_up, found)
        for event in looked_up.events:
            self.reporter.tell(event)
        if looked_up.settled and self.on_settled is not None:
            await self.on_settled(looked_up.settled)
        candidates = looked_up.candidates
        if len(candidates) < len(found):
            chosen = {candidate.location for candidate in candidates}
            self.source.release([c for c in found if isinstance(c, Candidate) and c.location not in chosen])
        return candidates, looked_up.results

    def _look_up(self, found: Sequence[Found]) -> LookedUp:
        """Divide found files by their state in the ledger."""
        candidates, results, filters = self._selected(found)
        known = self.known_files.look_up(candidates, self.retried)
        # A file that this run has recorded already was named twice: it counts once.
        new = [(c, k) for c, k in zip(candidates, known, strict=True) if k is None or not k.is_of_this_run]
        if self.selection.has_header_filters:
            header_filters = self._filters_of_settled([c for c, k in new if k is not None and k.is_final])
            header_filters |= self._filters_of_announced([c for c, k in new if k is None or not k.is_final])
            new = [(c, k) for c, k in new if c.location not in header_filters]
            filters |= header_filters
        size_bytes = sum(candidate.content_bytes for candidate, _ in new)
        events: list[Event] = [FilesFound(len(new) + len(results), size_bytes)]
        if filters:
            events.append(LeftOut(Counter(filters.values())))
        settled = [c for c, k in new if k is not None and k.is_final]
        if final := Counter(k.outcome for _, k in new if k is not None and k.is_final):
            failed = ((c, k) for c, k in new if k is not None and k.is_final and not k.outcome.is_success)
            size_bytes = sum(c.content_bytes for c in settled)
            not_stored = tuple(FileResult(c, None, k.outcome, k.reason, accepted=k.accepted) for c, k in failed)
            events.append(SettledBefore(final, not_stored, size_bytes))
        return LookedUp([c for c, k in new if k is None or not k.is_final], results, settled, events)

    def _selected(self, found: Sequence[Found]) -> tuple[list[Candidate], list[FileResult], dict[str, Filter]]:
        """Return the candidates and results that no filter of paths leaves out, and by location those filters."""
        by_path = {(item if isinstance(item, Candidate) else item.candidate).location: item for item in found}
        candidates = [item for item in by_path.values() if isinstance(item, Candidate)]
        results = [item for item in by_path.values() if isinstance(item, FileResult)]
        if not self.selection.has_path_filters:
            return candidates, results, {}
        filters = self._filters_of(candidates, results)
        candidates = [c for c in candidates if c.location not in filters]
        return candidates, [r for r in results if r.candidate.location not in filters], filters

    def _filters_of(self, candidates: Sequence[Candidate], results: Sequence[FileResult]) -> dict[str, Filter]:
        """Return, by location, the filters that leave out found files."""
        selection, now_ns = self.selection, time.time_ns()
        of_files = ((candidate.location, selection.filter_of(candidate, now_ns)) for candidate in candidates)
        filters = {location: filter_ for location, filter_ in of_files if filter_ is not None}
        locations = (result.candidate.location for result in results)
        return filters | {location: Filter.EXCLUDE for location in locations if selection.excludes(location)}

    def _filters_of_settled(self, candidates: Sequence[Candidate]) -> dict[str, Filter]:
        """Return, by location, the filters that leave out files that an earlier run settled."""
        instances = self.known_files.instances(candidates) if candidates else {}
        found = ((location, self.selection.filter_of_instance(instance)) for location, instance in instances.items())
        return {location: filter_ for location, filter_ in found if filter_ is not None}

    def _filters_of_announced(self, candidates: Sequence[Candidate]) -> dict[str, Filter]:
        """Return, by location, the filters that leave out candidates by the head that the source announces.

        Their heads decide once they are read, so an unknown SOP class leaves nothing out.
        """
        announced = ((c.location, c.announced) for c in candidates if c.announced is not None)
        found = ((location, self.selection.filter_of_header(header), header) for location, header in announced)
        return {
            location: filter_
            for location, filter_, header in found
            if filter_ is not None and (filter_ is not Filter.SOP_CLASS or header.sop_class_uid)
        }
