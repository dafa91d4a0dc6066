"""The page for the sign-off of a migration: its content, and that it loads no other file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bulkstow.ledger import Entry, RunRecord
from bulkstow.model import Outcome
from bulkstow.report.aggregate import Aggregate
from bulkstow.report.failures import SHOWN_PATHS, SHOWN_REASONS, SHOWN_STUDIES
from bulkstow.report.history import history_of
from bulkstow.report.page import Attachment, SignOff, html
from tests.pages.browser import Chromium, Tab, started
from tests.report.samples import URL, archive, entry, header, result

SETTINGS = {"ledger": "bulkstow.db", "concurrency": "auto", "retries": 4, "insecure": False, "log": None, "include": []}
UPLOAD = RunRecord(URL, 1, "2026-11-18 11:06:40", "upload", "0.1.0", SETTINGS, {"complete": True})
VERIFIED = RunRecord(
    URL,
    2,
    "2026-11-19 08:00:00",
    "verify",
    "0.1.0",
    {"level": "content", "sample": "500", "seed": "bulkstow"},
    {
        "complete": True,
        "studies": 3,
        "studies_in_all": 12345,
        "states": {"complete": 2, "incomplete": 1, "absent": 0},
        "expected": 7,
        "found": 6,
        "missing": 1,
    },
)
A4_POINTS = (595, 842)
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e\udcff"


def page_of(entries: Iterable[Entry], runs: Iterable[RunRecord] = (UPLOAD, VERIFIED), shared: int = 0) -> str:
    """Return the page of these files and runs."""
    with Aggregate() as counts:
        for one in entries:
            counts.add(one)
        tables = (
            Attachment("m-studies.csv", "every study", 3, 400, "ab" * 32),
            Attachment("m-files.csv", "every file", 11, 2000, "cd" * 32),
        )
        facts = SignOff(counts, history_of(runs), tables, ("bulkstow.db",), 9, shared, "0.1.0", "2026-11-20T10:00:00Z")
        return html(facts)


def words_of(page: str) -> str:
    """Return the words of a page, with a space between elements."""

    class Words(HTMLParser):
        found = ""

        def handle_data(self, data: str) -> None:
            self.found += f" {data.strip()}" if data.strip() else ""

    parser = Words()
    parser.feed(page[page.index("<body>") :])
    return parser.found


def many() -> Iterator[Entry]:
    """Return more studies with failures, kinds of reasons and files of a reason than the page shows."""
    for number in range(200):
        stored = header(f"1.2.840.{number:050}", 1)
        yield entry(
            result(f"/archive/{'deep/' * 20}{number}/1", Outcome.REFUSED, stored, f"reason {number}: {'x' * 160}")
        )
        yield entry(result(f"/archive/{number}/2", Outcome.UNREADABLE, None, f"cannot be read: sector {number}"))


def hostile() -> Iterator[Entry]:
    """Return files whose paths, UIDs, reasons and notes are markup and controls."""
    uid = HOSTILE.replace("\udcff", "")
    yield entry(result(f"/{HOSTILE}", Outcome.REFUSED, header(uid, 1, uid), uid))
    yield entry(result(f"/{HOSTILE}2", Outcome.REFUSED, header(uid, 2, uid), uid, accepted=uid))


def test_the_first_lines_have_the_verdict() -> None:
    """Studies, failures, server, period: before any table."""
    words = words_of(page_of(archive()))
    top = words[: words.index("Files by outcome")]
    for fact in (
        "2 of 3 studies complete ✗ 4 failures",
        f"destination {URL}",
        "runs 2, the first began 2026-11-18T11:06:40Z, the last 2026-11-19T08:00:00Z",
        "outcomes recorded from 2026-11-18T11:06:40Z to 2026-11-18T11:06:42Z",
        "studies 3 2 complete, 1 verified",
        "SOP instances 9",
        "files 11",
        "verified 3",
        "failures 4 and 1 accepted",
    ):
        assert fact in top
    assert "⚠" not in top


def test_what_was_not_migrated_has_its_reasons_and_paths() -> None:
    """Open failures are listed by reason, with paths and the server's words; accepted ones with their notes."""
    words = words_of(page_of(archive()))
    failures = words[words.index("Could not be migrated") : words.index("Accepted failures")]
    assert "refused HTTP 400 (0xA900) 1 " in failures
    assert "refused: HTTP 400 (0xA900) /a/2/1 HTTP 400 (0xA900): no <b>" in failures
    assert "/a/3/1" not in failures
    accepted = words[words.index("Accepted failures") : words.index("Studies with failures")]
    assert "a phantom refused 1" in accepted
    assert "/a/3/1" in accepted
    incomplete = words[words.index("Studies with failures") : words.index("Verification")]
    assert "1.2 2021-02-03 MR,SR 4 1 1 1 1 0" in incomplete
    assert "1.1 " not in incomplete


def test_the_verification_is_told_with_level_sample_and_seed() -> None:
    """Levels have their files and times, runs of `verify` their settings and results."""
    words = words_of(page_of(archive()))
    told = words[words.index("Verification") : words.index("Modalities")]
    assert "instances 1 20.0% 2026-11-18T11:07:40Z 2026-11-18T11:07:40Z" in told
    assert "content 2 40.0% 2026-11-18T11:07:41Z 2026-11-18T11:07:42Z" in told
    result = "3 of 12,345 studies: 2 complete, 1 incomplete; instances: 7 expected, 6 found, 1 missing"
    assert f"2026-11-19T08:00:00Z content 500 bulkstow {result}" in told


def test_runs_have_their_settings_and_tables_their_digests() -> None:
    """Settings that are set are listed; an attached table can be checked by its SHA-256; three people sign."""
    words = words_of(page_of(archive()))
    assert "upload: 2026-11-18T11:06:40Z, version 0.1.0" in words
    assert "ledger = bulkstow.db, concurrency = auto, retries = 4" in words
    assert f"m-files.csv every file: 11 rows, 2kB, SHA-256 {'cd' * 32}" in words
    assert words.count("Name Date Signature") == 3


@pytest.mark.parametrize(
    ("entries", "runs", "shared", "title"),
    [
        (
            (),
            (UPLOAD, RunRecord(URL, 2, "2026-11-19 00:00:00", "upload", "0.1.0", {}, None)),
            0,
            "The last upload did not finish",
        ),
        ((entry(result("/a", Outcome.STORED, header("1", 1))),), (UPLOAD,), 0, "No instance is verified"),
        ((), (UPLOAD,), 2, "Instances in several ledgers"),
    ],
)
def test_doubts_come_first(entries: Iterable[Entry], runs: Iterable[RunRecord], shared: int, title: str) -> None:
    """Each reason to doubt the figures is a banner above them."""
    words = words_of(page_of(entries, runs, shared))
    assert f"⚠ {title}" in words[: words.index("Files by outcome")]


@pytest.mark.parametrize(
    ("summary", "verdict"),
    [
        ({}, "✓ nothing is left over"),
        ({"left_out": {"modality": 21}}, "✓ no failures among the selected files"),
        ({"empty_sources": ["/mnt/pacs"]}, "✗ files may be left over"),
        ({"complete": False}, "✗ files may be left over"),
    ],
)
def test_the_verdict_is_about_what_was_looked_at(summary: dict[str, object], verdict: str) -> None:
    """Without failures, the page claims success only for the files that the last upload examined."""
    upload = replace(UPLOAD, summary={"complete": True, **summary})
    words = words_of(page_of([entry(result("/a", Outcome.STORED, header("1", 1)))], [upload]))
    assert f"1 of 1 study complete {verdict}" in words


def test_settings_are_told_in_words() -> None:
    """A zero is a setting, an empty list is none, and of many values the first are shown."""
    settings = {"retries": 0, "include": [], "progress": None, "source": [f"/{number}" for number in range(1000)]}
    words = words_of(page_of((), [replace(UPLOAD, settings=settings)]))
    assert "retries = 0, source = /0 /1 /2 " in words
    assert "/19 and 980 more Attached tables" in words


def test_an_empty_ledger_has_a_page() -> None:
    """The page says that it has no files."""
    words = words_of(page_of((), ()))
    for fact in ("no studies complete", "There are no failures.", "No study is known.", "There are no runs."):
        assert fact in words


def test_nothing_left_over_is_said() -> None:
    """A migration without open failures has a good badge, also if failures are accepted."""
    stored = entry(result("/a", Outcome.STORED, header("1", 1)))
    noted = entry(result("/b", Outcome.REFUSED, header("1", 2), "no", accepted="known"))
    words = words_of(page_of((stored, noted)))
    assert "1 of 1 study complete ✓ nothing is left over" in words
    assert "Every known study is complete." in words


def test_lists_are_bounded() -> None:
    """Rows that the page omits are counted, with the name of their table; a kind of reason has few paths."""
    page = page_of(many())
    words = words_of(page)
    assert f"{201 - SHOWN_REASONS} more reasons in the table of files." in words
    assert f"{200 - SHOWN_STUDIES} more are in the table of studies." in words
    assert f"and {200 - SHOWN_PATHS} more, in the table of files" in words
    assert len(page) < 200_000


def test_hostile_words_are_only_words() -> None:
    """Markup and controls are shown as such; the page is printable text."""
    page = page_of(hostile())
    assert "<script" not in page
    assert words_of(page).count("<script>alert(1)</script>\\x1b[2J\\u202e") >= 6
    assert not [character for character in page if not character.isprintable() and character != "\n"]


def test_the_page_refers_to_nothing() -> None:
    """No element loads or leads anywhere, and neither does the style."""
    page = page_of(archive())
    assert re.findall(r"<[^>]*(?:src|href|action|data)=[^>]*>", page) == ['<link rel="icon" href="data:,">']
    assert not re.search(r"url\(|@import", page)


# --- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """Give a browser for all tests here."""
    with started(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [1000, 400])
@pytest.mark.parametrize("entries", [archive, many, hostile])
def test_it_is_shown_without_complaint_or_request(
    browser: Chromium, tmp_path: Path, entries: Callable[[], Iterable[Entry]], width_px: int, scheme: str
) -> None:
    """Nothing on the console, nothing requested but the file; nothing is wider than the window."""
    path = tmp_path / "migration.html"
    path.write_text(page_of(entries()), encoding="utf-8")
    tab = Tab(browser, width_px=width_px, scheme=scheme)
    tab.open(path)
    assert tab.complaints() == []
    assert tab.requests() == [path.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width_px
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}[scheme]


@pytest.mark.parametrize("entries", [archive, many, hostile])
def test_it_is_printed_on_a4(browser: Chromium, tmp_path: Path, entries: Callable[[], Iterable[Entry]]) -> None:
    """Every sheet is A4, light, and no table is wider than the paper between its margins."""
    path = tmp_path / "migration.html"
    path.write_text(page_of(entries()), encoding="utf-8")
    tab = Tab(browser, scheme="dark")
    tab.open(path)
    printed = tab.print_pdf()
    boxes = re.findall(rb"/MediaBox \[([^\]]*)\]", printed)
    assert boxes
    assert {tuple(round(float(number)) for number in box.split()) for box in boxes} == {(0, 0, *A4_POINTS)}
    between_margins_px = round((210 - 15 - 15) / 25.4 * 96)
    tab.call("Emulation.setEmulatedMedia", media="print")
    tab.call(
        "Emulation.setDeviceMetricsOverride", width=between_margins_px, height=900, deviceScaleFactor=1, mobile=False
    )
    assert tab.evaluate("document.documentElement.scrollWidth") <= between_margins_px
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    heads = tab.evaluate("[...document.querySelectorAll('thead')].map(head => getComputedStyle(head).display)")
    assert set(heads) == {"table-header-group"}  # Chromium repeats these on every sheet
