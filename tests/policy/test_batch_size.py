"""Claims about how much a request holds, on simulated servers."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.policy.batch_size import (
    FIRST_BYTES,
    FIRST_INSTANCES,
    LEAST_BYTES,
    MOST_BYTES,
    MOST_INSTANCES,
    STAGE_BYTES,
    STAGE_INSTANCES,
    BatchSize,
    Bound,
    Sample,
)
from bulkstow.policy.batching import BatchLimits

SENDERS = 4
MADE_AHEAD = 16
"""Batches that are made and wait, as in the outbox's window."""
FIRST = BatchLimits(FIRST_BYTES, FIRST_INSTANCES)

Files = Callable[[random.Random], int]


def ct(_chance: random.Random) -> int:
    """Return the size of a CT slice."""
    return 525_000


def tiny(chance: random.Random) -> int:
    """Return the size of a small file."""
    return chance.randrange(5_000, 30_000)


def large(chance: random.Random) -> int:
    """Return the size of a multi-frame image."""
    return chance.randrange(20_000_000, 60_000_000)


@dataclass(frozen=True)
class Server:
    """What a request takes: bytes over a link that the senders share, instances, and a request by itself."""

    link_bytes_per_s: float
    instance_s: float = 0.0
    alone_s: float = 0.0
    spread: float = 0.15
    """Sigma of the lognormal factor on top."""
    outliers: float = 0.02
    """Share of requests that take five or twenty times as long."""

    def serve_s(self, size_bytes: int, instances: int, chance: random.Random) -> float:
        """Return how long a request takes."""
        took_s = SENDERS * size_bytes / self.link_bytes_per_s + self.instance_s * instances + self.alone_s
        outlier = chance.choice((5, 20)) if chance.random() < self.outliers else 1
        return took_s * chance.lognormvariate(0, self.spread) * outlier


SINK = Server(13e9, 20e-6, 0.001)
ORTHANC = Server(370e6, 0.0, 0.002)
SLOW_LINK = Server(1e6, 0.0, 0.05)


@dataclass
class Course:
    """What came of the last quarter."""

    elapsed_s: list[float]
    limits: list[BatchLimits]

    @property
    def typical_s(self) -> float:
        """What a request took in the middle."""
        return median(self.elapsed_s)

    @property
    def most_bytes(self) -> int:
        """The loosest bound on bytes."""
        return max(limits.size_bytes or 0 for limits in self.limits)

    @property
    def most_instances(self) -> int:
        """The loosest bound on instances."""
        return max(limits.instances or 0 for limits in self.limits)


def filled(limits: BatchLimits, files: Files, chance: random.Random) -> tuple[int, int]:
    """Return bytes and instances of a batch that keeps the limits, as the batcher makes it."""
    size_bytes, instances = files(chance), 1
    while limits.instances is None or instances < limits.instances:
        following_bytes = files(chance)
        if limits.size_bytes is not None and size_bytes + following_bytes > limits.size_bytes:
            break
        size_bytes, instances = size_bytes + following_bytes, instances + 1
    return size_bytes, instances


def simulate(
    server: Server,
    *kinds: Files,
    later: Server | None = None,
    size: BatchSize | None = None,
    requests: int = 600,
    seed: int = 1,
    is_plenty: bool = True,
    is_settled: bool = True,
) -> Course:
    """Send batches of the kinds, each of one, to a server that may be another in the second half."""
    chance = random.Random(seed)
    size = size or BatchSize()
    made: deque[tuple[int, int]] = deque()
    ends: list[tuple[float, int, int, int, float]] = []
    course = Course([], [])
    now_s, begun = 0.0, 0
    for ended in range(requests):
        serving = later if later is not None and ended >= requests // 2 else server
        while len(made) < MADE_AHEAD:
            made.append(filled(size.limits, chance.choice(kinds), chance))
        while len(ends) < SENDERS:
            size_bytes, instances = made.popleft()
            elapsed_s = serving.serve_s(size_bytes, instances, chance)
            begun += 1
            heapq.heappush(ends, (now_s + elapsed_s, begun, size_bytes, instances, elapsed_s))
        now_s, _, size_bytes, instances, elapsed_s = heapq.heappop(ends)
        size.ended(Sample(size_bytes, instances, elapsed_s, is_plenty=is_plenty, is_settled=is_settled))
        if ended >= requests * 3 // 4:
            course.elapsed_s.append(elapsed_s)
            course.limits.append(size.limits)
    return course


SEEDS = pytest.mark.parametrize("seed", [1, 2, 3])


@SEEDS
@pytest.mark.parametrize("kinds", [(ct,), (ct, tiny)], ids=["slices", "mixed"])
@pytest.mark.parametrize(
    "server",
    [SLOW_LINK, Server(12e6, 0.0, 0.05), Server(1e9, 1.0)],
    ids=["8 Mbit/s", "100 Mbit/s", "1 s an instance"],
)
def test_a_request_takes_some_seconds(server: Server, kinds: tuple[Files, ...], seed: int) -> None:
    """Whatever makes them slow, requests come to between one and four seconds."""
    assert 1.0 <= simulate(server, *kinds, seed=seed).typical_s <= 4.0


@SEEDS
def test_a_slow_link_is_told_by_bytes(seed: int) -> None:
    """On a link that lets a request have 2 MB/s the bound is about six."""
    course = simulate(Server(8e6), ct, tiny, seed=seed)
    assert 3_000_000 <= course.most_bytes <= 9_000_000


@SEEDS
def test_a_slow_server_is_told_by_instances(seed: int) -> None:
    """Where an instance takes 50 ms the bound is some sixty of them, and the bytes are left alone."""
    course = simulate(Server(1e9, 0.05), ct, tiny, seed=seed)
    assert 30 <= course.most_instances <= 90
    assert course.most_bytes >= STAGE_BYTES


@SEEDS
@pytest.mark.parametrize("kinds", [(ct,), (ct, tiny)], ids=["slices", "mixed"])
def test_what_takes_long_by_itself_is_not_made_small(kinds: tuple[Files, ...], seed: int) -> None:
    """Where any request takes four seconds, small ones would only be many: a quarter of the start at least is kept."""
    course = simulate(Server(1e9, 0.0, 4.0), *kinds, seed=seed)
    assert course.most_bytes >= STAGE_BYTES / 4


@SEEDS
@pytest.mark.parametrize("kinds", [(ct,), (ct, tiny)], ids=["slices", "mixed"])
def test_what_is_in_a_request_may_take_twice_what_it_takes_by_itself(kinds: tuple[Files, ...], seed: int) -> None:
    """Where a request takes 1.5 s by itself, and its bytes their time too, it comes to no more than five."""
    assert 2.0 <= simulate(Server(10e6, 0.0, 1.5), *kinds, seed=seed).typical_s <= 5.0


@SEEDS
@pytest.mark.parametrize("kind", [ct, tiny, large])
def test_what_is_fast_enough_is_left_as_it_is(kind: Files, seed: int) -> None:
    """With 16 MiB in a fifth of a second, as at Orthanc, requests of slices stay; small ones stay below 64 MiB."""
    course = simulate(ORTHANC, kind, seed=seed)
    assert STAGE_BYTES <= course.most_bytes < MOST_BYTES
    assert min(limits.size_bytes or 0 for limits in course.limits) == course.most_bytes


@SEEDS
def test_where_requests_take_no_time_they_grow(seed: int) -> None:
    """On a link where 16 MiB take some ms, slices come to the largest requests, and so do small files."""
    assert simulate(SINK, ct, seed=seed).most_bytes == MOST_BYTES
    assert simulate(SINK, tiny, seed=seed).most_instances == MOST_INSTANCES


@pytest.mark.parametrize("kind", [ct, tiny])
def test_nothing_grows_that_would_keep_senders_idle(kind: Files) -> None:
    """Without plenty waiting no bound goes beyond the stage; and none changes while the number is sought."""
    course = simulate(SINK, kind, is_plenty=False)
    assert course.most_bytes <= STAGE_BYTES
    assert course.most_instances <= STAGE_INSTANCES
    assert set(simulate(SINK, kind, is_plenty=False, is_settled=False).limits) == {FIRST}


def test_slow_requests_wait_for_their_number_to_be_found() -> None:
    """While the number of requests at once is sought, only quick ones grow: the search counts requests."""
    assert set(simulate(Server(50e6), ct, is_settled=False).limits) == {FIRST}
    assert simulate(Server(50e6), ct).most_bytes > FIRST_BYTES
    assert simulate(SINK, ct, is_settled=False).most_bytes == MOST_BYTES


@SEEDS
def test_what_is_not_used_does_not_grow(seed: int) -> None:
    """Requests full of bytes say nothing for more instances."""
    assert simulate(SINK, ct, seed=seed).most_instances == STAGE_INSTANCES


@SEEDS
def test_a_link_that_changes_is_followed(seed: int) -> None:
    """It slows down and the requests get smaller; it is fast again and they grow back."""
    assert 1.0 <= simulate(ORTHANC, ct, later=SLOW_LINK, requests=800, seed=seed).typical_s <= 4.0
    assert simulate(SLOW_LINK, ct, later=ORTHANC, requests=1200, seed=seed).most_bytes >= STAGE_BYTES


@SEEDS
def test_other_files_are_followed(seed: int) -> None:
    """A bound that was found with small files does not make slices take long."""
    size = BatchSize()
    simulate(SLOW_LINK, tiny, size=size, seed=seed)
    assert simulate(SLOW_LINK, ct, size=size, seed=seed).typical_s <= 5.0  # two slices take 4.2 s


@SEEDS
def test_files_larger_than_any_bound_do_not_mislead(seed: int) -> None:
    """Large files among small ones take their time, whatever the bound; the others still come to some seconds."""
    course = simulate(SLOW_LINK, ct, ct, ct, large, seed=seed)
    assert 1.0 <= course.typical_s <= 4.0


@pytest.mark.parametrize("place", range(8))
def test_one_outlier_decides_nothing(place: int) -> None:
    """Among requests of a second one takes ten minutes; nothing changes, not even where it is among the first."""
    with_it, without = BatchSize(), BatchSize()
    for number in range(40):
        with_it.ended(Sample(STAGE_BYTES, 32, 600.0 if number == place else 1.0))
        without.ended(Sample(STAGE_BYTES, 32, 1.0))
    assert with_it.limits == without.limits


@pytest.mark.parametrize("elapsed_s", [0.0001, 1.0, 1000.0])
def test_only_answers_teach(elapsed_s: float) -> None:
    """What ended without a 2xx changes nothing, however long it took and however often."""
    size = BatchSize()
    for _ in range(200):
        size.ended(Sample(STAGE_BYTES, STAGE_INSTANCES, elapsed_s, is_answered=False, is_plenty=True))
    assert size.limits == FIRST


def test_one_round_of_a_slow_link_is_enough() -> None:
    """The first four requests take ten minutes each, and the fifth is already a small one."""
    size = BatchSize()
    for _ in range(4):
        size.ended(Sample(STAGE_BYTES, 32, 600.0))
    assert size.limits.size_bytes == LEAST_BYTES


@pytest.mark.parametrize(
    ("size_bytes", "instances"),
    [(10_000, 7), (None, None), (2**30, "auto"), (None, "auto"), ("auto", None), ("auto", 5000), (1, 1)],
)
def test_what_is_given_stays(size_bytes: Bound, instances: Bound) -> None:
    """A number is that number and none is none, on a fast server and on a slow one."""
    for elapsed_s in (0.0001, 100.0):
        size = BatchSize(size_bytes, instances)
        for _ in range(200):
            size.ended(Sample(STAGE_BYTES, STAGE_INSTANCES, elapsed_s, is_plenty=True))
        assert size_bytes in ("auto", size.limits.size_bytes)
        assert instances in ("auto", size.limits.instances)


@pytest.mark.parametrize(
    ("given_bytes", "ceilings", "news", "expected_bytes"),
    [
        ("auto", [10**7], [True], FIRST_BYTES),
        ("auto", [10**6], [True], 10**6),
        ("auto", [3 * 10**7], [True], FIRST_BYTES),
        ("auto", [MOST_BYTES], [False], FIRST_BYTES),
        ("auto", [10**7, 2 * 10**7], [True, False], FIRST_BYTES),
        ("auto", [10**7, 10**6], [True, True], 10**6),
        ("auto", [1000], [True], 1000),
        (10**8, [10**7], [True], 10**7),
        (10**6, [10**7], [False], 10**6),
        (10**8, [10**7, 10**7], [True, False], 10**7),
        (None, [10**9, 10**10], [True, False], 10**9),
    ],
)
def test_ceilings(given_bytes: Bound, ceilings: list[int], news: list[bool], expected_bytes: int) -> None:
    """The lowest counts, also below what the user gave; what no request could have reached is no news."""
    size = BatchSize(given_bytes)
    assert [size.learn_ceiling(ceiling_bytes) for ceiling_bytes in ceilings] == news
    assert size.limits.size_bytes == expected_bytes


def test_a_ceiling_is_never_passed() -> None:
    """Fast as it may be, a server that said what it takes is not tried with more."""
    size = BatchSize()
    size.learn_ceiling(20 * 2**20)
    assert STAGE_BYTES <= simulate(SINK, ct, size=size).most_bytes <= 20 * 2**20


@given(
    st.lists(
        st.tuples(st.integers(0, 2**34), st.integers(1, 5000), st.floats(0, 1e6), st.booleans(), st.booleans()),
        max_size=200,
    ),
    st.none() | st.integers(1, 2**30),
)
def test_bounds_are_kept(requests: list[tuple[int, int, float, bool, bool]], ceiling_bytes: int | None) -> None:
    """Whatever is told, the bounds stay within theirs."""
    size = BatchSize()
    if ceiling_bytes is not None:
        size.learn_ceiling(ceiling_bytes)
    most_bytes = min(MOST_BYTES, ceiling_bytes or MOST_BYTES)
    for size_bytes, instances, elapsed_s, is_answered, is_plenty in requests:
        size.ended(Sample(size_bytes, instances, elapsed_s, is_answered=is_answered, is_plenty=is_plenty))
        limits = size.limits
        assert limits.size_bytes is not None
        assert limits.instances is not None
        assert min(LEAST_BYTES, most_bytes) <= limits.size_bytes <= most_bytes
        assert 1 <= limits.instances <= MOST_INSTANCES
