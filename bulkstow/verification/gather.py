"""Gathers the instances of a source: the stages of an upload that read it, and a database in place of the others.

    scan -> inspect -> expected instances

All files are taken, also copies and those that the ledger has settled: the server should have their instances.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from bulkstow.blocking import ReadLimit
from bulkstow.config import UploadSettings
from bulkstow.errors import BulkstowError, first_of
from bulkstow.events import Recorded, Reporter
from bulkstow.ledger import Known
from bulkstow.model import Candidate, FileResult, Instance, Outcome
from bulkstow.pipeline.in_flight import Compare
from bulkstow.pipeline.intake import Choice, Intake
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.selection import Selection
from bulkstow.ports import Source
from bulkstow.verification.expected import ExpectedInstances

WithNotes = Callable[[list[FileResult]], list[FileResult]]
"""Adds the notes of failures that a user has accepted; blocks."""


async def gather(
    source: Source,
    expected: ExpectedInstances,
    *,
    with_notes: WithNotes,
    settings: UploadSettings,
    selection: Selection,
    threads: WorkerThreads,
    limit: ReadLimit,
    reporter: Reporter,
    only_members: bool = False,
) -> None:
    """Add the selected instances of a source; `reporter` gets the other files, `with_notes` adds the notes.

    Raises RunStopped if the storage does not answer, or the temporary file cannot be written.
    """
    intake = Intake(
        settings=settings,
        source=source,
        known_files=_NothingKnown(),
        threads=threads,
        limit=limit,
        reporter=reporter,
        only_members=only_members,
    )
    lists = await run_blocking(threads.scans, source.scan)
    instances_in, instances = anyio.create_memory_object_stream[list[Instance]](0)
    results_in, results = anyio.create_memory_object_stream[list[FileResult]](0)
    with results_in:
        reading = intake.stages(lists, Choice(in_flight=_AllFiles()), selection, instances_in, results_in)

    async def add_instances(instances: MemoryObjectReceiveStream[list[Instance]]) -> None:
        async with instances:
            async for several in instances:
                await run_blocking(threads.calls, expected.add_instances, several)
                source.release([instance.candidate for instance in several])

    async def tell_results(results: MemoryObjectReceiveStream[list[FileResult]]) -> None:
        async with results:
            async for several in results:
                reporter.tell(Recorded(tuple(await run_blocking(threads.calls, with_notes, several))))
                source.release([result.candidate for result in several])

    try:
        async with anyio.create_task_group() as stages:
            for stage in reading:
                stages.start_soon(stage.run)
            stages.start_soon(add_instances, instances)
            stages.start_soon(tell_results, results)
    except BaseExceptionGroup as group:
        # When one stage stops the run, the streams that it closes break the others.
        ours, _ = group.split(BulkstowError)
        raise group if ours is None else first_of(ours) from None


class _NothingKnown:
    """A ledger without files, so that the scan passes all of them on."""

    def look_up(self, candidates: Sequence[Candidate], again: Collection[Outcome] = ()) -> list[Known | None]:  # noqa: ARG002
        """Return None for each candidate."""
        return [None] * len(candidates)

    def instances(self, candidates: Sequence[Candidate]) -> dict[str, Instance]:  # noqa: ARG002
        """Return nothing."""
        return {}

    def owners(self, sop_instance_uids: Sequence[str]) -> dict[str, list[Instance]]:  # noqa: ARG002
        """Return nothing."""
        return {}


class _AllFiles:
    """Passes on all files, also several of one SOP Instance UID."""

    async def deduplicate(
        self,
        instances: Sequence[Instance],
        compare: Compare,  # noqa: ARG002
    ) -> tuple[list[Instance], list[FileResult], list[Candidate]]:
        """Return all instances."""
        return list(instances), [], []

    def release(self, recorded: Iterable[FileResult | Instance]) -> None:
        """Do nothing."""
