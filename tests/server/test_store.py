import errno
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from anyio import connect_tcp, create_task_group
from yarl import URL

from bulkstow.model import Referenced
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage, DiscardStorage
from bulkstow.wire.multipart import body_length, closing, content_type, part_head
from bulkstow.wire.store_response import read
from tests.server.samples import BOUNDARY, CT, INSTANCE, SERIES, STUDY, body_of, files_below, part10, post, store

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def test_what_is_answered_as_stored_is_on_disk(
    session: ClientSession, url: str, storage: DirectoryStorage, tmp_path: Path
) -> None:
    """200 names every instance, and each is a file of the same bytes under its UIDs."""
    files = {f"1.2.10.1.{number}": part10(f"1.2.10.1.{number}", pixels=bytes(number)) for number in range(1, 4)}
    status, response = await store(session, url, *files.values())
    assert status == 200
    assert response.stored == tuple(Referenced(CT, uid) for uid in files)
    assert response.retrieve_url == f"{url}/studies/{STUDY}"
    assert files_below(tmp_path / "root") == {f"{STUDY}/{SERIES}/{uid}.dcm": file for uid, file in files.items()}
    assert storage.digests() == {uid: hashlib.sha256(file).hexdigest() for uid, file in files.items()}


async def test_some_stored_is_202_and_names_the_others(session: ClientSession, url: str) -> None:
    """An unreadable part is counted without a name, and fails no other part (PS3.18 Table I.1-1)."""
    dicomdir = part10("1.2.10.1.2", media_class="1.2.840.10008.1.3.10")
    status, response = await store(session, url, b"garbage", part10(), b"", dicomdir)
    assert status == 202
    assert response.stored == (Referenced(CT, INSTANCE),)
    assert response.failed == ()
    assert response.other_failures == (Referenced("", "", 0xC000),) * 3


async def test_none_stored_is_409(session: ClientSession, url: str) -> None:
    """A request with unreadable parts only is answered 409 with a Store Instances Response."""
    status, response = await store(session, url, b"garbage")
    assert status == 409
    assert response.other_failures == (Referenced("", "", 0xC000),)


async def test_a_part_of_another_media_type_is_not_stored(session: ClientSession, url: str, tmp_path: Path) -> None:
    """Each part must call itself application/dicom."""
    body = body_of(part10()).replace(b"Content-Type: application/dicom", b"Content-Type: image/jpeg")
    status, answer = await post(session, f"{url}/studies", body)
    assert (status, read(answer).other_failures) == (409, (Referenced("", "", 0xC000),))
    assert files_below(tmp_path / "root") == {}


@pytest.mark.parametrize(
    "uids",
    [
        {"study": "../../etc"},
        {"study": ".."},
        {"series": "1.2/../../../3"},
        {"instance": "/etc/passwd"},
        {"instance": "1..2"},
        {"instance": "1.2."},
        {"study": "1.2\n"},
        {"series": "1" * 65},
        {"study": ""},
        {"sop_class": "1.2.x"},
    ],
)
async def test_no_uid_becomes_a_path_elsewhere(
    session: ClientSession, url: str, tmp_path: Path, uids: dict[str, Any]
) -> None:
    """Digits and dots are all that a path is made of; the instance fails, and nothing is written anywhere."""
    status, response = await store(session, url, part10(**uids))
    assert status == 409
    assert response.failed == (Referenced(uids.get("sop_class", CT), uids.get("instance", INSTANCE), 0xA900),)
    assert files_below(tmp_path) == {}


async def test_an_instance_without_a_uid_fails_without_a_name(session: ClientSession, url: str) -> None:
    """There is nothing to reference it by."""
    _, response = await store(session, url, part10(""))
    assert (response.failed, response.other_failures) == ((), (Referenced("", "", 0xA900),))


async def test_an_instance_of_another_study_fails(session: ClientSession, url: str) -> None:
    """The study in the URL refuses all others (PS3.18 §10.5.1)."""
    stranger = part10("1.2.20.1.1", study="1.2.20", series="1.2.20.1")
    status, response = await store(session, url, part10(), stranger, study=STUDY)
    assert status == 202
    assert response.stored == (Referenced(CT, INSTANCE),)
    assert response.failed == (Referenced(CT, "1.2.20.1.1", 0xA901),)


async def test_the_same_bytes_again_are_stored(session: ClientSession, url: str, tmp_path: Path) -> None:
    """An instance that is sent again with the same bytes is stored."""
    await store(session, url, part10())
    status, response = await store(session, url, part10(), part10())
    assert status == 200
    assert len(response.stored) == 2
    assert len(files_below(tmp_path / "root")) == 1


async def test_other_bytes_under_a_known_uid_are_a_duplicate(session: ClientSession, url: str, tmp_path: Path) -> None:
    """The first copy is kept, and the second is not called stored, also with another study."""
    await store(session, url, part10())
    changed = part10(pixels=b"\x03\x04")
    moved = part10(study="1.2.20")
    status, response = await store(session, url, changed, moved)
    assert status == 409
    assert response.failed == (Referenced(CT, INSTANCE, 0x0111),) * 2
    assert files_below(tmp_path / "root") == {f"{STUDY}/{SERIES}/{INSTANCE}.dcm": part10()}


async def test_of_many_stores_of_one_instance_one_wins(
    session: ClientSession, url: str, storage: DirectoryStorage, tmp_path: Path
) -> None:
    """Requests that race for a UID agree on one content: its senders hear stored, the others duplicate."""
    contents = [part10(pixels=bytes([number % 2]) * 2 * MIB) for number in range(12)]
    statuses: dict[int, int] = {}

    async def send(number: int) -> None:
        statuses[number], _ = await store(session, url, contents[number])

    async with create_task_group() as tasks:
        for number in range(len(contents)):
            tasks.start_soon(send, number)
    (kept,) = files_below(tmp_path / "root").values()
    assert statuses == {number: 200 if content == kept else 409 for number, content in enumerate(contents)}
    assert storage.digests() == {INSTANCE: hashlib.sha256(kept).hexdigest()}


async def test_a_part_larger_than_any_buffer_is_stored_whole(
    session: ClientSession, url: str, storage: DirectoryStorage
) -> None:
    """Pieces end where they may, within pixels that hold the boundary again and again."""
    file = part10(pixels=f"\r\n--{BOUNDARY}--\r\n".encode() * 300_000)
    status, _ = await store(session, url, part10("1.2.10.1.2"), file, part10("1.2.10.1.3"))
    assert status == 200
    assert storage.digests()[INSTANCE] == hashlib.sha256(file).hexdigest()


@pytest.mark.parametrize("private_bytes", [70_000, 900_000])
async def test_uids_behind_a_long_element_are_found(session: ClientSession, url: str, private_bytes: int) -> None:
    """Where the usual head does not reach the UIDs, all that is at hand is looked at."""
    status, _ = await store(session, url, part10(private=bytes(private_bytes), pixels=bytes(2 * MIB)))
    assert status == 200


async def test_uids_beyond_the_first_mib_are_not_found(session: ClientSession, url: str, tmp_path: Path) -> None:
    """Where an instance belongs must be known before any of it is written, and memory has an end."""
    status, response = await store(session, url, part10(private=bytes(3 * MIB)), part10())
    assert status == 202
    assert response.stored == (Referenced(CT, INSTANCE),)
    assert len(files_below(tmp_path / "root")) == 1


async def test_a_body_without_its_closing_delimiter_is_400(session: ClientSession, url: str) -> None:
    """Its last part may be cut off, and is not stored; those before it are."""
    body = body_of(part10(), part10("1.2.10.1.2")).removesuffix(closing(BOUNDARY))
    status, answer = await post(session, f"{url}/studies", body)
    assert status == 400
    assert b"closing delimiter" in answer
    async with session.get(f"{url}/instances") as response:
        assert [item["00080018"]["Value"] for item in await response.json(content_type=None)] == [[INSTANCE]]


@pytest.mark.parametrize("size_bytes", [100, 3 * MIB])
async def test_a_connection_that_breaks_leaves_nothing(tmp_path: Path, size_bytes: int) -> None:
    """A body that is shorter than its length is not stored, and its bytes on disk are removed."""
    root = tmp_path / "root"
    body = body_of(part10(pixels=bytes(size_bytes)))
    async with serving(Origin(DirectoryStorage(root))) as url:
        port = URL(url).port
        assert port is not None
        async with await connect_tcp("127.0.0.1", port) as stream:
            await stream.send(
                f"POST /dicom-web/studies HTTP/1.1\r\nHost: origin\r\nContent-Type: {content_type(BOUNDARY)}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
            )
            await stream.send(body[:-50])
    assert files_below(tmp_path) == {}


@pytest.mark.parametrize("step", ["tempfile.NamedTemporaryFile", "bulkstow.server.storage.DirectoryStorage.place"])
async def test_a_disk_without_room_is_out_of_resources(
    session: ClientSession, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    """An instance that cannot be written fails in a way that asks for a retry, and leaves no half file."""

    def full(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(step, full)
    status, response = await store(session, url, part10(pixels=bytes(3 * MIB)))
    assert status == 409
    assert response.failed == (Referenced(CT, INSTANCE, 0xA700),)
    assert files_below(tmp_path / "root") == {}


async def test_memory_does_not_grow_with_a_body(session: ClientSession) -> None:
    """200 MB pass through client and origin in a small part of that space."""
    file = part10(pixels=bytes(20 * MIB))
    head, rest = file[:65536], len(file) - 65536

    async def body() -> AsyncIterator[bytes]:
        for number in range(10):
            yield part_head(BOUNDARY, len(file), first=number == 0) + head
            for _ in range(rest // 65536):
                yield zeros
            yield zeros[: rest % 65536]
        yield closing(BOUNDARY)

    zeros = bytes(65536)
    storage = DiscardStorage()
    length = {"Content-Length": str(body_length(BOUNDARY, [len(file)] * 10))}
    async with serving(Origin(storage)) as url:
        tracemalloc.start()
        try:
            status, _ = await post(session, f"{url}/studies", body(), headers=length)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert status == 200
    assert storage.received_bytes == 10 * len(file) > 200e6
    assert peak_bytes < 16 * MIB


@pytest.mark.parametrize("counted", [True, False])
async def test_a_part_above_the_limit_is_413(session: ClientSession, tmp_path: Path, counted: bool) -> None:
    """A part is refused by its Content-Length, or without one by the received bytes."""
    body = body_of(part10(pixels=bytes(2000)))
    if not counted:
        body = body.replace(b"Content-Length", b"X-Length")
    storage = DirectoryStorage(tmp_path / "root")
    async with serving(Origin(storage, max_part_bytes=1000)) as url:
        status, answer = await post(session, f"{url}/studies", body)
    assert status == 413
    assert b"at most 1000 bytes" in answer
    assert files_below(tmp_path) == {}


async def test_a_discarding_origin_forgets_unless_told_not_to(session: ClientSession) -> None:
    """It counts in both cases; with `remember`, it finds duplicates and answers queries."""
    for remember, status_of_other_bytes in ((False, 200), (True, 409)):
        storage = DiscardStorage(remember=remember)
        async with serving(Origin(storage)) as url:
            assert (await store(session, url, part10()))[0] == 200
            assert (await store(session, url, part10(pixels=b"\x03\x04")))[0] == status_of_other_bytes
        assert storage.digests() == ({INSTANCE: hashlib.sha256(part10()).hexdigest()} if remember else {})
        assert storage.received == (1 if remember else 2)
