"""One file for each SOP instance.

An archive holds copies: exports, backups, links. The first file of an instance claims it; another is passed over as its
copy, with the word whether the bytes are the same, and only while the first one's way is open or it has reached the
server. What is under way is known here, what is over the ledger knows: memory does not grow with the archive.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable, Sequence

from bulkstow.ledger import Ledger
from bulkstow.model import Candidate, Fate, Instance, Outcome


class Claims:
    """Who stands for each SOP instance that is under way.

    `sort_out` blocks and is called in a thread, one call at a time; `release` may be called meanwhile.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._under_way: dict[str, Candidate] = {}

    def sort_out(self, instances: Sequence[Instance]) -> tuple[list[Instance], list[Outcome], list[Candidate]]:
        """Return the instances to send, the outcomes of copies, and files that came twice by the same path."""
        under_way = self._under_way
        claims = [(i, under_way.setdefault(i.header.sop_instance_uid, i.candidate)) for i in instances]
        # Only now: a claim is released after its outcome is in the ledger, so what is neither claimed nor there is new.
        owners = self._ledger.owners([i.header.sop_instance_uid for i, claimant in claims if claimant is i.candidate])
        fresh: list[Instance] = []
        copies: list[Outcome] = []
        again: list[Candidate] = []
        for instance, claimant in claims:
            uid, candidate = instance.header.sop_instance_uid, instance.candidate
            is_ours = claimant is candidate
            owner = owners.get(uid)
            if owner == candidate or (not is_ours and claimant.location == candidate.location):
                # Named twice: it is under way, or has been recorded since the scan looked it up.
                again.append(candidate)
                if is_ours:
                    del under_way[uid]
            elif owner is not None and _stands_for(owner, candidate):
                copies.append(_copy(instance, owner))
                if is_ours:
                    del under_way[uid]
            elif is_ours:
                fresh.append(instance)
            else:
                copies.append(_copy(instance, claimant))
        return fresh, copies, again

    def release(self, outcomes: Iterable[Outcome]) -> None:
        """Let go of what is settled, once the ledger has it."""
        for outcome in outcomes:
            if outcome.header is None:
                continue
            claimant = self._under_way.get(outcome.header.sop_instance_uid)
            if claimant is not None and claimant.location == outcome.candidate.location:
                del self._under_way[outcome.header.sop_instance_uid]


def _stands_for(owner: Candidate, candidate: Candidate) -> bool:
    """Say whether the file that was sent is another one, and still what it was: else nothing can be said of bytes."""
    if owner.location == candidate.location:
        return False
    try:
        status = os.stat(owner.location)  # noqa: PTH116 - a str that need not be UTF-8
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (owner.size_bytes, owner.modified_ns)


def _copy(instance: Instance, owner: Candidate) -> Outcome:
    candidate = instance.candidate
    try:
        same = candidate.size_bytes == owner.size_bytes and filecmp.cmp(
            candidate.location, owner.location, shallow=False
        )
        bytes_are = "same bytes" if same else "other bytes"
    except OSError as error:
        if error.filename != owner.location:
            return Outcome(candidate, instance.header, Fate.UNREADABLE, f"cannot be read: {error.strerror}")
        bytes_are = "bytes not compared"  # what becomes of the other file decides over this one
    reason = f"a second copy of the SOP instance, {bytes_are}: see {owner.location}"
    return Outcome(candidate, instance.header, Fate.SKIPPED, reason, copy_of=owner.location)
