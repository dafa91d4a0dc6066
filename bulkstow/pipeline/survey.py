"""The run of a plan: the stages of an upload that choose the files, and an inventory in place of the later stages.

    scan -> inspect -> inventory

A file that would be sent counts as stored for the files after it, as if the server accepted everything. The ledger is
only read.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from bulkstow.blocking import ReadLimit
from bulkstow.config import UploadSettings
from bulkstow.errors import BulkstowError, first_of
from bulkstow.events import Planned, Recorded, Reopened, Reporter
from bulkstow.ledger import LookUps
from bulkstow.model import Candidate, FileResult, Instance, Outcome
from bulkstow.pipeline.in_flight import InFlight
from bulkstow.pipeline.intake import Choice, Intake
from bulkstow.pipeline.inventory import Inventory, State
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.selection import EVERYTHING, Selection
from bulkstow.ports import Scanned, Source

REOPENED_PER_PASS = 10_000
"""The most files in conflict per pass, as in an upload; bounds memory."""


class Survey:
    """Lists the files of a source in an inventory; sends nothing, and writes nothing else."""

    def __init__(
        self,
        settings: UploadSettings,
        source: Source,
        look_ups: LookUps,
        inventory: Inventory,
        reporter: Reporter,
        *,
        threads: WorkerThreads,
        limit: ReadLimit,
        selection: Selection = EVERYTHING,
        only_members: bool = False,
    ) -> None:
        self._sends_conflicts = settings.on_conflict == "send"
        self._source = source
        self._selection = selection
        self._inventory = inventory
        self._reporter = reporter
        self._threads = threads
        self._look_ups = look_ups
        self._intake = Intake(
            settings=settings,
            source=source,
            known_files=_SurveyedFiles(look_ups, inventory),
            threads=threads,
            limit=limit,
            reporter=reporter,
            on_settled=self._list_settled,
            only_members=only_members,
        )

    async def carry_out(self) -> None:
        """Survey the source, then the files in conflict that would be sent after the others (`--on-conflict send`).

        Raises RunStopped if the storage does not answer, or the temporary file cannot be written.
        """
        await self._pass(await run_blocking(self._threads.scans, self._source.scan), self._selection)
        while self._sends_conflicts:
            reopened = await run_blocking(self._threads.calls, self._inventory.take_conflicts, REOPENED_PER_PASS)
            if not reopened:
                return
            self._reporter.tell(Reopened(tuple(FileResult(c, None, Outcome.CONFLICT) for c in reopened)))
            await self._pass(iter([reopened]), EVERYTHING, are_conflicts=True)  # they are selected files

    async def _pass(self, lists: Scanned, selection: Selection, *, are_conflicts: bool = False) -> None:
        with self._intake.choice(are_conflicts=are_conflicts) as choice:
            try:
                await self._run_stages(lists, choice, selection)
            except BaseExceptionGroup as group:
                # When one stage stops the run, the streams that it closes break the others.
                ours, _ = group.split(BulkstowError)
                raise group if ours is None else first_of(ours) from None

    async def _run_stages(self, lists: Scanned, choice: Choice, selection: Selection) -> None:
        instances_in, instances = anyio.create_memory_object_stream[list[Instance]](0)
        results_in, results = anyio.create_memory_object_stream[list[FileResult]](0)
        with results_in:
            intake = self._intake.stages(lists, choice, selection, instances_in, results_in)
        async with anyio.create_task_group() as stages:
            for stage in intake:
                stages.start_soon(stage.run)
            stages.start_soon(self._list_instances, instances, choice.in_flight)
            stages.start_soon(self._list_results, results)

    async def _list_instances(self, instances: MemoryObjectReceiveStream[list[Instance]], in_flight: InFlight) -> None:
        async with instances:
            async for several in instances:
                await run_blocking(self._threads.calls, self._inventory.add_instances, several)
                in_flight.release(several)
                self._source.release([instance.candidate for instance in several])
                self._reporter.tell(Planned(len(several), sum(i.size_bytes for i in several)))

    async def _list_results(self, results: MemoryObjectReceiveStream[list[FileResult]]) -> None:
        async with results:
            async for several in results:
                listed = await run_blocking(self._threads.calls, self._list, several)
                self._source.release([result.candidate for result in several])
                self._reporter.tell(Recorded(tuple(listed)))

    async def _list_settled(self, candidates: Sequence[Candidate]) -> None:
        results = await run_blocking(self._threads.calls, self._look_ups.results, candidates)
        await run_blocking(self._threads.calls, self._inventory.add_results, results, State.SETTLED)

    def _list(self, results: list[FileResult]) -> list[FileResult]:
        results = self._look_ups.with_notes(results)
        self._inventory.add_results(results)
        return results


class _SurveyedFiles:
    """The files of earlier runs, and the files that this plan would send."""

    def __init__(self, look_ups: LookUps, inventory: Inventory) -> None:
        self._look_ups = look_ups
        self._inventory = inventory
        self.look_up = look_ups.look_up
        self.instances = look_ups.instances

    def owners(self, sop_instance_uids: Sequence[str]) -> dict[str, list[Instance]]:
        """Return the files that are on the server, or would be; a file that has changed since counts as it is now."""
        planned = self._inventory.owners(sop_instance_uids)
        owners = self._look_ups.owners(sop_instance_uids)
        for uid, instances in planned.items():
            locations = {instance.candidate.location for instance in instances}
            before = [i for i in owners.get(uid, ()) if i.candidate.location not in locations]
            owners[uid] = sorted((*before, *instances), key=_path)
        return owners


def _path(instance: Instance) -> bytes:
    return instance.candidate.location.encode(errors="surrogatepass")
