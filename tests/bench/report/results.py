"""Measurements as they might have come out, for the report to show."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec.structs import replace

from bulkstow.bench.result import Ceiling, Judged, Knee, Load, Percentiles, Point, Result, Second

URL = "http://pacs.example:8042/dicom-web"


def percentiles(p50_s: float, count: int = 20_000, spread: float = 2.0) -> Percentiles:
    """Return a distribution with a tail: p99 is `spread` squared times the median."""
    p90_s, p99_s, p99_9_s, max_s = (p50_s * spread**power for power in (1, 2, 3, 3.5))
    return Percentiles(count, p50_s * 1.1, p50_s, p90_s, p99_s, p99_9_s, max_s)


def series(
    elapsed_s: int, instances_per_s: float, p50_s: float, *, warmup_s: int = 5, frozen_s: range = range(0)
) -> tuple[Second, ...]:
    """Return a second for each second: it warms up, waves a little, and stands still in `frozen_s`."""
    seconds = []
    for at_s in range(elapsed_s):
        is_frozen = at_s in frozen_s
        share = min((at_s + 1) / (warmup_s + 1), 1) * (1 + 0.08 * math.sin(at_s * 1.7) + 0.05 * math.sin(at_s * 0.31))
        instances = 0 if is_frozen else round(instances_per_s * share)
        slow = 30.0 if at_s - 1 in frozen_s and not is_frozen else 1.0
        seconds.append(
            Second(
                at_s=float(at_s),
                instances=instances,
                size_bytes=instances * 500_000,
                requests=instances,
                errors=3 if at_s % 17 == 16 else 0,
                dropped=round(instances_per_s / 4) if is_frozen else 0,
                in_flight=8,
                p50_s=None if is_frozen else p50_s * (1 + 0.1 * math.sin(at_s)),
                p99_s=None if is_frozen else p50_s * 4 * slow * (1 + 0.3 * math.sin(at_s * 2.3)),
                max_s=0.0 if is_frozen else p50_s * 6 * slow,
                is_warmup=at_s < warmup_s,
            )
        )
    return tuple(seconds)


def point(
    load: Load,
    instances_per_s: float = 842.0,
    p50_s: float = 0.075,
    *,
    elapsed_s: int = 60,
    errors: Mapping[str, int] | None = None,
    client_bound: tuple[str, ...] = (),
    frozen_s: range = range(0),
) -> Point:
    """Return a load measured for `elapsed_s` after five seconds of warm-up."""
    instances = round(instances_per_s * elapsed_s)
    requests = max(instances // load.batch_instances, 1)
    waits = 2.5 if frozen_s else 1.0
    return Point(
        load=load,
        elapsed_s=float(elapsed_s),
        warmup_s=5.0,
        instances=instances,
        size_bytes=instances * 500_000,
        requests=requests,
        latency=percentiles(p50_s * waits, requests, 2.0 * waits),
        service_time=percentiles(p50_s, requests),
        connect=percentiles(0.002, min(load.connections or 8, requests)),
        send=percentiles(p50_s * 0.3, requests),
        thinking=percentiles(p50_s * 0.65, requests),
        errors=errors or {},
        client_bound=client_bound,
        goodputs_per_s=tuple(instances_per_s * factor for factor in (0.985, 1.0, 1.015)),
        series=series(elapsed_s + 5, instances_per_s, p50_s, frozen_s=frozen_s),
    )


def result(mode: str, *points: Point) -> Result:
    """Return a measurement of these points, with thresholds and a ceiling."""
    return Result(
        mode=mode,
        workload="ct",
        url=URL,
        run_id="20250317T081500Z-5f2c",
        started="2025-03-17T09:15:00+01:00",
        version="0.1.0",
        machine="Linux 6.1 x86_64, AMD EPYC 7543P, 8 cores, 31 GB, CPython 3.11.7, aiohttp 3.12.13",
        points=points,
        ceiling=Ceiling(12_000.0, 3_100.0),
        thresholds=(Judged("p99<2s", 0.3, holds=True), Judged("errors<0.1%", 0.0041, holds=False)),
    )


def repeated(one: Point, repeats: int) -> Point:
    """Return the point with its series so many times, each with two seconds in which it drains."""
    last = one.series[-1]
    drain = (replace(last, at_s=last.at_s + 1, is_drain=True), replace(last, at_s=last.at_s + 2, is_drain=True))
    whole = (*one.series, *drain)
    return replace(
        one,
        series=tuple(
            replace(second, at_s=second.at_s + number * len(whole), repeat=number)
            for number in range(repeats)
            for second in whole
        ),
    )


def closed() -> Result:
    """Return three times twenty seconds of eight connections, with a few errors, not settled."""
    errors = {"503": 120, "connection reset": 31, "failure reason 0xA700 (out of resources)": 4}
    one = point(Load(8, connections=8), errors=errors, elapsed_s=20)
    apart = replace(one, warmup_instances=3_100, warmup_latency=percentiles(0.1), drained_instances=64)
    return result("closed", replace(repeated(apart, 3), is_settled=False))


def open_load() -> Result:
    """Return a minute at a rate, with a server that stood still for three seconds."""
    frozen = point(Load(1, rate_per_s=400.0), 391.0, 0.012, frozen_s=range(30, 33))
    return result("open", replace(frozen, dropped=300, searchable=percentiles(0.8, 50)))


def sweep() -> Result:
    """Return 40 loads that saturate near 16 connections, the highest of which are the client's own limit."""
    points = tuple(
        point(
            Load(batch, connections=connections),
            per_s := 1900 * (1 - math.exp(-connections * batch**0.5 / 14)) * (1 - 0.0012 * connections),
            connections * batch / per_s,
            elapsed_s=10,
            errors={"503": connections} if connections > 64 else None,
            client_bound=("the event loop lagged 80 ms",) if connections == 128 and batch == 16 else (),
        )
        for batch in (1, 2, 4, 8, 16)
        for connections in (1, 2, 4, 8, 16, 32, 64, 128)
    )
    knee = next(p for p in points if p.load == Load(8, connections=16))
    best_per_s = max(p.instances_per_s for p in points)
    return replace(
        result("sweep", *points),
        knee=Knee(knee.load, knee.instances_per_s, best_per_s),
        highest_rate_per_s=1_650.0,
        suggested_flags=("--concurrency", "16", "--batch-instances", "8", "--batch-bytes", "5MiB"),
    )


def rate_sweep() -> Result:
    """Return seven rates of which the server follows five."""
    points = tuple(
        point(Load(4, rate_per_s=rate), min(rate, 1100.0), 0.02 if rate < 1100 else 1.5, elapsed_s=10)
        for rate in (100.0, 200.0, 400.0, 800.0, 1000.0, 1200.0, 1600.0)
    )
    return replace(result("sweep", *points), knee=Knee(points[4].load, 1000.0, 1050.0), highest_rate_per_s=1000.0)


def soak() -> Result:
    """Return two hours."""
    return result("soak", point(Load(8, connections=8), elapsed_s=7_200))


def nothing() -> Result:
    """Return a load of which nothing came back."""
    silent = Point(
        load=Load(1, connections=1),
        elapsed_s=10.0,
        warmup_s=0.0,
        instances=0,
        size_bytes=0,
        requests=0,
        latency=Percentiles(),
        service_time=Percentiles(),
        connect=Percentiles(),
        send=Percentiles(),
        thinking=Percentiles(),
        errors={"could not connect": 1},
    )
    return replace(result("closed", silent), thresholds=(), ceiling=None)


def one_second() -> Result:
    """Return a single request, in a single second."""
    single = point(Load(1, connections=1), 1.0, 4.2, elapsed_s=1)
    return result("closed", replace(single, series=single.series[5:6], goodputs_per_s=(1.0,)))


def extremes() -> Result:
    """Return loads of a billion instances a second and of one a day."""
    huge = point(Load(200, connections=1024), 1.2e9, 3e-7, elapsed_s=3)
    tiny = replace(point(Load(1, connections=1), 1.0, 86_000.0, elapsed_s=1), elapsed_s=86_400.0)
    return result("closed", tiny, huge)


HOSTILE = "<script>alert(1)</script>\"'&<img src=http://evil.example/x onerror=alert(2)>\x1b[2J\u202e\ud800"
"""What a server or a user might have written: markup, quotes, controls, a change of direction, a lone surrogate."""


def hostile() -> Result:
    """Return a measurement whose every word is an attack."""
    attacked = point(Load(1, connections=1), errors={HOSTILE: 7}, client_bound=(HOSTILE,))
    return replace(
        result("closed", attacked),
        url=f"http://pacs.example/{HOSTILE}",
        workload=HOSTILE,
        run_id=HOSTILE,
        started=HOSTILE,
        version=HOSTILE,
        machine=HOSTILE,
        suggested_flags=(HOSTILE,),
        thresholds=(Judged(HOSTILE, 1.0, holds=False),),
    )


ALL = {
    maker.__name__: maker
    for maker in (closed, open_load, sweep, rate_sweep, soak, nothing, one_second, extremes, hostile)
}
