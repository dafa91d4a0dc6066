"""Plots that compare loads."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from bulkstow.bench.report.loads import plots
from bulkstow.bench.report.plot import Plot
from bulkstow.bench.result import Load, Point, Result
from tests.bench.report import results


def drawn(result: Result) -> dict[str, Plot]:
    """Return a result's plots by name."""
    return {plot.name: plot for plot in plots(result.points, result.knee, result.best.load.batch_instances)}


def cells(result: Result) -> dict[tuple[str, str], str]:
    """Return what is written in the heat map, by connections and batch size."""
    trace: Any = drawn(result)["map-connections"].traces[0]
    rows = zip(trace["y"], trace["text"], strict=True)
    return {(x, y): words for y, row in rows for x, words in zip(trace["x"], row, strict=True)}


def marks(plot: Plot) -> list[Any]:
    """Return the symbols of a plot's marks."""
    markers: Any = [trace["marker"] for trace in plot.traces if "marker" in trace]
    return [symbol for marker in markers for symbol in marker["symbol"]]


def test_the_heat_map_has_a_cell_for_each_load() -> None:
    """Forty cells, the goodput written in each, the knee marked in one."""
    written = cells(results.sweep())
    assert len(written) == 40
    assert all(written.values())
    assert written["16", "8"] == "1.79k★"
    assert sum("★" in words for words in written.values()) == 1


def test_marks_say_what_colour_does_not() -> None:
    """Errors and the client's limit are written beside the figure."""
    written = cells(results.sweep())
    assert sum(words.endswith("!") for words in written.values()) == 4
    assert written["128", "16"].endswith("!†")


def test_a_load_that_was_not_measured_is_an_empty_cell() -> None:
    """A hole is not a zero."""
    sweep = results.sweep()
    holed = replace(sweep, points=sweep.points[:1] + sweep.points[2:])
    trace: Any = drawn(holed)["map-connections"].traces[0]
    assert [value for row in trace["z"] for value in row].count(None) == 1
    assert cells(holed)["2", "1"] == ""


def test_a_load_measured_twice_is_one_cell_and_two_marks() -> None:
    """Up the sweep and down again: the cell has the mean, the curve goes through it."""
    up, down = point(Load(1, connections=1), 100.0), point(Load(1, connections=1), 300.0)
    result = results.result("sweep", up, down)
    assert cells(result) == {("1", "1"): "200"}
    curve, both = drawn(result)["goodput-connections"].traces
    assert (curve["y"], both["y"]) == ([200], [100, 300])


def test_the_knee_is_marked_in_every_plot() -> None:
    """By a star and by name."""
    plots = drawn(results.sweep())
    for plot in plots.values():
        assert "The knee is 16 connections, 8 instances a request" in plot.description
    for name in ("goodput-connections", "latency-connections"):
        assert marks(plots[name]).count("star") == 1
        assert marks(plots[name]).count("circle-open") == 1


def test_no_knee_no_mark() -> None:
    """A sweep that found none claims none."""
    for plot in drawn(replace(results.sweep(), knee=None)).values():
        assert "star" not in str(plot.traces)
        assert "shapes" not in plot.layout
        assert "No knee was found." in plot.description


def test_closed_and_open_loads_have_plots_of_their_own() -> None:
    """Connections and rates are not drawn on one axis."""
    mixed = results.result("sweep", *results.sweep().points, *results.rate_sweep().points)
    assert list(drawn(mixed)) == [
        f"{name}-{axis}" for axis in ("connections", "rate") for name in ("map", "goodput", "latency")
    ]


def test_a_load_without_answers_has_no_latency() -> None:
    """It is in the plot of goodput, as a zero, and not in that of latency."""
    (silent,) = results.nothing().points
    result = results.result("sweep", point(Load(1, connections=2), 100.0), silent)
    plot_of = drawn(result)
    assert len(marks(plot_of["goodput-connections"])) == 2
    assert len(marks(plot_of["latency-connections"])) == 1


def test_the_latency_that_is_drawn_is_one_that_all_loads_have() -> None:
    """A p99 that the large requests are too few for would be a curve without its slow end."""
    small, large = point(Load(1, connections=1), 200.0), point(Load(10, connections=1), 200.0)
    for points, percentile, count in (
        ([small], "p99", 1),
        ([small, large, point(Load(10, connections=2), 300.0)], "p90", 3),
        ([small, point(Load(100, connections=1), 100.0)], "p50", 1),
    ):
        plot = drawn(results.result("sweep", *points))["latency-connections"]
        assert plot.description.startswith(f"{percentile} by connections")
        assert len(marks(plot)) == count
        assert "100/request" not in str(plot.traces)


def point(load: Load, instances_per_s: float) -> Point:
    """Return a point of a second."""
    return results.point(load, instances_per_s, elapsed_s=1)
