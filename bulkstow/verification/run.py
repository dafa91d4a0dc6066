"""A verification: several tasks examine studies from the queue, and one task records the results.

    expected instances -> study queue -> examine x N -> record: ledger, output

A result is reported only after it is recorded in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio

from bulkstow.errors import BulkstowError, RunStopped, first_of
from bulkstow.events import Reporter, StudyVerified
from bulkstow.ledger.verification import VerificationLedger
from bulkstow.pipeline.health_monitor import Probed
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking
from bulkstow.policy.findings import Change
from bulkstow.policy.study_state import StudyResult, StudyState
from bulkstow.verification.examine import Changes, Examined, Examiner, LookAgain
from bulkstow.verification.expected import ExpectedStudy
from bulkstow.verification.requests import Abandoned, Requests
from bulkstow.verification.study_queue import StudyQueue

ROWS_PER_COMMIT = 5000
"""A commit costs 0.1 ms in WAL mode, and a row 5 µs; a result waits no longer than the commit before it."""

RESULTS_AHEAD = 64
"""Results that wait for the ledger: those of 64 studies."""


class Output(Protocol):
    """Where the results of studies go."""

    def write(self, examined: Sequence[Examined]) -> None:
        """Write results; called in a thread."""


class Outputs:
    """Several outputs as one."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = tuple(outputs)

    def write(self, examined: Sequence[Examined]) -> None:
        """Write results to each."""
        for output in self._outputs:
            output.write(examined)


@dataclass(frozen=True, slots=True)
class _Finding:
    """Findings to record, and the result of the study if it is finished."""

    changes: Sequence[tuple[bytes, Change]]
    examined: Examined | None = None


class Verification:
    """Verifies studies at one destination; `drain` ends it early without losing findings."""

    def __init__(
        self,
        *,
        queue: StudyQueue,
        requests: Requests,
        tasks: int,
        probed: Probed,
        level: str,
        since_s: int | None,
        ledger: VerificationLedger,
        output: Output,
        threads: WorkerThreads,
        reporter: Reporter,
    ) -> None:
        self._queue = queue
        self._requests = requests
        self._tasks = tasks
        self._probed = probed
        self._level = level
        self._since_s = since_s
        self._ledger = ledger
        self._output = output
        self._threads = threads
        self._reporter = reporter
        self._findings_in, self._findings = anyio.create_memory_object_stream[_Finding](RESULTS_AHEAD)
        self.is_draining = False

    def drain(self) -> None:
        """Start nothing more; finish and record the requests in flight."""
        self.is_draining = True
        self._requests.abandon()
        self._queue.close()

    @property
    def is_done(self) -> bool:
        """False: a verification that is ended has more to do."""
        return False

    @property
    def is_over(self) -> bool:
        """True when nothing more starts."""
        return self._requests.is_abandoned

    async def record(self, changes: Changes) -> None:
        """Record the findings about files of a study that is not finished."""
        await self._findings_in.send(_Finding(_by_path(changes)))

    async def carry_out(self, examiner: Examiner) -> None:
        """Examine all studies. Raises RunStopped for an error that no retry fixes."""
        try:
            async with anyio.create_task_group() as watching, self._findings:
                self._requests.attend(self._probed, watching)
                async with anyio.create_task_group() as recording:
                    recording.start_soon(self._record_all)
                    async with self._findings_in, anyio.create_task_group() as examining:
                        for _ in range(self._tasks):
                            examining.start_soon(self._examine_all, examiner)
                self._requests.abandon()  # ends the watch on an outage
        except BaseExceptionGroup as group:
            ours, _ = group.split(BulkstowError)
            raise group if ours is None else first_of(ours) from None
        if self._requests.stopped_by is not None:
            raise self._requests.stopped_by

    async def _examine_all(self, examiner: Examiner) -> None:
        while (taken := await self._queue.take()) is not None:
            study, looks = taken
            again: LookAgain | None = None
            try:
                examined = self._confirmed_before(study) or await examiner.examine(study, looks)
                if isinstance(examined, LookAgain):
                    again = examined
                else:
                    await self._findings_in.send(_Finding(_by_path(examined.changes), examined))
            except Abandoned:
                self._queue.close()
            except RunStopped as stop:
                self._requests.stop(stop)
                self._queue.close()
            finally:
                self._queue.finish(study, again)

    def _confirmed_before(self, study: ExpectedStudy) -> Examined | None:
        """Return the result of a study that an unfinished run has confirmed; None if it is to be examined."""
        if self._since_s is None or not study.is_confirmed(self._level, self._since_s):
            return None
        count = len(study.expected)
        result = StudyResult(study.uid, StudyState.COMPLETE, expected=count, found=count)
        return Examined(result, is_from_before=True)

    async def _record_all(self) -> None:
        """Record findings, many per commit; queued findings are recorded also if the run is cancelled."""
        try:
            async for finding in self._findings:
                await self._write(self._gather(finding))
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                while left := self._gather():
                    await self._write(left)
            raise

    def _gather(self, *first: _Finding) -> list[_Finding]:
        gathered = list(first)
        rows = sum(len(finding.changes) for finding in gathered)
        while rows < ROWS_PER_COMMIT:
            try:
                finding = self._findings.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
                break
            gathered.append(finding)
            rows += len(finding.changes)
        return gathered

    async def _write(self, findings: list[_Finding]) -> None:
        examined = [finding.examined for finding in findings if finding.examined is not None]
        with anyio.CancelScope(shield=True):
            await run_blocking(self._threads.calls, self._write_blocking, findings, examined)
        for one in examined:
            self._reporter.tell(StudyVerified(one.result, one.is_from_before, one.is_listed_instead))

    def _write_blocking(self, findings: list[_Finding], examined: list[Examined]) -> None:
        changes = [change for finding in findings for change in finding.changes]
        if changes:
            self._ledger.record_changes(changes)
        self._output.write(examined)


def _by_path(changes: Changes) -> list[tuple[bytes, Change]]:
    return [(file.path, change) for file, change in changes]
