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
from bulkstow.model import Candidate, FileResult, Instance, Outcome
from bulkstow.pipeline.newest import NewestFiles
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking

Compare = Callable[[Instance, Instance], Awaitable[bool | None]]
"""Whether two instances of one size have the same content; None if the second has changed. Raises OSError."""

CHANGED = "that file is gone or has changed"


class InFlight(Protocol):
    """Decides which files are sent, one list after the other."""

    async def deduplicate(
        self, instances: Sequence[Instance], compare: Compare
    ) -> tuple[list[Instance], list[FileResult], list[Candidate]]:
        """Return the instances to send, the outcomes of copies and conflicts, and files that came twice by one path.

        While one call waits for a comparison, others may be made.
        """

    def release(self, results: Iterable[FileResult]) -> None:
        """Take note of what is settled, once the ledger has it; may be called while `deduplicate` runs."""


class FirstFileInFlight:
    """The first file of each SOP Instance UID is sent, and is compared with later ones while it is under way.

    With `sends_conflicts` a conflict with a file on the server is no reason not to send.
    """

    def __init__(self, ledger: Ledger, threads: WorkerThreads, *, sends_conflicts: bool = False) -> None:
        self._ledger = ledger
        self._threads = threads
        self._sends_conflicts = sends_conflicts
        self._under_way: dict[str, Instance] = {}

    async def deduplicate(
        self, instances: Sequence[Instance], compare: Compare
    ) -> tuple[list[Instance], list[FileResult], list[Candidate]]:
        """Return the instances to send, the outcomes of copies and conflicts, and files that came twice by one path."""
        under_way = self._under_way
        in_flight = [(i, under_way.setdefault(i.header.sop_instance_uid, i)) for i in instances]
        # Only now: a claim is released after its outcome is in the ledger, so what is neither claimed nor there is new.
        ours = [i.header.sop_instance_uid for i, claimant in in_flight if claimant is i]
        owners = await run_blocking(self._threads.calls, self._ledger.owners, ours)
        fresh: list[Instance] = []
        settled: list[FileResult] = []
        again: list[Candidate] = []
        let_go: set[str] = set()
        for instance, claimant in in_flight:
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
            elif (result := await _compare(instance, others, None if is_ours else claimant, compare)) is None or (
                is_ours and self._sends_conflicts and result.outcome is Outcome.CONFLICT
            ):
                fresh.append(_with_conflicting_file(instance, others, result))
                continue
            else:
                settled.append(result)
            if is_ours:
                under_way.pop(uid, None)
                let_go.add(uid)
        return fresh, settled, again

    def release(self, results: Iterable[FileResult]) -> None:
        """Let go of what is settled, once the ledger has it."""
        for result in results:
            if result.header is None:
                continue
            claimant = self._under_way.get(result.header.sop_instance_uid)
            if claimant is not None and claimant.candidate.location == result.candidate.location:
                del self._under_way[result.header.sop_instance_uid]


class NewestFileInFlight:
    """Of the files of each SOP Instance UID only the one modified last is sent, if it is newer than what was sent."""

    def __init__(self, ledger: Ledger, threads: WorkerThreads, newest: NewestFiles) -> None:
        self._ledger = ledger
        self._threads = threads
        self._newest = newest

    async def deduplicate(
        self, instances: Sequence[Instance], compare: Compare
    ) -> tuple[list[Instance], list[FileResult], list[Candidate]]:
        """Return the instances to send, and the outcomes of copies and conflicts; no file comes twice."""
        uids = [instance.header.sop_instance_uid for instance in instances]
        sent_before, newest_files = await run_blocking(
            self._threads.calls, lambda: (self._ledger.owners(uids), {uid: self._newest.newest(uid) for uid in uids})
        )
        fresh: list[Instance] = []
        settled: list[FileResult] = []
        for instance in instances:
            uid = instance.header.sop_instance_uid
            others, newest = sent_before.get(uid, []), newest_files[uid]
            result = await _compare(newest, others, None, compare)
            is_sent = result is None or (result.outcome is Outcome.CONFLICT and _is_newest(newest, others))
            if newest == instance and is_sent:
                fresh.append(_with_conflicting_file(instance, others, result))
                continue
            if newest != instance:
                result = await _compare(instance, others, newest if is_sent else None, compare)
            settled.append(result or _not_compared(instance, others[0], CHANGED))
        return fresh, settled, []

    def release(self, results: Iterable[FileResult]) -> None:
        """Do nothing: the newest file of a UID stays the newest."""


def _is_newest(instance: Instance, others: Iterable[Instance]) -> bool:
    """Return whether a file is newer than all others; of versions that are no times that is unknown."""
    return all(_is_newer(instance.candidate.version, other.candidate.version) for other in others)


def _is_newer(version: int | str, other: int | str) -> bool:
    return isinstance(version, int) and isinstance(other, int) and version > other


def _with_conflicting_file(instance: Instance, others: Iterable[Instance], conflict: FileResult | None) -> Instance:
    """Return a file that is sent, with what the server has under its UID: the other file, or this one as it was before.

    A file whose time alone has changed may have its old content.
    """
    if conflict is not None:
        return replace(instance, conflicting_file=conflict.copy_of)
    for other in others:
        location = other.candidate.location
        if location == instance.candidate.location and _plain_difference(instance, other):
            return replace(instance, conflicting_file=f"{location} before it changed")
    return instance


async def _compare(
    instance: Instance, others: Iterable[Instance], claimant: Instance | None, compare: Compare
) -> FileResult | None:
    """Return the outcome of a file that is not sent because of others with its SOP Instance UID; None if it is sent.

    `others` are on the server by an earlier request, `claimant` is under way.
    One equal file makes it a copy, whatever the rest; else the first that differs is named.
    """
    conflict: FileResult | None = None
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
            return FileResult(instance.candidate, instance.header, Outcome.SKIPPED, reason, copy_of=location)
        if difference is None and other is claimant:
            return _not_compared(instance, other, CHANGED)
        if difference is not None and conflict is None:
            reason = f"the same SOP Instance UID as {location}, {difference}"
            conflict = FileResult(instance.candidate, instance.header, Outcome.CONFLICT, reason, copy_of=location)
    return conflict


def _not_read(instance: Instance, why: str) -> FileResult:
    return FileResult(instance.candidate, instance.header, Outcome.UNREADABLE, f"cannot be read: {why}")


def _not_compared(instance: Instance, other: Instance, why: str) -> FileResult:
    """Return a failure that names the other file: if that one does not reach the server, this one has its turn."""
    location = other.candidate.location
    reason = f"cannot be compared with {location}, which has the same SOP Instance UID: {why}"
    return FileResult(instance.candidate, instance.header, Outcome.UNREADABLE, reason, copy_of=location)


async def _difference(instance: Instance, other: Instance, compare: Compare) -> str | None:
    """Say in which respect a file differs from another one; empty if it does not, None if that cannot be known.

    Raises OSError where one of them cannot be read.
    """
    if difference := _plain_difference(instance, other):
        return difference
    is_equal = await compare(instance, other)
    return None if is_equal is None else "" if is_equal else "other bytes"


def _plain_difference(instance: Instance, other: Instance) -> str:
    """Say in which respect two files differ that need not be read for it; empty if in none."""
    if instance.header.study_uid != other.header.study_uid:
        return f"in another study ({other.header.study_uid})"
    if instance.header.series_uid != other.header.series_uid:
        return f"in another series ({other.header.series_uid})"
    return "other bytes" if instance.candidate.size_bytes != other.candidate.size_bytes else ""
