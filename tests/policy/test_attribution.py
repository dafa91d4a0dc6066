"""Which instance each item of a response concerns, as a table."""

from __future__ import annotations

import pytest

from bulkstow.model import Batch, Candidate, Instance, Referenced, StoreResponse
from bulkstow.policy.attribution import attribute
from bulkstow.wire.synthetic import SECONDARY_CAPTURE
from tests.archives import header

BATCH = Batch(1, tuple(Instance(Candidate(f"/{n}", 1000, 0), header(n)) for n in (1, 2, 3)))


def item(number: int | None, code: int | None = None, comment: str = "") -> Referenced:
    """Return an item for an instance; None is one without a UID."""
    uid = "" if number is None else header(number).sop_instance_uid
    return Referenced(SECONDARY_CAPTURE, uid, code, comment)


@pytest.mark.parametrize(
    ("listed", "stored", "failed", "unnamed"),
    [
        pytest.param(StoreResponse(), "", {}, "123", id="nothing listed"),
        pytest.param(StoreResponse(stored=(item(3), item(1))), "13", {}, "2", id="by UID, in any order"),
        pytest.param(StoreResponse(stored=(item(9),)), "9", {}, "123", id="a UID that was not sent"),
        pytest.param(StoreResponse(warned=(item(1, 0xB000),)), "", {}, "23", id="a warning names it"),
        pytest.param(
            StoreResponse(stored=(item(1), item(2), item(3)), failed=(item(3, 272),)),
            "123",
            {3: (272, "")},
            "",
            id="stored and failed",
        ),
        pytest.param(
            StoreResponse(stored=(item(1), item(2)), failed=(item(9, 272, "why"),)),
            "12",
            {3: (272, "why")},
            "",
            id="a made-up UID, and one instance left",
        ),
        pytest.param(
            StoreResponse(stored=(item(1), item(2)), other_failures=(item(None, 272),)),
            "12",
            {3: (272, "")},
            "",
            id="no UID, and one instance left",
        ),
        pytest.param(
            StoreResponse(stored=(item(1), item(2)), failed=(item(8, 272, "a"), item(9, 272, "b"))),
            "12",
            {3: (272, "")},
            "",
            id="two failures of one code for one instance",
        ),
        pytest.param(
            StoreResponse(stored=(item(1), item(2)), failed=(item(8, 272, "a"), item(9, 273, "a"))),
            "12",
            {3: (None, "")},
            "",
            id="two failures that differ for one instance",
        ),
        pytest.param(
            StoreResponse(stored=(item(1),), failed=(item(8, 272), item(9, 272))),
            "1",
            {},
            "23",
            id="two failures for two instances: never by position",
        ),
        pytest.param(
            StoreResponse(failed=(item(2, 272),), comment="why"), "", {2: (272, "why")}, "13", id="the only failure's"
        ),
        pytest.param(
            StoreResponse(failed=(item(1, 272), item(2, 273)), comment="why"),
            "",
            {1: (272, ""), 2: (273, "")},
            "3",
            id="a comment beside two failures",
        ),
    ],
)
def test_items_are_attributed(
    listed: StoreResponse, stored: str, failed: dict[int, tuple[int | None, str]], unnamed: str
) -> None:
    """An item concerns the instance of its UID, or the only one that is left; a comment concerns the only failure."""
    attributed = attribute(BATCH, listed)
    assert attributed.stored == {header(int(number)).sop_instance_uid for number in stored}
    assert {uid: (failure.code, failure.comment) for uid, failure in attributed.failed.items()} == {
        header(number).sop_instance_uid: told for number, told in failed.items()
    }
    assert [i.header for i in attributed.unnamed] == [header(int(number)) for number in unnamed]
