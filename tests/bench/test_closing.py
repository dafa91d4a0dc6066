"""The last words on a terminal."""

from __future__ import annotations

from bulkstow.bench.closing import closing
from bulkstow.bench.result import Ceiling, Drift, Judged, Knee, Load, Result
from tests.bench.measurements import point, result, times

CLOSED = result(
    point(100, warmup_s=2.0, warmup_instances=150),
    ceiling=Ceiling(5000, 2600),
    thresholds=(Judged("p99<2s", 0.2, holds=True), Judged("errors<0.1%", 0.02, holds=False)),
)


def lines_of(found: Result, word: str) -> list[str]:
    """Return the lines that begin with a word, without it."""
    return [line[len(word) :].strip() for line in closing(found).splitlines() if line.startswith(word)]


def test_a_load_in_figures() -> None:
    """What was measured, of what, with what came before, and what this client can do."""
    words = closing(CLOSED)
    assert words.startswith("closed load on http://localhost:8042/dicom-web, workload ct, run 20260101-abc\n")
    assert lines_of(CLOSED, "load  ") == ["4 connections, 10 instances a request"]
    assert lines_of(CLOSED, "goodput") == ["100 instances/s, 100 MB/s, 10.0 requests/s, in 10s"]
    assert lines_of(CLOSED, "latency  ")[0].split() == ["1,000", "100ms", "100ms", *["200ms"] * 4]
    assert lines_of(CLOSED, "errors") == ["none"]
    assert lines_of(CLOSED, "warm-up") == ["150 instances in 2s, not counted"]
    assert lines_of(CLOSED, "this client") == ["5,000 instances/s, 2,600 MB/s against a sink"]
    assert lines_of(CLOSED, "threshold") == ["p99<2s: 200ms, ✓ holds", "errors<0.1%: 2%, ✗ missed"]
    assert "INCOMPLETE" not in words
    assert "CLIENT-BOUND" not in words
    assert "knee" not in words


def test_doubts_are_told() -> None:
    """What was cut short, what had not settled, what is the client's."""
    doubted = result(
        point(100, is_settled=False, client_bound=("the event loop woke late",)), is_complete=False, mode="soak"
    )
    words = closing(doubted).splitlines()
    assert words[0].startswith("INCOMPLETE")
    assert any("HAD NOT SETTLED" in line for line in words)
    bound = next(at for at, line in enumerate(words) if line.startswith("CLIENT-BOUND"))
    assert words[bound + 1] == "  the event loop woke late"


def test_loads_that_are_the_clients_are_named() -> None:
    """Each by its connections, or its rate, and batch, also beside one that is the best and the client's, too."""
    bound: tuple[str, ...] = ("slow",)
    loads = [Load(10, connections=1), Load(10, connections=16), Load(50, rate_per_s=9.5), Load(1, connections=32)]
    points = [point(100, load=load, client_bound=bound if load != loads[0] else ()) for load in loads]
    lines = closing(result(*points, mode="sweep")).splitlines()
    assert "2 of 4 loads client-bound as well: 16 connections x 10, 9.5 instances/s x 50" in lines
    assert not any("1 connection x" in line for line in lines)


def test_errors_are_told_by_kind() -> None:
    """The most frequent first; of an open load what was dropped, too."""
    failed = result(point(100, errors={"HTTP 503": 3, "no answer in time": 40}))
    assert lines_of(failed, "errors") == ["40 instances: no answer in time", "3 instances: HTTP 503"]
    dropped = result(point(100, load=Load(1, rate_per_s=200.0), dropped=1000), mode="open")
    assert lines_of(dropped, "dropped") == ["1,000 instances, 50% of what was due"]


def test_repeats_have_a_spread() -> None:
    """From the least to the most, and as a share."""
    (words,) = lines_of(result(point(100, goodputs_per_s=(95.0, 100.0, 105.0))), "goodput")
    assert words.endswith("; 3 repeats: 95.0 to 105 instances/s, a spread of 10%")


def test_a_sweep_ends_with_what_fits() -> None:
    """Every load in a row, the knee, and the command to upload with."""
    points = [point(50, load=Load(10, connections=1)), point(100, load=Load(10, connections=2), client_bound=("so",))]
    swept = result(
        *points,
        mode="sweep",
        knee=Knee(Load(10, connections=1), 50.0, 51.0),
        highest_rate_per_s=100.0,
        suggested_flags=("--concurrency", "1"),
    )
    words = closing(swept)
    assert "connections  a request  instances/s" in words
    assert lines_of(swept, "knee")[0].endswith("50.0 instances/s, 98% of the best, 51.0")
    assert lines_of(swept, "what fits") == [f"bulkstow upload DIRECTORY --url {swept.url} --concurrency 1"]
    assert "1 of 2 loads client-bound, not the one above: 2 connections x 10" in words
    assert max(map(len, words.splitlines()[1:4])) <= 90


def test_a_soak_has_its_drift() -> None:
    """Goodput, latency and memory, from beginning to end."""
    drifted = Drift(360.0, 100.0, 97.0, 0.2, 0.25, 80 * 2**20, 81 * 2**20)
    (words,) = lines_of(result(point(100), drift=drifted, mode="soak"), "drift")
    assert (
        words
        == "from the first 6m to the last: goodput -3.0%, p99 200ms to 250ms, memory of this client 80MiB to 81MiB"
    )


def test_what_was_not_measured_has_no_figures() -> None:
    """A dash, not a zero."""
    (words,) = lines_of(result(point(0, connect=times(count=0))), "connect")
    assert words.split() == ["0", *["—"] * 6]
