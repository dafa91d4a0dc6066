"""The HTML of a measurement: one file, for a ticket or a mail, that requests nothing from the network.

Owns the order of the page. The plots are in `timeline`, `breakdown` and `loads`; its styles and behaviour (colour
scheme, copying, drawing the plots) in `page.css` and `page.js`; the common parts of all pages in `bulkstow.pages`.
Without a script the page has every figure in its tables.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.resources import files
from zlib import compressobj

from bulkstow.bench.report import breakdown, heading, loads, tables, timeline
from bulkstow.bench.report.plot import Json, Plot
from bulkstow.bench.report.timeline import spans_of
from bulkstow.bench.report.words import load_words
from bulkstow.bench.result import Result
from bulkstow.pages.document import document
from bulkstow.pages.markup import note, tag, text

MOST_BARS = 12
"""Loads whose times are split: a screen high."""

GZIP_WINDOW_BITS = 31
"""zlib's number for a gzip header, which a browser's `DecompressionStream` reads."""


def html(result: Result) -> str:
    """Return the report as one HTML file."""
    style, script = _packed("page.css"), _packed("page.js")
    plots = list(_plots(result))
    figures = {plot.name: plot.figure for plot in plots if isinstance(plot, Plot)}
    data = (
        f'<script type="application/json" id="figures">{_data(figures)}</script>\n'
        f'<script type="text/plain" id="plotly">{_library() if figures else ""}</script>\n'
    )
    title = f"bulkstow bench: {heading.headline(result)}, {result.url}"
    return document(title, _sections(result, plots), style=style, script=script, data=data)


def _packed(name: str) -> str:
    return files("bulkstow.bench.report").joinpath(name).read_text(encoding="utf-8")


def _data(figures: Mapping[str, Json]) -> str:
    """Return JSON that cannot end its script element."""
    return json.dumps(figures, separators=(",", ":")).replace("<", "\\u003c")


def _library() -> str:
    """Return Plotly's script, compressed: 4.8 MB become 1.9 MB."""
    from plotly.offline import get_plotlyjs

    packer = compressobj(9, wbits=GZIP_WINDOW_BITS)
    return b64encode(packer.compress(get_plotlyjs().encode()) + packer.flush()).decode()


def _sections(result: Result, plots: list[Plot | str]) -> Iterator[str]:
    yield heading.header(result)
    if not result.points:
        yield tag("p", "No load was measured.", class_="banner")
        yield heading.facts(result)
        return
    yield heading.doubts(result)
    yield heading.tiles(result)
    if result.thresholds:
        yield _section("Thresholds", tables.thresholds(result).markup("thresholds"))
    if result.suggested_flags:
        yield _section("Settings that fit this server", heading.command(result))
    yield _section("What was measured", heading.facts(result))
    yield from (_figure(plot) if isinstance(plot, Plot) else plot for plot in plots)
    yield _section("Times", tables.times(result.best).markup("times"), words=f"Of {load_words(result.best.load)}.")
    yield _section("Points", tables.points(result).markup("points"))
    yield tag("footer", tag("p", text(_HOW_TO_READ)))


_HOW_TO_READ = (
    "Instances/s and MB/s (10^6 bytes) count only what the server acknowledged, without the warm-up. Latency counts "
    "from a request's intended start, service time from its actual one. The spread is how far the goodputs of the "
    "repeats lie apart, as a share of their median. A result is client-bound where it says more of the machine that "
    "sent than of the server."
)


def _section(title: str, *markup: str, words: str = "") -> str:
    return tag("section", tag("h2", text(title)), *markup, note(words))


def _plots(result: Result) -> Iterator[Plot | str]:
    if not result.points:
        return
    best = result.best
    if result.mode == "sweep" or len(result.points) > 1:
        yield from loads.plots(result.points, result.knee, best.load.batch_instances)
    if spans := spans_of(best.series):
        yield timeline.throughput(spans)
        yield timeline.latency(spans)
    else:
        yield _section("Over time", words="There is no time series of this load.")
    if best.latency.count:
        yield breakdown.percentiles(best)
        alike = [point for point in result.points if point.load.batch_instances == best.load.batch_instances]
        measured = [point for point in alike if point.latency.count]
        yield breakdown.split(measured if len(measured) <= MOST_BARS else [best])
    else:
        yield _section("Latency", words="No request was answered: there is no latency.")
    errors: Counter[str] = Counter()
    for point in result.points:
        errors.update(point.errors)
    if errors.total():
        yield breakdown.errors(errors)
    else:
        yield _section("Errors by kind", words="No errors: every instance that was sent is acknowledged.")


def _figure(plot: Plot) -> str:
    """Return the place of a plot, with its table folded in."""
    return tag(
        "figure",
        tag("figcaption", tag("h2", text(plot.title))),
        tag("div", class_="plot", role="img", aria_label=plot.description),
        note(plot.note),
        tag("details", tag("summary", text(f"Table: {plot.title}")), plot.table.markup(f"{plot.name}-table")),
        id=plot.name,
    )
