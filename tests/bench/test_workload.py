"""Generated loads, as pydicom and our own reader see them."""

from __future__ import annotations

import io
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.filereader import read_partial

from bulkstow.bench.workload import MIX, MIXED, PRESETS, STUDY_SHAPES, Generated, Workload, workload
from bulkstow.errors import ConfigurationError
from bulkstow.wire.part10 import read_head

RUN = "20260101-abc"
LOADS = {name: workload(name, RUN) for name in PRESETS}
SMALL = ["mr", "ct", "cr", "mg", "us", "sr"]

SHAPES = {
    "mr": (256, 256),
    "ct": (512, 512),
    "cr": (2000, 2000),
    "mg": (3328, 2704),
    "us": (60, 480, 640, 3),
}
SIZES_MB = {"mr": 0.13, "ct": 0.5, "cr": 8, "mg": 18, "us": 55, "wsi": 1000, "sr": 0.010}


def whole(generated: Generated) -> bytes:
    """Return the file."""
    return b"".join(generated.pieces())


def parsed(generated: Generated) -> FileDataset:
    """Return the file as pydicom reads it."""
    return dcmread(io.BytesIO(whole(generated)))


@pytest.mark.parametrize("name", SMALL)
def test_pydicom_reads_it(name: str) -> None:
    """It is a whole instance: its UIDs are those of its header, and it has all the pixels that it says."""
    generated = LOADS[name].instance(3, 17)
    dataset, header = parsed(generated), generated.instance.header
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == header.sop_instance_uid
    assert dataset.file_meta.MediaStorageSOPClassUID == dataset.SOPClassUID == header.sop_class_uid
    assert dataset.file_meta.TransferSyntaxUID == header.transfer_syntax_uid
    assert (dataset.StudyInstanceUID, dataset.SeriesInstanceUID) == (header.study_uid, header.series_uid)
    assert len(whole(generated)) == generated.instance.candidate.size_bytes
    if name in SHAPES:
        assert dataset.pixel_array.shape == SHAPES[name]


def test_a_slide_is_a_gigabyte_of_tiles() -> None:
    """Its head and its pieces say so; nothing of that size is in memory."""
    generated = LOADS["wsi"].instance(0, 0)
    dataset = read_partial(io.BytesIO(generated.head), stop_when=lambda tag, _vr, _length: tag == 0x7FE00010)
    pixel_bytes = dataset.NumberOfFrames * dataset.Rows * dataset.Columns * 2
    assert int.from_bytes(generated.head[-20:-16], "little") == pixel_bytes
    size_bytes = sum(len(piece) for piece in generated.pieces())
    assert size_bytes == generated.instance.candidate.size_bytes == len(generated.head) - 16 + pixel_bytes


@pytest.mark.parametrize("name", STUDY_SHAPES)
def test_a_preset_has_its_size(name: str) -> None:
    """Within a tenth of what its name promises."""
    assert LOADS[name].mean_bytes / 1e6 == pytest.approx(SIZES_MB[name], rel=0.1)


@pytest.mark.parametrize("name", PRESETS)
def test_our_own_reader_agrees(name: str) -> None:
    """The quick reader finds in the bytes what the header says."""
    for number in range(20):
        generated = LOADS[name].instance(1, number)
        assert read_head(generated.head, whole=False) == generated.instance.header


@pytest.mark.parametrize("name", SMALL)
def test_it_can_be_found_again_and_is_nobody(name: str) -> None:
    """Study Description is the run, Patient ID begins with it, and there is no name."""
    dataset = parsed(LOADS[name].instance(2, 5))
    assert dataset.StudyDescription == f"bulkstow-bench-{RUN}"
    assert dataset.PatientID.startswith(f"bulkstow-bench-{RUN}.00002.")
    assert len(dataset.PatientID) <= 64
    assert not dataset.PatientName
    assert int(dataset.InstanceNumber) == 5 % STUDY_SHAPES[name].per_series + 1


@given(st.sampled_from(PRESETS), st.lists(st.tuples(st.integers(0, 500), st.integers(0, 10**6)), unique=True))
@settings(deadline=None)
def test_no_two_instances_are_the_same(name: str, keys: list[tuple[int, int]]) -> None:
    """Another worker or number has another SOP Instance UID, in header and bytes; the same gives the same bytes."""
    made = [LOADS[name].instance(*key) for key in keys]
    assert len({one.instance.header.sop_instance_uid for one in made}) == len(keys)
    assert len({one.instance.candidate.location for one in made}) == len(keys)
    assert [one.head for one in made] == [workload_again(name).instance(*key).head for key in keys]


def workload_again(name: str) -> Workload:
    """Return a load made a second time, of the same run."""
    return AGAIN[name]


AGAIN = {name: workload(name, RUN) for name in PRESETS}


def test_two_loads_of_a_run_share_nothing() -> None:
    """The same worker and number of another preset is another instance, in another study."""
    headers = [load.instance(0, 0).instance.header for load in LOADS.values()]
    for uids in zip(*((h.study_uid, h.series_uid, h.sop_instance_uid) for h in headers), strict=True):
        assert len(set(uids)) == len(LOADS)


def test_pixels_differ() -> None:
    """Instances differ in their pixels, not in their UIDs alone; so do those of another run."""
    others = [LOADS["ct"].instance(0, 0), LOADS["ct"].instance(0, 1), LOADS["ct"].instance(1, 0)]
    others.append(workload("ct", "20260101-xyz").instance(0, 0))
    pixels = {parsed(one).PixelData for one in others}
    assert len(pixels) == 4
    assert len({some[1000:2000] for some in pixels}) == 4


def test_a_workers_instances_fill_series_and_studies() -> None:
    """CT has 250 instances a series and two series a study; workers share neither."""
    headers = [LOADS["ct"].instance(0, number).instance.header for number in range(1000)]
    assert [count for _, count in Counter(header.series_uid for header in headers).items()] == [250] * 4
    assert [count for _, count in Counter(header.study_uid for header in headers).items()] == [500] * 2
    other = LOADS["ct"].instance(1, 0).instance.header
    assert other.study_uid not in {header.study_uid for header in headers}


@given(st.integers(0, 10**9))
@settings(deadline=None)
def test_a_mix_keeps_its_weights(start: int) -> None:
    """Any 1000 instances in a row hold each modality as often as its weight; each has studies of its own."""
    load = LOADS[MIXED]
    headers = [load.instance(0, number).instance.header for number in range(start, start + 1000)]
    classes = {name: LOADS[name].instance(0, 0).instance.header.sop_class_uid for name in MIX}
    assert Counter(h.sop_class_uid for h in headers) == {classes[name]: weight for name, weight in MIX.items()}
    of_study: dict[str, set[str]] = {}
    for header in headers:
        of_study.setdefault(header.study_uid, set()).add(header.sop_class_uid)
    assert all(len(found) == 1 for found in of_study.values())


def test_a_mixs_series_fill_up_in_order() -> None:
    """Among a mix, too, a modality's instances come series by series, each with the numbers from 1 up."""
    load = LOADS[MIXED]
    ct = LOADS["ct"].instance(0, 0).instance.header.sop_class_uid
    made = (load.instance(0, number) for number in range(10_000))
    some = list(islice((one for one in made if one.instance.header.sop_class_uid == ct), 500))
    assert [int(parsed(one).InstanceNumber) for one in some[::50]] == [n % 250 + 1 for n in range(0, 500, 50)]
    assert len({one.instance.header.series_uid for one in some}) == 2
    assert len({one.instance.header.study_uid for one in some}) == 1


@pytest.mark.parametrize(
    ("name", "run_id", "compressibility", "says"),
    [
        ("pet", RUN, 0.0, "--workload 'pet': expected mr, ct"),
        ("ct", "", 0.0, "run ID '': expected 1 to 24"),
        ("ct", "a*", 0.0, "run ID 'a\\*': expected 1 to 24"),
        ("ct", "a" * 25, 0.0, "expected 1 to 24 letters"),
        ("ct", RUN, 1.5, "expected a share from 0 to 1"),
    ],
)
def test_what_is_no_load_is_refused(name: str, run_id: str, compressibility: float, says: str) -> None:
    """The message says what was expected."""
    with pytest.raises(ConfigurationError, match=says):
        workload(name, run_id, compressibility=compressibility)


def test_compressible_pixels_are_valid_too() -> None:
    """A setting for the pixels leaves the rest as it is."""
    dataset = parsed(workload("ct", RUN, compressibility=0.5).instance(0, 1))
    assert 0.4 < (dataset.pixel_array == 0).mean() < 0.6


@pytest.mark.parametrize(("name", "instances"), [("ct", 500), ("sr", 1), ("mg", 4), ("us", 10), ("cr", 2)])
def test_a_study_has_so_many_instances(name: str, instances: int) -> None:
    """A worker's first thousand instances fall into as many studies."""
    load = workload(name, "study")
    assert len({load.instance(0, number).instance.header.study_uid for number in range(1000)}) == 1000 / instances
