"""Members of archives that were found again by their locations."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bulkstow.errors import DamagedHead, InstanceChanged
from bulkstow.model import Candidate
from bulkstow.ports import Segment
from bulkstow.source.extents import change_of, open_bytes, open_extent
from bulkstow.source.windows import ByteReader

Blocks = Iterator[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Located:
    """A member of an archive, or the content of a compressed file."""

    candidate: Candidate
    """As it is now, with its extent if it can be read in place."""
    archive: Candidate | None = None
    """The archive, if the member was found again."""
    read: Callable[[ByteReader], Blocks] | None = None
    """Reads the content from the archive's bytes, if it cannot be read in place. Raises DamagedHead and OSError."""

    def open(self) -> Generator[Segment]:
        """Yield the content. Raises InstanceChanged if it cannot be read to its end."""
        if self.candidate.extent is not None:
            yield from open_extent(self.candidate.extent, by_link=bool(self.candidate.by_link))
        elif self.archive is not None and self.read is not None:
            try:
                with opened(self.archive) as data:
                    for block in self.read(data):
                        yield memoryview(block)
            except DamagedHead as error:
                raise InstanceChanged(str(error)) from None
            except OSError as error:
                raise InstanceChanged(f"cannot be read: {error.strerror or error}") from error

    def change_since(self, candidate: Candidate) -> str:
        """Return how the member has changed since the scan that found it; empty if it has not. Raises OSError."""
        if self.archive is None:
            return "" if self.candidate.extent is None else change_of(self.candidate.extent, _stat(self.candidate))
        return "" if self.candidate == candidate else "changed: its archive has other content at its place"

    @property
    def identity(self) -> Hashable:
        """The same for two names of the same content. Raises OSError."""
        status = _stat(self.candidate if self.archive is None else self.archive)
        extent = self.candidate.extent
        return status.st_dev, status.st_ino, self.candidate.location if extent is None else extent.offset


def _stat(candidate: Candidate) -> os.stat_result:
    return os.stat(candidate.location if candidate.extent is None else candidate.extent.path)  # noqa: PTH116


@contextmanager
def opened(candidate: Candidate) -> Iterator[ByteReader]:
    """Open the content of a candidate for reading at any offset. Raises DamagedHead and OSError."""
    data = open_bytes(candidate)
    try:
        yield data
    finally:
        os.close(data.descriptor)
