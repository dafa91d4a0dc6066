"""The report as a file: what is in it, what cannot get into it, and that it needs nothing else."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from msgspec.structs import replace
from plotly.graph_objects import Figure

from bulkstow.bench.report import html
from bulkstow.bench.result import Drift, Result
from tests.bench.report import results


class Page(HTMLParser):
    """A page taken apart by a parser that is not ours."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        whole = html(result)
        self.source = re.sub(r'(<script type="text/plain" id="plotly">)[^<]*', r"\1", whole)
        """The page without the packed library."""
        self.size_bytes = len(whole)
        self.figures: dict[str, dict[str, Any]] = json.loads(re.findall(r'id="figures">(.*?)</script>', whole)[0])
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self._inside = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        """Keep its words; script and style are none."""
        if self._inside not in ("script", "style"):
            self.words += data

    def handle_endtag(self, tag: str) -> None:
        """Leave it."""
        self._inside = ""

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of each element of a name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def ids(self, tag: str) -> set[str]:
        """Return the ids of the elements of a name."""
        return {attributes["id"] for attributes in self.all(tag) if "id" in attributes}


PAGES = {name: Page(maker()) for name, maker in results.ALL.items()}

every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)

OVER_TIME = {"throughput", "latency"}
OF_REQUESTS = {"percentiles", "split"}


def of_loads(axis: str) -> set[str]:
    """Return the plots that compare loads."""
    return {f"map-{axis}", f"goodput-{axis}", f"latency-{axis}"}


@pytest.mark.parametrize(
    ("name", "plots"),
    [
        ("closed", OVER_TIME | OF_REQUESTS | {"errors"}),
        ("open_load", OVER_TIME | OF_REQUESTS),
        ("sweep", OVER_TIME | OF_REQUESTS | of_loads("connections") | {"errors"}),
        ("rate_sweep", OVER_TIME | OF_REQUESTS | of_loads("rate")),
        ("soak", OVER_TIME | OF_REQUESTS),
        ("one_second", OVER_TIME | OF_REQUESTS),
        ("nothing", {"errors"}),
        ("extremes", OVER_TIME | OF_REQUESTS | of_loads("connections")),
    ],
)
def test_a_mode_has_its_plots(name: str, plots: set[str]) -> None:
    """No more and no fewer, each with its figure."""
    assert PAGES[name].ids("figure") == plots == PAGES[name].figures.keys()


@every_page
def test_a_figure_is_one_of_plotly(page: Page) -> None:
    """Plotly's own model knows every property and value; colours are those of the style sheet."""
    for figure in page.figures.values():
        coloured = re.sub(r"var\(--([\w-]+)\)", lambda found: COLOURS[found[1]].split(", ")[0], json.dumps(figure))
        assert Figure(json.loads(coloured)).data


@every_page
def test_a_plot_can_be_read_without_eyes(page: Page) -> None:
    """It has a description, and a table that the keyboard reaches."""
    images = [div for div in page.all("div") if div.get("role") == "img"]
    assert len(images) == len(page.all("figure")) == len(page.all("details")) > 0
    assert all(image["aria-label"] for image in images)
    assert all(region["tabindex"] == "0" for region in page.all("div") if region.get("role") == "region")
    assert len(page.all("table")) >= len(page.all("figure"))


@every_page
def test_ids_are_unique(page: Page) -> None:
    """Of two elements with an id, a description would find only the first."""
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert sorted(ids) == sorted(set(ids))


@every_page
def test_the_page_refers_to_nothing(page: Page) -> None:
    """No element loads or leads anywhere, and neither does the style."""
    referring = [
        (tag, attributes)
        for tag, attributes in page.elements
        if {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"} & attributes.keys()
    ]
    assert referring == [("link", {"rel": "icon", "href": "data:,"})]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(|sendBeacon|WebSocket", page.source)
    descriptions = " ".join(attributes.get("aria-label", "") for _, attributes in page.elements)
    shown = (page.words + descriptions + json.dumps(page.figures)).count("http:")
    assert page.source.count("http:") + page.source.count("https:") == shown


@every_page
def test_its_policy_lets_in_its_own_script_alone(page: Page) -> None:
    """The script is named by hash, the library comes from a blob that it makes; no host, and no other markup's code."""
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}' blob:; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    assert not any("style" in attributes for _, attributes in page.elements)


def test_hostile_words_are_only_words() -> None:
    """Markup, quotes, controls and lone surrogates in any value are shown, and become nothing else."""
    page = PAGES["hostile"]
    assert len(page.all("script")) == 3
    assert not re.search(r"<(?!/?extra>|br>)", json.dumps(page.figures))
    assert page.all("img") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.words.count("<script>alert(1)</script>") >= 10
    assert "onerror=alert(2)>\\x1b[2J\\u202e\\ud800" in page.words
    assert page.source.isprintable() or set(filter(lambda c: not c.isprintable(), page.source)) == {"\n"}
    page.source.encode()


def test_every_fact_is_shown() -> None:
    """What was measured, when, and with what, can be read off the page."""
    known = results.closed()
    for fact in (known.mode, known.url, known.run_id, known.started, known.version, known.machine, "workload" + "ct"):
        assert fact in PAGES["closed"].words


def test_the_verdict_is_in_the_first_lines() -> None:
    """Goodput, load, percentiles, errors, thresholds, the highest rate: before any plot."""
    page = PAGES["sweep"]
    head = page.words[: page.words.index("What was measured")]
    for words in (
        "1,790 instances/s",
        "at the knee: 16 connections, 8 instances a request",
        "1 of 2 thresholds missed",
        "p99 latency",
        "286ms",
        "1,650/s",
        "1 of 40 points is client-bound",
        "the event loop lagged 80 ms",
        f"bulkstow upload DIRECTORY --url {results.URL} --concurrency 16 --batch-instances 8 --batch-bytes 5MiB",
    ):
        assert words in head


def test_a_result_without_doubts_raises_none() -> None:
    """The banners are for what is client-bound or not settled, and say which it is."""
    assert "⚠" not in PAGES["open_load"].words
    assert "This result is not settled" in PAGES["closed"].words
    assert "This result is client-bound" in PAGES["hostile"].words


def test_what_was_cut_short_and_how_it_drifted_is_told() -> None:
    """A banner says that it is incomplete, a fact how a soak ended beside how it began."""
    drifted = Drift(360.0, 100.0, 97.0, 0.2, 0.25, 80 * 2**20, 81 * 2**20)
    words = Page(replace(results.closed(), is_complete=False, drift=drifted)).words
    assert "This result is incomplete" in words
    assert "from the first 6m to the last: goodput -3.0%" in words


def test_what_was_not_measured_is_not_zero() -> None:
    """A load of which nothing came back has no latency at all."""
    words = PAGES["nothing"].words
    assert "No request was answered" in words
    assert "100%" in words
    assert "0ms" not in words


def test_no_points_at_all() -> None:
    """A measurement that was stopped before its first load still has a page."""
    assert "No load was measured" in Page(replace(results.closed(), points=())).words


def test_thresholds_are_told_in_the_unit_of_their_limit() -> None:
    """Seconds as times, shares in percent, by words and not by colour alone."""
    words = PAGES["closed"].words
    assert "p99<2s300ms✓ holds" in words
    assert "errors<0.1%0.41%✗ missed" in words


def test_a_long_run_stays_a_small_file() -> None:
    """Two hours are drawn in some hundred marks, and warm-up seconds are still told apart."""
    page = PAGES["soak"]
    assert len(page.source) < 600_000
    assert page.size_bytes < 3_000_000
    assert "Each mark is 9s" in page.words
    assert "0s, warm-up" in page.words


COLOURS = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", PAGES["closed"].source))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground", "least"),
    [
        *((ink, ground, 4.5) for ink in ("ink", "muted", "red", "green", "blue", "orange") for ground in ("surface",)),
        *((ink, "raised", 4.5) for ink in ("ink", "muted", "red")),
        ("muted", "shade", 4.5),
        *((mark, "surface", 3.0) for mark in ("violet", "teal")),
    ],
)
def test_colours_have_contrast(ink: str, ground: str, least: float, scheme: int) -> None:
    """WCAG 2.2: 4.5 to 1 for text (1.4.3), 3 to 1 for marks (1.4.11), in both schemes."""
    first, second = (luminance(COLOURS[name].split(", ")[scheme]) for name in (ink, ground))
    assert (max(first, second) + 0.05) / (min(first, second) + 0.05) >= least


def luminance(colour: str) -> float:
    """Return a colour's relative luminance, as WCAG defines it."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_both_schemes_are_there_and_the_button_sets_them() -> None:
    """The system's choice by default, either by an attribute, light on paper."""
    source = PAGES["closed"].source
    assert "color-scheme: light dark;" in source
    assert ':root[data-scheme="dark"] { color-scheme: dark; }' in source
    assert "@media print" in source
