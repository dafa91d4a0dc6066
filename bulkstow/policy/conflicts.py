"""What a response proves of a file whose SOP Instance UID the server has with other content.

Such a file is sent because the user wants the server to decide. That the server has an instance with this UID, by its
response or by QIDO-RS, is true of the other file, and no proof that this one is stored.
"""

from __future__ import annotations

from dataclasses import replace

from bulkstow.model import FileResult, Outcome
from bulkstow.policy.work_items import Query, Settlement, WorkItem
from bulkstow.wire.server_profile import ServerProfile

_SHARED_UID = "SOP Instance UID"


def is_about_conflict(reason: str) -> bool:
    """Return whether the reason of an unconfirmed file is that another file has its SOP Instance UID, as below."""
    return _SHARED_UID in reason


def without_false_proof(item: WorkItem, settlement: Settlement, profile: ServerProfile) -> Settlement:
    """Return a settlement in which no file counts as stored because the file in conflict with it is stored."""
    conflicting_files = {i.candidate.location: i.conflicting_file for i in item.batch.instances if i.conflicting_file}
    if not conflicting_files:
        return settlement
    is_query = isinstance(item, Query)
    results = (
        _proven(result, conflicting_files.get(result.candidate.location, ""), profile, is_query=is_query)
        for result in settlement.results
    )
    return replace(settlement, results=tuple(results))


def _proven(result: FileResult, other: str, profile: ServerProfile, *, is_query: bool) -> FileResult:
    if not other or not result.outcome.is_success:
        return result
    if is_query:
        outcome = Outcome.UNCONFIRMED
        reason = f"no answer says that it was stored; QIDO-RS finds its {_SHARED_UID}, which {other} has, too"
    elif result.outcome is Outcome.DUPLICATE:
        outcome = Outcome.REFUSED
        told = result.reason
        reason = f"the server has this {_SHARED_UID}, from {other}, which has other content: {told}"
    elif profile.lists_duplicates_as_stored:
        outcome = Outcome.UNCONFIRMED
        reason = f"the server lists it as stored, but may have kept {other}, which has the same {_SHARED_UID}"
    else:
        return result
    return replace(result, outcome=outcome, reason=reason)
