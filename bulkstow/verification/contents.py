"""Compares the content of a study's instances with their files: a series in one request where that is possible."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

import anyio
from anyio.abc import TaskGroup

from bulkstow.destination.search import Found
from bulkstow.errors import BulkstowError, first_of
from bulkstow.model import Instance, NoResponse, Outcome, Response
from bulkstow.policy.findings import Finding, is_confirmed_at
from bulkstow.policy.reading import failure_reason
from bulkstow.verification.content_result import (
    ContentComparer,
    ContentResult,
    Different,
    Identical,
    NotCompared,
    SameDataSet,
)
from bulkstow.verification.expected import ExpectedFile, ExpectedStudy
from bulkstow.verification.requests import Abandoned, Requests, Unanswered

RECORDED_AT_ONCE = 100
"""Comparisons that are recorded together, so that a killed run loses few of a large study: 100 MB of CT."""

SERIES_SHARE = 0.5
"""Series of a study are retrieved as a whole if at least this share of its instances is compared. One by one, Orthanc
sends CT of 0.5 MB 2.8 times, and MR of 35 KB 16 times as slowly."""

EDITED = "it was edited when it was sent: --edit with the same file compares it"
"""Why the content of an edited instance is not compared with its file."""

_ABSENT = (404, 410)
"""Statuses of a series that is gone; a server that sends no series at all costs one request a series more."""

Findings = Sequence[tuple[ExpectedFile, Finding, str]]
"""Files, the finding about them, and the differences in words."""

Record = Callable[[Findings], Awaitable[None]]


@dataclass(slots=True)
class Compared:
    """The result of the comparison of a study's contents."""

    different: dict[str, str] = field(default_factory=dict)
    """The differences, by SOP Instance UID."""
    not_compared: dict[str, str] = field(default_factory=dict)
    """The reason, by SOP Instance UID."""
    paths: set[bytes] = field(default_factory=set)
    """Files whose finding was recorded."""


class Contents:
    """Compares the files of studies, with at most `at_once` requests of all studies at a time.

    Content that was confirmed at `since_s` or later is not compared again; None compares all. Without `has_edits`
    nothing is compared that was edited when it was sent.
    """

    def __init__(
        self,
        comparer: ContentComparer,
        requests: Requests,
        *,
        at_once: int,
        since_s: int | None,
        has_edits: bool = False,
    ) -> None:
        self._comparer = comparer
        self._requests = requests
        self._places = anyio.Semaphore(at_once)
        self._since_s = since_s
        self._has_edits = has_edits
        self._sends_series = True
        """The server has not refused to send a series."""

    async def compare(self, study: ExpectedStudy, listed: frozenset[str], record: Record) -> Compared:
        """Compare the files of a study whose instances are listed. Raises Abandoned and RunStopped."""
        notes = _Notes(record)
        files = sorted(self._to_compare(study, listed, notes), key=attrgetter("series_uid"))
        are_most = len(files) >= SERIES_SHARE * len(listed)
        try:
            async with anyio.create_task_group() as tasks:
                for _, series in groupby(files, attrgetter("series_uid")):
                    group = [(file, file.instance(study.uid)) for file in series]
                    if are_most and len(group) > 1 and self._sends_series:
                        await self._places.acquire()
                        tasks.start_soon(self._compare_series, group, notes, tasks)
                    else:
                        await self._compare_each(group, notes, tasks)
        except BaseExceptionGroup as group_of_errors:
            ours, _ = group_of_errors.split(BulkstowError)
            raise group_of_errors if ours is None else first_of(ours) from None
        await notes.record()
        if notes.is_abandoned:
            raise Abandoned
        return notes.compared()

    def _to_compare(self, study: ExpectedStudy, listed: frozenset[str], notes: _Notes) -> Iterator[ExpectedFile]:
        """Yield the files whose content the server should have; note files that are confirmed already.

        A copy is compared only if its original is not.
        """
        expected = [file for file in study.files if file.is_expected and file.sop_instance_uid in listed]
        originals = {file.sop_instance_uid for file in expected if file.outcome != Outcome.SKIPPED}
        for file in expected:
            if file.outcome == Outcome.SKIPPED and file.sop_instance_uid in originals:
                continue
            is_recent = self._since_s is not None and (file.verified_at_s or 0) >= self._since_s
            if is_recent and is_confirmed_at(file.verified_level or "", "content"):
                notes.equal.add(file.sop_instance_uid)
            elif file.is_edited and not self._has_edits:
                notes.add(file, NotCompared(EDITED))
            else:
                yield file

    async def _compare_each(self, group: Sequence[_Pair], notes: _Notes, tasks: TaskGroup) -> None:
        """Start the comparison of each file alone, as places become free."""
        for pair in group:
            await self._places.acquire()
            tasks.start_soon(self._compare_one, pair, notes)
            await notes.record(at_least=RECORDED_AT_ONCE)

    async def _compare_one(self, pair: _Pair, notes: _Notes) -> None:
        file, instance = pair

        async def attempt() -> Found[ContentResult] | Response | NoResponse:
            result = await self._comparer.compare(instance)
            if isinstance(result, Response | NoResponse):
                return result
            return Found(result, instance.size_bytes, 1)

        try:
            result = await self._requests.make(attempt)
        except Abandoned:
            notes.is_abandoned = True
            return
        finally:
            self._places.release()
        notes.add(file, result)

    async def _compare_series(self, group: Sequence[_Pair], notes: _Notes, tasks: TaskGroup) -> None:
        """Compare the files of a series in one request, and those without a result alone."""
        left = {instance.candidate.location: (file, instance) for file, instance in group}

        async def tell(instance: Instance, result: ContentResult) -> bool:
            if not isinstance(result, Response | NoResponse):
                file, _ = left.pop(instance.candidate.location)
                notes.add(file, result)
                await notes.record(at_least=RECORDED_AT_ONCE)
            return not self._requests.is_abandoned

        async def attempt() -> Found[None] | Response | NoResponse:
            before, before_bytes = len(left), _size_bytes(left.values())
            exchange = await self._comparer.compare_series([instance for _, instance in left.values()], tell)
            # A truncated series is not requested again: its missing instances are retrieved alone.
            if before == len(left) and (isinstance(exchange, NoResponse) or exchange.status != 200):
                return exchange
            return Found(None, before_bytes - _size_bytes(left.values()), before - len(left))

        try:
            answer: Response | Unanswered | None = await self._requests.make(attempt)
            self._sends_series = self._sends_series and (not isinstance(answer, Response) or answer.status in _ABSENT)
        except Abandoned:
            notes.is_abandoned = True
            return
        finally:
            self._places.release()
        await self._compare_each(list(left.values()), notes, tasks)


_Pair = tuple[ExpectedFile, Instance]


def _size_bytes(pairs: Iterable[_Pair]) -> int:
    return sum(file.size_bytes for file, _ in pairs)


class _Notes:
    """The findings about the files of one study."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._findings: list[tuple[ExpectedFile, Finding, str]] = []
        """Findings that are not recorded yet."""
        self._compared = Compared()
        self.equal: set[str] = set()
        """SOP Instance UIDs with at least one file that equals the server's instance."""
        self.is_abandoned = False

    def add(self, file: ExpectedFile, result: ContentResult | Unanswered) -> None:
        """Note the result of a file."""
        uid = file.sop_instance_uid
        match result:
            case Identical() | SameDataSet():
                self.equal.add(uid)
                self._found(file, Finding.EQUAL, "")
            case Different(attributes):
                self._compared.different[uid] = ", ".join(attributes)
                self._found(file, Finding.DIFFERENT, ", ".join(attributes))
            case NotCompared(reason) | Unanswered(reason):
                self._compared.not_compared[uid] = reason
            case Response():
                words = f"QIDO-RS lists it, but WADO-RS answers {failure_reason(result)}"
                self._compared.not_compared[uid] = words
            case NoResponse(cause):
                self._compared.not_compared[uid] = str(cause)

    def _found(self, file: ExpectedFile, finding: Finding, detail: str) -> None:
        self._compared.paths.add(file.path)
        self._findings.append((file, finding, detail))

    async def record(self, *, at_least: int = 0) -> None:
        """Record the findings, if there are enough of them."""
        if len(self._findings) >= at_least:
            findings, self._findings = self._findings, []
            await self._record(findings)

    def compared(self) -> Compared:
        """Return all findings; an instance that equals one of its files counts as compared, even if another differs."""
        for uid in self.equal:
            self._compared.not_compared.pop(uid, None)
        return self._compared
