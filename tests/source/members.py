"""Draws the members of a container as the pipeline does, and reads their content."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from bulkstow.model import Candidate, FileResult, Instance
from bulkstow.ports import Found, Members, Room, SegmentReader
from bulkstow.source.files import FileSource
from bulkstow.source.spool import Spool
from tests.archives import header


@dataclass
class Drawn:
    """The members and outcomes that were drawn from a container."""

    candidates: dict[str, Candidate] = field(default_factory=dict)
    """By the part of the location after that of the container."""
    results: dict[str, FileResult] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    """By location, as far as a test has read them."""
    most_used_bytes: int = 0
    """The most room that was taken in the spool."""
    lists: list[int] = field(default_factory=list)
    """The length of each list."""

    @property
    def reasons(self) -> dict[str, str]:
        """Outcome and reason of each result."""
        return {name: f"{result.outcome}: {result.reason}" for name, result in self.results.items()}


async def draw(members: Members, spool: Spool, container: Candidate, *, releases: bool = False) -> Drawn:
    """Draw all members; with `releases` the room of each list is freed at once."""
    drawn = Drawn()
    for step in members:
        drawn.most_used_bytes = max(drawn.most_used_bytes, spool.used_bytes)
        if isinstance(step, Room):
            await spool.reserve(step.size_bytes)
            continue
        drawn.lists.append(len(step))
        for found in step:
            _add(drawn, found, container)
            if releases and isinstance(found, Candidate) and found.extent is not None:
                spool.release(found.extent)
    return drawn


def _add(drawn: Drawn, found: Found, container: Candidate) -> None:
    candidate = found.candidate if isinstance(found, FileResult) else found
    below = candidate.location.removeprefix(container.location)
    name = below.removeprefix("!/") or below  # damage may leave a member without a name
    assert name not in drawn.results
    assert name not in drawn.candidates
    if isinstance(found, FileResult):
        drawn.results[name] = found
    else:
        drawn.candidates[name] = found


def content_of(candidate: Candidate) -> bytes:
    """Return the content of a member, as a sender reads it."""
    return content_from(FileSource(), Instance(candidate, header(1)))


def content_from(source: FileSource, instance: Instance) -> bytes:
    """Return the content of an instance of a source, up to 100,000 bytes."""
    view = memoryview(bytearray(max(instance.size_bytes + 1, 100_000)))
    reader = SegmentReader(source.open(instance))
    size_bytes = reader.read_into(view)
    reader.close()
    return bytes(view[:size_bytes])


def found(path: Path) -> Candidate:
    """Return the candidate of a file, as a scan finds it."""
    status = path.stat()
    return Candidate(os.fspath(path), status.st_size, status.st_mtime_ns, by_link=False)
