"""Archives for tests: synthetic instances as files and as values."""

from __future__ import annotations

import os
from pathlib import Path

from bulkstow.model import Batch, Candidate, Header, Instance
from bulkstow.ports import Source
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, part10


def header(number: int, *, study: int = 1) -> Header:
    """Return the UIDs of instance `number` of a study with one series."""
    return Header(
        f"2.25.{study}", f"2.25.{study}.1", f"2.25.{study}.1.{number}", SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN
    )


def candidate(path: Path) -> Candidate:
    """Return what the scan says of a file."""
    status = path.stat()
    return Candidate(os.fspath(path), status.st_size, status.st_mtime_ns)


def write_instance(directory: Path, number: int, *, study: int = 1, rows: int = 16, columns: int = 16) -> Instance:
    """Write a synthetic instance and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"IM{study:03}{number:06}"
    path.write_bytes(part10(header(number, study=study), rows=rows, columns=columns, number=number))
    return Instance(candidate(path), header(number, study=study))


def instance_in(source: Source, candidate: Candidate) -> Instance:
    """Return the instance in a file of a source."""
    instance = source.read_head(candidate)
    assert isinstance(instance, Instance)
    return instance


def write_batch(directory: Path, count: int, *, study: int = 1, rows: int = 16, columns: int = 16) -> Batch:
    """Write instances 1 to `count` and return them as a batch."""
    numbers = range(1, count + 1)
    instances = (write_instance(directory, n, study=study, rows=rows, columns=columns) for n in numbers)
    return Batch(1, tuple(instances))
