import hashlib
from pathlib import Path

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from bulkstow.model import Header
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage
from bulkstow.wire.uids import is_uid
from tests.server.samples import CT, INSTANCE, SERIES, STUDY, files_below, part10, single_part, store, uids_of

pytestmark = pytest.mark.anyio

HEADER = Header(STUDY, SERIES, INSTANCE, CT, "")


async def test_another_process_finds_what_was_stored(session: ClientSession, url: str, tmp_path: Path) -> None:
    """The names of the files are the index: queries, retrieval and duplicates go on after a restart."""
    await store(session, url, part10())
    restarted = DirectoryStorage(tmp_path / "root")
    assert restarted.digests() == {INSTANCE: hashlib.sha256(part10()).hexdigest()}
    async with serving(Origin(restarted)) as url:
        async with session.get(f"{url}/instances") as response:
            items = await response.json(content_type=None)
            assert uids_of(items, "00080018") == [INSTANCE]
            assert "00080016" not in items[0]
        async with session.get(f"{url}/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}") as response:
            assert await single_part(response) == part10()
        assert (await store(session, url, part10()))[0] == 200
        assert (await store(session, url, part10(pixels=b"\x03\x04")))[0] == 409


def test_what_was_left_unfinished_is_swept_away(storage: DirectoryStorage, tmp_path: Path) -> None:
    """A process that was killed leaves pieces; the next one does not take them for instances."""
    root = tmp_path / "root"
    (root / ".incoming-abc").write_bytes(b"half a file")
    (root / ".incoming-def" / STUDY / SERIES).mkdir(parents=True)
    (root / ".incoming-def" / STUDY / SERIES / f"{INSTANCE}.dcm").write_bytes(b"half deleted")
    assert len(DirectoryStorage(root).catalogue) == 0
    assert list(root.iterdir()) == []


def test_what_others_put_there_is_left_alone(storage: DirectoryStorage, tmp_path: Path) -> None:
    """Names that are no UIDs are not instances, and not ours to delete."""
    strange = tmp_path / "root" / "notes" / SERIES
    strange.mkdir(parents=True)
    (strange / f"{INSTANCE}.dcm").write_bytes(b"mine")
    assert len(DirectoryStorage(tmp_path / "root").catalogue) == 0
    assert len(files_below(tmp_path / "root")) == 1


async def test_an_instance_that_is_dropped_was_never_there(storage: DirectoryStorage, tmp_path: Path) -> None:
    """Dropping removes the written bytes, and may be done twice or before any write."""
    incoming = storage.incoming()
    await incoming.drop()
    await incoming.write([memoryview(b"some")])
    assert len(files_below(tmp_path / "root")) == 1
    await incoming.drop()
    await incoming.drop()
    assert files_below(tmp_path / "root") == {}


@pytest.mark.parametrize("header", [Header("..", "..", "x", CT, ""), Header(STUDY, "", INSTANCE, CT, "")])
async def test_a_path_outside_the_root_is_not_made(storage: DirectoryStorage, tmp_path: Path, header: Header) -> None:
    """The storage does not rely on being asked for valid UIDs only."""
    incoming = storage.incoming()
    with pytest.raises(ValueError, match="valid UIDs"):
        await incoming.keep(header, [memoryview(b"content")])
    await incoming.drop()
    assert files_below(tmp_path) == {}


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("/studies/1.1", {"1.2.1.1"}),
        ("/studies/1.1/series/1.1.1", {"1.1.2.1", "1.2.1.1"}),
        ("/studies/1.1/series/1.1.1/instances/1.1.1.2", {"1.1.1.1", "1.1.2.1", "1.2.1.1"}),
        ("/studies/1.1/series/1.1.2/instances/1.1.2.1", {"1.1.1.1", "1.1.1.2", "1.2.1.1"}),
    ],
    ids=["study", "series", "instance", "last-of-its-series"],
)
async def test_a_part_of_the_tree_is_deleted(
    session: ClientSession, url: str, storage: DirectoryStorage, tmp_path: Path, path: str, left: set[str]
) -> None:
    """Only files, query results and empty directories of a deleted study, series or instance are gone."""
    for instance in ("1.1.1.1", "1.1.1.2", "1.1.2.1", "1.2.1.1"):
        await store(session, url, part10(instance, study=instance[:3], series=instance[:5]))
    for status in (204, 404):
        async with session.delete(url + path) as response:
            assert response.status == status
    assert set(storage.digests()) == left
    assert {Path(name).stem for name in files_below(tmp_path / "root")} == left
    assert {study.name for study in (tmp_path / "root").iterdir()} == {uid[:3] for uid in left}
    assert {series.name for series in (tmp_path / "root").glob("*/*")} == {uid[:5] for uid in left}
    async with session.get(f"{url}/instances") as response:
        assert set(uids_of(await response.json(content_type=None), "00080018")) == left


@pytest.mark.parametrize(
    "path",
    [
        "/studies/1.9",
        f"/studies/{STUDY}/series/1.9",
        f"/studies/1.9/series/{SERIES}/instances/{INSTANCE}",
        f"/studies/{STUDY}/series/{SERIES}/instances/1.9",
        f"/studies/{STUDY}/series/%2e%2e/instances/{INSTANCE}",
    ],
)
async def test_nothing_else_is_deleted(session: ClientSession, url: str, storage: DirectoryStorage, path: str) -> None:
    """UIDs that name nothing together delete nothing."""
    await store(session, url, part10())
    async with session.delete(url + path) as response:
        assert response.status == 404
    assert set(storage.digests()) == {INSTANCE}


async def test_an_instance_is_overwritten_on_request(session: ClientSession, tmp_path: Path) -> None:
    """Other bytes under the same UID replace the old ones, in another study too; the last ones are sent."""
    storage = DirectoryStorage(tmp_path / "root", overwrites=True)
    async with serving(Origin(storage)) as url:
        files = [part10(), part10(pixels=b"\x03\x04"), part10(study="1.3", series="1.3.1"), part10()]
        for file in files:
            for _ in range(2):
                assert (await store(session, url, file))[0] == 200
            assert storage.digests() == {INSTANCE: hashlib.sha256(file).hexdigest()}
            assert list(files_below(tmp_path / "root").values()) == [file]
        async with session.get(f"{url}/studies/{STUDY}/series/{SERIES}/instances/{INSTANCE}") as response:
            assert await single_part(response) == files[-1]
        assert len(list((tmp_path / "root").iterdir())) == 1


@given(st.text("0123456789./\\\n\0 a") | st.text())
def test_a_uid_is_always_a_plain_name(text: str) -> None:
    """Every accepted UID is one component of a path, and neither hidden nor special."""
    if is_uid(text):
        assert Path(text).name == text
        assert not text.startswith(".")
        assert len(text.encode()) <= 64


@pytest.mark.parametrize("text", ["1", "1.2.840.10008.1.1", "0", "1" * 64, "1.02"])
def test_a_valid_uid_is_one(text: str) -> None:
    """Digits in groups between dots, up to 64 characters; a leading zero is wrong, and often seen."""
    assert is_uid(text)


@pytest.mark.parametrize("text", ["", ".", "..", "1.", ".1", "1..2", "1.2\n", "\u0661", "1" * 65, "1.a", "-1", "1.2 "])
def test_what_is_no_uid_is_none(text: str) -> None:
    """PS3.5 §9.1, to the letter where a path is at stake."""
    assert not is_uid(text)
