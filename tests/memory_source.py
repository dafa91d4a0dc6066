"""A source that holds its instances in memory, as an archive or an object store would deliver them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from bulkstow.errors import HeadError, InstanceChanged
from bulkstow.model import Candidate, FileResult, Header, Instance
from bulkstow.ports import Source
from bulkstow.wire.part10 import read_head

PIECE_BYTES = 1000
"""The size of a segment: the last one of an instance is shorter."""


class MemorySource(Source):
    """Contents by name; whoever changes one gives it another version."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.versions = dict.fromkeys(contents, "1")
        self.opened: list[str] = []
        """The names of what was opened to be sent or compared."""

    def scan(self) -> Iterator[Sequence[Candidate | FileResult]]:
        """Yield one list with everything."""
        yield [self.candidate(name) for name in self.contents]

    def candidate(self, name: str) -> Candidate:
        """Return what a scan yields for a name."""
        return Candidate(f"memory:{name}", len(self.contents[name]), self.versions[name])

    def read_head(self, candidate: Candidate) -> Instance:
        """Read the whole content."""
        header = read_head(self.contents[_name(candidate)], whole=True)
        if not isinstance(header, Header):
            raise HeadError(f"no header: {header}")
        return Instance(candidate, header)

    def open(self, instance: Instance) -> Generator[memoryview]:
        """Yield the content in pieces."""
        if change := self.verify(instance):
            raise InstanceChanged(change)
        name = _name(instance.candidate)
        self.opened.append(name)
        content = memoryview(self.contents[name])
        for start in range(0, len(content), PIECE_BYTES):
            yield content[start : start + PIECE_BYTES]

    def verify(self, instance: Instance) -> str:
        """Compare the versions."""
        found = self.versions.get(_name(instance.candidate))
        return "" if found == instance.candidate.version else f"version {instance.candidate.version!r}, now {found!r}"


def _name(candidate: Candidate) -> str:
    return candidate.location.removeprefix("memory:")
