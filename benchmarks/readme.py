"""One compact table from files that `--json` wrote: what the README shows is made, not typed.

Owns which measurement counts (of the same goal on the same machine the latest), and how machines are told apart: by a
letter in the table, and a line below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from benchmarks.measure import lined_up

COLUMNS = ("work", "goal", "found", "verdict", "date", "where")


@dataclass(frozen=True, slots=True)
class Finding:
    """A goal, and what it came to."""

    table: str
    work: str
    goal: str
    found: str
    holds: bool
    machine: str
    versions: str
    date: str
    """ISO 8601, to the minute."""

    @property
    def place(self) -> str:
        """The machine, and what ran on it."""
        return f"{self.machine}; {self.versions}"


def compact(documents: Iterable[Mapping[str, Any]]) -> str:
    """Return the table for these documents, as lines of Markdown; ValueError for one that `--json` did not write."""
    findings = _latest(finding for document in documents for finding in _findings(document))
    places = list(dict.fromkeys(finding.place for finding in findings))
    rows = [
        (
            finding.work,
            finding.goal,
            finding.found,
            "holds" if finding.holds else "missed",
            finding.date[:10],
            _letter(places.index(finding.place)),
        )
        for finding in findings
    ]
    return "\n".join(
        [
            *lined_up(COLUMNS, rows, words=len(COLUMNS)),
            "",
            *(f"{_letter(n)}: {place}" for n, place in enumerate(places)),
        ]
    )


def _findings(document: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        told = [document[name] for name in ("machine", "versions", "date")]
        for table in document["tables"]:
            for goal in table["goals"]:
                yield Finding(table["name"], table["title"], goal["text"], goal["found"], goal["holds"], *told)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not what --json writes ({error!r}): measure again") from error


def _latest(findings: Iterable[Finding]) -> list[Finding]:
    """Keep the tables' order; a table that was measured twice on a machine is the later one, with all its goals."""
    by_table: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kept = by_table.setdefault((finding.table, finding.machine), [])
        if kept and finding.date > kept[0].date:
            kept.clear()
        if not kept or finding.date == kept[0].date:
            kept.append(finding)
    return [finding for kept in by_table.values() for finding in kept]


def _letter(place: int) -> str:
    return ascii_lowercase[place] if place < len(ascii_lowercase) else str(place + 1)
