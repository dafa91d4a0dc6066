"""UIDs of a run."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID

from bulkstow.bench.templates import UID_LENGTH, Level, Uids

keys = st.tuples(st.text(max_size=10), st.sampled_from(Level), st.integers(0, 2**16 - 1), st.integers(0, 2**46 - 1))


@given(keys)
@settings(deadline=None)
def test_a_uid_is_proper_and_of_one_length(key: tuple[str, Level, int, int]) -> None:
    """Each has 44 characters, no zero in front, and is a UUID of version 8 (PS3.5 §9.1, §B.2)."""
    run, level, worker, counter = key
    uid = Uids(run).uid(level, worker, counter)
    assert len(uid) == UID_LENGTH
    assert UID(uid).is_valid
    assert re.fullmatch(r"2\.25\.[1-9][0-9]{38}", uid)
    found = uuid.UUID(int=int(uid.removeprefix("2.25.")))
    assert (found.version, found.variant) == (8, uuid.RFC_4122)


@given(st.lists(keys, unique=True, max_size=30))
@settings(deadline=None)
def test_no_two_are_equal(several: list[tuple[str, Level, int, int]]) -> None:
    """Another run, level, worker or counter is another UID, and the same are the same."""
    uids = [Uids(run).uid(level, worker, counter) for run, level, worker, counter in several]
    assert len(set(uids)) == len(several)
    assert uids == [Uids(run).uid(level, worker, counter) for run, level, worker, counter in several]


@pytest.mark.parametrize(("worker", "counter"), [(2**16, 0), (0, 2**46), (-1, 0), (0, -1)])
def test_what_has_no_room_is_refused(worker: int, counter: int) -> None:
    """A worker or counter too large would be another's UID."""
    with pytest.raises(ValueError, match="expected at most 16 and 46 bits"):
        Uids("run").uid(Level.INSTANCE, worker, counter)
