"""What an answer proves of a file whose SOP Instance UID the server has with other content.

Such a file is sent because the user wants the server to decide. That the server has an instance with this UID, by its
own word or by QIDO-RS, is true of the other file, and no proof that this one is stored.
"""

from __future__ import annotations

from dataclasses import replace

from bulkstow.model import Fate, Outcome
from bulkstow.policy.errands import Ask, Errand, Settlement


def without_false_proof(errand: Errand, settlement: Settlement) -> Settlement:
    """Return a settlement in which no file is called stored for what is true of its rival."""
    rivals = {i.candidate.location: i.rival for i in errand.batch.instances if i.rival}
    if not rivals:
        return settlement
    is_asked = isinstance(errand, Ask)
    outcomes = (
        _proven(outcome, rivals.get(outcome.candidate.location, ""), is_asked=is_asked)
        for outcome in settlement.outcomes
    )
    return replace(settlement, outcomes=tuple(outcomes))


def _proven(outcome: Outcome, rival: str, *, is_asked: bool) -> Outcome:
    if not rival or not outcome.fate.is_success:
        return outcome
    if is_asked:
        reason = f"no answer says that it was stored; QIDO-RS finds its SOP Instance UID, which {rival} has, too"
        return replace(outcome, fate=Fate.UNCONFIRMED, reason=reason)
    if outcome.fate is Fate.DUPLICATE:
        reason = f"the server has this SOP Instance UID, from {rival}, which has other content: {outcome.reason}"
        return replace(outcome, fate=Fate.REFUSED, reason=reason)
    return outcome
