"""Further passes over a source that is watched: which files they take, and which of them are gone before they are read.

In a further pass a scan finds mostly known files. A file that an earlier pass has settled is not counted again; a file
that could not be read or sent is taken again if it has changed, or if the failure may be temporary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bulkstow.blocking import ReadLimit, map_in_threads
from bulkstow.events import Event, FilesFound, Reopened, Reporter, Vanished
from bulkstow.model import Candidate, FileResult, Outcome
from bulkstow.pipeline.unsettled import LookedUp, Unsettled
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.watching import may_succeed_later, replaces
from bulkstow.ports import Found, Scanned

MOST_PASSED = 100_000
"""Files without an outcome that are remembered, such as archives that were looked into; they take 20 MB."""


class Watch(Protocol):
    """Waits for changes in a source, and chooses the files that may be read."""

    @property
    def is_idle(self) -> bool:
        """True while it waits and no file is about to be read."""

    def admit(self, found: Sequence[Found]) -> Sequence[Found]:
        """Return the found files that may be read now; the others are found again later."""

    async def next_lists(self) -> Scanned | None:
        """Wait for changes, and return lists of files; None at the end."""

    def end(self) -> None:
        """Wait no longer."""

    def is_gone(self, location: str) -> bool:
        """Return whether there is no file any more. Blocks."""


@dataclass(slots=True)
class EarlierPasses:
    """The results of earlier passes of a run: recorded outcomes, and up to MOST_PASSED other files that were passed on.

    If such a file is found again, unchanged and without an outcome, it is an archive, or a filter leaves out its head.
    """

    recorded: Callable[[Sequence[str]], dict[str, FileResult]]
    """Returns, by location, the outcomes that this run has recorded."""
    _passed_on: dict[str, tuple[int, int | str]] = field(default_factory=dict)

    def pass_on(self, candidate: Candidate) -> bool:
        """Take a file without an outcome; return whether it is new, or has changed since."""
        location, state = candidate.location, (candidate.size_bytes, candidate.version)
        if self._passed_on.get(location) == state:
            return False
        if len(self._passed_on) >= MOST_PASSED:
            self._passed_on.clear()
        self._passed_on[location] = state
        return True

    def forget(self, gone: Iterable[FileResult]) -> None:
        """Forget files that were gone before they were read: they may come back."""
        for result in gone:
            self._passed_on.pop(result.candidate.location, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsettledAgain(Unsettled):
    """Looks up lists of a further pass."""

    earlier_passes: EarlierPasses

    def _look_up(self, found: Sequence[Found]) -> LookedUp:
        candidates, results, _ = self._selected(found)
        known = self.known_files.look_up(candidates, self.retried)
        locations = [c.location for c, k in zip(candidates, known, strict=True) if k is None or not k.is_final]
        locations += [result.candidate.location for result in results]
        before = self.earlier_passes.recorded(locations) if locations else {}
        settled = [c for c, k in zip(candidates, known, strict=True) if k is not None and k.is_final]
        chosen = [
            c
            for c, k in zip(candidates, known, strict=True)
            if (
                self.earlier_passes.pass_on(c)
                if k is None
                else not k.is_final and _is_taken_again(before.get(c.location))
            )
        ]
        results = [result for result in results if replaces(result, before.get(result.candidate.location))]
        taken = [*(c.location for c in chosen), *(result.candidate.location for result in results)]
        # A name may be used again after its instance is stored; the stored instance still counts.
        again = [before[location] for location in taken if location in before]
        events: list[Event] = [Reopened(tuple(result for result in again if not result.outcome.is_success))]
        events.append(FilesFound(len(taken), sum(c.content_bytes for c in chosen)))
        return LookedUp(chosen, results, settled, events if taken else [])


def _is_taken_again(before: FileResult | None) -> bool:
    return before is None or may_succeed_later(before)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneFiles:
    """Takes out the outcomes of files that were gone before they were read: they are no failures."""

    is_gone: Callable[[str], bool]
    earlier_passes: EarlierPasses
    threads: WorkerThreads
    limit: ReadLimit
    reporter: Reporter

    async def without(self, results: list[FileResult]) -> list[FileResult]:
        """Return the results of all other files."""
        unreadable = [result for result in results if result.outcome is Outcome.UNREADABLE]
        if not unreadable:
            return results
        gone: set[str] = set()

        def check(result: FileResult) -> str:
            return result.candidate.location if self.is_gone(result.candidate.location) else ""

        async for several in map_in_threads(
            check, unreadable, lambda _result, _why: "", self.threads, self.limit, items_per_list=len(unreadable)
        ):
            gone |= set(several) - {""}
        if gone:
            vanished = [result for result in unreadable if result.candidate.location in gone]
            self.earlier_passes.forget(vanished)
            size_bytes = sum(result.candidate.content_bytes for result in vanished)
            self.reporter.tell(Vanished(tuple(sorted(gone)), size_bytes))
        return [result for result in results if result.candidate.location not in gone]
