"""Which instance of a batch each item of a store response concerns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bulkstow.model import Batch, Instance, Referenced, StoreResponse


@dataclass(frozen=True, slots=True)
class Attributed:
    """A response's items by the instances that they concern."""

    stored: frozenset[str]
    warned: Mapping[str, Referenced]
    failed: Mapping[str, Referenced]
    """These count as failed even if they are listed as stored, too."""
    unnamed: tuple[Instance, ...]


def attribute(batch: Batch, listed: StoreResponse) -> Attributed:
    """Assign the items of a response to the instances of the batch, by UID or elimination and never by position."""
    uids = {instance.header.sop_instance_uid for instance in batch.instances}
    failed = {item.sop_instance_uid: item for item in listed.failed if item.sop_instance_uid in uids}
    warned = {item.sop_instance_uid: item for item in listed.warned}
    stored = frozenset(item.sop_instance_uid for item in listed.stored)
    named = failed.keys() | warned.keys() | stored
    unnamed = tuple(i for i in batch.instances if i.header.sop_instance_uid not in named)
    anonymous = [i for i in listed.failed if i.sop_instance_uid not in uids] + list(listed.other_failures)
    if len(unnamed) == 1 and anonymous:
        # dcm4chee makes up a UID for a file that it cannot read, Azure leaves it out. If several such failures differ,
        # which of them concerns the instance is unknown.
        failed[unnamed[0].header.sop_instance_uid] = _common_part(anonymous)
        unnamed = ()
    if listed.comment and len(failed) == 1 and len(listed.failed) + len(listed.other_failures) == 1:
        # A comment beside the sequences can only concern the one failure.
        failed = {uid: replace(item, comment=item.comment or listed.comment) for uid, item in failed.items()}
    return Attributed(stored, warned, failed, unnamed)


def _common_part(failures: Sequence[Referenced]) -> Referenced:
    """Return the code and the comment that several failures have in common."""
    codes = {failure.code for failure in failures}
    comments = {failure.comment for failure in failures} if len(codes) == 1 else set()
    return Referenced("", "", codes.pop() if len(codes) == 1 else None, comments.pop() if len(comments) == 1 else "")
