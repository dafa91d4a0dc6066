"""Measurements for tests: points and results of made-up figures."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from bulkstow.bench.result import Load, Percentiles, Point, Result, Second


def times(p50_s: float = 0.1, p99_s: float = 0.2, count: int = 1000) -> Percentiles:
    """Return a distribution."""
    return Percentiles(count, p50_s, p50_s, p99_s, p99_s, p99_s, p99_s)


def second(at_s: float, instances: int = 100, **fields: Any) -> Second:
    """Return a second in which a hundred requests ended, which is what a p99 needs."""
    plain = Second(at_s, instances, instances * 1000, 100, 0, 0, 4, 0.1, 0.2)
    return replace(plain, **fields)


def point(instances_per_s: float = 100.0, *, elapsed_s: float = 10.0, **fields: Any) -> Point:
    """Return a point of 10 s at four connections, an instance being 1 MB."""
    instances = round(instances_per_s * elapsed_s)
    plain = Point(
        load=Load(10, connections=4),
        elapsed_s=elapsed_s,
        warmup_s=2.0,
        instances=instances,
        size_bytes=instances * 10**6,
        requests=instances // 10,
        latency=times(),
        service_time=times(),
        connect=Percentiles(),
        send=times(),
        thinking=times(),
    )
    return replace(plain, **fields)


def result(*points: Point, **fields: Any) -> Result:
    """Return a result of these points, or of a plain one."""
    plain = Result(
        mode="closed",
        workload="ct",
        url="http://localhost:8042/dicom-web",
        run_id="20260101-abc",
        started="2026-01-01T12:00:00+01:00",
        version="0.1.0",
        machine="2 cores",
        points=points or (point(),),
    )
    return replace(plain, **fields)
