"""Deduplicate files that share a SOP Instance UID.

An archive has copies: exports, backups, links. A file is compared with the files that are in flight or on the server
under its UID: an equal one is skipped as a copy, and one in another study, in another series or with other bytes is a
conflict, because a server keeps one of them. Only files in flight are kept in memory; the ledger has the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from bulkstow.model import Candidate, FileResult, Instance, Outcome
from bulkstow.pipeline.known_files import KnownFiles
from bulkstow.pipeline.newest import NewestFiles
from bulkstow.pipeline.worker_threads import WorkerThreads, run_blocking

Compare = Callable[[Instance, Instance], Awaitable[bool | None]]
"""Returns whether two instances of one size have the same content; None if the second has changed. Raises OSError."""

CHANGED = "that file is gone or has changed"


class InFlight(Protocol):
    """Decides which files of each list are sent."""

    async def deduplicate(
        self, instances: Sequence[Instance], compare: Compare
    ) -> tuple[list[Instance], list[FileResult], list[Candidate]]:
        """Return the instances to send, the outcomes of copies and conflicts, and files that came twice by one path.

        May be called while another call waits for a comparison.
        """

    def release(self, recorded: Iterable[FileResult | Instance]) -> None:
        """Release the UIDs of recorded files; may be called while `deduplicate` runs."""


class FirstFileInFlight:
    """Sends the first file of each SOP Instance UID, and compares later ones with it while it is in flight.

    With `sends_conflicts` a file in conflict with a file on the server is sent.
    """

    def __init__(self, known_files: KnownFiles, threads: WorkerThreads, *, sends_conflicts: bool = False) -> None:
        self._known_files = known_files
        self._threads = threads
        self._sends_conflicts = sends_conflicts
        self._in_flight: dict[str, Instance] = {}

    async def deduplicate(
        self, instances: Sequence[Instance], compare: Compare
    ) -> tuple[list[Instance], list[FileResult], list[Candidate]]:
        """Return the instances to send, the outcomes of copies and conflicts, and files that came twice by one path."""
        claims = [(i, self._in_flight.setdefault(i.header.sop_instance_uid, i)) for i in instances]
        # After the claims: a claim is released after its outcome is in the ledger, so a UID in neither of them is new.
        ours = [i.header.sop_instance_uid for i, claimant in claims if claimant is i]
        owners, overwritten = _divided(await run_blocking(self._threads.calls, self._known_files.owners, ours))
        fresh: list[Instance] = []
        settled: list[FileResult] = []
        again: list[Candidate] = []
        released: set[str] = set()
        for instance, claimant in claims:
            uid, candidate = instance.header.sop_instance_uid, instance.candidate
            others = owners.get(uid, [])
            if uid in released:
                claimant = self._in_flight.setdefault(uid, instance)
            is_ours = claimant is instance
            if is_ours and not others and uid not in overwritten:  # nearly every file: nothing to compare it with
                fresh.append(instance)
                continue
            if any(other.candidate == candidate for other in others) or (
                not is_ours and claimant.candidate.location == candidate.location
            ):
                # Named twice: it is in flight, or has been recorded since the look-up of the scan.
                again.append(candidate)
            elif (result := await _compare(instance, others, None if is_ours else claimant, compare)) is None or (
                is_ours and self._sends_conflicts and result.outcome is Outcome.CONFLICT
            ):
                fresh.append(_with_conflicting_file(instance, others, result, overwritten.get(uid, "")))
                continue
            else:
                settled.append(result)
            if is_ours:
                self._in_flight.pop(uid, None)
                released.add(uid)
        return fresh, settled, again

    def release(self, recorded: Iterable[FileResult | Instance]) -> None:
        """Release the UIDs of recorded files."""
        for result in recorded:
            if result.header is None:
                continue
            claimant = self._in_flight.get(result.header.sop_instance_uid)
            if claimant is not None and claimant.candidate.location == result.candidate.location:
                del self._in_flight[result.header.sop_instance_uid]


class NewestFileInFlight:
    """Sends only the newest file of each SOP Instance UID, if it is newer than the file on the server."""

    def __init__(self, known_files: KnownFiles, threads: WorkerThreads, newest: NewestFiles) -> None:
        self._known_files = known_files
        self._threads = threads
        self._newest = newest

    async def deduplicate(
        self, instances: Sequence[Instance], compare: Compare
    ) -> tuple[list[Instance], list[FileResult], list[Candidate]]:
        """Return the instances to send, and the outcomes of copies and conflicts; no file comes twice."""
        uids = [instance.header.sop_instance_uid for instance in instances]
        sent_before, newest_files = await run_blocking(
            self._threads.calls,
            lambda: (self._known_files.owners(uids), {uid: self._newest.newest(uid) for uid in uids}),
        )
        owners, overwritten = _divided(sent_before)
        fresh: list[Instance] = []
        settled: list[FileResult] = []
        for instance in instances:
            uid = instance.header.sop_instance_uid
            others, newest = owners.get(uid, []), newest_files[uid]
            result = await _compare(newest, others, None, compare)
            is_sent = result is None or (result.outcome is Outcome.CONFLICT and _is_newest(newest, others))
            if newest == instance and is_sent:
                fresh.append(_with_conflicting_file(instance, others, result, overwritten.get(uid, "")))
                continue
            if newest != instance:
                result = await _compare(instance, others, newest if is_sent else None, compare)
            settled.append(result or _not_compared(instance, others[0], CHANGED))
        return fresh, settled, []

    def release(self, recorded: Iterable[FileResult | Instance]) -> None:
        """Do nothing, because the newest file of a UID stays the newest."""


def _is_newest(instance: Instance, others: Iterable[Instance]) -> bool:
    """Return whether a file is newer than all others; versions that are no times cannot be compared."""
    versions = [(instance.candidate.version, other.candidate.version) for other in others]
    return all(isinstance(ours, int) and isinstance(theirs, int) and ours > theirs for ours, theirs in versions)


def _divided(owners: dict[str, list[Instance]]) -> tuple[dict[str, list[Instance]], dict[str, str]]:
    """Return the files on the server, and the conflicting files of those with other content at the server."""
    overwritten = {uid: one.conflicting_file for uid, files in owners.items() for one in files if one.conflicting_file}
    if not overwritten:
        return owners, overwritten
    return {uid: [one for one in files if not one.conflicting_file] for uid, files in owners.items()}, overwritten


def _with_conflicting_file(
    instance: Instance, others: Iterable[Instance], conflict: FileResult | None, overwritten_by: str
) -> Instance:
    """Return a file to send, with the conflicting file that the server has: another file, or its own earlier content.

    A file of which only the time has changed may have its old content, which is no conflict. `overwritten_by` is other
    content that was found at the server.
    """
    if conflict is not None:
        return replace(instance, conflicting_file=conflict.copy_of)
    for other in others:
        location = other.candidate.location
        if location == instance.candidate.location and _plain_difference(instance, other):
            return replace(instance, conflicting_file=f"{location} before it changed")
    return replace(instance, conflicting_file=overwritten_by) if overwritten_by else instance


async def _compare(
    instance: Instance, others: Iterable[Instance], claimant: Instance | None, compare: Compare
) -> FileResult | None:
    """Return the outcome of a file that is not sent because of others with its SOP Instance UID; None if it is sent.

    `others` are on the server, `claimant` is in flight. If any of them is equal, the file is a copy; otherwise it is in
    conflict with the first that differs.
    """
    conflict: FileResult | None = None
    for other in others if claimant is None else (claimant, *others):
        location = other.candidate.location
        if location == instance.candidate.location:
            continue  # the earlier content of the same file
        try:
            difference = await _difference(instance, other, compare)
        except OSError as error:
            why = error.strerror or str(error)
            if error.filename == location:
                return _not_compared(instance, other, why)
            return instance.result(Outcome.UNREADABLE, f"cannot be read: {why}")
        if difference == "":
            reason = f"a second copy of the SOP instance, same bytes: see {location}"
            return instance.result(Outcome.SKIPPED, reason, copy_of=location)
        if difference is None and other is claimant:
            return _not_compared(instance, other, CHANGED)
        if difference is not None and conflict is None:
            reason = f"the same SOP Instance UID as {location}, {difference}"
            conflict = instance.result(Outcome.CONFLICT, reason, copy_of=location)
    return conflict


def _not_compared(instance: Instance, other: Instance, why: str) -> FileResult:
    """Return a failure that names the other file: if that one does not reach the server, this one is sent."""
    location = other.candidate.location
    reason = f"cannot be compared with {location}, which has the same SOP Instance UID: {why}"
    return instance.result(Outcome.UNREADABLE, reason, copy_of=location)


async def _difference(instance: Instance, other: Instance, compare: Compare) -> str | None:
    """Return the difference between two files; empty if they are equal, None if that is unknown.

    Raises OSError if one of them cannot be read.
    """
    if difference := _plain_difference(instance, other):
        return difference
    is_equal = await compare(instance, other)
    return None if is_equal is None else "" if is_equal else "other bytes"


def _plain_difference(instance: Instance, other: Instance) -> str:
    """Return a difference that is known without reading the content; empty if there is none."""
    if instance.header.study_uid != other.header.study_uid:
        return f"in another study ({other.header.study_uid})"
    if instance.header.series_uid != other.header.series_uid:
        return f"in another series ({other.header.series_uid})"
    return "other bytes" if instance.size_bytes != other.size_bytes else ""
