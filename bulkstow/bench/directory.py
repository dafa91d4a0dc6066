"""A load made of real files: their bytes, under UIDs of the run.

Owns which files of a directory are used, and which elements are replaced: SOP Instance, Series and Study Instance UID,
Instance Number, Study Description, and Patient's Name and ID and Accession Number, so that a copy names no patient and
can be found and deleted again. All other elements stay: a copy is not anonymous. Files are read once, at the beginning,
and kept in memory, within a limit. Pixels are the same in every copy.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID

from bulkstow.bench.templates import PLACEHOLDERS, Gap, InstancePosition, Template, cut
from bulkstow.errors import ConfigurationError, HeadError
from bulkstow.model import Candidate, Header
from bulkstow.source.heads import read_instance
from bulkstow.wire.part10 import DEFLATED

FILES_MOST = 1_000
"""A few studies of CT or MR: enough for a mix of sizes."""

SIZE_MOST_BYTES = 512 * 2**20
"""In memory for as long as the measurement runs: an eighth of a small machine's."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """A file as a template, and the ranks of its study and series among those of the directory."""

    template: Template
    study: int
    series: int
    in_series: int


class FileOrder:
    """Files in their order, again and again, each time in new studies and series."""

    def __init__(self, files: Sequence[tuple[Template, Header]]) -> None:
        studies: dict[str, int] = {}
        series: dict[tuple[str, str], int] = {}
        counts: dict[tuple[str, str], int] = {}
        self._copies: list[_Copy] = []
        for template, header in files:
            # Some archives have one series in two studies: its copy would be a single series.
            of_series = (header.study_uid, header.series_uid)
            counts[of_series] = counts.get(of_series, 0) + 1
            study = studies.setdefault(header.study_uid, len(studies))
            rank = series.setdefault(of_series, len(series))
            self._copies.append(_Copy(template, study, rank, counts[of_series] - 1))
        self._studies, self._series = len(studies), len(series)

    @property
    def templates(self) -> Sequence[Template]:
        """One for each file."""
        return [copy.template for copy in self._copies]

    def position(self, number: int) -> InstancePosition:
        """Return the position of an instance: files that shared a study or series share one again."""
        turn, at = divmod(number, len(self._copies))
        copy = self._copies[at]
        study, series = turn * self._studies + copy.study, turn * self._series + copy.series
        return InstancePosition(copy.template, study, series, copy.in_series)


def copies(directory: Path, run_tag: str) -> FileOrder:
    """Return the directory's first FILES_MOST instances, by name, or as many as fit into SIZE_MOST_BYTES.

    Other files are ignored, and so are deflated ones: their UIDs cannot be replaced in place.

    Raises ConfigurationError where no instance is left.
    """
    files: list[tuple[Template, Header]] = []
    left_bytes = SIZE_MOST_BYTES
    for path in _paths(directory):
        header = _header(path)
        if header is None:
            continue
        size_bytes = path.stat().st_size
        if len(files) == FILES_MOST or size_bytes > left_bytes:
            break
        if (template := _template(path, size_bytes, header, run_tag)) is not None:
            files.append((template, header))
            left_bytes -= size_bytes
    if not files:
        raise ConfigurationError(
            f"--workload {directory}: expected DICOM files of {SIZE_MOST_BYTES >> 20} MiB at most, found none"
        )
    return FileOrder(files)


def _paths(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())


def _header(path: Path) -> Header | None:
    """Return the header of an instance, read as `upload` reads it; None for other files."""
    try:
        header = read_instance(Candidate(str(path), path.stat().st_size, 0, by_link=True)).header
    except (HeadError, OSError):
        return None
    return None if header.transfer_syntax_uid in DEFLATED else header


def _template(path: Path, size_bytes: int, header: Header, run_tag: str) -> Template | None:
    """Return a file as a template; None where pydicom cannot rewrite it."""
    uid = UID(PLACEHOLDERS[Gap.SOP_INSTANCE_UID])
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a user's file may hold odd values, which stay
            dataset = dcmread(io.BytesIO(file.read(size_bytes)))
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
            dataset.SeriesInstanceUID = PLACEHOLDERS[Gap.SERIES_UID]
            dataset.StudyInstanceUID = PLACEHOLDERS[Gap.STUDY_UID]
            dataset.InstanceNumber = PLACEHOLDERS[Gap.NUMBER]
            dataset.StudyDescription = run_tag
            dataset.PatientName = dataset.AccessionNumber = ""
            dataset.PatientID = f"{run_tag}.{PLACEHOLDERS[Gap.PATIENT]}"
            written = io.BytesIO()
            dataset.save_as(written, enforce_file_format=True)
    except Exception:  # noqa: BLE001 - on broken bytes pydicom raises what its codecs and containers raise
        return None
    whole = written.getvalue()
    # Behind the last placeholder everything stays as it is.
    head_bytes = max(whole.rfind(text.encode("latin-1")) + len(text) for text in PLACEHOLDERS.values())
    head, rest = whole[:head_bytes], memoryview(whole)[head_bytes:]
    return cut(header.sop_class_uid, header.transfer_syntax_uid, head, rest=rest)
