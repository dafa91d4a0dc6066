from pathlib import Path

import pytest
from aiohttp import ClientSession

from bulkstow.server.origin import Origin, serving
from bulkstow.server.retrieve import is_acceptable
from bulkstow.server.storage import DiscardStorage
from tests.server.samples import INSTANCE, SERIES, STUDY, files_below, part10, single_part, store

pytestmark = pytest.mark.anyio

RESOURCE = f"studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}"


@pytest.mark.parametrize("pixel_bytes", [2, 3 * 1024 * 1024])
async def test_what_was_stored_comes_back_byte_for_byte(session: ClientSession, url: str, pixel_bytes: int) -> None:
    """One part, its length and that of the answer exact."""
    file = part10(pixels=bytes(pixel_bytes))
    await store(session, url, file)
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    async with session.get(f"{url}/{RESOURCE}", headers=accept) as response:
        assert response.status == 200
        assert response.content_type == "multipart/related"
        assert response.content_length == len(await response.read())
        assert await single_part(response) == file


@pytest.mark.parametrize(
    "path",
    [
        RESOURCE + ".1",
        f"studies/1.2.99/series/{SERIES}/instances/{INSTANCE}",
        f"studies/{STUDY}/series/..%2F{SERIES}/instances/{INSTANCE}",
        "studies/..%2F..%2Fetc/series/1/instances/passwd",
    ],
)
async def test_another_path_is_404(session: ClientSession, url: str, path: str) -> None:
    """An instance answers to its own three UIDs only, and a URL is never a path on disk."""
    await store(session, url, part10())
    async with session.get(f"{url}/{path}") as response:
        assert response.status == 404


async def test_an_instance_that_was_discarded_is_404(session: ClientSession) -> None:
    """It is remembered, and yet there is nothing to send."""
    async with serving(Origin(DiscardStorage(remember=True))) as url:
        await store(session, url, part10())
        async with session.get(f"{url}/{RESOURCE}") as response:
            assert response.status == 404


async def test_a_file_that_is_gone_is_404(session: ClientSession, url: str, tmp_path: Path) -> None:
    """Someone else deleted it; the origin does not fall over."""
    await store(session, url, part10())
    (tmp_path / "root" / STUDY / SERIES / f"{INSTANCE}.dcm").unlink()
    async with session.get(f"{url}/{RESOURCE}") as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("accept", "acceptable"),
    [
        ("", True),
        ("*/*", True),
        ("multipart/related", True),
        ('multipart/related; type="application/dicom"; transfer-syntax=*', True),
        ("image/jpeg, Multipart/Related;type=application/dicom", True),
        ('multipart/related; type="application/octet-stream"', False),
        ("application/dicom+json", False),
    ],
)
def test_part_10_files_are_sent_to_who_takes_them(accept: str, acceptable: bool) -> None:
    """Frames, metadata and bulk data are other services."""
    assert is_acceptable(accept) == acceptable


async def test_another_kind_of_answer_is_406(session: ClientSession, url: str) -> None:
    """The client is told what it could have."""
    async with session.get(f"{url}/{RESOURCE}", headers={"Accept": "image/jpeg"}) as response:
        assert response.status == 406


async def test_a_deleted_study_is_gone(session: ClientSession, url: str, tmp_path: Path) -> None:
    """Its files and its entries go, those of others stay, and it may come again with other bytes."""
    other = part10("1.2.20.1.1", study="1.2.20", series="1.2.20.1")
    await store(session, url, part10(), other)
    for status in (204, 404):
        async with session.delete(f"{url}/studies/{STUDY}") as response:
            assert response.status == status
    async with session.get(f"{url}/{RESOURCE}") as response:
        assert response.status == 404
    assert list(files_below(tmp_path / "root").values()) == [other]
    assert (await store(session, url, part10(pixels=b"\x03\x04")))[0] == 200
