"""How many requests of one study may be under way."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.model import Batch, Candidate, Instance
from bulkstow.policy.study_limiter import REMEMBERED_STUDIES, StudyLimiter, studies_of
from bulkstow.policy.work_items import HealthSignal, Store
from tests.archives import header


def batch(*studies: int) -> Batch:
    """Return a batch with an instance of each study."""
    return Batch(1, tuple(Instance(Candidate(f"/archive/{s}", 1, 0), header(1, study=s)) for s in studies))


def is_open(study_limiter: StudyLimiter, waiting: Batch) -> bool:
    """Return whether a request with a batch may start."""
    wait_s = study_limiter.wait_s(Store(waiting), 0.0)
    assert wait_s in (0.0, math.inf)
    return wait_s == 0.0


def start(study_limiter: StudyLimiter, started: Batch) -> None:
    """Start a request with a batch."""
    study_limiter.started(Store(started), 0.0)


def finish(study_limiter: StudyLimiter, finished: Batch) -> None:
    """End a request with a batch; the server has answered it."""
    study_limiter.ended(Store(finished), 0.0, HealthSignal.EASED)


def test_the_studies_of_a_batch() -> None:
    """Each Study Instance UID is listed once."""
    assert studies_of(batch(1, 2, 1)) == {"2.25.1", "2.25.2"}


def test_the_first_request_of_a_study_goes_alone() -> None:
    """The other requests of a study wait until it has ended: databases race on the first instance."""
    study_limiter = StudyLimiter(per_study=4)
    start(study_limiter, batch(1))
    assert not is_open(study_limiter, batch(1))
    finish(study_limiter, batch(1))
    start(study_limiter, batch(1))
    assert is_open(study_limiter, batch(1))


@pytest.mark.parametrize("signal", HealthSignal)
def test_only_a_response_makes_a_study_known(signal: HealthSignal) -> None:
    """After a first request without a response of the server, the next request of the study is sent alone too."""
    study_limiter = StudyLimiter(per_study=4)
    start(study_limiter, batch(1))
    study_limiter.ended(Store(batch(1)), 0.0, signal)
    start(study_limiter, batch(1))
    assert is_open(study_limiter, batch(1)) is signal.is_answered


def test_a_study_is_ready_unless_its_first_request_is_under_way() -> None:
    """The assembler closes no small batch early that could not start."""
    study_limiter = StudyLimiter(per_study=4)
    start(study_limiter, batch(1))
    assert (study_limiter.allow_study("2.25.1"), study_limiter.allow_study("2.25.2")) == (False, True)
    finish(study_limiter, batch(1))
    assert study_limiter.allow_study("2.25.1")


def test_a_known_study_has_its_number_of_requests() -> None:
    """After the first, at most `per_study` are under way, and the next starts when one has ended."""
    study_limiter = StudyLimiter(per_study=2)
    start(study_limiter, batch(1))
    finish(study_limiter, batch(1))
    start(study_limiter, batch(1))
    start(study_limiter, batch(1))
    assert not is_open(study_limiter, batch(1))
    finish(study_limiter, batch(1))
    assert is_open(study_limiter, batch(1))


def test_unrelated_studies_do_not_wait_for_each_other() -> None:
    """A study under way does not delay another one."""
    study_limiter = StudyLimiter(per_study=1)
    for study in range(50):
        assert is_open(study_limiter, batch(study))
        start(study_limiter, batch(study))


@pytest.mark.parametrize("mixed", [batch(1, 2), batch(2, 1)])
def test_a_batch_of_several_studies_waits_for_the_slowest(mixed: Batch) -> None:
    """It counts for each of its studies, and waits if one of them is busy."""
    study_limiter = StudyLimiter(per_study=4)
    start(study_limiter, batch(1))
    assert not is_open(study_limiter, mixed)
    finish(study_limiter, batch(1))
    start(study_limiter, mixed)
    assert is_open(study_limiter, batch(1))
    assert not is_open(study_limiter, batch(2))


@pytest.mark.parametrize("studies_each", [1, 200], ids=["a study each", "many studies each"])
def test_memory_does_not_grow_with_the_archive(studies_each: int) -> None:
    """Studies beyond the number remembered are forgotten, however many a request has."""
    study_limiter = StudyLimiter(per_study=4)
    for first in range(0, 3 * REMEMBERED_STUDIES, studies_each):
        passing = batch(*range(first, first + studies_each))
        start(study_limiter, passing)
        finish(study_limiter, passing)
    assert len(study_limiter._studies) <= REMEMBERED_STUDIES


def test_a_long_request_does_not_keep_others_in_memory() -> None:
    """A study under way is never forgotten, and does not keep others from being forgotten."""
    study_limiter = StudyLimiter(per_study=1)
    start(study_limiter, batch(0))
    for study in range(1, 2 * REMEMBERED_STUDIES):
        start(study_limiter, batch(study))
        finish(study_limiter, batch(study))
    assert len(study_limiter._studies) <= REMEMBERED_STUDIES + 1
    assert not is_open(study_limiter, batch(0))
    finish(study_limiter, batch(0))
    assert is_open(study_limiter, batch(0))


def test_the_study_used_last_is_remembered() -> None:
    """The studies that were not sent for the longest time are forgotten."""
    study_limiter = StudyLimiter(per_study=4)
    for study in (0, *range(1, REMEMBERED_STUDIES), 0, REMEMBERED_STUDIES):
        start(study_limiter, batch(study))
        finish(study_limiter, batch(study))
    start(study_limiter, batch(0))
    assert is_open(study_limiter, batch(0)), "still known"
    start(study_limiter, batch(1))
    assert not is_open(study_limiter, batch(1)), "known no more"


@given(
    per_study=st.integers(1, 3),
    offers=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), max_size=60),
    endings=st.lists(st.booleans(), min_size=60, max_size=60),
)
@settings(max_examples=100, deadline=None)
def test_the_limits_hold_in_any_order(per_study: int, offers: list[list[int]], endings: list[bool]) -> None:
    """For any order of starts and ends, no study exceeds its limit, and its first request is alone."""
    study_limiter = StudyLimiter(per_study)
    under_way: list[Batch] = []
    ended: set[str] = set()
    for studies, ends in zip(offers, endings, strict=False):
        if ends and under_way:
            over = under_way.pop(0)
            finish(study_limiter, over)
            ended |= studies_of(over)
        if is_open(study_limiter, batch(*studies)):
            under_way.append(batch(*studies))
            start(study_limiter, under_way[-1])
        counts = Counter(uid for one in under_way for uid in studies_of(one))
        assert all(count <= (per_study if uid in ended else 1) for uid, count in counts.items())
    for over in under_way:
        finish(study_limiter, over)
    assert all(is_open(study_limiter, batch(study)) for study in range(4)), "nothing is left counted"
