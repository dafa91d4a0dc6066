"""Archives to measure with, made on demand and kept for the next time.

Owns the files and the ready-made request bodies below one directory. Files are synthetic, valid DICOM, each with UIDs
of its own; sizes are those of the issue's archives. A corpus is complete or not there: it gets its name last.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bulkstow.model import Header
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN, SECONDARY_CAPTURE, part10

ROOT_UID = "2.25.20260707"
WARM_BYTES = 2**20
SPARE_BYTES = 2 * 10**9
"""Left free on the disk beside what a corpus takes: Orthanc's storage, ledgers."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of archive."""

    name: str
    files: int
    """At scale 1, as the issue has it."""
    rows: int
    columns: int
    per_study: int

    @property
    def file_bytes(self) -> int:
        """About how large a file is."""
        return self.rows * self.columns + 1024


CT = Kind("ct", files=8_000, rows=512, columns=1024, per_study=200)
MR = Kind("mr", files=20_000, rows=128, columns=272, per_study=400)
STUDIES = Kind("studies", files=20_000, rows=128, columns=272, per_study=100)
"""MR slices again: 3.6 MB a study, less than what a request may hold."""
TINY = Kind("tiny", files=200_000, rows=16, columns=16, per_study=1_000)
FAR = Kind("far", files=5_760, rows=512, columns=1024, per_study=60)
"""For long links: 3 GB of slices. A study is two requests, with those of 63 others between them, so that none waits for
another of its study."""
SMALL = Kind("small", files=24_000, rows=16, columns=16, per_study=10)
"""Files of 1 KB, of which a single one is a run that consists of its start."""
GIANT = Kind("giant", files=1, rows=49_152, columns=62_500, per_study=1)
"""3.07 GB: rows and columns are numbers of 16 bits."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files below a directory."""

    directory: Path
    files: int
    size_bytes: int

    def warm(self) -> None:
        """Read every file once, so that all peers find it in the page cache."""
        buffer = bytearray(WARM_BYTES)
        for path in self._paths():
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path for each of 200,000 files is slow
                while file.readinto(buffer):
                    pass

    def body(self) -> ReadyBody:
        """Return the one body that holds all of it, as `bulkstow body` writes it, and warm it."""
        path = self.directory.with_suffix(".body")
        kept = path.with_suffix(".json")
        if not kept.exists():
            make_room(path.parent, self.size_bytes)
            command = [sys.executable, "-m", "bulkstow", "body", str(self.directory), "--output", str(path)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            words = shlex.split(printed.splitlines()[-1])
            headers = [word for word in words if word.startswith("Content-Type: ")]
            kept.write_text(json.dumps({"content_type": headers[0].removeprefix("Content-Type: ")}))
        Corpus(path, 1, 0).warm()
        return ReadyBody(path, json.loads(kept.read_text())["content_type"])

    def _paths(self) -> Iterator[str]:
        if self.directory.is_file():
            yield str(self.directory)
        for parent, _, names in os.walk(self.directory):
            yield from (f"{parent}/{name}" for name in names)


@dataclass(frozen=True, slots=True)
class ReadyBody:
    """A request's body on disk, and the Content-Type that belongs to it."""

    path: Path
    content_type: str


def corpus(kind: Kind, top: Path, scale: float = 1.0) -> Corpus:
    """Return so much of an archive of this kind, making it below `top` if it is not there, and warm it."""
    files = max(1, round(kind.files * scale))
    directory = top / f"{kind.name}-{files}"
    if not directory.exists():
        make_room(top, files * max(kind.file_bytes, 4096))
        unfinished = directory.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        for number in range(files):
            _write(kind, unfinished, number)
        unfinished.rename(directory)
    made = Corpus(directory, files, files * kind.file_bytes)
    made.warm()
    return made


def make_room(directory: Path, wanted_bytes: int) -> None:
    """Make the directory; end here where the disk under it has no room for so much."""
    directory.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < wanted_bytes + SPARE_BYTES:
        wanted_gb = (wanted_bytes + SPARE_BYTES) / 1e9
        sys.exit(f"{directory} has {free_bytes / 1e9:.1f} GB free, {wanted_gb:.1f} are wanted: --corpus or --scale")


def path_of(kind: Kind, number: int) -> str:
    """Return the path of a file below an archive's directory, by its number from 0."""
    return f"study{number // kind.per_study:04}/IM{number:06}.dcm"


def header_of(kind: Kind, number: int) -> Header:
    """Return the UIDs of a file, by its number from 0."""
    study_uid = f"{ROOT_UID}.{kind.files}.{number // kind.per_study + 1}"
    return Header(
        study_uid, f"{study_uid}.1", f"{study_uid}.1.{number + 1}", SECONDARY_CAPTURE, EXPLICIT_VR_LITTLE_ENDIAN
    )


def _write(kind: Kind, top: Path, number: int) -> None:
    path = top / path_of(kind, number)
    if number % kind.per_study == 0:
        path.parent.mkdir(parents=True)
    header = header_of(kind, number)
    if kind is GIANT:
        _write_giant(header, path)
    else:
        path.write_bytes(part10(header, rows=kind.rows, columns=kind.columns, number=number))


def _write_giant(header: Header, path: Path) -> None:
    """Write an image larger than memory allows: a small one's head with other numbers, and pixels piece by piece."""
    small = part10(header, rows=16, columns=16)
    head = small[: -16 * 16]
    for tag, value in ((b"\x28\0\x10\0US\2\0", GIANT.rows), (b"\x28\0\x11\0US\2\0", GIANT.columns)):
        at = head.index(tag) + len(tag)
        head = head[:at] + value.to_bytes(2, "little") + head[at + 2 :]
    size_bytes = GIANT.rows * GIANT.columns
    with path.open("wb") as file:
        file.write(head[:-4] + size_bytes.to_bytes(4, "little"))
        piece = os.urandom(GIANT.columns * 16)
        for _ in range(GIANT.rows // 16):
            file.write(piece)
