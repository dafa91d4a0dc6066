"""`bulkstow demo`: an upload from start to end in a few seconds, without another machine.

Creates a small archive with typical junk, serves a STOW-RS origin in this process, uploads to it twice, shows the
report, and prints commands to try next.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import anyio

from bulkstow.cli.report import report
from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.engine.job import Job
from bulkstow.engine.local import run
from bulkstow.errors import ConfigurationError
from bulkstow.model import Header, Summary
from bulkstow.printing import shown, shown_lines
from bulkstow.progress.closing import closing
from bulkstow.progress.display import display
from bulkstow.progress.tally import Tally
from bulkstow.quantities import counted
from bulkstow.server.origin import ROOT, Origin, serving
from bulkstow.server.storage import DirectoryStorage
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, dicomdir, part10


def demo(directory: Path | None = None, *, instances: int = 300) -> int:
    """Create a small archive, upload it to a server in this process, and show the report.

    Parameters
    ----------
    directory
        Directory for the archive, the ledger and the stored instances, by default a new temporary one. It is kept.
    instances
        Number of instances in the archive.
    """
    if instances < 1:
        raise ConfigurationError(f"--instances {instances}: expected 1 or more")
    top = directory or Path(tempfile.mkdtemp(prefix="bulkstow-demo-"))
    archive, ledger = top / "archive", top / "bulkstow.db"
    try:
        files = make_archive(archive, instances)
    except OSError as error:
        raise ConfigurationError(f"{top}: the archive cannot be created there ({error.strerror})") from error
    print(f"1. An archive of {files:,} files, some of them junk: {shown(str(archive))}")
    first, second = anyio.run(functools.partial(_upload_twice, top, archive, ledger))
    print("\n4. What was not stored, and why:", flush=True)
    report((ledger,), outcome="refused,unconfirmed,conflict,unreadable,skipped")
    print(
        f"\nThe first run sent {counted(first.requests, 'request')} and the second {second.requests}; "
        f"the {first.failures} files that failed would make `bulkstow upload` end with status 1.\n\n"
        + shown_lines(what_next(top.absolute(), _program()))
    )
    return 0


def what_next(top: Path, program: str) -> str:
    """Return commands to try, one per line; they work in any directory and shell.

    They have no comments, because interactive zsh takes `#` for a word. The `sleep` lets the server start.
    """
    archive, ledger, second, stored = (
        shlex.quote(str(top / name)) for name in ("archive", "bulkstow.db", "second.db", "stored")
    )
    port = _free_port()
    return "\n".join(
        [
            "Try next. Serve what was stored, in the background:",
            f"  {program} serve {stored} --port {port} & sleep 3",
            "Send the archive there, with a new ledger:",
            f"  {program} upload {archive} --url http://127.0.0.1:{port}{ROOT} --ledger {second}",
            "List every file of the first run:",
            f"  {program} report {ledger} --format jsonl",
            "See all settings:",
            f"  {program} upload --help",
            "End the server, and remove everything:",
            "  kill $!",
            f"  rm -r {shlex.quote(str(top))}",
        ]
    )


def _program() -> str:
    """Return the command that runs this program in a new shell, in which no virtual environment is active."""
    script = Path(sys.argv[0])
    if script.stem != "bulkstow" or not script.is_file():
        return f"{shlex.quote(sys.executable)} -m bulkstow"
    found = shutil.which(script.name)
    is_on_path = found is not None and Path(found).samefile(script) and "VIRTUAL_ENV" not in os.environ
    return script.name if is_on_path else shlex.quote(str(script.absolute()))


def _free_port() -> int:
    """Return the default port of `serve`, or another free port if that is taken."""
    for port in (8080, 0):
        with suppress(OSError), socket.socket() as bound:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            bound.bind(("127.0.0.1", port))
            return int(bound.getsockname()[1])
    return 8080


async def _upload_twice(top: Path, archive: Path, ledger: Path) -> tuple[Summary, Summary]:
    storage = await anyio.to_thread.run_sync(DirectoryStorage, top / "stored")
    async with serving(Origin(storage)) as url:
        print(f"2. Uploading to a STOW-RS server in this process: {url}", flush=True)
        first = await _upload(url, archive, ledger)
        print("\n3. The same command again: only files without a final outcome would be sent.", flush=True)
        second = await _upload(url, archive, ledger)
    return first, second


async def _upload(url: str, archive: Path, ledger: Path) -> Summary:
    job = Job((str(archive),), DestinationSettings(url=url), UploadSettings(ledger=ledger))
    tally = Tally()
    summary = await run(job, tally, display("auto" if sys.stderr.isatty() else "none"))
    print(closing(summary, tally, ledger), flush=True)
    return summary


def make_archive(archive: Path, instances: int) -> int:
    """Write a typical archive, images in studies and series and some junk, and return the number of files."""
    files: dict[str, bytes] = {}
    for number in range(instances):
        study, series = number // 60, number // 20
        header = _header(f"{study + 1}", f"{study + 1}.{series + 1}", f"{study + 1}.{series + 1}.{number + 1}")
        files[f"study{study:02}/series{series:02}/IM{number:06}"] = part10(header, rows=128, columns=128, number=number)
    one = files["study00/series00/IM000000"]
    files |= {
        "DICOMDIR": dicomdir(),
        ".DS_Store": b"\0\0\0\1Bud1" + bytes(100),
        "readme.txt": b"Export of 2026-01-01\n",
        "study00/empty.dcm": b"",
        "study00/half": one[:140],
        "usb-copy/IM000000": one,
        "usb-copy/IM000000.other": one[:-2] + b"\xff\xff",
        "study00/not-a-uid.dcm": part10(_header("1", "1.1", "letters.are.no.uid"), number=1),
    }
    for name, content in files.items():
        path = archive / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return len(files)


def _header(study: str, series: str, instance: str) -> Header:
    root = "2.25.20260101"
    return Header(
        f"{root}.{study}", f"{root}.{series}", f"{root}.{instance}", SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN
    )
