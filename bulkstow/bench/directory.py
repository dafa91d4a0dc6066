"""A load made of real files: their bytes, under UIDs of the run.

Owns which files of a directory are taken, and what is changed in them: SOP Instance, Series and Study Instance UID,
Instance Number, Study Description, and Patient's Name and ID and Accession Number, so that a copy is nobody's and can
be found and deleted again. All else stays: this makes no file anonymous. Files are read once, in the beginning, and
kept in memory; so there is a bound. Pixels are the same in every copy.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from bulkstow.bench.templates import PLACEHOLDERS, Gap, Template, cut
from bulkstow.bench.workload import Place
from bulkstow.errors import ConfigurationError
from bulkstow.wire.part10 import MEDIA_STORAGE_DIRECTORY, has_magic

FILES_MOST = 1_000
"""A few studies of CT or MR: enough for a mix of sizes to show."""

SIZE_MOST_BYTES = 512 * 2**20
"""In memory for as long as the bench runs: an eighth of what a small machine has."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """A file as a template, and the ranks of its study and series among those of the directory."""

    template: Template
    study: int
    series: int
    position: int


class Copies:
    """Files in their order, over and over, each time in studies and series of their own."""

    def __init__(self, files: Sequence[tuple[Template, str, str]]) -> None:
        studies: dict[str, int] = {}
        series: dict[str, int] = {}
        positions: dict[str, int] = {}
        self._copies: list[_Copy] = []
        for template, study_uid, series_uid in files:
            # In broken archives one series is found in two studies: a copy would be one in truth.
            of_series = f"{study_uid}/{series_uid}"
            position = positions[of_series] = positions.get(of_series, -1) + 1
            study_rank = studies.setdefault(study_uid, len(studies))
            self._copies.append(_Copy(template, study_rank, series.setdefault(of_series, len(series)), position))
        self._studies, self._series = len(studies), len(series)

    @property
    def templates(self) -> Sequence[Template]:
        """One a file."""
        return [copy.template for copy in self._copies]

    def place(self, number: int) -> Place:
        """Return where an instance belongs: files that shared a study or series share it again."""
        turn, at = divmod(number, len(self._copies))
        copy = self._copies[at]
        return Place(copy.template, turn * self._studies + copy.study, turn * self._series + copy.series, copy.position)


def copies(directory: Path, run_tag: str) -> Copies:
    """Return the directory's first FILES_MOST instances, by name, or what fits into SIZE_MOST_BYTES.

    What is no instance, or lacks a UID, is passed over; so is what is deflated: its UIDs cannot be replaced in place.

    Raises ConfigurationError where no instance is left.
    """
    files: list[tuple[Template, str, str]] = []
    left_bytes = SIZE_MOST_BYTES
    for path in _paths(directory):
        if not _is_dicom(path):
            continue
        size_bytes = path.stat().st_size
        if len(files) == FILES_MOST or size_bytes > left_bytes:
            break
        if (found := _template(path, run_tag)) is not None:
            files.append(found)
            left_bytes -= size_bytes
    if not files:
        raise ConfigurationError(
            f"--workload {directory}: expected DICOM files of {SIZE_MOST_BYTES >> 20} MiB at most, found none"
        )
    return Copies(files)


def _paths(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return has_magic(file.read(132))
    except OSError:
        return False


def _template(path: Path, run_tag: str) -> tuple[Template, str, str] | None:
    """Return a file as a template, with its study and series; None for what cannot be one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd in a user's file stays as it is
            dataset = dcmread(path)
            return _rewritten(dataset, run_tag)
    except Exception:  # noqa: BLE001 - on broken bytes pydicom raises what its codecs and containers raise
        return None


def _rewritten(dataset: FileDataset, run_tag: str) -> tuple[Template, str, str] | None:
    transfer_syntax_uid = UID(dataset.file_meta.TransferSyntaxUID)
    if transfer_syntax_uid.is_deflated or dataset.file_meta.MediaStorageSOPClassUID == MEDIA_STORAGE_DIRECTORY:
        return None
    study_uid, series_uid = str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID)
    sop_class_uid = str(dataset.SOPClassUID)
    dataset.SOPInstanceUID = PLACEHOLDERS[Gap.SOP_INSTANCE_UID]
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(PLACEHOLDERS[Gap.SOP_INSTANCE_UID])
    dataset.SeriesInstanceUID = PLACEHOLDERS[Gap.SERIES_UID]
    dataset.StudyInstanceUID = PLACEHOLDERS[Gap.STUDY_UID]
    dataset.InstanceNumber = PLACEHOLDERS[Gap.NUMBER]
    dataset.StudyDescription = run_tag
    dataset.PatientName = ""
    dataset.PatientID = f"{run_tag}.{PLACEHOLDERS[Gap.PATIENT]}"
    dataset.AccessionNumber = ""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    whole = file.getvalue()
    # Behind the last placeholder everything stays as it is.
    head_bytes = max(whole.rfind(text.encode("latin-1")) + len(text) for text in PLACEHOLDERS.values())
    template = cut(sop_class_uid, str(transfer_syntax_uid), whole[:head_bytes], rest=memoryview(whole)[head_bytes:])
    return template, study_uid, series_uid
