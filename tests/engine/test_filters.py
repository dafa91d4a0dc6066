"""Filters of an upload: the files sent, the counts, and files that are left out without any effect on others."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

import bulkstow
from bulkstow.config import DestinationSettings, SelectionSettings, UploadSettings
from bulkstow.days import parse_days
from bulkstow.engine.job import Job
from bulkstow.engine.local import run
from bulkstow.ledger import read_entries
from bulkstow.model import Outcome, Summary
from bulkstow.progress.closing import closing
from bulkstow.progress.display import display
from bulkstow.progress.tally import Tally
from bulkstow.quantities import Shard
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DiscardStorage
from tests.archives import write_instance

pytestmark = pytest.mark.anyio

MODALITIES = ("CT", "MR", "CR", None, "")
DATES = ("20191231", "20200101", "20220615", "20211399", None, "")
CLASSES = (CTImageStorage, MRImageStorage)


def write(path: Path, number: int, *, modality: str | None, study_date: str | None, sop_class: str) -> None:
    """Write an instance of a study of its own, in implicit VR if its number is odd."""
    made = pydicom.Dataset()
    made.SOPClassUID, made.SOPInstanceUID = sop_class, f"2.25.{number}.1.1"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"2.25.{number}", f"2.25.{number}.1"
    if study_date is not None:
        made.add(pydicom.DataElement(0x00080020, "DA", study_date, validation_mode=pydicom.config.IGNORE))
    if modality is not None:
        made.Modality = modality
    made.PatientComments = "x" * (number % 7 * 100)
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if number % 2 else ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an archive of all combinations of modality, study date and SOP class, in random order."""
    root = tmp_path_factory.mktemp("filters") / "archive"
    kinds = [(modality, day, sop_class) for modality in MODALITIES for day in DATES for sop_class in CLASSES]
    random.Random(1).shuffle(kinds)
    for number, (modality, day, sop_class) in enumerate(kinds, 1):
        write(root / f"{number % 5}" / f"{number}", number, modality=modality, study_date=day, sop_class=sop_class)
    return root


@pytest.fixture
def storage() -> DiscardStorage:
    """Give a server's memory."""
    return DiscardStorage(remember=True)


@pytest.fixture
async def url(storage: DiscardStorage) -> AsyncIterator[str]:
    """Give a server."""
    async with serving(Origin(storage)) as url:
        yield url


async def upload(
    url: str, source: Path, ledger: Path, selection: SelectionSettings, **changes: Any
) -> tuple[Summary, list[str]]:
    """Upload, and return the summary and the lines of the closing text."""
    settings = UploadSettings(ledger=ledger, **changes)
    job = Job((str(source),), DestinationSettings(url=url), settings, selection=selection)
    tally = Tally()
    summary = await run(job, tally, display("none"))
    return summary, closing(summary, tally, ledger).splitlines()


def selected(root: Path, is_selected: Callable[[pydicom.Dataset], bool]) -> set[str]:
    """Return the SOP Instance UIDs of the files that a function of their data sets selects."""
    read = (pydicom.dcmread(path) for path in root.rglob("*") if path.is_file())
    return {dataset.SOPInstanceUID for dataset in read if is_selected(dataset)}


def day_of(dataset: pydicom.Dataset) -> str:
    """Return the study date as YYYYMMDD; empty if there is no valid one."""
    return str(dataset.get("StudyDate") or "").replace("20211399", "")


CASES: dict[str, tuple[dict[str, Any], Callable[[pydicom.Dataset], bool]]] = {
    "modality": ({"modality": ("CT", "MR")}, lambda d: d.get("Modality") in ("CT", "MR")),
    "no modality": ({"modality": ("none",)}, lambda d: not d.get("Modality")),
    "from a day on": ({"study_date": parse_days("2020-01-01..")}, lambda d: day_of(d) >= "20200101"),
    "until a day": ({"study_date": parse_days("..2019")}, lambda d: "" < day_of(d) <= "20191231"),
    "no date": ({"study_date": parse_days("none")}, lambda d: not day_of(d)),
    "class": ({"sop_class": ("CTImageStorage",)}, lambda d: d.SOPClassUID == CTImageStorage),
    "all of them": (
        {"modality": ("CT",), "study_date": parse_days("2020-01-01..2021-12-31"), "sop_class": (MRImageStorage,)},
        lambda d: d.get("Modality") == "CT" and day_of(d)[:4] in ("2020", "2021") and d.SOPClassUID == MRImageStorage,
    ),
    "as in the issue": (
        {"modality": ("CT",), "study_date": parse_days("2020-01-01..")},
        lambda d: d.get("Modality") == "CT" and day_of(d) >= "20200101",
    ),
    "nothing": ({"modality": ("US",)}, lambda d: False),
}


@pytest.mark.parametrize("case", CASES)
async def test_exactly_what_pydicom_selects_is_sent(
    mixed: Path, tmp_path: Path, url: str, storage: DiscardStorage, case: str
) -> None:
    """Every other file is counted, and has no outcome; the same command again leaves out the same files."""
    filters, is_selected = CASES[case]
    expected, everything = selected(mixed, is_selected), len(MODALITIES) * len(DATES) * len(CLASSES)
    for _ in range(2):
        summary, _ = await upload(url, mixed, tmp_path / "l.db", SelectionSettings(**filters))
        assert set(storage.digests()) == expected
        assert summary.outcomes == dict.fromkeys(Outcome, 0) | {Outcome.STORED: len(expected)}
        assert sum(summary.left_out.values()) == everything - len(expected)
        assert (summary.exit_status, len(list(read_entries(tmp_path / "l.db")))) == (0, len(expected))


async def test_studies_of_a_list_are_sent(mixed: Path, tmp_path: Path, url: str, storage: DiscardStorage) -> None:
    """Every instance of the listed studies, and of no other."""
    (tmp_path / "studies").write_text("# two\n2.25.7\n2.25.11\n2.25.999\n")
    summary, _ = await upload(url, mixed, tmp_path / "l.db", SelectionSettings(studies=tmp_path / "studies"))
    assert set(storage.digests()) == {"2.25.7.1.1", "2.25.11.1.1"}
    assert summary.left_out == {"studies": 58}


async def test_paths_sizes_and_ages_select(tmp_path: Path, url: str, storage: DiscardStorage) -> None:
    """Each file that is left out is counted under the first filter that leaves it out."""
    archive = tmp_path / "archive"
    for number, name in enumerate(["a", "a", "b", "old", "a/old", "c"], 1):
        instance = write_instance(archive / name, number)
        os.utime(instance.candidate.location, (1_000_000, 1_000_000))
    write_instance(archive / "large", 7, rows=200, columns=200)
    os.utime(archive / "large" / "IM001000007", (1_000_000, 1_000_000))
    write_instance(archive / "b", 8)
    in_future = archive / "c" / "IM001000006"
    os.utime(in_future, (time.time() + 3600, time.time() + 3600))
    filters = SelectionSettings(
        include=("a", "b/*", "c/", "large"), exclude=("old", "*02"), min_age_s=60.0, max_size_bytes=20_000
    )
    summary, lines = await upload(url, archive, tmp_path / "l.db", filters)
    assert set(storage.digests()) == {"2.25.1.1.1", "2.25.1.1.3"}
    assert summary.left_out == {"exclude": 1, "min-age": 2, "max-size": 1}
    assert summary.pruned_directories == 2
    assert "left out 4 files: 2 by --min-age, 1 by --exclude, 1 by --max-size" in lines
    assert "2 directories not entered because of --exclude" in lines


async def test_a_source_of_which_nothing_is_selected_is_not_empty(mixed: Path, tmp_path: Path, url: str) -> None:
    """That is no failure, but the closing text says it."""
    for filters in (SelectionSettings(exclude=("archive",)), SelectionSettings(include=("*.dcm",))):
        summary, lines = await upload(url, mixed, tmp_path / "l.db", filters)
        assert (summary.exit_status, summary.empty_sources, summary.requests) == (0, (), 0)
        assert lines[0] == "nothing was selected: the filters leave out every file"


async def test_what_has_no_head_keeps_its_outcome(tmp_path: Path, url: str) -> None:
    """An unreadable file may be a selected instance, so it is a failure; a file that is not DICOM is skipped."""
    archive = tmp_path / "archive"
    write_instance(archive, 1)
    (archive / "damaged").write_bytes((archive / "IM001000001").read_bytes()[:200])
    (archive / "text").write_text("no DICOM")
    (archive / "nowhere.dcm").symlink_to("gone")
    filters = SelectionSettings(modality=("CT",), include=("*",))
    summary, _ = await upload(url, archive, tmp_path / "l.db", filters)
    counts = {outcome: count for outcome, count in summary.outcomes.items() if count}
    assert counts == {Outcome.UNREADABLE: 2, Outcome.SKIPPED: 1}
    assert (summary.left_out, summary.exit_status) == ({"modality": 1}, 1)
    summary, _ = await upload(
        url, archive, tmp_path / "l.db", SelectionSettings(exclude=("nowhere*", "damaged", "te*"))
    )
    assert (summary.left_out, summary.exit_status) == ({"exclude": 3}, 0)


async def test_failures_of_an_earlier_run_that_are_left_out_do_not_count(tmp_path: Path, url: str) -> None:
    """A run is judged by the files that it selects: neither successes nor failures of others belong to it."""
    archive = tmp_path / "archive"
    write(archive / "ct", 1, modality="CT", study_date="20200101", sop_class=CTImageStorage)
    write(archive / "mr", 2, modality="MR", study_date="20200101", sop_class=MRImageStorage)
    write(archive / "mr-2", 3, modality="MR", study_date="20200101", sop_class=MRImageStorage)
    other = pydicom.dcmread(archive / "mr")
    other.PatientID = "another"
    other.save_as(archive / "mr-other")  # the same SOP Instance UID
    before, _ = await upload(url, archive, tmp_path / "l.db", SelectionSettings())
    assert (before.outcomes[Outcome.CONFLICT], before.exit_status) == (1, 1)
    after, lines = await upload(url, archive, tmp_path / "l.db", SelectionSettings(modality=("CT",)))
    assert (after.outcomes[Outcome.CONFLICT], after.outcomes[Outcome.STORED], after.settled_before) == (0, 1, 1)
    assert (after.left_out, after.exit_status) == ({"modality": 3}, 0)
    assert "left out 3 files: 3 by --modality" in lines
    again, _ = await upload(url, archive, tmp_path / "l.db", SelectionSettings(exclude=("ct", "mr-other")))
    assert (again.settled_before, again.left_out, again.exit_status) == (2, {"exclude": 2}, 0)


async def test_a_shard_is_chosen_before_the_filters(mixed: Path, tmp_path: Path, url: str) -> None:
    """The files that the shards leave out are together those that the whole leaves out."""
    filters = SelectionSettings(modality=("CT",), exclude=("3",))
    shards = [await upload(url, mixed, tmp_path / f"{n}.db", filters, shard=Shard(n, 3)) for n in (1, 2, 3)]
    whole, _ = await upload(url, mixed, tmp_path / "l.db", filters)
    assert sum(summary.left_out.get("modality", 0) for summary, _ in shards) == whole.left_out["modality"]
    assert sum(summary.outcomes[Outcome.STORED] for summary, _ in shards) == whole.outcomes[Outcome.STORED] > 0
    assert {summary.pruned_directories for summary, _ in [*shards, (whole, [])]} == {1}  # no shard enters it


async def test_the_library_takes_filters(mixed: Path, tmp_path: Path, url: str, storage: DiscardStorage) -> None:
    """`bulkstow.upload` has them as `selection`, and refuses anything else."""
    settings = UploadSettings(ledger=tmp_path / "l.db")
    filters = bulkstow.SelectionSettings(modality=("CT",))
    summary = await bulkstow.upload(mixed, url, settings, selection=filters)
    assert set(storage.digests()) == selected(mixed, lambda d: d.get("Modality") == "CT")
    assert summary.left_out == {"modality": 48}
    with pytest.raises(bulkstow.ConfigurationError, match=r"expected bulkstow\.SelectionSettings, not a str"):
        await bulkstow.upload(mixed, url, settings, selection="CT")  # type: ignore[arg-type]
