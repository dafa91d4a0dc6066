"""How many requests of one study may be under way."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.model import Batch, Candidate, Instance
from bulkstow.policy.study_limiter import REMEMBERED_STUDIES, StudyLimiter, studies_of
from tests.archives import header


def batch(*studies: int) -> Batch:
    """Return a batch with an instance of each study."""
    return Batch(1, tuple(Instance(Candidate(f"/archive/{s}", 1, 0), header(1, study=s)) for s in studies))


def test_the_studies_of_a_batch() -> None:
    """Each Study Instance UID is there once."""
    assert studies_of(batch(1, 2, 1)) == {"2.25.1", "2.25.2"}


def test_the_first_request_of_a_study_goes_alone() -> None:
    """Others of the study wait until it has ended: databases race on the first instance."""
    study_limiter = StudyLimiter(per_study=4)
    study_limiter.start(batch(1))
    assert not study_limiter.allow(batch(1))
    study_limiter.finish(batch(1))
    study_limiter.start(batch(1))
    assert study_limiter.allow(batch(1))


def test_a_known_study_has_its_number_of_requests() -> None:
    """After the first, at most `per_study` are under way, and one that ends makes room."""
    study_limiter = StudyLimiter(per_study=2)
    study_limiter.start(batch(1))
    study_limiter.finish(batch(1))
    study_limiter.start(batch(1))
    study_limiter.start(batch(1))
    assert not study_limiter.allow(batch(1))
    study_limiter.finish(batch(1))
    assert study_limiter.allow(batch(1))


def test_unrelated_studies_do_not_wait_for_each_other() -> None:
    """A study under way is no reason for another to wait."""
    study_limiter = StudyLimiter(per_study=1)
    for study in range(50):
        assert study_limiter.allow(batch(study))
        study_limiter.start(batch(study))


@pytest.mark.parametrize("mixed", [batch(1, 2), batch(2, 1)])
def test_a_batch_of_several_studies_waits_for_the_slowest(mixed: Batch) -> None:
    """It counts for each of its studies, and one that is busy is enough to wait."""
    study_limiter = StudyLimiter(per_study=4)
    study_limiter.start(batch(1))
    assert not study_limiter.allow(mixed)
    study_limiter.finish(batch(1))
    study_limiter.start(mixed)
    assert study_limiter.allow(batch(1))
    assert not study_limiter.allow(batch(2))


@pytest.mark.parametrize("studies_each", [1, 200], ids=["a study each", "many studies each"])
def test_memory_does_not_grow_with_the_archive(studies_each: int) -> None:
    """Idle studies beyond the number remembered are forgotten, however many a request brings."""
    study_limiter = StudyLimiter(per_study=4)
    for first in range(0, 3 * REMEMBERED_STUDIES, studies_each):
        passing = batch(*range(first, first + studies_each))
        study_limiter.start(passing)
        study_limiter.finish(passing)
    assert len(study_limiter._studies) <= REMEMBERED_STUDIES


def test_a_long_request_does_not_keep_others_in_memory() -> None:
    """A study under way is never forgotten, and does not stand in the way of forgetting others."""
    study_limiter = StudyLimiter(per_study=1)
    study_limiter.start(batch(0))
    for study in range(1, 2 * REMEMBERED_STUDIES):
        study_limiter.start(batch(study))
        study_limiter.finish(batch(study))
    assert len(study_limiter._studies) <= REMEMBERED_STUDIES + 1
    assert not study_limiter.allow(batch(0))
    study_limiter.finish(batch(0))
    assert study_limiter.allow(batch(0))


def test_the_study_used_last_is_remembered() -> None:
    """What is forgotten is what was not sent for the longest time."""
    study_limiter = StudyLimiter(per_study=4)
    for study in (0, *range(1, REMEMBERED_STUDIES), 0, REMEMBERED_STUDIES):
        study_limiter.start(batch(study))
        study_limiter.finish(batch(study))
    study_limiter.start(batch(0))
    assert study_limiter.allow(batch(0)), "still known"
    study_limiter.start(batch(1))
    assert not study_limiter.allow(batch(1)), "known no more"


@given(
    per_study=st.integers(1, 3),
    offers=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), max_size=60),
    endings=st.lists(st.booleans(), min_size=60, max_size=60),
)
@settings(max_examples=100, deadline=None)
def test_the_limits_hold_in_any_order(per_study: int, offers: list[list[int]], endings: list[bool]) -> None:
    """Whatever is offered and ends when, no study has more under way than it may, and its first request is alone."""
    study_limiter = StudyLimiter(per_study)
    under_way: list[Batch] = []
    ended: set[str] = set()
    for studies, ends in zip(offers, endings, strict=False):
        if ends and under_way:
            over = under_way.pop(0)
            study_limiter.finish(over)
            ended |= studies_of(over)
        if study_limiter.allow(batch(*studies)):
            under_way.append(batch(*studies))
            study_limiter.start(under_way[-1])
        counts = Counter(uid for one in under_way for uid in studies_of(one))
        assert all(count <= (per_study if uid in ended else 1) for uid, count in counts.items())
    for over in under_way:
        study_limiter.finish(over)
    assert all(study_limiter.allow(batch(study)) for study in range(4)), "nothing is left counted"
