"""What changed, and whether it is more than the noise."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bulkstow.bench.compare import BLOCKS, Change, Comparison, Significance, blocks, compare, differs, shown
from bulkstow.bench.result import Load, Point, Result
from tests.bench.measurements import point, result, second, times


def repeated(*goodputs_per_s: float, p99s_s: tuple[float, ...] = ()) -> Point:
    """Return a point of these repeats, of 5 s each."""
    latencies = tuple(times(p99_s=p99_s) for p99_s in p99s_s) or (times(),) * len(goodputs_per_s)
    series = [
        second(float(5 * n + k), round(per_s), repeat=n) for n, per_s in enumerate(goodputs_per_s) for k in range(5)
    ]
    mean_per_s = sum(goodputs_per_s) / len(goodputs_per_s)
    return point(mean_per_s, goodputs_per_s=goodputs_per_s, repeat_latencies=latencies, series=tuple(series))


def single(seed: int, mean: float = 100.0, seconds: int = 60, deviation: float = 5.0) -> Point:
    """Return a point of one repeat whose seconds vary by chance."""
    chance = Random(seed)
    series = tuple(second(float(n), round(chance.gauss(mean, deviation))) for n in range(seconds))
    per_s = sum(s.instances for s in series) / seconds
    return point(per_s, goodputs_per_s=(per_s,), repeat_latencies=(times(),), series=series)


def verdict(of: Comparison, figure: str) -> Significance:
    """Return the verdict on a figure."""
    return next(change.verdict for change in of.changes if change.figure == figure)


def compared(before: Point, after: Point) -> Comparison:
    """Compare two results of one point each."""
    return compare(result(before), result(after))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([100, 101, 99], [120, 121, 119], True),
        ([100, 110, 90], [105, 95, 112], False),
        ([100, 101, 99, 100], [103, 104, 102, 103], True),
        ([100, 100, 100], [100, 100, 100], False),
        ([100, 100, 100], [110, 110, 110], True),
        ([100, 100, 100], [100.1, 100.1, 100.1], False),
        ([0, 0, 0], [0, 0, 0], False),
        ([0, 0, 0], [0.5, 0.4, 0.6], True),
        # A worked example of Welch's test: t = 2.2192 at 27.5 degrees of freedom, 2.052 being the limit.
        (
            [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4],
            [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 30.5, 28.2],
            True,
        ),
        ([3, 4, 1, 2.1], [490.2, 340, 433.9], True),
    ],
)
def test_means_differ_by_more_than_their_noise(before: list[float], after: list[float], expected: bool) -> None:
    """Welch's interval at 95 % leaves out zero, and the change is more than three digits can show."""
    assert differs(before, after) is expected
    assert differs(after, before) is expected


def test_no_change_is_called_one_as_often_as_promised() -> None:
    """Of two samples of one distribution at most one pair in twenty, and some, are called different."""
    chance = Random(1)
    calls = [
        differs([chance.gauss(100, 10) for _ in range(5)], [chance.gauss(100, 10) for _ in range(5)])
        for _ in range(1000)
    ]
    assert 10 <= sum(calls) <= 70


def test_nor_are_two_runs_of_one_server() -> None:
    """Blocks of seconds, too, call chance alone a change in one pair in twenty, and some."""
    verdicts = [verdict(compared(single(2 * n), single(2 * n + 1)), "instances/s") for n in range(300)]
    assert 3 <= verdicts.count(Significance.CHANGED) <= 25


def test_repeats_decide_where_both_have_them() -> None:
    """Three repeats apart by more than their spread are a change, in goodput, bytes and latencies alike."""
    before, after = repeated(100, 102, 98), repeated(150, 151, 149, p99s_s=(0.9, 0.91, 0.89))
    found = compared(before, after)
    assert found.basis == "by Welch's interval (95 %) over 3 and 3 repeats"
    assert verdict(found, "instances/s") is verdict(found, "MB/s") is Significance.CHANGED
    assert verdict(found, "latency p99, s") is Significance.CHANGED
    assert verdict(found, "latency p50, s") is Significance.NOISE
    assert verdict(found, "errors, share") is Significance.NOISE
    assert verdict(found, "service time p99, s") is Significance.UNTOLD


def test_a_single_run_is_judged_by_its_blocks_of_seconds() -> None:
    """What is more than the noise within the runs is a change; that it is no more than that is said."""
    same, other = compared(single(1), single(3)), compared(single(1), single(3, mean=130))
    assert verdict(same, "instances/s") is Significance.NOISE
    assert verdict(other, "instances/s") is Significance.CHANGED
    assert "noise within a run, not from run to run; --repeats 3 or more" in other.basis
    assert verdict(other, "latency p99.9, s") is Significance.UNTOLD


def test_seconds_that_depend_on_each_other_are_no_evidence() -> None:
    """A slow wave through a run does not make two runs of one server different."""
    wave = [100 + (20 if n // 6 % 2 else -20) for n in range(60)]
    a = replace(single(1), series=tuple(second(float(n), count) for n, count in enumerate(wave)))
    b = replace(single(1), series=tuple(second(float(n), count) for n, count in enumerate([*wave[3:], *wave[:3]])))
    assert verdict(compared(a, b), "instances/s") is Significance.NOISE


def test_too_little_to_judge_by_is_said() -> None:
    """Two short runs are shown side by side, without a verdict, and what to do is said."""
    found = compared(single(1, seconds=10), single(2, mean=500, seconds=10))
    assert {change.verdict for change in found.changes} == {Significance.UNTOLD}
    assert "measure with --repeats 3 or more, or for 20 s" in found.basis


def test_warm_up_and_drain_are_no_evidence() -> None:
    """They are not what was measured."""
    quick = tuple(second(float(n), 9000, is_warmup=n < 30, is_drain=n >= 30) for n in range(60))
    padded = replace(single(1), series=(*quick, *single(1).series))
    assert verdict(compared(padded, single(3)), "instances/s") is Significance.NOISE


def test_errors_that_came_are_a_change() -> None:
    """A server that now fails one in ten is another one, though it was never wrong before."""
    failing = replace(
        single(2),
        errors={"503": 600},
        series=tuple(replace(s, errors=10) for s in single(2).series),
    )
    found = compared(single(1), failing)
    assert verdict(found, "errors, share") is Significance.CHANGED
    (change,) = [change for change in found.changes if change.figure == "errors, share"]
    assert change.share is None


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (result(mode="open"), ["another mode: 'closed' then, 'open' now"]),
        (result(workload="mr", machine="64 cores"), ["another workload: 'ct'", "another machine: '2 cores'"]),
        (result(point(load=Load(1, connections=9))), ["another load: '4 connections x 10' then, '9 connections x 1'"]),
        (result(point(load=Load(1, rate_per_s=9.5))), ["another load: '4 connections x 10' then, '9.5 instances/s x"]),
        (result(point(client_bound=("slow",))), ["client-bound now: slow"]),
        (result(point(is_settled=False)), ["goodput had not settled when the measurement began now"]),
        (result(), []),
    ],
)
def test_what_forbids_a_comparison_is_said(after: Result, says: list[str]) -> None:
    """Another mode, workload, machine or load, a client at its limit: the figures are shown, with a warning."""
    cautions = compare(result(), after).cautions
    assert len(cautions) == len(says)
    assert all(caution.startswith(words) for caution, words in zip(cautions, says, strict=True))


def test_sweeps_are_compared_load_by_load() -> None:
    """Loads that both have measured stand side by side; others are left out."""
    before = result(*(replace(repeated(100, 101, 99), load=Load(1, connections=n)) for n in (1, 2, 4)))
    after = result(*(replace(repeated(140, 141, 139), load=Load(1, connections=n)) for n in (2, 4, 8)))
    assert compare(before, after).loads == (
        Change("2 connections x 1", 100, 140, Significance.CHANGED),
        Change("4 connections x 1", 100, 140, Significance.CHANGED),
    )


def test_a_percentile_that_one_could_not_measure_is_not_compared() -> None:
    """A dash and no verdict, in repeats and in blocks of seconds; what both measured is compared."""
    few = (times(count=99),) * 3
    before, after = repeated(100, 101, 99), repeated(150, 151, 149)
    found = compared(before, replace(after, latency=times(count=297), repeat_latencies=few))
    assert verdict(found, "latency p99, s") is Significance.UNTOLD
    assert verdict(found, "latency p90, s") is Significance.NOISE
    assert next(line for line in shown(found).splitlines() if "p99.9" in line).split()[2:] == [
        *("s", "0.2", "—", "cannot", "be", "told")
    ]
    slow = replace(single(3), series=tuple(replace(s, requests=30) for s in single(3).series))
    assert verdict(compared(single(1), slow), "latency p99, s") is Significance.UNTOLD
    assert verdict(compared(single(1), slow), "latency p50, s") is Significance.NOISE


def test_it_is_shown_as_a_table() -> None:
    """Every figure has a line with before, after, change and verdict; then come the basis and what to beware of."""
    lines = shown(compare(result(repeated(100, 101, 99)), result(repeated(150, 151, 149), mode="open"))).splitlines()
    assert lines[0].split() == ["before", "after", "change"]
    assert lines[1].split() == ["instances/s", "100", "150", "+50.0%", "changed"]
    assert lines[-2:] == [
        "Judged: by Welch's interval (95 %) over 3 and 3 repeats",
        "Beware: another mode: 'closed' then, 'open' now",
    ]


@given(st.integers(0, 200))
@settings(deadline=None)
def test_blocks_are_neighbours_of_equal_length(count: int) -> None:
    """Ten of them or none, of two seconds at least, in their order."""
    seconds = [second(float(n)) for n in range(count)]
    found = blocks(seconds)
    assert len(found) == (BLOCKS if count >= 20 else 0)
    assert len({len(block) for block in found}) <= 1
    together = [s for block in found for s in block]
    assert together == seconds[: len(together)]


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=40))
@settings(deadline=None)
def test_nothing_differs_from_itself(goodputs_per_s: list[float]) -> None:
    """The same result twice has changed in nothing."""
    one = result(repeated(*goodputs_per_s))
    assert {change.verdict for change in compare(one, one).changes} <= {Significance.NOISE, Significance.UNTOLD}
