"""`bulkstow forget`: delete rows of a ledger, so that the next upload treats their files as new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bulkstow.cli.choices import choice_of, edited, files_by_outcome
from bulkstow.setting_types import Switch


def forget(
    ledger: Path,
    *,
    outcome: Annotated[str, Parameter(show_default=False)] = "",
    studies: Path | None = None,
    path: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    url: Annotated[str, Parameter(show_default=False)] = "",
    all: Switch = False,  # noqa: A002 - the flag's name
    dry_run: Switch = False,
) -> int:
    """Delete rows of a ledger: the next upload treats their files as new, and sends them again.

    A row is chosen if all of the given conditions choose it.

    Parameters
    ----------
    ledger
        Ledger that `bulkstow upload` wrote; no run may use it at the same time.
    outcome
        Choose only these outcomes, separated by commas, such as missing,refused.
    studies
        Choose only instances of these studies: a file with one Study Instance UID per line.
    path
        Choose only these paths: a directory, a file, or a pattern as of `upload --exclude`; may be repeated.
    url
        Choose only files for this server; needed if the ledger has several.
    all
        Choose every row.
    dry_run
        Only count the rows.
    """
    choice = choice_of(outcome, studies, path, url, is_all=all)
    with edited(ledger, choice, dry_run=dry_run) as (editor, chosen):
        if not dry_run:
            editor.forget()
    print(f"{'to forget' if dry_run else 'forgotten'}: {files_by_outcome(chosen)}")
    return 0
