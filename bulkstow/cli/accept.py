"""`bulkstow accept`: mark known failures as accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bulkstow.cli.choices import choice_of, edited, files_by_outcome
from bulkstow.errors import ConfigurationError
from bulkstow.ledger import Choice
from bulkstow.setting_types import Switch


def accept(
    ledger: Path,
    *,
    note: Annotated[str, Parameter(show_default=False)] = "",
    outcome: Annotated[str, Parameter(show_default=False)] = "",
    studies: Path | None = None,
    path: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    url: Annotated[str, Parameter(show_default=False)] = "",
    all: Switch = False,  # noqa: A002 - the flag's name
    undo: Switch = False,
    dry_run: Switch = False,
) -> int:
    """Mark known failures as accepted: reports still show them, but a run with them no longer ends with exit status 1.

    A failure is chosen if all of the given conditions choose it. It stays accepted until the file changes or gets
    another outcome.

    Parameters
    ----------
    ledger
        Ledger that `bulkstow upload` wrote; no run may use it at the same time.
    note
        Why the failures are accepted; reports show it.
    outcome
        Choose only these outcomes, separated by commas, such as refused,unreadable.
    studies
        Choose only instances of these studies: a file with one Study Instance UID per line.
    path
        Choose only these paths: a directory, a file, or a pattern as of `upload --exclude`; may be repeated.
    url
        Choose only files for this server; needed if the ledger has several.
    all
        Choose every failure.
    undo
        Remove the mark from the chosen failures instead.
    dry_run
        Only count the failures.
    """
    choice = choice_of(outcome, studies, path, url, is_all=all)
    if undo == bool(note.strip()):
        raise ConfigurationError(
            "--note says why failures are accepted: leave it out with --undo" if undo else "--note is missing: say why"
        )
    return _undo(ledger, choice, dry_run=dry_run) if undo else _accept(ledger, choice, note.strip(), dry_run=dry_run)


def _accept(ledger: Path, choice: Choice, note: str, *, dry_run: bool) -> int:
    with edited(ledger, choice, dry_run=dry_run) as (editor, chosen):
        if not dry_run:
            editor.accept(note)
    failures = {outcome: count for outcome, count in chosen.items() if outcome.is_failure}
    others = sum(chosen.values()) - sum(failures.values())
    print(f"{'to accept' if dry_run else 'accepted'}: {files_by_outcome(failures)}")
    if others:
        print(f"{others:,} more were chosen, and are no failures")
    return 0


def _undo(ledger: Path, choice: Choice, *, dry_run: bool) -> int:
    with edited(ledger, choice, dry_run=dry_run) as (editor, _):
        accepted = editor.count_accepted()
        if not dry_run:
            editor.unaccept()
    print(f"{'to reopen' if dry_run else 'no longer accepted'}: {files_by_outcome(accepted)}")
    return 0
