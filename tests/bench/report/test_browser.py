"""The report in a real browser: drawn, quiet, and alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bulkstow.bench.report import html
from bulkstow.bench.result import Result
from tests.bench.report import results
from tests.pages.browser import Chromium, Tab, started

OpenPage = Callable[..., Tab]
"""Opens a page's source; takes what `Tab` takes."""

DRAWN = """new Promise(done => {
  const plots = [...document.querySelectorAll('.plot')];
  const look = () => plots.every(plot => plot.querySelector('.main-svg')) ? done(plots.length) : setTimeout(look, 10);
  look();
})"""
"""Waits until every plot is drawn, and gives how many they are."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Give a browser for all tests here: to start one takes longer than a test."""
    with started(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def open_page(browser: Chromium, tmp_path: Path) -> OpenPage:
    """Give a function that opens a page in a new tab."""

    def open_page(source: str, *, width_px: int = 1000, scheme: str = "light") -> Tab:
        path = tmp_path / "report.html"
        path.write_text(source, encoding="utf-8")
        tab = Tab(browser, width_px=width_px, scheme=scheme)
        tab.open(path)
        tab.evaluate(DRAWN)
        return tab

    return open_page


@pytest.mark.parametrize("width_px", [1000, 400])
@pytest.mark.parametrize("maker", results.ALL.values(), ids=results.ALL)
def test_a_report_is_drawn_without_complaint_or_request(
    open_page: OpenPage, maker: Callable[[], Result], width_px: int
) -> None:
    """Nothing on the console, nothing asked for but the file; every plot has a size, none is too wide."""
    tab = open_page(html(maker()), width_px=width_px)
    assert tab.complaints() == []
    local = ("data:", "blob:")
    assert [url for url in tab.requests() if not url.startswith(local)] == [tab.evaluate("location.href")]
    sizes = tab.evaluate(
        "[...document.querySelectorAll('.plot .main-svg')].map(svg => svg.getBoundingClientRect())"
        ".map(box => [box.width, box.height])"
    )
    assert len(sizes) >= tab.evaluate("document.querySelectorAll('figure').length") > 0
    assert all(size > 10 for plot in sizes for size in plot)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width_px


def test_hostile_words_do_not_run(open_page: OpenPage) -> None:
    """No dialog, no element of theirs: the console would tell of a script that the policy stopped."""
    tab = open_page(html(results.hostile()))
    assert tab.complaints() == []
    assert tab.evaluate("document.images.length") == 0
    assert tab.evaluate("document.querySelectorAll('main a, main script').length") == 0
    assert "<script>alert(1)" in tab.evaluate("document.querySelector('#errors .ytick text').textContent")


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
    paper = "getComputedStyle(document.querySelector('#throughput .main-svg')).backgroundColor"
    assert tab.evaluate(paper) == began
    assert tab.evaluate(f"document.getElementById('scheme').click(); {ground}") != began
    assert tab.evaluate(f"document.getElementById('scheme').click(); {ground}") == began


def test_values_are_shown_under_the_pointer(open_page: OpenPage) -> None:
    """Over a second of the throughput both rates of that second, over a cell of the heat map its load and goodput."""
    tab = open_page(html(results.sweep()))
    for plot, expected in (("throughput", "instances/s"), ("map-connections", "instances a request: ")):
        box = tab.evaluate(
            f"(() => {{ const plot = document.querySelector('#{plot} .nsewdrag'); plot.scrollIntoView();"
            " const box = plot.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2] })()"
        )
        tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
        hovered = f"document.querySelector('#{plot} .hoverlayer').textContent"
        shown = (
            f"new Promise(done => {{ const look = () => {hovered} ? done({hovered}) : setTimeout(look, 10); look() }})"
        )
        assert expected in tab.evaluate(shown)
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
