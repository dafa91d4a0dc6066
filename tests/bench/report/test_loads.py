"""Plots that compare loads."""

from __future__ import annotations

from dataclasses import replace

from bulkstow.bench.report.drawing import Plot
from bulkstow.bench.report.loads import plots
from bulkstow.bench.result import Load, Point, Result
from tests.bench.report import results


def drawn(result: Result) -> dict[str, Plot]:
    """Return a result's plots by name."""
    return {plot.name: plot for plot in plots(result.points, result.knee, result.best.load.batch_instances)}


def test_the_heat_map_has_a_cell_for_each_load() -> None:
    """Forty cells, the goodput written in each, the knee marked in one."""
    markup = drawn(results.sweep())["map-connections"].draw(820).markup
    assert sum(markup.count(f'class="heat-{step}"') for step in range(7)) == 40
    assert sum(markup.count(f'class="on-heat-{step}"') for step in range(7)) == 40
    assert markup.count('class="knee"') == markup.count('class="star"') == 1
    assert ">1.79k<" in markup


def test_marks_say_what_colour_does_not() -> None:
    """Errors and the client's limit are written beside the figure."""
    markup = drawn(results.sweep())["map-connections"].draw(820).markup
    assert markup.count("!<") == 4
    assert markup.count("!†<") == 1


def test_the_heat_map_is_turned_for_a_phone() -> None:
    """The shorter side lies across, so that the figures still fit their cells."""
    plot = drawn(results.sweep())["map-connections"]
    wide, narrow = plot.draw(820), plot.draw(340)
    assert narrow.height_px > wide.height_px
    assert "connections →" in wide.markup
    assert "connections ↓" in narrow.markup
    assert sum(narrow.markup.count(f'class="on-heat-{step}"') for step in range(7)) == 40


def test_a_load_that_was_not_measured_is_an_empty_cell() -> None:
    """A hole is not a zero."""
    sweep = results.sweep()
    markup = drawn(replace(sweep, points=sweep.points[:1] + sweep.points[2:]))["map-connections"].draw(820).markup
    assert markup.count('class="cell-empty"') == 1


def test_a_load_measured_twice_is_one_cell_and_two_marks() -> None:
    """Up the sweep and down again: the cell has the mean, the curve goes through it."""
    up, down = point(Load(1, connections=1), 100.0), point(Load(1, connections=1), 300.0)
    result = results.result("sweep", up, down)
    assert ">200<" in drawn(result)["map-connections"].draw(820).markup
    markup = drawn(result)["goodput-connections"].draw(820).markup
    assert markup.count('class="dot front"') == 2


def test_the_knee_is_marked_in_every_plot() -> None:
    """By a star, by name, and in the legend."""
    for plot in drawn(results.sweep()).values():
        assert plot.draw(820).markup.count('class="star"') == 1
        assert any("the knee" in key.words for key in plot.keys)


def test_no_knee_no_mark() -> None:
    """A sweep that found none claims none."""
    for plot in drawn(replace(results.sweep(), knee=None)).values():
        assert "knee" not in plot.draw(820).markup
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
    assert plot_of["goodput-connections"].draw(820).markup.count("<circle") == 2
    assert plot_of["latency-connections"].draw(820).markup.count("<circle") == 1


def test_the_latency_that_is_drawn_is_one_that_all_loads_have() -> None:
    """A p99 that the large requests are too few for would be a curve without its slow end."""
    small, large = point(Load(1, connections=1), 200.0), point(Load(10, connections=1), 200.0)
    for points, percentile, marks in (
        ([small], "p99", 1),
        ([small, large, point(Load(10, connections=2), 300.0)], "p90", 3),
        ([small, point(Load(100, connections=1), 100.0)], "p50", 1),
    ):
        plot = drawn(results.result("sweep", *points))["latency-connections"]
        assert plot.description.startswith(f"{percentile} by connections")
        assert plot.draw(820).markup.count("<circle") == marks
        assert "100/request" not in plot.draw(820).markup


def point(load: Load, instances_per_s: float) -> Point:
    """Return a point of a second."""
    return results.point(load, instances_per_s, elapsed_s=1)
