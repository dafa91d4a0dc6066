"""The whole command, in a process of its own, against sinks that are known: are its figures true?

What is exact is claimed on a clock that jumps (see `test_driver`) and measured by `python -m benchmarks honesty`. Here,
on a machine that may have other work, a figure is compared with what no other work can change: with what the sink
itself counts, and with a bound from the side that other work does not touch. All measurements that leave the machine
idle run at the same time.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from bulkstow.bench.document import from_json
from bulkstow.bench.report import html
from bulkstow.bench.result import Load, Result
from tests.bench.report.test_browser import OpenPage, browser, open_page
from tests.bench.sinks import counts, sink

__all__ = ["browser", "open_page"]  # fixtures

PATIENCE_S = 60

FROZEN = "--slots 64 --service-ms 20 --freeze-at 4 --freeze-for 3"
FROZEN_S = 3.0
SLOTS, SERVICE_S = 4, 0.15

QUIET = {
    "open": (FROZEN, "--mode open --rate 60 --workload sr --batch-instances 1 --warmup 1s --duration 10s"),
    "closed": (FROZEN, "--connections 4 --workload sr --batch-instances 1 --warmup 1s --duration 10s"),
    "sweep": (
        f"--slots {SLOTS} --service-ms {SERVICE_S * 1000:g}",
        "--mode sweep --connections 2,4,8 --batch-instances 5 --workload mr --warmup 0s --duration 1s",
    ),
    "slow": ("--slots 4 --service-ms 200", "--connections 8 --batch-instances 5 --warmup 1s --duration 4s"),
}
"""Sinks, and what is measured of them."""


def bench(url: str, words: str, into: Path) -> subprocess.Popen[bytes]:
    """Start a measurement."""
    command = [sys.executable, "-m", "bulkstow", "bench", *words.split(), "--url", url, "--json", str(into)]
    return subprocess.Popen([*command, "--progress", "none"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[bytes], into: Path) -> Result:
    """Wait for a measurement and return its result."""
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err.decode()
    return from_json(into.read_text())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Result]]:
    """Give the results of all that is QUIET."""
    directory = tmp_path_factory.mktemp("honesty")
    with ExitStack() as stack:
        running = {}
        for name, (options, words) in QUIET.items():
            url = stack.enter_context(sink(*options.split()))
            ceiling = "" if name == "slow" else " --skip-ceiling"
            running[name] = stack.enter_context(bench(url, words + ceiling, directory / name))
            stack.callback(running[name].kill)
        yield {name: ended(process, directory / name) for name, process in running.items()}


def test_a_freeze_shows_in_an_open_load(measured: Mapping[str, Result]) -> None:
    """3 s of standing still are a p99 of nearly 3 s: of who was due meanwhile a few waited less, one in a hundred."""
    best = measured["open"].best
    assert best.latency.p99_s == pytest.approx(FROZEN_S, rel=0.1)
    assert best.latency.max_s == pytest.approx(FROZEN_S, rel=0.1)
    assert (best.dropped, sum(best.errors.values())) == (0, 0)


def test_a_freeze_hides_in_a_closed_load(measured: Mapping[str, Result]) -> None:
    """Each connection has one slow request of some hundred, which no p99 shows: this is what an open load is for."""
    best = measured["closed"].best
    assert best.latency.max_s == pytest.approx(FROZEN_S, rel=0.1)
    assert best.latency.p99_s is not None
    assert best.latency.p99_s < 0.1 * FROZEN_S


def test_throughput_and_knee_are_those_of_queueing_theory(measured: Mapping[str, Result]) -> None:
    """As many requests a service time as there are slots, or connections if these are fewer, and never more."""
    result = measured["sweep"]
    for point in result.points:
        busy = min(point.load.connections or 0, SLOTS)
        assert 0.6 < point.requests_per_s / (busy / SERVICE_S) < 1.05, point.load
        assert point.instances_per_s == pytest.approx(5 * point.requests_per_s), point.load
        waited_s = max((point.load.connections or 0) / SLOTS, 1) * SERVICE_S
        assert point.latency.p50_s is not None
        assert 0.95 < point.latency.p50_s / waited_s < 1.6, point.load
    assert result.knee is not None
    # With twice the slots' number something always waits, which a client that is late profits from.
    assert result.knee.load in (Load(5, connections=SLOTS), Load(5, connections=2 * SLOTS))
    knee = str(result.knee.load.connections)
    assert result.suggested_flags[:4] == ("--concurrency", knee, "--batch-instances", "5")


def test_a_slow_server_is_not_taken_for_a_slow_client(measured: Mapping[str, Result]) -> None:
    """This client does many times as much against a sink of its own: the result is the server's."""
    result = measured["slow"]
    assert result.ceiling is not None
    assert result.ceiling.instances_per_s > 2 * result.best.instances_per_s
    assert result.best.client_bound == ()


def test_a_server_that_is_no_limit_shows_the_client(tmp_path: Path, measured: Mapping[str, Result]) -> None:
    """What is measured against a plain sink is this client, and is said to be; all that it sent has arrived."""
    assert measured  # what leaves the machine idle has ended
    with sink() as url, bench(url, "--warmup 500ms --duration 1s", tmp_path / "json") as process:
        result = ended(process, tmp_path / "json")
        best, taken = result.best, counts(url)
    # On a machine that is busy with other work meanwhile it falls behind its ceiling, and is late instead.
    assert best.client_bound
    assert taken["instances"] == best.warmup_instances + best.instances + best.drained_instances
    assert taken["rejected"] == 0


def test_the_report_of_a_real_measurement_opens(measured: Mapping[str, Result], open_page: OpenPage) -> None:
    """In a browser: no complaint, no request but for itself, and the plots of what was measured."""
    for result in (measured["sweep"], measured["open"]):
        tab = open_page(html(result))
        assert tab.complaints() == []
        assert [url for url in tab.requests() if not url.startswith(("blob:", "data:"))] == [
            tab.evaluate("location.href")
        ]
        found = tab.evaluate("[...document.querySelectorAll('figure')].map(figure => figure.id)")
        assert {"throughput", "latency", "percentiles"} <= set(found)
        assert ("map-connections" in found) is (result.mode == "sweep")
