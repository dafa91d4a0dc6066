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
    PAUSE,
    SAMPLES,
    STAGE_BYTES,
    STAGE_INSTANCES,
    BatchSize,
    Bound,
)
from bulkstow.policy.batching import BatchLimits

SENDERS = 4
MADE_AHEAD = 16
"""Batches that are made and wait, as in the scheduler's window."""

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
        size.ended(size_bytes, instances, elapsed_s, is_plenty=is_plenty)
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
    """Where any request takes four seconds, small ones would only be many: they grow to the stage."""
    course = simulate(Server(1e9, 0.0, 4.0), *kinds, seed=seed)
    assert course.most_bytes == STAGE_BYTES


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
    assert kind is tiny or min(limits.size_bytes or 0 for limits in course.limits) == course.most_bytes


@SEEDS
def test_where_requests_take_no_time_they_grow(seed: int) -> None:
    """On a link where 16 MiB take some ms, slices come to the largest requests, and so do small files."""
    assert simulate(SINK, ct, seed=seed).most_bytes == MOST_BYTES
    assert simulate(SINK, tiny, seed=seed).most_instances == MOST_INSTANCES


@pytest.mark.parametrize("kind", [ct, tiny])
def test_nothing_grows_that_would_keep_senders_idle(kind: Files) -> None:
    """Without plenty waiting no bound goes beyond the stage."""
    course = simulate(SINK, kind, is_plenty=False)
    assert course.most_bytes <= STAGE_BYTES
    assert course.most_instances <= STAGE_INSTANCES


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


def full(size: BatchSize, elapsed_s: float, *, requests: int = SAMPLES, is_plenty: bool = False) -> int:
    """Tell of requests of four instances that use all bytes; return the bound on bytes afterwards."""
    for _ in range(requests):
        size.ended(size.limits.size_bytes or 0, 4, elapsed_s, is_plenty=is_plenty)
    return size.limits.size_bytes or 0


@pytest.mark.parametrize(
    ("elapsed_s", "factor"),
    [
        (0.01, 2),
        (1.49, 2),
        (1.51, 1),
        (3.0, 1),
        (3.01, 1 / 2),
        (5.9, 1 / 2),
        (6.1, 1 / 4),
        (13.0, 1 / 8),
        (600.0, 1 / 16),
    ],
)
def test_a_bound_is_doubled_or_halved(elapsed_s: float, factor: float) -> None:
    """Half of 3 s lets a bound double; beyond 3 s it is halved until a request should fit, in one decision."""
    size = BatchSize()
    assert full(size, elapsed_s, requests=SAMPLES - 1) == FIRST_BYTES
    assert full(size, elapsed_s, requests=1) == max(LEAST_BYTES, FIRST_BYTES * factor)


@pytest.mark.parametrize(
    ("elapsed_s", "is_plenty", "expected_bytes"),
    [(1.0, True, STAGE_BYTES), (0.1, False, STAGE_BYTES), (0.13, True, STAGE_BYTES), (0.12, True, MOST_BYTES)],
)
def test_beyond_the_stage_only_brisk_requests_grow(elapsed_s: float, is_plenty: bool, expected_bytes: int) -> None:
    """More than 16 MiB needs a full queue, and half of a quarter of a second."""
    assert full(BatchSize(), elapsed_s, requests=40, is_plenty=is_plenty) == expected_bytes


def test_a_useless_halving_becomes_a_doubling() -> None:
    """Where half as many bytes take as long, a request gets more instead; halving is tried again after a pause."""
    size = BatchSize()
    found = [full(size, 4.0) / FIRST_BYTES for _ in range(2 * (PAUSE + 2) + 2)]
    assert found == [0.5, 2, *[2] * PAUSE, 1, 4, *[4] * PAUSE, 2, 4]


def test_a_useful_halving_stays() -> None:
    """Where half as many bytes take two thirds of the time or less, they may be halved again."""
    size = BatchSize()
    assert full(size, 5.0) == FIRST_BYTES / 2
    assert full(size, 3.2) == FIRST_BYTES / 4


def test_a_halved_bound_recovers() -> None:
    """Requests that were slow for a moment grow again: the bound is doubled up to the first one, if that fits."""
    size = BatchSize()
    assert [full(size, elapsed_s) / FIRST_BYTES for elapsed_s in (20.0, 2.0, 2.0, 2.0, 2.0)] == [
        1 / 8,
        1 / 4,
        1 / 2,
        1,
        1,
    ]


def test_a_trial_that_fails_is_not_repeated_at_once() -> None:
    """Where twice as many bytes take too long, the bound goes back, and the next trial comes after a pause."""
    size = BatchSize()
    full(size, 5.0)
    found = [full(size, elapsed_s) / FIRST_BYTES for elapsed_s in (2.5, 5.0, *[2.5] * PAUSE, 2.5)]
    assert found == [1, 0.5, *[0.5] * PAUSE, 1]


def test_requests_made_before_a_halving_do_not_count() -> None:
    """Batches that were made with the old bound end later, as slow as those before them; they halve nothing again."""
    size = BatchSize()
    assert full(size, 4.0) == FIRST_BYTES / 2
    for _ in range(20):
        size.ended(FIRST_BYTES, 4, 4.0)
    assert size.limits.size_bytes == FIRST_BYTES / 2


def test_requests_made_before_a_doubling_do_not_count() -> None:
    """Batches that were made with the old bound end later, as quick as those before them; they double nothing again."""
    size = BatchSize()
    assert full(size, 1.0) == 2 * FIRST_BYTES
    for _ in range(20):
        size.ended(FIRST_BYTES, 4, 1.0)
    assert size.limits.size_bytes == 2 * FIRST_BYTES


@pytest.mark.parametrize(("elapsed_s", "expected_bytes"), [(1.0, STAGE_BYTES), (600.0, FIRST_BYTES)])
def test_a_single_file_larger_than_the_bound(elapsed_s: float, expected_bytes: int) -> None:
    """A quick one lets the bound grow; a slow one changes nothing, as no bound would make it shorter."""
    size = BatchSize()
    for _ in range(40):
        size.ended(10 * FIRST_BYTES, 1, elapsed_s)
    assert size.limits.size_bytes == expected_bytes


@pytest.mark.parametrize("place", range(8))
def test_one_outlier_decides_nothing(place: int) -> None:
    """Among requests of a second one takes ten minutes; nothing changes, not even where it is among the first."""
    with_it, without = BatchSize(), BatchSize()
    for number in range(40):
        full(with_it, 600.0 if number == place else 1.0, requests=1)
        full(without, 1.0, requests=1)
    assert with_it.limits == without.limits


@pytest.mark.parametrize(
    ("size_bytes", "instances"),
    [(10_000, 7), (None, None), (2**30, "auto"), (None, "auto"), ("auto", None), ("auto", 5000), (1, 1)],
)
def test_what_is_given_stays(size_bytes: Bound, instances: Bound) -> None:
    """A number is that number and none is none, on a fast server and on a slow one."""
    for elapsed_s in (0.0001, 100.0):
        size = BatchSize(size_bytes, instances)
        for _ in range(200):
            size.ended(FIRST_BYTES, FIRST_INSTANCES, elapsed_s, is_plenty=True)
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
        st.tuples(st.integers(0, 2**34), st.integers(1, 5000), st.floats(0, 1e6), st.booleans()),
        max_size=200,
    ),
    st.none() | st.integers(1, 2**30),
)
def test_bounds_are_kept(requests: list[tuple[int, int, float, bool]], ceiling_bytes: int | None) -> None:
    """Whatever is told, the bounds stay within theirs."""
    size = BatchSize()
    if ceiling_bytes is not None:
        size.learn_ceiling(ceiling_bytes)
    most_bytes = min(MOST_BYTES, ceiling_bytes or MOST_BYTES)
    for size_bytes, instances, elapsed_s, is_plenty in requests:
        size.ended(size_bytes, instances, elapsed_s, is_plenty=is_plenty)
        limits = size.limits
        assert limits.size_bytes is not None
        assert limits.instances is not None
        assert min(LEAST_BYTES, most_bytes) <= limits.size_bytes <= most_bytes
        assert 1 <= limits.instances <= MOST_INSTANCES
