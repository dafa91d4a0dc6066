"""`bulkstow body`: write the body of a request, for sending it by another program."""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio

from bulkstow.blocking import ReadLimit, map_in_threads, run_in_threads
from bulkstow.config import READ_TIMEOUT_S, DestinationSettings
from bulkstow.destination.body_file import write_body
from bulkstow.errors import ConfigurationError, InstanceChanged
from bulkstow.model import Candidate, Container, FileResult, Instance, Outcome
from bulkstow.pipeline.inspect import NOT_LOOKED_INTO, Inspected, inspect, not_answered
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.printing import shown
from bulkstow.quantities import counted, require_positive
from bulkstow.setting_types import Duration
from bulkstow.source.files import FileSource
from bulkstow.source.paths import find_sources
from bulkstow.wire.multipart import BOUNDARY_DIGITS, content_type

READERS = 1
"""Number of threads that read, without those that hang. One is enough, as the body is one stream."""


def body(
    *sources: str,
    output: Path = Path("request.bin"),
    url: str = "http://localhost:8042/dicom-web",
    read_timeout: Duration = READ_TIMEOUT_S,
) -> int:
    """Write the exact body of one request with all instances found, and print the curl command that sends it.

    Files that may be instances but cannot be sent are listed on standard error; the exit status is then 1.

    Parameters
    ----------
    sources
        Directories and files.
    output
        File to write.
    url
        DICOMweb root in the printed command.
    read_timeout
        Time limit for one read from storage; a file or directory that takes longer is left out.
    """
    if not sources:
        raise ConfigurationError("nothing to send: name directories or files")
    require_positive("--read-timeout", read_timeout)
    destination = DestinationSettings(url=url)
    boundary = secrets.token_hex(BOUNDARY_DIGITS // 2)
    exclude = frozenset({str(output.absolute())})
    limit = ReadLimit(read_timeout)
    instances, left_out, size_bytes = anyio.run(_write, sources, output, exclude, boundary, limit)
    print(f"# {shown(str(output))}: {size_bytes:,} bytes, {counted(len(instances), 'instance')}")
    command = (
        f"curl -H {shlex.quote('Content-Type: ' + content_type(boundary))} -H 'Accept: application/dicom+json' "
        f"-H 'Expect:' --data-binary @{shlex.quote(str(output))} {shlex.quote(destination.root + '/studies')}"
    )
    print(shown(command))
    return 1 if left_out else 0


async def _write(
    names: Sequence[str], output: Path, exclude: frozenset[str], boundary: str, limit: ReadLimit
) -> tuple[tuple[Instance, ...], list[FileResult], int]:
    """Write the body; return its instances, the files that are left out, and its length in bytes."""
    threads = WorkerThreads(READERS, stuck_s=limit.stuck_s)
    left_out: list[FileResult] = []
    try:
        paths = (await find_sources(names, threads, limit)).values()
        source = FileSource((path.path for path in paths), within=paths, exclude=exclude)
        instances = await _instances(source, threads, limit, left_out)
        for result in left_out:
            print(f"left out: {result.candidate.location!r}: {shown(result.reason)}", file=sys.stderr)
        if not instances:
            raise ConfigurationError("no DICOM instance found in " + " ".join(names))
        size_bytes = await write_body(instances, boundary, output, source=source, readers=threads, limit=limit)
    except InstanceChanged as error:
        raise ConfigurationError(str(error)) from error
    except OSError as error:
        raise ConfigurationError(f"--output {output}: cannot be written ({error.strerror})") from error
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # does not wait for a thread that hangs
    return instances, left_out, size_bytes


async def _instances(
    source: FileSource, threads: WorkerThreads, limit: ReadLimit, left_out: list[FileResult]
) -> tuple[Instance, ...]:
    """Return each SOP instance once, in the order of the scan, and add files that cannot be read to `left_out`."""
    instances: dict[str, Instance] = {}
    async for found in run_in_threads(source.scan(), threads.scans, limit):
        candidates = [one for one in found if isinstance(one, Candidate)]
        looked_at: list[Inspected] = [one for one in found if isinstance(one, FileResult)]
        if candidates:
            look = partial(inspect, source)
            async for several in map_in_threads(
                look, candidates, not_answered, threads, limit, items_per_list=len(candidates)
            ):
                looked_at += several
        for one in looked_at:
            if isinstance(one, Instance):
                instances.setdefault(one.header.sop_instance_uid, one)
            elif isinstance(one, Container):
                reason = f"{one.format_name}, {NOT_LOOKED_INTO}"
                left_out.append(FileResult(one.candidate, None, Outcome.UNREADABLE, reason))
            elif one.outcome.is_failure:
                left_out.append(one)
    return tuple(instances.values())
