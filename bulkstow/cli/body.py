"""`bulkstow body`: write the body of a request, to send it by hand."""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio

from bulkstow.config import DestinationSettings
from bulkstow.destination.body import write_body
from bulkstow.destination.contents import SourceChanged
from bulkstow.errors import ConfigurationError, DamagedHead, HeadError
from bulkstow.model import Candidate, Fate, Instance, Outcome
from bulkstow.printing import shown
from bulkstow.quantities import counted
from bulkstow.source.heads import read_header
from bulkstow.source.sources import Source, check_sources
from bulkstow.source.walk import walk
from bulkstow.wire.multipart import BOUNDARY_LENGTH, content_type


def body(*sources: str, output: Path = Path("request.bin"), url: str = "http://localhost:8042/dicom-web") -> int:
    """Write the exact body of one request with all instances found, and print the curl command that sends it.

    What may be an instance and cannot be sent is named on standard error, and the exit status is 1.

    Parameters
    ----------
    sources
        Directories and files.
    output
        File to write.
    url
        The DICOMweb root that the printed command names.
    """
    if not sources:
        raise ConfigurationError("nothing to send: name directories or files")
    named = check_sources(sources)
    destination = DestinationSettings(url=url)
    left_out: list[Outcome] = []
    instances = tuple(_instances(named, output, left_out))
    for outcome in left_out:
        print(f"left out: {outcome.candidate.location!r}: {shown(outcome.reason)}", file=sys.stderr)
    if not instances:
        raise ConfigurationError("no DICOM instance found in " + " ".join(sources))
    boundary = secrets.token_hex(BOUNDARY_LENGTH // 2)
    try:
        size_bytes = anyio.run(write_body, instances, boundary, output)
    except SourceChanged as error:
        raise ConfigurationError(f"{error.instance.candidate.location}: {error.reason}") from error
    except OSError as error:
        raise ConfigurationError(f"--output {output}: cannot be written ({error.strerror})") from error
    print(f"# {shown(str(output))}: {size_bytes:,} bytes, {counted(len(instances), 'instance')}")
    command = (
        f"curl -H {shlex.quote('Content-Type: ' + content_type(boundary))} -H 'Accept: application/dicom+json' "
        f"-H 'Expect:' --data-binary @{shlex.quote(str(output))} {shlex.quote(destination.root + '/studies')}"
    )
    print(shown(command))
    return 1 if left_out else 0


def _instances(sources: list[Source], output: Path, left_out: list[Outcome]) -> Iterator[Instance]:
    """Yield each SOP instance once, in the order of the walk, and add to `left_out` what cannot be read."""
    seen: set[str] = set()
    for found in walk((s.path for s in sources), within=sources, exclude=frozenset({str(output.absolute())})):
        for candidate in found:
            if not isinstance(candidate, Candidate):
                if candidate.fate.is_failure:
                    left_out.append(candidate)
                continue
            try:
                header = read_header(candidate.location, size_bytes=candidate.size_bytes, by_link=candidate.by_link)
            except DamagedHead as error:
                left_out.append(Outcome(candidate, None, Fate.UNREADABLE, str(error)))
            except HeadError:
                continue
            except OSError as error:
                left_out.append(Outcome(candidate, None, Fate.UNREADABLE, f"cannot be read: {error.strerror or error}"))
            else:
                if header.sop_instance_uid not in seen:
                    seen.add(header.sop_instance_uid)
                    yield Instance(candidate, header)
