"""`bulkstow body`: write the body of a request, to send it by hand."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio

from bulkstow.config import DestinationSettings
from bulkstow.destination.body import write_body
from bulkstow.destination.contents import SourceChanged
from bulkstow.errors import ConfigurationError, HeadError
from bulkstow.model import Candidate, Instance
from bulkstow.source.heads import read_header
from bulkstow.source.walk import Source, check_sources, walk
from bulkstow.wire.multipart import BOUNDARY_LENGTH, content_type


def body(*sources: str, output: Path = Path("request.bin"), url: str = "http://localhost:8042/dicom-web") -> int:
    """Write the exact body of one request with all instances found, and print the curl command that sends it.

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
    instances = tuple(_instances(named, output))
    if not instances:
        raise ConfigurationError("no DICOM instance found in " + " ".join(sources))
    boundary = secrets.token_hex(BOUNDARY_LENGTH // 2)
    try:
        size_bytes = anyio.run(write_body, instances, boundary, output)
    except SourceChanged as error:
        raise ConfigurationError(f"{error.instance.candidate.location}: {error.reason}") from error
    except OSError as error:
        raise ConfigurationError(f"--output {output}: cannot be written ({error.strerror})") from error
    print(f"# {output}: {size_bytes:,} bytes, {len(instances):,} instances")
    print(
        f"curl -H {shlex.quote('Content-Type: ' + content_type(boundary))} -H 'Accept: application/dicom+json' "
        f"-H 'Expect:' --data-binary @{shlex.quote(str(output))} {shlex.quote(destination.root + '/studies')}"
    )
    return 0


def _instances(sources: list[Source], output: Path) -> Iterator[Instance]:
    """Yield each SOP instance once, in the order of the walk."""
    seen: set[str] = set()
    for found in walk((s.path for s in sources), within=sources, exclude=frozenset({str(output.absolute())})):
        for candidate in found:
            if not isinstance(candidate, Candidate):
                continue
            with suppress(HeadError, OSError):
                header = read_header(candidate.location, size_bytes=candidate.size_bytes, by_link=candidate.by_link)
                if header.sop_instance_uid not in seen:
                    seen.add(header.sop_instance_uid)
                    yield Instance(candidate, header)
