"""What a response proves of a file whose SOP Instance UID the server has with other content."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkstow.model import Batch, Candidate, Instance, Outcome, Referenced, Response, StoreResponse
from bulkstow.policy.conflicts import without_false_proof
from bulkstow.policy.query_settlement import settle_query
from bulkstow.policy.settlement import settle
from bulkstow.policy.work_items import Query, Rules, Store
from bulkstow.wire.server_profile import DEFAULT, ORTHANC
from bulkstow.wire.store_response import to_json
from tests.archives import header

PLAIN = Instance(Candidate("/b", 100, 1), header(1))
RIVAL = replace(PLAIN, conflicting_file="/a")
ITEM = Referenced(header(1).sop_class_uid, header(1).sop_instance_uid)
STORED = Response(200, to_json(StoreResponse(stored=(ITEM,))))
DUPLICATE = Response(409, to_json(StoreResponse(failed=(replace(ITEM, code=0x0111),))))


@pytest.mark.parametrize("may_be_stored", [False, True])
@pytest.mark.parametrize(
    ("instance", "response", "outcomes"),
    [
        (RIVAL, STORED, {Outcome.STORED}),
        (RIVAL, DUPLICATE, {Outcome.REFUSED}),
        (PLAIN, STORED, {Outcome.STORED}),
        (PLAIN, DUPLICATE, {Outcome.DUPLICATE, Outcome.STORED}),
    ],
    ids=["rival stored", "rival duplicate", "plain stored", "plain duplicate"],
)
def test_a_duplicate_is_the_other_file(
    instance: Instance, response: Response, outcomes: set[Outcome], may_be_stored: bool
) -> None:
    """A duplicate is no success for a file with other content, unlike its own storage."""
    batch = Batch(1, (instance,), may_be_stored=may_be_stored)
    settlement = settle(batch, response, Rules())
    (result,) = without_false_proof(Store(batch), settlement, DEFAULT).results
    assert result.outcome in outcomes
    assert (instance.conflicting_file in result.reason) or result.outcome.is_success


@pytest.mark.parametrize(
    ("instance", "outcome"), [(RIVAL, Outcome.UNCONFIRMED), (PLAIN, Outcome.STORED)], ids=["rival", "plain"]
)
def test_an_instance_that_a_query_finds_may_be_the_other_file(instance: Instance, outcome: Outcome) -> None:
    """QIDO-RS returns UIDs and no content."""
    query = Query(Batch(1, (instance,), may_be_stored=True), "no answer")
    settlement = settle_query(query, frozenset({ITEM.sop_instance_uid}), Rules())
    (result,) = without_false_proof(query, settlement, DEFAULT).results
    assert result.outcome is outcome


@pytest.mark.parametrize(
    ("instance", "outcome"), [(RIVAL, Outcome.UNCONFIRMED), (PLAIN, Outcome.STORED)], ids=["rival", "plain"]
)
def test_a_server_that_lists_duplicates_as_stored(instance: Instance, outcome: Outcome) -> None:
    """Orthanc keeps the first content and lists the second as stored: that proves nothing of a file in conflict."""
    batch = Batch(1, (instance,))
    rules = Rules(profile=ORTHANC)
    settlement = settle(batch, STORED, rules)
    (result,) = without_false_proof(Store(batch), settlement, rules.profile).results
    assert result.outcome is outcome
    assert (instance.conflicting_file in result.reason) or result.outcome.is_success
