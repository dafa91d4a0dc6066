"""Files that share a SOP Instance UID: which one is sent, and what becomes of the others.

An archive holds copies: exports, backups, links. A file is compared with the files that are under way or on the server
for its UID: an equal one is skipped as a copy, and one in another study, in another series or with other bytes is a
conflict, as a server keeps one of them. What is under way is known here, what is over the ledger knows: memory does not
grow with the archive.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, Fate, Instance, Outcome
from bulkstow.pipeline.crew import Crew, by
from bulkstow.pipeline.newest import NewestFiles

Compare = Callable[[Candidate, Candidate], Awaitable[bool | None]]
"""Whether two files of one size hold the same bytes, and None where the second is not what it was. Raises OSError."""

CHANGED = "that file is gone or has changed"


class Claims(Protocol):
    """Decides which files are sent, one list after the other."""

    async def sort_out(
        self, instances: Sequence[Instance], compare: Compare
    ) -> tuple[list[Instance], list[Outcome], list[Candidate]]:
        """Return the instances to send, the outcomes of copies and conflicts, and files that came twice by one path.

        While one call waits for a comparison, others may be made.
        """

    def release(self, outcomes: Iterable[Outcome]) -> None:
        """Take note of what is settled, once the ledger has it; may be called while `sort_out` runs."""


class FirstFileClaims:
    """The first file of each SOP Instance UID is sent, and is compared with later ones while it is under way.

    With `sends_conflicts` a conflict with a file on the server is no reason not to send.
    """

    def __init__(self, ledger: Ledger, crew: Crew, *, sends_conflicts: bool = False) -> None:
        self._ledger = ledger
        self._crew = crew
        self._sends_conflicts = sends_conflicts
        self._under_way: dict[str, Instance] = {}

    async def sort_out(
        self, instances: Sequence[Instance], compare: Compare
    ) -> tuple[list[Instance], list[Outcome], list[Candidate]]:
        """Return the instances to send, the outcomes of copies and conflicts, and files that came twice by one path."""
        under_way = self._under_way
        claims = [(i, under_way.setdefault(i.header.sop_instance_uid, i)) for i in instances]
        # Only now: a claim is released after its outcome is in the ledger, so what is neither claimed nor there is new.
        ours = [i.header.sop_instance_uid for i, claimant in claims if claimant is i]
        owners = await by(self._crew.errands, self._ledger.owners, ours)
        fresh: list[Instance] = []
        settled: list[Outcome] = []
        again: list[Candidate] = []
        let_go: set[str] = set()
        for instance, claimant in claims:
            uid, candidate = instance.header.sop_instance_uid, instance.candidate
            others = owners.get(uid, [])
            if uid in let_go:
                claimant = under_way.setdefault(uid, instance)
            is_ours = claimant is instance
            if any(other.candidate == candidate for other in others) or (
                not is_ours and claimant.candidate.location == candidate.location
            ):
                # Named twice: it is under way, or has been recorded since the scan looked it up.
                again.append(candidate)
            elif (outcome := await _compare(instance, others, None if is_ours else claimant, compare)) is None or (
                is_ours and self._sends_conflicts and outcome.fate is Fate.CONFLICT
            ):
                fresh.append(_with_rival(instance, others, outcome))
                continue
            else:
                settled.append(outcome)
            if is_ours:
                under_way.pop(uid, None)
                let_go.add(uid)
        return fresh, settled, again

    def release(self, outcomes: Iterable[Outcome]) -> None:
        """Let go of what is settled, once the ledger has it."""
        for outcome in outcomes:
            if outcome.header is None:
                continue
            claimant = self._under_way.get(outcome.header.sop_instance_uid)
            if claimant is not None and claimant.candidate.location == outcome.candidate.location:
                del self._under_way[outcome.header.sop_instance_uid]


class NewestFileClaims:
    """Of the files of each SOP Instance UID only the one modified last is sent, if it is newer than what was sent."""

    def __init__(self, ledger: Ledger, crew: Crew, newest: NewestFiles) -> None:
        self._ledger = ledger
        self._crew = crew
        self._newest = newest

    async def sort_out(
        self, instances: Sequence[Instance], compare: Compare
    ) -> tuple[list[Instance], list[Outcome], list[Candidate]]:
        """Return the instances to send, and the outcomes of copies and conflicts; no file comes twice."""
        uids = [instance.header.sop_instance_uid for instance in instances]
        sent_before, newest_files = await by(
            self._crew.errands, lambda: (self._ledger.owners(uids), {uid: self._newest.newest(uid) for uid in uids})
        )
        fresh: list[Instance] = []
        settled: list[Outcome] = []
        for instance in instances:
            uid = instance.header.sop_instance_uid
            others, newest = sent_before.get(uid, []), newest_files[uid]
            outcome = await _compare(newest, others, None, compare)
            is_sent = outcome is None or (outcome.fate is Fate.CONFLICT and _is_newest(newest, others))
            if newest == instance and is_sent:
                fresh.append(_with_rival(instance, others, outcome))
                continue
            if newest != instance:
                outcome = await _compare(instance, others, newest if is_sent else None, compare)
            settled.append(outcome or _not_compared(instance, others[0], CHANGED))
        return fresh, settled, []

    def release(self, outcomes: Iterable[Outcome]) -> None:
        """Do nothing: the newest file of a UID stays the newest."""


def _is_newest(instance: Instance, others: Iterable[Instance]) -> bool:
    return all(instance.candidate.modified_ns > other.candidate.modified_ns for other in others)


def _with_rival(instance: Instance, others: Iterable[Instance], conflict: Outcome | None) -> Instance:
    """Return a file that is sent, with what the server has under its UID: the other file, or this one as it was before.

    A file whose time alone has changed may have its old content.
    """
    if conflict is not None:
        return replace(instance, rival=conflict.copy_of)
    for other in others:
        location = other.candidate.location
        if location == instance.candidate.location and _plain_difference(instance, other):
            return replace(instance, rival=f"{location} before it changed")
    return instance


async def _compare(
    instance: Instance, others: Iterable[Instance], claimant: Instance | None, compare: Compare
) -> Outcome | None:
    """Return the outcome of a file that is not sent because of others with its SOP Instance UID; None if it is sent.

    `others` are on the server by an earlier request, `claimant` is under way.
    One equal file makes it a copy, whatever the rest; else the first that differs is named.
    """
    conflict: Outcome | None = None
    for other in others if claimant is None else (claimant, *others):
        location = other.candidate.location
        if location == instance.candidate.location:
            continue  # the same file as it was before it changed
        try:
            difference = await _difference(instance, other, compare)
        except OSError as error:
            why = error.strerror or str(error)
            return _not_compared(instance, other, why) if error.filename == location else _not_read(instance, why)
        if difference == "":
            reason = f"a second copy of the SOP instance, same bytes: see {location}"
            return Outcome(instance.candidate, instance.header, Fate.SKIPPED, reason, copy_of=location)
        if difference is None and other is claimant:
            return _not_compared(instance, other, CHANGED)
        if difference is not None and conflict is None:
            reason = f"the same SOP Instance UID as {location}, {difference}"
            conflict = Outcome(instance.candidate, instance.header, Fate.CONFLICT, reason, copy_of=location)
    return conflict


def _not_read(instance: Instance, why: str) -> Outcome:
    return Outcome(instance.candidate, instance.header, Fate.UNREADABLE, f"cannot be read: {why}")


def _not_compared(instance: Instance, other: Instance, why: str) -> Outcome:
    """Return a failure that names the other file: if that one does not reach the server, this one has its turn."""
    location = other.candidate.location
    reason = f"cannot be compared with {location}, which has the same SOP Instance UID: {why}"
    return Outcome(instance.candidate, instance.header, Fate.UNREADABLE, reason, copy_of=location)


async def _difference(instance: Instance, other: Instance, compare: Compare) -> str | None:
    """Say in which respect a file differs from another one; empty if it does not, None if that cannot be known.

    Raises OSError where one of them cannot be read.
    """
    if difference := _plain_difference(instance, other):
        return difference
    is_equal = await compare(instance.candidate, other.candidate)
    return None if is_equal is None else "" if is_equal else "other bytes"


def _plain_difference(instance: Instance, other: Instance) -> str:
    """Say in which respect two files differ that need not be read for it; empty if in none."""
    if instance.header.study_uid != other.header.study_uid:
        return f"in another study ({other.header.study_uid})"
    if instance.header.series_uid != other.header.series_uid:
        return f"in another series ({other.header.series_uid})"
    return "other bytes" if instance.candidate.size_bytes != other.candidate.size_bytes else ""
