"""The whole command, in a process of its own, against sinks that are known: are its figures true?

Exact times are asserted on a virtual clock (see `test_driver`) and measured by `python -m benchmarks honesty`. Here, on
a machine that may have other work, figures are compared with the counts of the sink and with one another. All
measurements that leave the machine idle run at the same time.
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
SLOTS = 4

QUIET = {
    "open": (FROZEN, "--mode open --rate 60 --workload sr --batch-instances 1 --warmup 1s --duration 10s"),
    "closed": (FROZEN, "--connections 4 --workload sr --batch-instances 1 --warmup 1s --duration 10s"),
    "sweep": (
        f"--slots {SLOTS} --service-ms 150",
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


def test_a_freeze_shows_in_an_open_load_and_hides_in_a_closed_one(measured: Mapping[str, Result]) -> None:
    """The p99 of the open load is higher: in the closed one, a freeze delays one request of each connection only."""
    opened, closed = measured["open"].best, measured["closed"].best
    assert opened.latency.p99_s is not None
    assert closed.latency.p99_s is not None
    assert opened.latency.p99_s > closed.latency.p99_s
    assert (opened.dropped, sum(opened.errors.values())) == (0, 0)


def test_throughput_and_knee_are_those_of_queueing_theory(measured: Mapping[str, Result]) -> None:
    """Connections up to the number of slots raise the throughput; more of them raise the latency."""
    result = measured["sweep"]
    by_connections = {point.load.connections: point for point in result.points}
    fewer, equal, more = (by_connections[connections] for connections in (SLOTS // 2, SLOTS, 2 * SLOTS))
    assert fewer.requests_per_s < equal.requests_per_s
    assert equal.latency.p50_s is not None
    assert more.latency.p50_s is not None
    assert equal.latency.p50_s < more.latency.p50_s
    for point in result.points:
        assert point.instances_per_s == pytest.approx(5 * point.requests_per_s), point.load
    assert result.knee is not None
    # With twice the slots' number something always waits, which a client that is late profits from.
    assert result.knee.load in (Load(5, connections=SLOTS), Load(5, connections=2 * SLOTS))
    knee = str(result.knee.load.connections)
    assert result.suggested_flags[:4] == ("--concurrency", knee, "--batch-instances", "5")


def test_a_slow_server_is_not_taken_for_a_slow_client(measured: Mapping[str, Result]) -> None:
    """The client is faster against its own sink, so the result is not marked as client-bound."""
    result = measured["slow"]
    assert result.ceiling is not None
    assert result.ceiling.instances_per_s > result.best.instances_per_s
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
