"""The HTML of a measurement: one file, for a ticket or a mail, that asks the network for nothing.

Owns the order of the page and its words. The plots are in `timeline`, `breakdown` and `loads`; styles and the little
behaviour (colour scheme, copying, figures under the pointer) in `page.css` and `page.js`. Without its script the page
is complete.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files

from bulkstow.bench.report import breakdown, heading, loads, tables, timeline
from bulkstow.bench.report.drawing import Drawn, Key, Plot, Row, Table, tag, text
from bulkstow.bench.report.words import load_words
from bulkstow.bench.result import Result

WIDE_PX = 820.0
"""About the width of the column of text: letters in plots are as large as those beside them."""
NARROW_PX = 340.0
"""A phone's 360 CSS pixels, less the margins."""

MOST_BARS = 12
"""Loads whose times are split: a screen high."""


def html(result: Result) -> str:
    """Return the report as one HTML file."""
    style, script = _packed("page.css"), _packed("page.js")
    # Hashes, and no 'unsafe-inline': even markup that came through would neither run nor load anything.
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(f'bulkstow bench: {heading.headline(result)}, {result.url}')}</title>\n"
        f"<style>{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(_sections(result))
        + f'\n</main>\n<div id="tip" hidden></div>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _packed(name: str) -> str:
    return files("bulkstow.bench.report").joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


def _sections(result: Result) -> Iterator[str]:
    yield heading.header(result)
    if not result.points:
        yield tag("p", "No load was measured.", class_="banner")
        yield heading.facts(result)
        return
    yield heading.doubts(result)
    yield heading.tiles(result)
    if result.thresholds:
        yield _section("Thresholds", _table(tables.thresholds(result), "thresholds"))
    if result.suggested_flags:
        yield _section("Settings that fit this server", heading.command(result))
    yield _section("What was measured", heading.facts(result))
    yield from _plots(result)
    yield _section("Times", _table(tables.times(result.best), "times"), note=f"Of {load_words(result.best.load)}.")
    yield _section("Points", _table(tables.points(result), "points"))
    yield tag("footer", tag("p", text(_HOW_TO_READ)))


_HOW_TO_READ = (
    "Instances/s and MB/s (10^6 bytes) count only what the server acknowledged, without the warm-up. Latency counts "
    "from a request's intended start, service time from its actual one. The spread is how far the goodputs of the "
    "repeats lie apart, as a share of their median. A result is client-bound where it says more of the machine that "
    "sent than of the server."
)


def _section(title: str, *markup: str, note: str = "") -> str:
    return tag("section", tag("h2", text(title)), *markup, _note(note))


def _note(words: str) -> str:
    return tag("p", text(words), class_="note") if words else ""


def _plots(result: Result) -> Iterator[str]:
    best = result.best
    if result.mode == "sweep" or len(result.points) > 1:
        for plot in loads.plots(result.points, result.knee, best.load.batch_instances):
            yield _figure(plot)
    if spans := timeline.spans_of(best.series):
        yield _figure(timeline.throughput(spans))
        yield _figure(timeline.latency(spans))
    else:
        yield _section("Over time", note="There is no time series of this load.")
    if best.latency.count:
        yield _figure(breakdown.percentiles(best))
        alike = [point for point in result.points if point.load.batch_instances == best.load.batch_instances]
        measured = [point for point in alike if point.latency.count]
        yield _figure(breakdown.split(measured if len(measured) <= MOST_BARS else [best]))
    else:
        yield _section("Latency", note="No request was answered: there is no latency.")
    errors: Counter[str] = Counter()
    for point in result.points:
        errors.update(point.errors)
    if errors.total():
        yield _figure(breakdown.errors(errors))
    else:
        yield _section("Errors by kind", note="No errors: every instance that was sent is acknowledged.")


def _figure(plot: Plot) -> str:
    """Return a plot twice, for a screen and for a phone, with its legend, and its table folded in."""
    return tag(
        "figure",
        tag("figcaption", tag("h2", text(plot.title)), tag("ul", *map(_key, plot.keys), class_="legend")),
        _svg(plot, "wide", WIDE_PX, plot.draw(WIDE_PX)),
        _svg(plot, "narrow", NARROW_PX, plot.draw(NARROW_PX)),
        _note(plot.note),
        tag("details", tag("summary", text(f"Table: {plot.title}")), _table(plot.table, f"{plot.name}-table")),
        id=plot.name,
    )


def _svg(plot: Plot, class_: str, width_px: float, drawn: Drawn) -> str:
    name = f"{plot.name}-{class_}"
    left_px, right_px = drawn.span_px or (None, None)
    return tag(
        "svg",
        tag("title", text(plot.title), id=f"{name}-title"),
        tag("desc", text(plot.description), id=f"{name}-desc"),
        # An empty title of its own: browsers would show the plot's as a tooltip, over the page's.
        tag("g", "<title></title>", drawn.markup),
        class_=class_,
        viewBox=f"0 0 {width_px:g} {drawn.height_px:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        data_left=left_px,
        data_right=right_px,
    )


def _key(key: Key) -> str:
    mark = tag("svg", key.mark, viewBox="0 0 24 12", class_="mark", aria_hidden="true")
    return tag("li", mark, text(key.words))


def _table(table: Table, name: str) -> str:
    head = tag("tr", *(tag("th", text(heading), scope="col") for heading in table.headings))
    return tag(
        "div",
        tag("table", tag("thead", head), tag("tbody", *map(_row, table.rows))),
        class_="scroll",
        role="region",
        aria_label=name,
        tabindex="0",
    )


def _row(row: Row) -> str:
    first, *others = row.cells
    at = None if row.at_share is None else f"{row.at_share:.4f}"
    return tag("tr", tag("th", text(first), scope="row"), *(tag("td", text(cell)) for cell in others), data_at=at)
