"""The page for the sign-off of a migration: one file that needs no network, and prints on A4.

Owns the order of the page and its words. `aggregate` counts its figures, and `history` reads its runs. Its lists are
bounded; the attached tables have every study and every file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice

from bulkstow.model import Outcome
from bulkstow.pages.document import document
from bulkstow.pages.markup import Table, tag, text
from bulkstow.quantities import counted, show_size
from bulkstow.report.aggregate import Aggregate
from bulkstow.report.failures import accepted_failures, incomplete_studies, open_failures
from bulkstow.report.fields import as_time
from bulkstow.report.gaps import Gap, gaps
from bulkstow.report.history import History
from bulkstow.report.provenance import runs_and_settings, utc, verification
from bulkstow.report.rows import OutcomeRow, StudyCounts

SHOWN_MODALITIES = 40
"""Modalities on the page; DICOM defines about 80, an archive has a dozen."""

_MEANINGS = {
    Outcome.STORED: "the server confirmed that it stored the instance",
    Outcome.WARNED: "stored, with a warning of the server",
    Outcome.DUPLICATE: "the server responded that it already had the instance",
    Outcome.REFUSED: "the server refused the instance",
    Outcome.UNCONFIRMED: "sent, but no response proves that it is stored",
    Outcome.CONFLICT: "another file has the same SOP Instance UID and other content",
    Outcome.MISSING: "stored once, but a verification did not find it on the server",
    Outcome.UNREADABLE: "the file cannot be read, or not as DICOM",
    Outcome.SKIPPED: "nothing to migrate: no DICOM instance, or a second copy of one",
}

_HOW_TO_READ = (
    "A study is complete if none of its files has a failure that is not accepted. Files of no known study (those that "
    "cannot be read) are counted among the files, not among the studies. Stored means that the server's own response, "
    "or a search on it, names the instance; verified means that bulkstow verify found it there later, at the level "
    "instances by its SOP Instance UID, at the level content by comparing the data. All times are UTC."
)
_PRIVACY = (
    "This page contains no patient names and no patient IDs from the images. It does contain paths of files and DICOM "
    "UIDs, and the attached tables contain all of them: where paths contain names or numbers of patients, handle the "
    "page and the tables like the archive itself."
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A table that was written beside the page."""

    name: str
    content: str
    """The subject of a row, such as a study or a file."""
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SignOff:
    """The data of the page."""

    counts: Aggregate
    history: History
    attachments: tuple[Attachment, ...]
    ledgers: tuple[str, ...]
    instances: int
    """SOP instances, each counted once for a destination."""
    shared_instances: int
    """SOP instances with files in several ledgers, which no run has compared."""
    version: str
    """The version of bulkstow that wrote the page."""
    written_at: str


def html(facts: SignOff) -> str:
    """Return the page."""
    style = files("bulkstow.report").joinpath("page.css").read_text(encoding="utf-8")
    title = f"Migration report: {', '.join(facts.history.destinations) or 'no destination'}"
    return document(title, _sections(facts), style=style)


def _sections(facts: SignOff) -> Iterator[str]:
    counts = facts.counts
    outcomes, studies = counts.by_outcome(), counts.count_studies()
    open_files = sum(row.files - row.accepted for row in outcomes if row.outcome.is_failure)
    not_reported = gaps(facts.history.last_uploads)
    yield _header(facts, studies, open_files, not_reported)
    yield from (_banner(gap.title, gap.words) for gap in not_reported)
    yield from _banners(facts, outcomes)
    yield _tiles(facts, outcomes, studies, open_files)
    yield _section("Files by outcome", _outcomes(outcomes))
    yield _section("Could not be migrated", *open_failures(counts))
    if accepted := "".join(accepted_failures(counts)):
        yield _section("Accepted failures", accepted)
    yield _section("Studies with failures", *incomplete_studies(counts, studies))
    yield _section("Verification", *verification(counts, facts.history, outcomes))
    yield _section("Modalities", _modalities(counts))
    yield _section("Runs and settings", *runs_and_settings(facts.history))
    yield _section("Attached tables", _attachments(facts.attachments))
    yield _section("Sign-off", _signatures())
    yield tag("footer", tag("p", text(_HOW_TO_READ)), tag("p", text(_PRIVACY)))


def _section(title: str, *markup: str) -> str:
    return tag("section", tag("h2", text(title)), *markup)


def _badge(open_files: int, not_reported: Sequence[Gap]) -> str:
    """Return the verdict in a few words."""
    is_partial = not all(gap.is_wanted for gap in not_reported)
    if open_files or is_partial:
        words = counted(open_files, "failure") if open_files else "files may be left over"
        return tag("span", text(f"✗ {words}"), class_="badge missed")
    words = "no failures among the selected files" if not_reported else "nothing is left over"
    return tag("span", text(f"✓ {words}"), class_="badge holds")


def _header(facts: SignOff, studies: StudyCounts, open_files: int, not_reported: Sequence[Gap]) -> str:
    badge = _badge(open_files, not_reported)
    return tag(
        "header",
        tag("p", "Migration report", class_="brand"),
        tag("h1", text(f"{studies.complete:,} of {counted(studies.studies, 'study', 'studies')} complete"), badge),
        tag(
            "dl",
            *(tag("div", tag("dt", text(name)), tag("dd", text(words))) for name, words in _facts(facts)),
            class_="facts",
        ),
    )


def _facts(facts: SignOff) -> Iterator[tuple[str, str]]:
    history = facts.history
    for url in history.destinations:
        yield "destination", url
    first_s, last_s = facts.counts.period_s
    if history.runs:
        first, last = utc(history.first_started_at), utc(history.last_started_at)
        yield "runs", f"{history.runs:,}, the first began {first}, the last {last}"
    if first_s is not None:
        yield "outcomes", f"recorded from {as_time(first_s)} to {as_time(last_s)}"
    yield "ledger" if len(facts.ledgers) == 1 else "ledgers", ", ".join(facts.ledgers)
    yield "report", f"written {facts.written_at} by bulkstow {facts.version}"


def _banners(facts: SignOff, outcomes: list[OutcomeRow]) -> Iterator[str]:
    if any(row.outcome.is_success for row in outcomes) and not facts.counts.by_level():
        yield _banner(
            "No instance is verified",
            "That instances are stored rests on the server's responses at the time of the upload. The command bulkstow "
            "verify compares the server with this ledger.",
        )
    if facts.shared_instances:
        yield _banner(
            "Instances in several ledgers",
            f"{counted(facts.shared_instances, 'SOP instance')} with files in several ledgers: no run has compared "
            "these files with each other.",
        )


def _banner(title: str, words: str) -> str:
    return tag("div", tag("p", tag("strong", text(f"⚠ {title}"))), tag("p", text(words)), class_="banner")


def _tiles(facts: SignOff, outcomes: list[OutcomeRow], studies: StudyCounts, open_files: int) -> str:
    total = sum(row.files for row in outcomes)
    size_bytes = sum(row.size_bytes for row in outcomes)
    stored = [row for row in outcomes if row.outcome.is_success]
    verified = sum(row.files for row in facts.counts.by_level())
    accepted = sum(row.accepted for row in outcomes)
    tiles = (
        ("studies", f"{studies.studies:,}", f"{studies.complete:,} complete, {studies.verified:,} verified", ""),
        ("SOP instances", f"{facts.instances:,}", "by their UIDs", ""),
        ("files", f"{total:,}", show_size(size_bytes), ""),
        ("stored", f"{sum(row.files for row in stored):,}", show_size(sum(row.size_bytes for row in stored)), ""),
        ("verified", f"{verified:,}", "found on the server again", ""),
        ("failures", f"{open_files:,}", f"and {accepted:,} accepted", " bad" if open_files else ""),
    )
    return tag("dl", *(_tile(*tile) for tile in tiles), class_="tiles")


def _tile(name: str, value: str, words: str, kind: str) -> str:
    figure = tag("dd", text(value), class_=f"figure{kind}")
    return tag("div", tag("dt", text(name)), figure, tag("dd", text(words)))


def _outcomes(rows: list[OutcomeRow]) -> str:
    headings = ("outcome", "meaning", "files", "size", "studies", "accepted")
    cells = (
        (
            row.outcome.value,
            _MEANINGS[row.outcome],
            f"{row.files:,}",
            show_size(row.size_bytes),
            f"{row.studies:,}",
            f"{row.accepted:,}" if row.outcome.is_failure else "",
        )
        for row in rows
    )
    return Table(headings, tuple(cells), words=("meaning",)).markup("outcomes")


def _modalities(counts: Aggregate) -> str:
    cells = (
        (
            "(unknown)" if row.modality is None else row.modality or "(none)",
            f"{row.studies:,}",
            f"{row.files:,}",
            show_size(row.size_bytes),
            f"{sum(count for outcome, count in row.outcomes.items() if outcome.is_success):,}",
            f"{sum(count for outcome, count in row.outcomes.items() if outcome.is_failure):,}",
            f"{row.accepted:,}",
        )
        for row in islice(counts.by_modality(), SHOWN_MODALITIES)
    )
    headings = ("modality", "studies", "files", "size", "stored", "failures", "accepted")
    return Table(headings, tuple(cells)).markup("modalities")


def _attachments(attachments: tuple[Attachment, ...]) -> str:
    rows = (
        tag(
            "div",
            tag("dt", text(table.name)),
            tag(
                "dd",
                tag(
                    "p", text(f"{table.content}: {counted(table.rows, 'row')}, {show_size(table.size_bytes)}, SHA-256")
                ),
                tag("p", tag("code", text(table.sha256))),
            ),
        )
        for table in attachments
    )
    return tag("dl", *rows, class_="facts attachments")


def _signatures() -> str:
    people = (
        ("Migrated by", "the person who ran the migration"),
        ("Checked by", "the person who compared it with the archive"),
        ("Accepted by", "the person responsible for the destination"),
    )
    lines = (
        tag(
            "div",
            tag("dt", text(role)),
            *(tag("dd", tag("span", text(name), class_="label")) for name in ("Name", "Date", "Signature")),
            tag("dd", text(meaning), class_="meaning"),
        )
        for role, meaning in people
    )
    return tag("dl", *lines, class_="signatures")
