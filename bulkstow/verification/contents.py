"""Compares the content of a study's instances with their files, several at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import anyio

from bulkstow.destination.search import Found
from bulkstow.errors import BulkstowError, first_of
from bulkstow.model import Instance, NoResponse, Outcome, Response
from bulkstow.policy.findings import Finding, is_confirmed_at
from bulkstow.policy.reading import failure_reason
from bulkstow.verification.content_result import (
    ContentComparer,
    Different,
    Identical,
    NotCompared,
    SameDataSet,
)
from bulkstow.verification.expected import ExpectedFile, ExpectedStudy
from bulkstow.verification.requests import Abandoned, Requests, Unanswered

RECORDED_AT_ONCE = 100
"""Comparisons that are recorded together, so that a killed run loses few of a large study: 100 MB of CT."""

Findings = Sequence[tuple[ExpectedFile, Finding, str]]
"""Files, what was found out, and what differs."""


@dataclass(slots=True)
class Compared:
    """What the comparison of a study's contents has found out."""

    different: dict[str, str] = field(default_factory=dict)
    """What differs, by SOP Instance UID."""
    not_compared: dict[str, str] = field(default_factory=dict)
    """Why, by SOP Instance UID."""
    paths: set[bytes] = field(default_factory=set)
    """Files whose finding was recorded."""


class Contents:
    """Compares the files of studies, at most `at_once` of all studies at a time.

    Content that was confirmed at `since_s` or later is not compared again; None compares all.
    """

    def __init__(self, comparer: ContentComparer, requests: Requests, *, at_once: int, since_s: int | None) -> None:
        self._comparer = comparer
        self._requests = requests
        self._places = anyio.Semaphore(at_once)
        self._since_s = since_s
        self.compared_bytes = 0
        """The size of the files that were compared."""

    async def compare(
        self, study: ExpectedStudy, listed: frozenset[str], record: Callable[[Findings], Awaitable[None]]
    ) -> Compared:
        """Compare the files of a study whose instances are listed. Raises Abandoned and RunStopped."""
        compared = Compared()
        findings: list[tuple[ExpectedFile, Finding, str]] = []
        equal: set[str] = set()
        is_abandoned = False

        async def compare_one(file: ExpectedFile) -> None:
            nonlocal is_abandoned
            try:
                finding = await self._compare(file.instance(study.uid))
            except Abandoned:
                is_abandoned = True
                return
            finally:
                self._places.release()
            if isinstance(finding, str):
                compared.not_compared[file.sop_instance_uid] = finding
                return
            compared.paths.add(file.path)
            findings.append((file, *finding))
            if finding[0] is Finding.EQUAL:
                equal.add(file.sop_instance_uid)
            else:
                compared.different[file.sop_instance_uid] = finding[1]

        try:
            async with anyio.create_task_group() as tasks:
                for file in self._to_compare(study, listed, equal):
                    await self._places.acquire()
                    tasks.start_soon(compare_one, file)
                    if len(findings) >= RECORDED_AT_ONCE:
                        recorded, findings = findings, []
                        await record(recorded)
        except BaseExceptionGroup as group:
            ours, _ = group.split(BulkstowError)
            raise group if ours is None else first_of(ours) from None
        await record(findings)
        if is_abandoned:
            raise Abandoned
        for uid in equal:  # another file of the same instance may differ
            compared.different.pop(uid, None)
            compared.not_compared.pop(uid, None)
        return compared

    def _to_compare(self, study: ExpectedStudy, listed: frozenset[str], equal: set[str]) -> Iterator[ExpectedFile]:
        """Yield the files of which the server should have the content; note those that are confirmed already."""
        for file in study.files:
            if not (file.is_expected and file.sop_instance_uid in listed) or file.has_other_file:
                continue
            if file.outcome in (Outcome.SKIPPED, Outcome.UNREADABLE):
                continue
            is_recent = self._since_s is not None and (file.verified_at_s or 0) >= self._since_s
            if is_recent and is_confirmed_at(file.verified_level or "", "content"):
                equal.add(file.sop_instance_uid)
            else:
                yield file

    async def _compare(self, instance: Instance) -> tuple[Finding, str] | str:
        """Return the finding, and what differs; why nothing is known, if so."""

        async def attempt() -> Found[Identical | SameDataSet | Different | NotCompared] | Response | NoResponse:
            result = await self._comparer.compare(instance)
            if isinstance(result, Response | NoResponse):
                return result
            return Found(result, instance.candidate.size_bytes, 1)

        result = await self._requests.make(attempt)
        self.compared_bytes += instance.candidate.size_bytes
        match result:
            case Identical() | SameDataSet():
                return Finding.EQUAL, ""
            case Different(attributes):
                return Finding.DIFFERENT, ", ".join(attributes)
            case NotCompared(reason) | Unanswered(reason):
                return reason
            case Response():
                return f"QIDO-RS lists it, but WADO-RS answers {failure_reason(result)}"
