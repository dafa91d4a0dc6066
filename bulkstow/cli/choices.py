"""The choice of a ledger's rows on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bulkstow.config import DestinationSettings
from bulkstow.errors import ConfigurationError
from bulkstow.ledger import Choice, LedgerEditor
from bulkstow.model import Outcome
from bulkstow.printing import shown
from bulkstow.quantities import counted


def outcomes_named(text: str) -> list[Outcome]:
    """Return the outcomes in a list with commas. Raises ConfigurationError for another word."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in list(Outcome):
            raise ConfigurationError(f"--outcome {word!r}: expected some of {', '.join(Outcome)}")
    return [Outcome(word) for word in words]


def choice_of(outcome: str, studies: Path | None, path: Sequence[str], url: str, *, is_all: bool) -> Choice:
    """Return the choice of some flags. Raises ConfigurationError if they choose nothing, or contradict each other."""
    from bulkstow.engine.selection import read_studies
    from bulkstow.policy.globs import globs

    outcomes = frozenset(outcomes_named(outcome))
    has_conditions = bool(outcomes or studies or path)
    if has_conditions == is_all:
        raise ConfigurationError(
            "--all contradicts --outcome, --studies and --path: leave it out"
            if is_all
            else "nothing is chosen: give --outcome, --studies or --path, or --all"
        )
    return Choice(
        outcomes,
        None if studies is None else read_studies(studies),
        globs("--path", path).match if path else None,
        DestinationSettings(url=url).root if url else None,
    )


@contextmanager
def edited(ledger: Path, choice: Choice, *, dry_run: bool) -> Iterator[tuple[LedgerEditor, dict[Outcome, int]]]:
    """Open a ledger, say so if it is upgraded, choose rows to change, and count them.

    Raises ConfigurationError if the choice names no server and the ledger has several, or names an unknown server.
    """
    with LedgerEditor(ledger, only_counts=dry_run) as editor:
        if editor.kept_copy is not None:
            print(f"the ledger was upgraded; the old one is {shown(str(editor.kept_copy))}", file=sys.stderr)
        urls = editor.destinations
        if choice.destination is None and len(urls) > 1:
            raise ConfigurationError(
                f"the ledger {ledger} has {len(urls)} destinations: choose one with --url, such as {urls[0]}"
            )
        if choice.destination is not None and choice.destination not in urls:
            raise ConfigurationError(
                f"--url {choice.destination}: the ledger {ledger} has no files for it, only for {', '.join(urls)}"
            )
        yield editor, editor.choose(choice)


def files_by_outcome(counts: Mapping[Outcome, int]) -> str:
    """Return the number of files in words: `3 files (2 missing, 1 refused)`, `no files`."""
    total = counted(sum(counts.values()), "file")
    words = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())
    return f"{total} ({words})" if words else total
