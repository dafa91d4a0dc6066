"""Which instances share a request."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkstow.model import Batch, Candidate, Instance
from bulkstow.policy import batching
from bulkstow.policy.batching import PLENTY_REQUESTS, Batcher, BatchLimits
from bulkstow.wire.multipart import BOUNDARY_DIGITS, PART_OVERHEAD_BYTES, body_length
from tests.archives import header


def instance(number: int, *, study: int = 1, size_bytes: int = 1, at: str = "") -> Instance:
    """Return instance `number` of a study, in a file of its own."""
    return Instance(Candidate(at or f"/archive/{study}/{number}", size_bytes, 0), header(number, study=study))


def batched(batcher: Batcher, instances: list[Instance]) -> list[Batch]:
    """Return all batches of some instances."""
    return [*batcher.add(instances), *batcher.flush()]


def sizes(batches: list[Batch]) -> list[list[int]]:
    """Return the instances' sizes batch by batch."""
    return [[i.candidate.size_bytes for i in batch.instances] for batch in batches]


@pytest.mark.parametrize(
    ("limits", "given_bytes", "expected"),
    [
        (BatchLimits(10, None), [4, 6, 1], [[4, 6], [1]]),
        (BatchLimits(10, None), [4, 7], [[4], [7]]),
        (BatchLimits(10, None), [99, 1], [[99], [1]]),
        (BatchLimits(10, None), [1, 99, 1], [[1], [99], [1]]),
        (BatchLimits(10, None), [0, 10, 0], [[0, 10], [0]]),
        (BatchLimits(None, 2), [5, 500, 5], [[5, 500], [5]]),
        (BatchLimits(None, 1), [1, 1], [[1], [1]]),
        (BatchLimits(None, None), [1] * 500, [[1] * 500]),
        (BatchLimits(10, 2), [1, 1, 9, 9], [[1, 1], [9], [9]]),
        (BatchLimits(10, 2), [], []),
    ],
    ids=[
        "full to the byte",
        "the next would pass",
        "larger than the limit, first",
        "larger than the limit, midway",
        "empty files",
        "count",
        "one each",
        "unlimited",
        "whichever comes first",
        "nothing",
    ],
)
def test_a_batch_is_closed_at_its_limits(
    limits: BatchLimits, given_bytes: list[int], expected: list[list[int]]
) -> None:
    """A batch may reach the limits and not exceed them, except for one larger file, which is sent alone."""
    instances = [instance(n, size_bytes=size) for n, size in enumerate(given_bytes)]
    batches = batched(Batcher(lambda: limits, overhead_bytes=0), instances)
    assert sizes(batches) == expected
    assert [batch.number for batch in batches] == list(range(1, len(expected) + 1))


def test_framing_counts() -> None:
    """The limit holds for the request with its framing."""
    limits = BatchLimits(2 * (100 + PART_OVERHEAD_BYTES), None)
    instances = [instance(n, size_bytes=100) for n in range(5)]
    for batch in (batches := batched(Batcher(lambda: limits), instances)):
        assert body_length("B" * BOUNDARY_DIGITS, (i.candidate.size_bytes for i in batch.instances)) <= (
            limits.size_bytes or 0
        )
    assert sizes(batches) == [[100, 100], [100, 100], [100]]


def test_a_full_batch_does_not_wait_for_the_next_instance() -> None:
    """A batch that is full is returned with the instance that filled it."""
    assert sizes(list(Batcher(lambda: BatchLimits(None, 2)).add([instance(1), instance(2)]))) == [[1, 1]]
    assert sizes(list(Batcher(lambda: BatchLimits(10, None)).add([instance(1, size_bytes=10)]))) == [[10]]


@pytest.mark.parametrize("keep_studies", [True, False])
def test_a_sop_instance_is_in_a_request_once(keep_studies: bool) -> None:
    """A second file of the same SOP instance opens the next batch."""
    twice = [instance(1), instance(2), instance(1, at="/archive/copy")]
    batches = batched(Batcher(lambda: BatchLimits(None, None), keep_studies=keep_studies), twice)
    assert [len(batch.instances) for batch in batches] == [2, 1]


def test_studies_that_alternate_are_kept_apart_or_not() -> None:
    """With `keep_studies` each study fills its own batch; without, instances are batched in their order."""
    mixed = [instance(n, study=n % 2) for n in range(4)]
    limits = BatchLimits(None, 2)
    assert [{i.header.study_uid for i in b.instances} for b in batched(Batcher(lambda: limits), mixed)] == [
        {"2.25.0"},
        {"2.25.1"},
    ]
    as_they_come = batched(Batcher(lambda: limits, keep_studies=False), mixed)
    assert [i for batch in as_they_come for i in batch.instances] == mixed


def test_one_instance_too_many_closes_the_study_that_rested_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on gathered instances costs a smaller batch and no instance; a study with a new instance stays open."""
    monkeypatch.setattr(batching, "OPEN_INSTANCES", 3)
    batcher = Batcher(lambda: BatchLimits(None, None))
    given_instances = [instance(1), instance(1, study=2), instance(2), instance(1, study=3)]
    (early,) = batcher.add(given_instances)
    assert early.instances == (given_instances[1],)
    assert [len(batch.instances) for batch in batcher.flush()] == [2, 1]


def test_one_study_alone_is_never_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without limits everything may be in one request."""
    monkeypatch.setattr(batching, "OPEN_INSTANCES", 3)
    (batch,) = batched(
        Batcher(lambda: BatchLimits(None, None), keep_studies=False), [instance(n, study=n) for n in range(9)]
    )
    assert len(batch.instances) == 9


@pytest.mark.parametrize(
    ("limits", "studies", "least", "expected"),
    [
        (BatchLimits(None, 6), [2, 3, 1, 4, 2], math.inf, [{0, 1, 2}, {3, 4}]),
        (BatchLimits(None, 6), [4, 3, 2, 2], math.inf, [{0, 2}, {1, 3}]),
        (BatchLimits(None, 6), [2, 2, 2, 2], 3, [{0, 1}, {2, 3}]),
        (BatchLimits(None, 6), [2, 2, 2, 2], 1, [{0}, {1}, {2}, {3}]),
        (BatchLimits(5, None), [2, 9, 2, 2], math.inf, [{1}, {0, 2}, {1}, {3}]),
        (BatchLimits(None, None), [2, 2], math.inf, [{0}, {1}]),
    ],
    ids=["whole, in turn", "what does not fit waits", "enough for one", "one each", "by bytes", "unlimited"],
)
def test_small_studies_share_a_request(
    limits: BatchLimits, studies: list[int], least: float, expected: list[set[int]]
) -> None:
    """Each with all its gathered instances, as many as fit, or until there are enough."""
    batcher = Batcher(lambda: limits, overhead_bytes=0)
    instances = [instance(n, study=study) for study, count in enumerate(studies) for n in range(count)]
    batches = [*batcher.add(instances), *batcher.flush(least)]
    assert [{int(i.header.study_uid[5:]) for i in batch.instances} for batch in batches] == expected


def test_a_sop_instance_of_two_studies_is_in_a_request_once() -> None:
    """Studies with the same SOP Instance UID do not share a request."""
    batcher = Batcher(lambda: BatchLimits(None, 10))
    first, second = instance(1, study=1), instance(1, study=2)
    second = replace(second, header=replace(second.header, sop_instance_uid=first.header.sop_instance_uid))
    assert [len(batch.instances) for batch in batched(batcher, [first, second])] == [1, 1]


def test_a_study_that_may_not_begin_stays_open() -> None:
    """Only studies that are ready are closed early."""
    batcher = Batcher(lambda: BatchLimits(None, 10))
    assert not list(batcher.add([instance(1, study=1), instance(1, study=2)]))
    early = batcher.close_oldest(is_ready=lambda study: study == "2.25.2")
    assert early is not None
    assert [i.header.study_uid for i in early.instances] == ["2.25.2"]
    assert batcher.close_oldest(is_ready=lambda _: False) is None
    assert batcher.open_count == 1


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (BatchLimits(None, 2), True),
        (BatchLimits(None, 3), False),
        (BatchLimits(20, None), True),
        (BatchLimits(21, None), False),
        (BatchLimits(21, 2), True),
        (BatchLimits(None, None), False),
    ],
)
def test_it_is_plentiful_when_several_requests_could_be_filled(limits: BatchLimits, expected: bool) -> None:
    """Instances or bytes must be enough, and without a limit they never are; closed batches do not count."""
    batcher = Batcher(lambda: limits, overhead_bytes=9)
    assert not list(batcher.add(instance(1, study=study) for study in range(2 * PLENTY_REQUESTS)))
    assert batcher.is_plentiful is expected
    batcher.close_oldest(1)
    assert not batcher.is_plentiful


@pytest.mark.parametrize("studies", [1, 10, 300, 1000, 12_000], ids="{} studies".format)
def test_a_flat_directory_fills_requests_as_a_sorted_tree_does(studies: int) -> None:
    """24,000 instances, one of each study in turn, take at most a tenth more requests than in the order of studies."""
    limits = BatchLimits(None, 50)
    each = 24_000 // studies
    mixed = [instance(number, study=study) for number in range(each) for study in range(studies)]
    in_order = sorted(mixed, key=lambda i: i.header.study_uid)
    requests, fewest = len(batched(Batcher(lambda: limits), mixed)), len(batched(Batcher(lambda: limits), in_order))
    assert requests <= 1.1 * fewest
    assert fewest <= 1.3 * len(mixed) / 50


def test_the_oldest_may_be_closed_early() -> None:
    """Gathered instances are closed as they are; without any there is no batch."""
    batcher = Batcher(lambda: BatchLimits(None, 3))
    assert not batched(batcher, [])
    assert list(batcher.add([instance(1, study=1), instance(2, study=2), instance(3, study=2)])) == []
    closed = [batcher.close_oldest(), batcher.close_oldest(), batcher.close_oldest()]
    assert [batch and len(batch.instances) for batch in closed] == [3, None, None]


def test_a_limit_that_is_lowered_counts_from_the_next_instance() -> None:
    """A limit lowered after a 413 holds for batches that are being filled."""
    limits = [BatchLimits(5, None), BatchLimits(10, None)]
    batcher = Batcher(lambda: limits[-1], overhead_bytes=0)
    assert not list(batcher.add([instance(1, size_bytes=4)]))
    limits.pop()
    assert sizes(batched(batcher, [instance(2, size_bytes=4)])) == [[4], [4]]


@st.composite
def streams(draw: st.DrawFn) -> list[Instance]:
    """Files of a few studies in any order, some of the same SOP instance."""
    files = draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.integers(0, 30)), max_size=150))
    return [
        instance(number, study=study, size_bytes=size, at=f"/archive/{place}")
        for place, (study, number, size) in enumerate(files)
    ]


@given(
    instances=streams(),
    size_bytes=st.none() | st.integers(1, 50),
    count=st.none() | st.integers(1, 10),
    keep_studies=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_batches_hold_every_instance_once_within_limits(
    instances: list[Instance], size_bytes: int | None, count: int | None, keep_studies: bool
) -> None:
    """Nothing is lost, doubled or reordered within a study, no limit exceeded, no study split, no UID doubled."""
    batcher = Batcher(lambda: BatchLimits(size_bytes, count), keep_studies=keep_studies)
    batches: list[Batch] = []
    with patch.object(batching, "OPEN_INSTANCES", 20):
        for taken, one in enumerate(instances, start=1):
            batches += batcher.add([one])
            assert batcher.open_count == taken - sum(len(batch.instances) for batch in batches)
            assert batcher.open_count <= 20 or size_bytes is count is None or not keep_studies
        batches += batcher.flush()
    assert batcher.open_count == 0

    def in_order(of: list[Instance]) -> list[Instance]:
        return sorted(of, key=lambda i: i.header.study_uid) if keep_studies else of

    assert in_order([i for batch in batches for i in batch.instances]) == in_order(instances)
    assert [batch.number for batch in batches] == list(range(1, len(batches) + 1))
    for batch in batches:
        assert batch.instances
        alone = len(batch.instances) == 1
        assert size_bytes is None or alone or batch.size_bytes <= size_bytes
        assert count is None or len(batch.instances) <= count
        uids = [i.header.sop_instance_uid for i in batch.instances]
        assert len(set(uids)) == len(uids)
        studies = {i.header.study_uid for i in batch.instances}
        assert not keep_studies or len(list(groupby(batch.instances, key=lambda i: i.header.study_uid))) == len(studies)
