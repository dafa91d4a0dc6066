"""Metadata in DICOM JSON: every attribute, no bulk data, for any file."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from yarl import URL

from bulkstow.errors import HeadError
from bulkstow.server.message import FilePart, MadePart, Part
from bulkstow.server.metadata import INLINE_MOST_BYTES, bulk_data, document
from tests.server.samples import CT, INSTANCE, SERIES, STUDY, part10, single_part, store

pytestmark = pytest.mark.anyio

URL_OF = "http://host/rs/studies/1/series/2/instances/3"
RESOURCE = f"studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}"
LONG = bytes(range(256)) * (INLINE_MOST_BYTES // 256) + b"xx"


def written(path: Path, dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write a data set with the UIDs of an instance, and return its path."""
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, INSTANCE
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(CT), UID(INSTANCE)
    whole = FileDataset(str(path), dataset, file_meta=meta, preamble=bytes(128))
    whole.save_as(path, enforce_file_format=True)
    return path


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the metadata of a file."""
    found: dict[str, dict[str, Any]] = json.loads(document(path, URL_OF))
    return found


def value_of(part: Part | None) -> bytes:
    """Return the octets of a part."""
    match part:
        case FilePart(path=path, size_bytes=size_bytes, offset_bytes=offset_bytes):
            return path.read_bytes()[offset_bytes : offset_bytes + size_bytes]
        case MadePart(make=make):
            return make()
        case None:
            return b""


SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]


def everything() -> Dataset:
    """Return a data set with values of many kinds, short and long, and within items."""
    item = Dataset()
    item.CodeValue = "113100"
    item.add_new(0x00420011, "OB", LONG)  # an encapsulated document
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "Müller^Jörg"
    dataset.PatientWeight = "70.5"
    dataset.InstanceNumber = 7
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.FrameIncrementPointer = 0x00181063
    dataset.RealWorldValueSlope = float("nan")
    dataset.AccessionNumber = ""
    dataset.DeidentificationMethodCodeSequence = [Dataset(), item]
    dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.PixelRepresentation = 2, 2, 16, 1
    dataset.SmallestImagePixelValue = -5
    dataset["SmallestImagePixelValue"].VR = "SS"
    dataset.add_new(0x00091001, "UN", b"short")
    dataset.add_new(0x00091002, "OB", LONG)
    dataset.PixelData = b"12345678"
    dataset["PixelData"].VR = "OW"
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_attribute_is_there_and_bulk_data_by_its_uri(tmp_path: Path, syntax: UID) -> None:
    """They follow PS3.18 Annex F in any transfer syntax; long values and pixels are given by URI."""
    found = read(written(tmp_path / "file", everything(), syntax))
    is_implicit = syntax == ImplicitVRLittleEndian
    assert "00020010" not in found
    assert found["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg"}]}
    assert found["00101030"] == {"vr": "DS", "Value": [70.5]}
    assert found["00200013"] == {"vr": "IS", "Value": [7]}
    assert found["00080008"] == {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY"]}
    assert found["00280009"] == {"vr": "AT", "Value": ["00181063"]}
    assert found["00409225"] == {"vr": "FD", "Value": ["NaN"]}
    assert found["00080050"] == {"vr": "SH"}
    assert found["00280106"] == {"vr": "SS", "Value": [-5]}
    assert found["00091001"] == {"vr": "UN", "InlineBinary": base64.b64encode(b"short").decode()}
    assert found["00091002"] == {"vr": "UN" if is_implicit else "OB", "BulkDataURI": f"{URL_OF}/bulkdata/00091002"}
    assert found["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{URL_OF}/bulkdata/7FE00010"}
    uri = f"{URL_OF}/bulkdata/00120064/2/00420011"
    assert found["00120064"] == {
        "vr": "SQ",
        "Value": [
            {},
            {"00080100": {"vr": "SH", "Value": ["113100"]}, "00420011": {"vr": "OB", "BulkDataURI": uri}},
        ],
    }


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("7FE00010", b"12345678"),
        ("7fe00010", b"12345678"),
        ("00091002", LONG),
        ("00120064/2/00420011", LONG),
        ("00120064/3/00420011", b""),
        ("00120064/1/00420011", b""),
        ("00100020", b""),
        ("00100020/1/00420011", b""),
        ("00100010/1/00420011", b""),
    ],
)
def test_a_uri_leads_to_the_value(tmp_path: Path, syntax: UID, place: str, value: bytes) -> None:
    """From the file or from memory, and to nothing where there is nothing."""
    assert value_of(bulk_data(written(tmp_path / "file", everything(), syntax), place)) == value


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """Return an element with a short length, in explicit little endian."""
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


@pytest.mark.parametrize(
    ("raw", "tag", "found"),
    [
        (element(0x00280010, b"US", b"\1\0\2"), "00280010", {"vr": "UN", "InlineBinary": "AQAC"}),
        (element(0x00200013, b"IS", b"seven "), "00200013", {"vr": "UN", "InlineBinary": "c2V2ZW4g"}),
        (element(0x00200013, b"IS", b"1.5 "), "00200013", {"vr": "IS", "Value": ["1.5"]}),
        (element(0x00101030, b"DS", b"inf "), "00101030", {"vr": "DS", "Value": ["inf"]}),
        (element(0x00080060, b"CS", b"not a code "), "00080060", {"vr": "CS", "Value": ["not a code"]}),
        (element(0x0020000D, b"UI", b"no UID"), "0020000D", {"vr": "UI", "Value": ["no UID"]}),
    ],
)
def test_a_value_that_is_none_is_given_as_it_is(
    tmp_path: Path, raw: bytes, tag: str, found: dict[str, object], recwarn: pytest.WarningsRecorder
) -> None:
    """No attribute is omitted, and no warning contains a patient's value."""
    path = tmp_path / "file"
    path.write_bytes(part10()[:-12].partition(b"1.2.10.1.1")[0][:-8] + raw)
    assert read(path)[tag] == found
    assert not recwarn


@pytest.mark.parametrize("content", [b"", b"no DICOM at all", bytes(128) + b"DICM" + b"\xff" * 100])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes) -> None:
    """By one error."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(HeadError):
        document(path, URL_OF)


@pytest.mark.parametrize(
    ("accept", "status", "content_type"),
    [
        ("", 200, "application/dicom+json"),
        ("*/*", 200, "application/dicom+json"),
        ("application/dicom+json, application/json", 200, "application/dicom+json"),
        ("application/json", 200, "application/json"),
        ("application/*;q=0.5", 200, "application/dicom+json"),
        ("application/dicom+xml", 406, "text/plain"),
        ('multipart/related; type="application/dicom+xml"', 406, "text/plain"),
        ("application/dicom+json;q=0", 406, "text/plain"),
    ],
)
async def test_metadata_comes_as_json(
    session: ClientSession, url: str, accept: str, status: int, content_type: str
) -> None:
    """A list of instances in the order of arrival, for a client that accepts JSON."""
    await store(session, url, part10(), part10("1.2.10.1.2"), part10("1.2.10.2.1", series="1.2.10.2"))
    for path, count in ((f"studies/{STUDY}", 3), (f"studies/{STUDY}/series/{SERIES}", 2), (RESOURCE, 1)):
        async with session.get(f"{url}/{path}/metadata", headers={"Accept": accept}) as response:
            assert (response.status, response.content_type) == (status, content_type)
            if status == 200:
                found = json.loads(await response.read())
                assert len({item["00080018"]["Value"][0] for item in found}) == len(found) == count


async def test_a_broken_instance_does_not_pass_for_none(session: ClientSession, url: str, tmp_path: Path) -> None:
    """Alone it is 500; behind others it breaks the answer, which would else be a list of fewer instances."""
    await store(session, url, part10(), part10("1.2.10.1.2"))
    (tmp_path / "root" / STUDY / SERIES / "1.2.10.1.2.dcm").write_bytes(b"broken")
    async with session.get(f"{url}/studies/{STUDY}/series/{SERIES}/instances/1.2.10.1.2/metadata") as response:
        assert response.status == 500
    with pytest.raises(ClientPayloadError):
        async with session.get(f"{url}/studies/{STUDY}/metadata") as response:
            await response.read()


@pytest.mark.parametrize(
    ("below", "accept", "status"),
    [
        ("bulkdata/7FE00010", "", 200),
        ("bulkdata/7FE00010", "multipart/related; type=application/octet-stream", 200),
        ("bulkdata/7FE00010", "image/jpeg", 406),
        ("bulkdata/00100020", "", 404),
        ("bulkdata/..%2F..%2Fetc", "", 404),
        ("bulkdata/7FE00010/0/7FE00010", "", 404),
        ("bulkdata/7FE00010/1", "", 404),
        ("frames/1", "", 500),  # it has pixels, and no rows
        ("frames/0", "", 404),
        ("frames/2", "", 404),
        ("frames/x", "", 400),
        ("frames/1,", "", 400),
    ],
)
async def test_bulk_data_and_frames(session: ClientSession, url: str, below: str, accept: str, status: int) -> None:
    """A value is sent as one part of octets; errors have different statuses."""
    await store(session, url, part10(pixels=b"\1\2\3\4"))
    async with session.get(URL(f"{url}/{RESOURCE}/{below}", encoded=True), headers={"Accept": accept}) as response:
        assert response.status == status
        if status == 200:
            assert await single_part(response) == b"\1\2\3\4"


async def test_a_client_that_leaves_out_the_port_is_led_back(session: ClientSession, url: str) -> None:
    """Behind a proxy the name in the Host header is the right one, without any port."""
    await store(session, url, part10())
    at = URL(url)
    for headers, host in (
        ({"Host": "127.0.0.1"}, f"127.0.0.1:{at.port}"),
        ({"Host": "pacs.example", "X-Forwarded-For": "10.0.0.1"}, "pacs.example"),
        ({"Host": "pacs.example:81"}, "pacs.example:81"),
        ({}, f"127.0.0.1:{at.port}"),
    ):
        async with session.get(f"{url}/{RESOURCE}/metadata", headers=headers) as response:
            (found,) = json.loads(await response.read())
        assert found["7FE00010"]["BulkDataURI"] == f"http://{host}{at.path}/{RESOURCE}/bulkdata/7FE00010"
