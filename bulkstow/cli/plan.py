"""`bulkstow plan`: show which files an upload would send, without sending anything."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated, TextIO

import anyio
from cyclopts import Parameter

from bulkstow.cli.files import check_writable, writing_whole
from bulkstow.cli.plan_text import as_fields, lines_of
from bulkstow.cli.streams import print_blocks
from bulkstow.config import FILES, DestinationSettings, PlanSettings, SelectionSettings, UploadSettings
from bulkstow.engine.plan import PlanJob, make_plan
from bulkstow.errors import INTERRUPTED, ConfigurationError
from bulkstow.pipeline.inventory import Inventory
from bulkstow.pipeline.plan import Plan
from bulkstow.printing import shown
from bulkstow.progress.background import BackgroundStream
from bulkstow.progress.planning import Planning
from bulkstow.setting_types import Switch
from bulkstow.source_settings import SourceSettings


def plan(
    *sources: str,
    destination: DestinationSettings | None = None,
    settings: UploadSettings | None = None,
    selection: SelectionSettings | None = None,
    source: SourceSettings | None = None,
    plan_settings: PlanSettings | None = None,
    files_from: Annotated[str | None, Parameter(allow_leading_hyphen=True, group=FILES)] = None,
    null: Annotated[Switch, Parameter(alias="-0", group=FILES)] = False,
) -> int:
    """Show which files an upload with the same settings would send, and how long it would take; sends nothing.

    With --url the server is asked which of the studies it has already. Exit status: 0, 1 if the upload would have
    failures, 2 wrong usage, 3 stopped by an error that no retry fixes, 130 interrupted.

    Parameters
    ----------
    sources
        Directories (with everything below them) and files.
    files_from
        File with one more source per line, or '-' for standard input.
    null
        Names in --files-from and in --list end with NUL, as `find -print0` writes them.
    """
    if not sources and files_from is None:
        raise ConfigurationError("nothing to plan: name directories or files, or give --files-from")
    return carry_out(
        PlanJob(
            source=sources,
            destination=destination,
            settings=settings or UploadSettings(),
            selection=selection or SelectionSettings(),
            source_settings=source or SourceSettings(),
            plan=plan_settings or PlanSettings(),
            files_from=files_from,
            null_separated=null,
        )
    )


def carry_out(job: PlanJob) -> int:
    """Make a plan, print it, write its list, and return the exit status. A list is written whole, or not at all."""
    where, digest_list = job.plan.list_to, job.plan.digest_list
    if (digest_list is None) != (job.settings.digest == "none"):
        raise ConfigurationError("--digest sha256 and --digest-list FILE: a plan needs both, or none of them")
    if where not in (None, "-"):
        check_writable("--list", Path(where))
    if digest_list is not None:
        check_writable("--digest-list", digest_list)
    with contextlib.closing(Inventory()) as inventory:
        with contextlib.closing(BackgroundStream(sys.stderr)) as screen:
            planning = Planning(job.settings.progress, screen)
            made = anyio.run(functools.partial(make_plan, job, inventory, planning))
        if made is None:
            print("bulkstow: interrupted before the plan was complete", file=sys.stderr)
            return INTERRUPTED
        try:
            if where is not None:
                _write_list(where, inventory, job)
            if digest_list is not None:
                with writing_whole("--digest-list", digest_list) as file:
                    file.buffer.writelines(_digest_line(*digest) for digest in inventory.digests())
        finally:  # the plan of a large archive takes hours, and a list may fail at the end
            _print(made, job, sys.stderr if where == "-" else sys.stdout)
    return made.exit_status


def _print(made: Plan, job: PlanJob, out: TextIO) -> None:
    if job.plan.format == "json":
        print(json.dumps(as_fields(made)), file=out)
        return
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")
    print("\n".join(lines_of(made, job.settings.ledger)), file=out)


def _write_list(where: str, inventory: Inventory, job: PlanJob) -> None:
    if not job.null_separated and (path := inventory.path_with_newline()):
        raise ConfigurationError(
            f"--list: a name contains a newline, such as {shown(path)}: add --null, to this command and to the upload"
        )
    end = b"\0" if job.null_separated else b"\n"
    names = inventory.paths_to_send(newest_first=job.plan.order == "newest")
    blocks = (os.fsencode(name.decode(errors="surrogatepass")) + end for name in names)
    if where == "-":
        print_blocks(blocks)
    else:
        with writing_whole("--list", Path(where)) as file:
            file.buffer.writelines(blocks)


def _digest_line(sha256: str, path: bytes) -> bytes:
    r"""Return a line as sha256sum writes it: with a \ before it if the name contains one, or the end of a line."""
    name = os.fsencode(path.decode(errors="surrogatepass"))
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != name else b"") + sha256.encode() + b"  " + escaped + b"\n"
