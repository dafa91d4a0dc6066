"""The report in a real browser: drawn, quiet, and alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bulkstow.bench.report import html
from bulkstow.bench.result import Result
from tests.bench.report import results
from tests.bench.report.browser import PROGRAMS, Chromium, Tab

REQUIRED = "BULKSTOW_REQUIRE_CHROMIUM"

OpenPage = Callable[..., Tab]
"""Opens a page's source; takes what `Tab` takes."""

SHOWN = "[...document.querySelectorAll('svg[role=img]')].filter(svg => getComputedStyle(svg).display !== 'none')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Give a browser for all tests here: to start one takes longer than a test."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        word = "Chromium is not installed: apt-get install chromium"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, but {word}", pytrace=False)
        pytest.skip(word)
    with Chromium(program, tmp_path_factory.mktemp("chromium") / "profile") as browser:
        yield browser


@pytest.fixture
def open_page(browser: Chromium, tmp_path: Path) -> OpenPage:
    """Give a function that opens a page in a new tab."""

    def open_page(source: str, *, width_px: int = 1000, scheme: str = "light") -> Tab:
        path = tmp_path / "report.html"
        path.write_text(source, encoding="utf-8")
        tab = Tab(browser, width_px=width_px, scheme=scheme)
        tab.open(path)
        return tab

    return open_page


@pytest.mark.parametrize("width_px", [1000, 400])
@pytest.mark.parametrize("maker", results.ALL.values(), ids=results.ALL)
def test_a_report_is_drawn_without_complaint_or_request(
    open_page: OpenPage, maker: Callable[[], Result], width_px: int
) -> None:
    """Nothing on the console, nothing asked for but the file; every plot has a size, and no label leaves its plot."""
    tab = open_page(html(maker()), width_px=width_px)
    assert tab.complaints() == []
    assert [url for url in tab.requests() if not url.startswith("data:")] == [tab.evaluate("location.href")]
    sizes = tab.evaluate(
        f"{SHOWN}.map(svg => [svg.getBoundingClientRect(), svg.querySelector('g').getBBox()])"
        ".map(([box, drawn]) => [box.width, box.height, drawn.width, drawn.height])"
    )
    assert len(sizes) == tab.evaluate("document.querySelectorAll('figure').length") > 0
    assert all(size > 10 for plot in sizes for size in plot)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width_px
    assert tab.evaluate(CLIPPED) == []


CLIPPED = f"""
{SHOWN}.flatMap(svg => [...svg.querySelectorAll('text')].filter(text => {{
  const box = text.getBBox(), plot = svg.viewBox.baseVal;
  return box.x < -2 || box.y < -2 || box.x + box.width > plot.width + 2 || box.y + box.height > plot.height + 2;
}}).map(text => text.textContent))
"""
"""The labels that leave their plot by more than another font may be wider."""


def test_hostile_words_do_not_run(open_page: OpenPage) -> None:
    """No dialog, no element of theirs: the console would tell of a script that the policy stopped."""
    tab = open_page(html(results.hostile()))
    assert tab.complaints() == []
    assert tab.evaluate("document.images.length") == 0
    assert tab.evaluate("document.scripts.length") == 1


def test_the_watch_sees_what_a_page_asks_for(open_page: OpenPage) -> None:
    """A picture from elsewhere is seen as a request, or, under the report's policy, as a complaint."""
    source = html(results.closed())
    picture = '<img src="http://pacs.example/pixel.png">'
    assert open_page(source.replace("<main>", f"<main>{picture}")).complaints()
    lawless = source.replace("Content-Security-Policy", "x-none").replace("<main>", f"<main>{picture}")
    assert "http://pacs.example/pixel.png" in open_page(lawless).requests()


@pytest.mark.parametrize(("scheme", "other"), [("light", "Dark"), ("dark", "Light")])
def test_the_scheme_follows_the_system_and_the_button(open_page: OpenPage, scheme: str, other: str) -> None:
    """The page begins as the system is set; the button names the other scheme, sets it, and sets it back."""
    tab = open_page(html(results.closed()), scheme=scheme)
    ground = "getComputedStyle(document.body).backgroundColor"
    began = tab.evaluate(ground)
    assert began == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}[scheme]
    assert tab.evaluate("document.getElementById('scheme').textContent") == other
    assert tab.evaluate(f"document.getElementById('scheme').click(); {ground}") != began
    assert tab.evaluate(f"document.getElementById('scheme').click(); {ground}") == began


def test_the_pointer_finds_its_row(open_page: OpenPage) -> None:
    """Over a curve the nearest second is shown, over a cell of the heat map its load, as the tables have them."""
    tab = open_page(html(results.sweep()))
    tip = "document.getElementById('tip').innerText"
    move = "new PointerEvent('pointermove', {clientX: x, clientY: y, bubbles: true})"
    place = "const box = at.getBoundingClientRect(), x = box.x + box.width * 0.999, y = box.y + box.height / 2"
    curve = (
        f"(() => {{ const at = document.querySelector('#throughput svg.wide'); {place}; at.dispatchEvent({move}) }})()"
    )
    tab.evaluate(curve)
    assert tab.evaluate(tip).startswith("time: 14s\ninstances/s: ")
    cell = "document.querySelectorAll('#map-connections svg.wide [data-row]')"
    tab.evaluate(f"(() => {{ const at = [...{cell}].at(39); {place}; at.dispatchEvent({move}) }})()")
    assert tab.evaluate(tip).startswith("load: 128 connections, 16 instances a request, client-bound\n")
    assert tab.complaints() == []


def test_the_command_is_copied(open_page: OpenPage) -> None:
    """The button copies the command, or, where it may not, selects it."""
    tab = open_page(html(results.sweep()))
    command = f"bulkstow upload DIRECTORY --url {results.URL} --concurrency 16 --batch-instances 8 --batch-bytes 5MiB"
    click = "document.querySelector('.copy').click(); new Promise(requestAnimationFrame)"
    tab.evaluate(
        "navigator.clipboard.writeText = words => { window.copied = words; return Promise.resolve() };" + click
    )
    assert tab.evaluate("window.copied") == command
    tab.evaluate("navigator.clipboard.writeText = () => Promise.reject(new Error('forbidden'));" + click)
    assert tab.evaluate("getSelection().toString()") == command
    assert tab.complaints() == []
