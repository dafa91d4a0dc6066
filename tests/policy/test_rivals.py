"""What an answer proves of a file whose SOP Instance UID the server has with other content."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkstow.model import Attempt, Batch, Candidate, Fate, Instance, Referenced, Reply, StoreResponse
from bulkstow.policy.asking import settle_asked
from bulkstow.policy.errands import Ask, Rules, Send
from bulkstow.policy.rivals import without_false_proof
from bulkstow.policy.settlement import settle
from bulkstow.wire.store_response import to_json
from tests.archives import header

PLAIN = Instance(Candidate("/b", 100, 1), header(1))
RIVAL = replace(PLAIN, rival="/a")
ITEM = Referenced(header(1).sop_class_uid, header(1).sop_instance_uid)
STORED = Reply(200, to_json(StoreResponse(stored=(ITEM,))))
DUPLICATE = Reply(409, to_json(StoreResponse(failed=(replace(ITEM, code=0x0111),))))


@pytest.mark.parametrize("may_be_stored", [False, True])
@pytest.mark.parametrize(
    ("instance", "reply", "fates"),
    [
        (RIVAL, STORED, {Fate.STORED}),
        (RIVAL, DUPLICATE, {Fate.REFUSED}),
        (PLAIN, STORED, {Fate.STORED}),
        (PLAIN, DUPLICATE, {Fate.DUPLICATE, Fate.STORED}),
    ],
    ids=["rival stored", "rival duplicate", "plain stored", "plain duplicate"],
)
def test_a_duplicate_is_the_other_file(instance: Instance, reply: Reply, fates: set[Fate], may_be_stored: bool) -> None:
    """That the UID is there is no success for a file with other content; that this file was stored is one."""
    batch = Batch(1, (instance,), may_be_stored=may_be_stored)
    settlement = settle(Attempt(batch, reply), Rules())
    (outcome,) = without_false_proof(Send(batch), settlement).outcomes
    assert outcome.fate in fates
    assert (instance.rival in outcome.reason) or outcome.fate.is_success


@pytest.mark.parametrize(
    ("instance", "fate"), [(RIVAL, Fate.UNCONFIRMED), (PLAIN, Fate.STORED)], ids=["rival", "plain"]
)
def test_what_a_question_finds_may_be_the_other_file(instance: Instance, fate: Fate) -> None:
    """QIDO-RS knows UIDs, not bytes."""
    ask = Ask(Batch(1, (instance,), may_be_stored=True), "no answer")
    settlement = settle_asked(ask, frozenset({ITEM.sop_instance_uid}), Rules())
    (outcome,) = without_false_proof(ask, settlement).outcomes
    assert outcome.fate is fate
