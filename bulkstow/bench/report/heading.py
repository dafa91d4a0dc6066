"""The top of the report: verdict, main figures, facts of the measurement, suggested settings."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from bulkstow.bench.report.words import counted, drift_words, duration, figure, load_words, share, time_of
from bulkstow.bench.result import Ceiling, Point, Result
from bulkstow.pages.markup import tag, text
from bulkstow.quantities import show_size


def headline(result: Result) -> str:
    """Return the main figure in words."""
    return f"{figure(result.best.instances_per_s)} instances/s" if result.points else "nothing measured"


def header(result: Result) -> str:
    """Return the verdict: goodput, load, thresholds, server."""
    words = [f"{result.mode} load, workload {result.workload}"]
    if result.points:
        at_knee = "at the knee: " if result.knee and result.best.load == result.knee.load else ""
        words.append(f"{at_knee}{load_words(result.best.load)}")
        words.append(f"{figure(result.best.megabytes_per_s)} MB/s")
    button = tag("button", "Dark", type="button", id="scheme", hidden="")
    return tag(
        "header",
        tag("p", "bulkstow bench", button, class_="brand"),
        tag("h1", text(headline(result)), _badge(result)),
        tag("p", text("; ".join(words)), class_="lead"),
        tag("p", tag("code", text(result.url))),
    )


def _badge(result: Result) -> str:
    if not result.thresholds:
        return ""
    missed = sum(not judged.holds for judged in result.thresholds)
    of = f"of {counted(len(result.thresholds), 'threshold')}"
    if missed:
        return tag("span", f"✗ {missed} {of} missed", class_="badge missed")
    return tag("span", f"✓ {len(result.thresholds)} {of} held", class_="badge holds")


def doubts(result: Result) -> str:
    """Return banners with reasons to doubt the figures, if there are any."""
    banners = []
    if not result.is_complete:
        words = "It was interrupted or stopped, or is still running. These are the results until then."
        banners.append(_banner("This result is incomplete", words))
    if bound := [point for point in result.points if point.client_bound]:
        reasons = [f"{load_words(point.load)}: {reason}" for point in bound for reason in point.client_bound]
        words = "The machine that sent was near its own limit. The server may be able to do more."
        banners.append(_banner(f"{_whose(bound, result)} client-bound", words, reasons))
    if unsettled := [point for point in result.points if not point.is_settled]:
        words = "The warm-up was cut short while goodput still changed. A longer --warmup would tell more."
        loads = [load_words(point.load) for point in unsettled]
        banners.append(_banner(f"{_whose(unsettled, result)} not settled", words, loads))
    return "".join(banners)


def _whose(points: Sequence[Point], result: Result) -> str:
    if len(result.points) == 1:
        return "This result is"
    best = ", the one in the headline among them," if result.best in points else ""
    return f"{len(points)} of {counted(len(result.points), 'point')}{best} {'are' if len(points) != 1 else 'is'}"


def _banner(title: str, words: str, reasons: Iterable[str] = ()) -> str:
    items = "".join(tag("li", text(reason)) for reason in reasons)
    listed = tag("ul", items) if items else ""
    return tag("div", tag("p", tag("strong", text(f"⚠ {title}"))), tag("p", text(words)), listed, class_="banner")


def tiles(result: Result) -> str:
    """Return the main figures, each with a note."""
    return tag("dl", *(_tile(*tile) for tile in _figures(result)), class_="tiles")


def _tile(name: str, value: str, note: str, class_: str = "figure") -> str:
    return tag("div", tag("dt", text(name)), tag("dd", text(value), class_=class_), tag("dd", text(note)))


def _figures(result: Result) -> Iterator[tuple[str, ...]]:
    best = result.best
    latency, service = best.latency, best.service_time
    yield "goodput", f"{figure(best.instances_per_s)}/s", _spread(best)
    yield "p50 latency", time_of(latency, latency.p50_s), f"service time {time_of(service, service.p50_s)}"
    tail = f"p99.9 {time_of(latency, latency.p99_9_s)}, max {time_of(latency, latency.max_s)}"
    yield "p99 latency", time_of(latency, latency.p99_s), tail
    failed = sum(best.errors.values())
    of = f"{failed:,} of {counted(failed + best.instances, 'instance')}"
    yield "errors", share(best.error_share) if failed else "0", of, "figure bad" if failed else "figure"
    if best.dropped or best.load.rate_per_s is not None:
        yield "dropped", f"{best.dropped:,}", f"{share(best.dropped_share)} of the instances due"
    if result.highest_rate_per_s is not None:
        yield "highest rate", f"{figure(result.highest_rate_per_s)}/s", "with p99 and errors below the limits"


def _spread(point: Point) -> str:
    repeats = point.goodputs_per_s
    if len(repeats) > 1:
        return f"{len(repeats)} repeats: {figure(min(repeats))} to {figure(max(repeats))}"
    return f"{figure(point.megabytes_per_s)} MB/s, {figure(point.requests_per_s)} requests/s"


def facts(result: Result) -> str:
    """Return the facts of the measurement."""
    rows = (tag("div", tag("dt", text(name)), tag("dd", text(words))) for name, words in _facts(result))
    return tag("dl", *rows, class_="facts")


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    yield from (("server", result.url), ("started", result.started), ("run", result.run_id), ("mode", result.mode))
    yield from (("workload", result.workload), ("client", result.machine), ("bulkstow", result.version))
    if result.points:
        yield from _amounts(result.best)
    if result.ceiling:
        yield "client's ceiling", _ceiling(result.ceiling, result)
    if result.drift:
        yield "drift", drift_words(result.drift)


def _amounts(point: Point) -> Iterator[tuple[str, str]]:
    warmup = f"after {duration(point.warmup_s)} of warm-up" if point.warmup_s else "without a warm-up"
    yield "measured", f"{duration(point.elapsed_s)} {warmup}"
    instances, requests = counted(point.instances, "instance"), counted(point.requests, "request")
    yield "acknowledged", f"{instances}, {show_size(point.size_bytes)}, in {requests}"
    if point.warmup_instances or point.drained_instances:
        after = f"{counted(point.drained_instances, 'instance')} after the end of the load"
        yield "kept apart", f"{counted(point.warmup_instances, 'instance')} in the warm-up, {after}"


def _ceiling(ceiling: Ceiling, result: Result) -> str:
    words = f"{figure(ceiling.instances_per_s)} instances/s, {figure(ceiling.megabytes_per_s)} MB/s, against a sink"
    if not (result.points and ceiling.instances_per_s and ceiling.megabytes_per_s):
        return words
    best = result.best
    used = max(best.instances_per_s / ceiling.instances_per_s, best.megabytes_per_s / ceiling.megabytes_per_s)
    return f"{words}; this result is {share(used)} of it"


def command(result: Result) -> str:
    """Return the command to upload with, and the button that copies it; a line breaks only between its words."""
    words = ("bulkstow", "upload", "DIRECTORY", "--url", result.url, *result.suggested_flags)
    unbroken = " ".join(tag("span", text(shlex.quote(word))) for word in words)
    copy = tag("button", "Copy", type="button", class_="copy", hidden="")
    return tag("div", tag("pre", tag("code", unbroken)), copy, class_="command")
