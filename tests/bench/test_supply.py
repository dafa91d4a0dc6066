"""Instances handed out, and their bytes while they are under way."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from bulkstow.bench.sender import Supply
from bulkstow.bench.workload import workload
from bulkstow.model import Instance
from bulkstow.ports import Segment

MR = workload("mr", "supply")


def whole(supply: Supply, instance: Instance) -> bytes:
    """Return an instance's bytes."""

    def plain(segment: Segment) -> bytes:
        assert isinstance(segment, memoryview)
        return segment.tobytes()

    return b"".join(map(plain, supply.open(instance)))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=20))
@settings(deadline=None)
def test_no_instance_is_handed_out_twice(takes: list[tuple[int, int]]) -> None:
    """Each worker's numbers go on, whoever takes in between."""
    supply = Supply(MR)
    uids = [one.header.sop_instance_uid for worker, count in takes for one in supply.take(worker, count)]
    assert len(set(uids)) == len(uids) == sum(count for _, count in takes)


def test_what_is_under_way_has_its_bytes() -> None:
    """They are the instance that was handed out, as long as was said, as often as they are asked for."""
    supply = Supply(MR)
    for instance in supply.take(0, 3):
        content = whole(supply, instance)
        assert len(content) == instance.candidate.size_bytes
        assert dcmread(io.BytesIO(content)).SOPInstanceUID == instance.header.sop_instance_uid
        assert whole(supply, instance) == content
        assert supply.verify(instance) == ""


def test_what_was_given_back_is_forgotten() -> None:
    """Memory is that of what is under way; a thread that comes too late finds nothing, and no error."""
    supply = Supply(MR)
    gone, kept = supply.take(0, 2)
    supply.give_back([gone])
    assert whole(supply, gone) == b""
    assert whole(supply, kept)
    with pytest.raises(KeyError):
        supply.give_back([gone])
