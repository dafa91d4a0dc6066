"""Examines one study at a time: which instances are there, which are missing, which differ."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import anyio

from bulkstow.policy.findings import Change, Finding, change_of
from bulkstow.policy.look import next_look_in_s
from bulkstow.policy.study_state import Evidence, StudyResult, judge_count, judge_study, unknown_study
from bulkstow.verification.contents import Compared, Contents, Findings
from bulkstow.verification.expected import ExpectedFile, ExpectedStudy
from bulkstow.verification.questions import NO_UID, Questions, StudyCount
from bulkstow.verification.requests import Unanswered
from bulkstow.wire.resource_path import is_segment

Changes = Sequence[tuple[ExpectedFile, Change]]


@dataclass(frozen=True, slots=True)
class Looks:
    """The looks at a study so far, all without a final result."""

    count: int
    first_s: float
    """When the first look began."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Something is missing, and the settle time has not passed."""

    looks: Looks
    due_s: float


@dataclass(frozen=True, slots=True)
class Examined:
    """The result of a study, and its changes of the ledger."""

    result: StudyResult
    changes: Changes = ()
    missing_files: tuple[ExpectedFile, ...] = ()
    """Files of instances that the server does not have."""
    is_listed_instead: bool = False
    """The server does not count the instances of a study, so they were listed."""
    is_from_before: bool = False
    """An unfinished run has confirmed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examiner:
    """Examines studies at one level; `record` takes findings about a study before the study is finished.

    `day` is the date for the ledger. Without `contents` no content is compared.
    """

    counts: bool
    """Compare numbers of instances only."""
    settle_s: float
    day: str
    questions: Questions
    contents: Contents | None
    record: Callable[[Changes], Awaitable[None]]

    async def examine(self, study: ExpectedStudy, looks: Looks) -> Examined | LookAgain:
        """Look at a study. Raises Abandoned and RunStopped as `Requests.make`."""
        if not is_segment(study.uid):
            return _unknown(study, NO_UID)
        examined = await (self._count(study, looks) if self.counts else self._list(study, looks))
        if isinstance(examined, LookAgain) or not study.original_uid:
            return examined
        return replace(examined, result=replace(examined.result, original_study_uid=study.original_uid))

    async def _count(self, study: ExpectedStudy, looks: Looks) -> Examined | LookAgain:
        counted = await self.questions.count(study.uid)
        if isinstance(counted, Unanswered):
            return _unknown(study, counted.reason)
        if counted.is_there and counted.instances is None:
            return await self._list(study, looks)
        expected, tolerated = len(study.expected), len(study.tolerated)
        result = judge_count(study.uid, expected, tolerated, counted.instances or 0)
        again = None if result.state.is_complete else self._again(looks)
        return again or Examined(result)

    async def _list(self, study: ExpectedStudy, looks: Looks) -> Examined | LookAgain:
        listed = await self.questions.listed(study)
        if isinstance(listed, frozenset) and not study.expected <= listed:
            if (again := self._again(looks)) is not None:
                return again
            listed = await self._sought(study, listed)
        if isinstance(listed, Unanswered):
            return _unknown(study, listed.reason)
        compared = Compared(different=study.conflicts)  # a list proves nothing against an earlier comparison
        if self.contents is not None:
            compared = await self.contents.compare(study, listed, self._record_contents)
        evidence = Evidence(
            expected=study.expected,
            tolerated=study.tolerated,
            listed=listed,
            different=compared.different,
            not_compared=compared.not_compared,
        )
        result = judge_study(study.uid, evidence)
        changes = () if self.counts else self._changes(study, listed, compared)
        lost = study.expected - listed
        missing = tuple(file for file in study.files if file.sop_instance_uid in lost)
        return Examined(result, changes, missing, is_listed_instead=self.counts)

    def _again(self, looks: Looks) -> LookAgain | None:
        """Return when to look again for missing instances; None if the settle time has passed."""
        now_s = anyio.current_time()
        count = looks.count + 1
        wait_s = next_look_in_s(count, now_s - looks.first_s, self.settle_s)
        return None if wait_s is None else LookAgain(Looks(count, looks.first_s), now_s + wait_s)

    async def _sought(self, study: ExpectedStudy, listed: frozenset[str]) -> frozenset[str] | Unanswered:
        """Ask for each instance that is not listed by its UID, or once for a study of which nothing is listed.

        Return the UIDs that are listed or found in this way.
        """
        counted = StudyCount(is_there=True) if listed else await self.questions.count(study.uid)
        if isinstance(counted, Unanswered):
            return counted
        if not counted.is_there:
            return listed
        found = set(listed)
        series = {file.sop_instance_uid: file.series_uid for file in study.files}
        for uid in sorted(study.expected - listed):
            is_there = await self.questions.has(study.uid, series[uid], uid)
            if isinstance(is_there, Unanswered):
                return is_there
            if is_there:
                found.add(uid)
        if counted.instances and not found:
            return Unanswered(f"counts {counted.instances:,} instances of the study, and lists none")
        return frozenset(found)

    def _changes(self, study: ExpectedStudy, listed: frozenset[str], compared: Compared) -> Changes:
        """Return the changes by the list of a study; findings about compared files are recorded already.

        An optional instance that is listed is confirmed; if it is not listed, it is not missing: the server was not
        asked for it by its UID.
        """
        findings = dict.fromkeys(listed, Finding.LISTED) | dict.fromkeys(study.expected - listed, Finding.MISSING)
        changes = []
        for file in study.files:
            finding = findings.get(file.sop_instance_uid)
            if finding is None or file.path in compared.paths:
                continue
            if (change := self._change(file, finding)) is not None:
                changes.append((file, change))
        return changes

    async def _record_contents(self, findings: Findings) -> None:
        changes = [(file, self._change(file, finding, detail)) for file, finding, detail in findings]
        await self.record([(file, change) for file, change in changes if change is not None])

    def _change(self, file: ExpectedFile, finding: Finding, detail: str = "") -> Change | None:
        known = file.known
        return None if known is None else change_of(known, finding, day=self.day, detail=detail)


def _unknown(study: ExpectedStudy, reason: str) -> Examined:
    return Examined(unknown_study(study.uid, len(study.expected), reason))
