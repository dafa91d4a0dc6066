"""The origin as dicomweb-client, a client of others, sees it: every request that it makes of a retrieving service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import pytest
from anyio import to_thread
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, config, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage

pytestmark = pytest.mark.anyio

T = TypeVar("T")

NAMES = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "examples_ybr_color.dcm", "SC_rgb_rle_2frame.dcm")
"""Files of pydicom: native, compressed, of several frames, of several patients."""


def files() -> dict[str, bytes]:
    """Return the files by their SOP Instance UID."""
    paths = [Path(str(get_testdata_file(name))) for name in NAMES]
    return {str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID): path.read_bytes() for path in paths}


FILES = files()
SETS = {uid: dcmread(BytesIO(file)) for uid, file in FILES.items()}


@pytest.fixture
async def client(tmp_path: Path) -> Any:
    """Give a client of an origin that has the files, stored by this client."""
    async with serving(Origin(DirectoryStorage(tmp_path / "root"))) as url:
        client = DICOMwebClient(url)
        client.set_http_retry_params(retry=False)
        await to_thread.run_sync(client.store_instances, list(SETS.values()))
        yield client


async def asked(request: Callable[..., T], *args: Any, **keywords: Any) -> T:
    """Return the result of a request; the client blocks."""
    return await to_thread.run_sync(lambda: request(*args, **keywords))


def uids(dataset: Dataset) -> tuple[str, str, str]:
    """Return the UIDs of study, series and instance."""
    return dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID


async def test_it_finds_everything(client: DICOMwebClient) -> None:
    """Studies, series and instances, also page by page."""
    for search in (client.search_for_studies, client.search_for_series, client.search_for_instances):
        found = await asked(search, get_remaining=True)
        assert len(found) == len(NAMES)
    study, series, instance = uids(SETS[next(iter(SETS))])
    (item,) = await asked(client.search_for_instances, study, series)
    assert item["00080018"]["Value"] == [instance]
    assert await asked(client.search_for_series, "1.2.3") == []


@pytest.mark.parametrize("accept", [None, (("application/dicom", "*"),)])
async def test_it_retrieves_instances_series_and_studies(client: DICOMwebClient, accept: Any) -> None:
    """Each data set equals the stored one, in memory or streamed."""
    for dataset in SETS.values():
        study, series, instance = uids(dataset)
        assert await asked(client.retrieve_instance, study, series, instance, media_types=accept) == dataset
        assert await asked(client.retrieve_series, study, series, media_types=accept) == [dataset]
        assert await asked(client.retrieve_study, study, media_types=accept) == [dataset]
        assert await asked(lambda study: list(client.iter_study(study, media_types=accept)), study) == [dataset]
        assert await asked(lambda a, b: list(client.iter_series(a, b, media_types=accept)), study, series) == [dataset]


async def test_it_reads_metadata_with_bulk_data_by_uri(client: DICOMwebClient) -> None:
    """Read by pydicom with the values of its URIs, metadata equals the data set; it contains no pixel data."""
    for dataset in SETS.values():
        study, series, instance = uids(dataset)
        metadata = await asked(client.retrieve_instance_metadata, study, series, instance)
        assert await asked(client.retrieve_series_metadata, study, series) == [metadata]
        assert await asked(client.retrieve_study_metadata, study) == [metadata]
        assert set(metadata["7FE00010"]) == {"vr", "BulkDataURI"}
        read = await asked(whole, client, metadata)
        assert values(read) == values(dataset)


def values(dataset: Dataset) -> dict[int, Any]:
    """Return values by tag, of items too, but for group lengths and the character set."""
    return {
        int(element.tag): [values(item) for item in element.value]
        if element.VR == "SQ"
        else element.value.encode()
        if element.VR == "UT" and isinstance(element.value, str)  # long texts are bulk data: bytes
        else element.value
        for element in dataset
        if element.tag.element and element.tag != 0x00080005
    }


def whole(client: DICOMwebClient, metadata: dict[str, dict[str, Any]]) -> Dataset:
    """Return the data set of metadata and its bulk data."""

    def bulk(_tag: str, _vr: str, uri: str) -> bytes:
        return b"".join(client.retrieve_bulkdata(uri))

    with config.disable_value_validation():
        return Dataset.from_json(metadata, bulk)


def frames_of(dataset: Dataset) -> Iterator[bytes]:
    """Give the frames of a data set as they are kept."""
    count = int(dataset.get("NumberOfFrames", 1))
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from generate_frames(dataset.PixelData, number_of_frames=count)
    else:
        size_bytes = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
        yield from (dataset.PixelData[n * size_bytes : (n + 1) * size_bytes] for n in range(count))


async def test_it_retrieves_frames(client: DICOMwebClient) -> None:
    """In the order in which they are asked for, as they are kept."""
    for dataset in SETS.values():
        frames = list(frames_of(dataset))
        numbers = list(range(len(frames), 0, -1))[:5]
        found = await asked(client.retrieve_instance_frames, *uids(dataset), numbers)
        assert found == [frames[number - 1] for number in numbers]
