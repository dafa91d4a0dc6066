from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError, ClientResponse, ClientSession, ServerDisconnectedError
from yarl import URL

from bulkstow.server import message
from bulkstow.server.media import accepted
from bulkstow.server.message import FilePart
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage, DiscardStorage
from bulkstow.wire.multipart_reader import MultipartReader, PartBegin, PartData, boundary_of
from tests.server.samples import EXPLICIT_LITTLE, INSTANCE, SERIES, STUDY, files_below, part10, single_part, store

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


SECOND = part10("1.2.10.1.2")
OTHER_SERIES = part10("1.2.10.2.1", series="1.2.10.2", pixels=bytes(3 * 1024 * 1024))


async def parts_of(response: ClientResponse) -> list[tuple[dict[str, str], bytes]]:
    """Return the headers and the content of each part of a multipart answer."""
    reader = MultipartReader(boundary_of(response.headers["Content-Type"]))
    found: list[tuple[dict[str, str], bytes]] = []
    for event in reader.feed(await response.read()):
        match event:
            case PartBegin(headers=headers):
                found.append((dict(headers), b""))
            case PartData(data=data):
                found[-1] = (found[-1][0], found[-1][1] + data)
            case _:
                pass
    reader.finish()
    return found


async def test_a_series_and_a_study_come_instance_by_instance(session: ClientSession, url: str) -> None:
    """Each part is one file with its type and its length; the whole has the length that was announced."""
    await store(session, url, part10(), SECOND, OTHER_SERIES)
    for path, files in (
        (f"studies/{STUDY}", [part10(), SECOND, OTHER_SERIES]),
        (f"studies/{STUDY}/series/{SERIES}", [part10(), SECOND]),
        (f"studies/{STUDY}/series/1.2.10.2", [OTHER_SERIES]),
    ):
        async with session.get(f"{url}/{path}") as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
            assert response.content_length == len(await response.read())
            assert await parts_of(response) == [
                ({"content-type": "application/dicom", "content-length": str(len(file))}, file) for file in files
            ]


@pytest.mark.parametrize("below", ["", "/metadata"])
@pytest.mark.parametrize(
    "path",
    [
        "studies/1.2.99",
        f"studies/{STUDY}/series/1.2.99",
        f"studies/1.2.99/series/{SERIES}",
        f"studies/{STUDY}/series/{SERIES}/instances/1.2.99",
        f"studies/{STUDY}/series/1.2.10.2/instances/{INSTANCE}",
        "studies/..%2F..%2Fetc",
        "studies/..",
        "studies/%00",
        f"studies/{STUDY}/series/..%2F..%2F..",
        f"studies/{STUDY}/series/{SERIES}/instances/..%2F{INSTANCE}",
    ],
)
async def test_what_is_not_there_is_404(session: ClientSession, url: str, path: str, below: str) -> None:
    """A URL leads to no file but those of stored instances."""
    await store(session, url, part10())
    async with session.get(URL(f"{url}/{path}{below}", encoded=True)) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ('multipart/related; type="application/dicom"', 200),
        ('multipart/related; type="application/dicom"; transfer-syntax=*', 200),
        (f'multipart/related; type="application/dicom"; transfer-syntax={EXPLICIT_LITTLE}', 200),
        ('multipart/related; type="application/dicom"; transfer-syntax="1.2.840.10008.1.2.4.50"', 406),
        (
            f"multipart/related; transfer-syntax=1.2.840.10008.1.2.4.50, */*; transfer-syntax={EXPLICIT_LITTLE}",
            406,
        ),
        (
            f"multipart/related; transfer-syntax=1.2.3, multipart/related; transfer-syntax={EXPLICIT_LITTLE}",
            200,
        ),
        ("application/dicom+json", 406),
    ],
)
@pytest.mark.parametrize("is_new", [True, False])
async def test_none_is_transcoded(
    session: ClientSession, storage: DirectoryStorage, tmp_path: Path, accept: str, status: int, is_new: bool
) -> None:
    """A client that accepts other transfer syntaxes only gets 406, also for instances of an earlier process."""
    async with serving(Origin(storage)) as url:
        await store(session, url, part10(), SECOND)
    later = Origin(storage if is_new else DirectoryStorage(tmp_path / "root"))
    async with (
        serving(later) as url,
        session.get(f"{url}/studies/{STUDY}", headers={"Accept": accept}) as response,
    ):
        assert response.status == status


async def test_a_file_that_falls_short_breaks_the_connection(
    session: ClientSession, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The announced bytes are missing: the client must neither wait for them nor take the next answer for them."""

    async def begin(_part: object, _boundary: str, _type: str, *, first: bool) -> AsyncIterator[bytes]:
        yield b"some of it"
        raise EOFError

    await store(session, url, part10())
    monkeypatch.setattr(message, "_part", begin)
    with pytest.raises((ClientPayloadError, ServerDisconnectedError)):
        async with session.get(f"{url}/{RESOURCE}") as response:
            await response.read()


async def test_a_file_that_shrank_is_no_whole_part(tmp_path: Path) -> None:
    """Its part raises EOFError; a file that grew is sent up to its announced length."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    with pytest.raises(EOFError):
        [piece async for piece in message._part(FilePart(path, 6), "b", "t/t", first=True)]
    pieces = [piece async for piece in message._part(FilePart(path, 2, offset_bytes=1), "b", "t/t", first=True)]
    assert pieces == [b"--b\r\nContent-Type: t/t\r\nContent-Length: 2\r\n\r\n", b"23"]


async def test_a_large_file_is_held_piece_by_piece(tmp_path: Path) -> None:
    """However large the instance, no more than one piece is in memory."""
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * message.READ_BYTES + 1))
    pieces = [
        piece async for piece in message._part(FilePart(path, 3 * message.READ_BYTES + 1), "b", "t/t", first=True)
    ]
    assert [len(piece) for piece in pieces[1:]] == [message.READ_BYTES] * 3 + [1]


@pytest.mark.parametrize(
    ("accept", "acceptable"),
    [
        ("*/*;q=0.1", True),
        ("multipart/*", True),
        ('multipart/related; type="*/*"', True),
        ("multipart/related; type=application/*", True),
        ("image/jpeg, */*", True),
        ('multipart/related; type="application/dicom";q=0, */*', False),
        ("*/*;q=0", False),
        ('multipart/related; x="a,b"; type="application/dicom"', True),
        ('multipart/related; type="application/dicom+json"', False),
        ("multipart/form-data", False),
        (";;;", False),
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
    assert accepted(accept, "multipart/related", "application/dicom").is_acceptable == acceptable


async def test_another_kind_of_answer_is_406(session: ClientSession, url: str) -> None:
    """The answer says what is available."""
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
