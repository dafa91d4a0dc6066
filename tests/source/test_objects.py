"""Objects as a source: listed with their keys as they are, fetched whole and unmixed, or a reason."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bulkstow.errors import ConfigurationError, HeadError, InstanceChanged, StorageGone
from bulkstow.model import Candidate, FileResult
from bulkstow.policy.sharding import Sharding
from bulkstow.ports import FileRange, Found, SegmentReader
from bulkstow.quantities import Shard
from bulkstow.source.objects import ObjectSource
from bulkstow.source.objects_bucket import StoreOptions
from bulkstow.source.objects_fetch import HEAD_BYTES, PART_BYTES, WHOLE_BYTES
from bulkstow.source.objects_obstore import azure_configuration
from bulkstow.source.spool import Spool
from bulkstow.wire.synthetic import part10
from tests.archives import header
from tests.destination.encryption import server_context
from tests.object_stores import BUCKET, LOGIN, FaultyStore, Moto, azurite, azurite_program, faulty_store, moto

pytestmark = pytest.mark.anyio

INSTANCE = part10(header(1), rows=16, columns=16, number=1)

LARGE = part10(header(2), rows=3000, columns=3000, number=2)
"""In three parts."""

RETRY_S = 0.2


@pytest.fixture(scope="module")
def server() -> Iterator[Moto]:
    """Run one server for all tests."""
    with moto() as server:
        yield server


@pytest.fixture
def store(server: Moto, monkeypatch: pytest.MonkeyPatch) -> Moto:
    """Give a server with an empty bucket, and a login for it."""
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    server.clear()
    return server


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """Give a server whose faults a test sets."""
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    with faulty_store() as store:
        yield store


@pytest.fixture
def spool() -> Iterator[Spool]:
    """Give room for a few large objects."""
    with closing(Spool(64 * 2**20)) as spool:
        yield spool
        assert spool.used_bytes == 0


def source_of(
    store: Moto | FaultyStore, spool: Spool, name: str = f"s3://{BUCKET}", concurrency: int = 4
) -> ObjectSource:
    """Return the source of a name."""
    return ObjectSource([name], spool, StoreOptions(endpoint=store.endpoint, retry_s=RETRY_S), concurrency=concurrency)


def scanned(source: ObjectSource) -> list[Found]:
    """Return all that a scan finds."""
    return [found for several in source.scan() for found in several]


def locations(source: ObjectSource) -> list[str]:
    """Return the locations of all that a scan finds."""
    return [found.location if isinstance(found, Candidate) else found.candidate.location for found in scanned(source)]


async def fetched(source: ObjectSource, candidates: list[Candidate]) -> dict[str, Found]:
    """Fetch candidates, and return the results by location."""
    found = [item async for several in source.fetch(candidates) for item in several]
    by_location = {(item if isinstance(item, Candidate) else item.candidate).location: item for item in found}
    assert len(found) == len(by_location) == len(candidates)
    return by_location


def content_of(source: ObjectSource, candidate: Candidate) -> bytes:
    """Return the bytes that are sent of a candidate."""
    content = bytearray()
    for segment in source.open(source.read_head(candidate)):
        if isinstance(segment, FileRange):
            content += os.pread(segment.descriptor, segment.size_bytes, segment.offset)
        else:
            content += segment
    return bytes(content)


async def fetch_all(source: ObjectSource) -> dict[str, str | bytes]:
    """Scan, fetch, and release; return the content or the reason of everything, by location."""
    scan = scanned(source)
    results: dict[str, Found] = {item.candidate.location: item for item in scan if isinstance(item, FileResult)}
    results |= await fetched(source, [item for item in scan if isinstance(item, Candidate)])
    ends: dict[str, str | bytes] = {}
    for location, item in results.items():
        if isinstance(item, FileResult):
            ends[location] = f"{item.outcome}: {item.reason}"
            continue
        try:
            ends[location] = content_of(source, item)
        except HeadError as error:
            ends[location] = f"{type(error).__name__}: {error}"
        source.release([item])
    return ends


KEYS = [
    "/leading", "a b", "a/%20", "a/%2F", "a/+", "a/..", "a/../b", "a/.hidden", "a//b", "a/?x=1#y", "a/\\", "a/\t",
    "a/x.dcm", "a/ü", "a/u\u0308", "a/{~}'\"*", "trailing/", "ü/日本",
]  # fmt: skip


async def test_every_key_of_a_bucket_is_listed_and_fetched_as_it_is(store: Moto, spool: Spool) -> None:
    """Spaces, percent signs, unicode, empty parts and dots are parts of S3's keys; none is changed or lost."""
    for number, key in enumerate(KEYS):
        store.put(key, part10(header(number), rows=8, columns=8, number=number))
    ends = await fetch_all(source_of(store, spool))
    assert ends == {
        f"s3://{BUCKET}/{key}": part10(header(number), rows=8, columns=8, number=number)
        for number, key in enumerate(KEYS)
    }


async def test_a_candidate_without_extent_is_read_from_the_store(store: Moto, spool: Spool) -> None:
    """So `plan` reads heads and `verify` content without a spool, of every key."""
    for key in KEYS:
        store.put(key, INSTANCE)
    source = source_of(store, spool)
    for found in scanned(source):
        assert isinstance(found, Candidate)
        instance = source.read_head(found)
        assert instance.header == header(1)
        assert content_of(source, found) == INSTANCE
        assert source.verify(instance) == ""


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("", ["a.dcm", "a/1", "a/2/3", "ab/1"]),
        ("/a", ["a/1", "a/2/3"]),
        ("/a/", ["a/1", "a/2/3"]),
        ("/a/2", ["a/2/3"]),
        ("/a/1", ["a/1"]),
        ("/a.dcm", ["a.dcm"]),
        ("/b", []),
    ],
)
async def test_a_name_is_one_object_or_a_directory(store: Moto, spool: Spool, name: str, keys: list[str]) -> None:
    """A prefix never ends within a part of a key: /a is not /ab. A name without objects is an empty source."""
    for key in ["a.dcm", "a/1", "a/2/3", "ab/1"]:
        store.put(key, INSTANCE)
    source = source_of(store, spool, f"s3://{BUCKET}{name}")
    assert locations(source) == [f"s3://{BUCKET}/{key}" for key in keys]
    assert list(source.empty_parts) == ([] if keys else [f"s3://{BUCKET}{name}"])


async def test_markers_are_left_out_and_what_cannot_be_sent_has_a_reason(store: Moto, spool: Spool) -> None:
    """Tools make empty objects for directories; an archived object is named as such before it is asked for."""
    store.put("dir/", b"")
    store.put("dir/empty.dcm", b"")
    store.put("dir/glacier.dcm", INSTANCE, StorageClass="GLACIER")
    store.put("dir/text.txt", b"not DICOM at all")
    store.put("dir/big.txt", b"not DICOM at all" * WHOLE_BYTES)
    store.put("dir/small.zip", b"PK\x03\x04" + bytes(1000))
    store.put("dir/big.zip", b"PK\x03\x04" + bytes(2 * WHOLE_BYTES))
    ends = await fetch_all(source_of(store, spool))
    assert {location.rpartition("/")[2]: end for location, end in ends.items()} == {
        "empty.dcm": "skipped: empty",
        "glacier.dcm": "unreadable: in an archive storage class: restore it first (GLACIER)",
        "text.txt": "HeadError: not DICOM",
        "big.txt": "skipped: not DICOM",
        "small.zip": "ContainerHead: a zip archive, which was not looked into: unpack it and send the files inside",
        "big.zip": "unreadable: a zip archive, which was not looked into: unpack it and send the files inside",
    }


async def test_a_large_object_that_is_not_dicom_is_not_fetched_whole(faulty: FaultyStore, spool: Spool) -> None:
    """Its first range decides."""
    faulty.contents["film.mp4"] = bytes(range(256)) * 2**14
    await fetch_all(source_of(faulty, spool))
    assert faulty.sent_bytes <= 2 * HEAD_BYTES


async def test_a_large_object_is_fetched_in_parts(faulty: FaultyStore, spool: Spool) -> None:
    """Several parts are asked for at once, and written in their order."""
    faulty.contents["large.dcm"] = LARGE
    ends = await fetch_all(source_of(faulty, spool))
    assert ends == {f"s3://{BUCKET}/large.dcm": LARGE}
    gets = [path for path in faulty.requests if path.endswith("large.dcm")]
    assert len(gets) == 1 + -(-(len(LARGE) - HEAD_BYTES) // PART_BYTES)


async def test_an_object_that_is_replaced_while_it_is_looked_at_has_a_reason(faulty: FaultyStore, spool: Spool) -> None:
    """An object without preamble needs further ranges; a failure of one is that object's, and does not end the run."""
    private = b"\x09\0\x10\x10UN\0\0" + (2 * WHOLE_BYTES).to_bytes(4, "little") + bytes(2 * WHOLE_BYTES)
    faulty.contents["bare"] = b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + private + b"\x20\0\x0d\0UI\x04\x001.2\0"

    def replace_after_first(_: str) -> None:
        if faulty.sent_bytes:
            faulty.contents["bare"] = bytes(len(faulty.contents["bare"]))

    faulty.on_object = replace_after_first
    ends = await fetch_all(source_of(faulty, spool))
    assert ends == {
        f"s3://{BUCKET}/bare": "unreadable: cannot be fetched: replaced since it was listed: the next run sends it"
    }


async def test_objects_for_which_the_spool_has_no_file_have_a_reason(faulty: FaultyStore, tmp_path: Path) -> None:
    """Small ones fit into memory."""
    faulty.contents |= {"large.dcm": LARGE, "small.dcm": INSTANCE}
    with closing(Spool(64 * 2**20, tmp_path / "missing")) as spool:
        ends = await fetch_all(source_of(faulty, spool))
        assert spool.used_bytes == 0
    assert ends == {
        f"s3://{BUCKET}/large.dcm": "unreadable: the spool cannot be written: No such file or directory",
        f"s3://{BUCKET}/small.dcm": INSTANCE,
    }


async def test_the_spool_is_never_exceeded(store: Moto) -> None:
    """Objects wait for room until others are released; one that is larger than the spool has a reason."""
    for number in range(12):
        store.put(f"{number:02}.dcm", LARGE if number == 0 else INSTANCE + bytes(300_000))
    with closing(Spool(2**20)) as spool:
        source = source_of(store, spool, concurrency=8)
        candidates = [found for found in scanned(source) if isinstance(found, Candidate)]
        most_bytes = 0
        ends: list[Found] = []
        async for several in source.fetch(candidates):
            most_bytes = max(most_bytes, spool.used_bytes)
            ends += several
            source.release([found for found in several if isinstance(found, Candidate)])
        assert most_bytes <= 2**20
        assert spool.used_bytes == 0
    (failed,) = (end for end in ends if isinstance(end, FileResult))
    assert failed.reason.startswith("larger than the spool: ")
    assert len(ends) == 12


async def test_an_object_that_was_replaced_or_removed_is_never_mixed(store: Moto, spool: Spool) -> None:
    """Every request demands the ETag of the listing."""
    for key in ("replaced.dcm", "large.dcm", "removed.dcm", "kept.dcm"):
        store.put(key, LARGE if key == "large.dcm" else INSTANCE)
    source = source_of(store, spool)
    candidates = [found for found in scanned(source) if isinstance(found, Candidate)]
    instances = {c.location: source.read_head(c) for c in candidates}
    store.put("replaced.dcm", part10(header(3), rows=16, columns=16, number=3))
    store.put("large.dcm", LARGE[:-1] + b"x")
    store.remove("removed.dcm")
    found = await fetched(source, candidates)
    reasons = {
        location.rpartition("/")[2]: item.reason for location, item in found.items() if isinstance(item, FileResult)
    }
    assert reasons.pop("removed.dcm").startswith("cannot be fetched: removed since it was listed")
    assert reasons == dict.fromkeys(
        ("replaced.dcm", "large.dcm"), "cannot be fetched: replaced since it was listed: the next run sends it"
    )
    source.release([item for item in found.values() if isinstance(item, Candidate)])
    for candidate in candidates:
        is_kept = candidate.location.endswith("kept.dcm")
        assert (source.verify(instances[candidate.location]) == "") == is_kept
        if not is_kept:
            with pytest.raises(InstanceChanged), closing(source.open(instances[candidate.location])) as segments:
                SegmentReader(segments).read_into(memoryview(bytearray(10)))


async def test_a_body_that_is_cut_off_is_asked_for_again(faulty: FaultyStore, spool: Spool) -> None:
    """A lost connection costs the rest of the body, and the content is whole."""
    faulty.contents["a.dcm"] = INSTANCE + bytes(500_000)
    faulty.contents["large.dcm"] = LARGE
    faulty.cut_after_bytes, faulty.cuts_left = 30_000, 3
    ends = await fetch_all(source_of(faulty, spool))
    assert ends == {f"s3://{BUCKET}/{key}": content for key, content in faulty.contents.items()}
    assert faulty.cuts_left == 0


async def test_an_overloaded_store_is_asked_again(faulty: FaultyStore, spool: Spool) -> None:
    """503 is repeated by the store's client."""
    faulty.contents["a.dcm"] = INSTANCE
    source = source_of(faulty, spool)
    candidates = [found for found in scanned(source) if isinstance(found, Candidate)]
    faulty.unavailable_left = 2
    (found,) = (await fetched(source, candidates)).values()
    assert isinstance(found, Candidate)
    source.release([found])


async def test_a_store_that_is_gone_stops_the_run(store: Moto, spool: Spool) -> None:
    """No object is recorded as unreadable because the network is gone; after the server is back all is fetched."""
    for number in range(20):
        store.put(f"{number}.dcm", INSTANCE)
    source = source_of(store, spool)
    candidates = [found for found in scanned(source) if isinstance(found, Candidate)]
    store.stop()
    try:
        with pytest.raises(StorageGone, match=f"s3://{BUCKET}: the store does not answer"):
            await fetched(source, candidates)
    finally:
        store.start()
    found = await fetched(source, candidates)
    assert all(isinstance(item, Candidate) for item in found.values())
    source.release([item for item in found.values() if isinstance(item, Candidate)])


async def test_a_bucket_that_is_removed_stops_the_run(store: Moto, spool: Spool) -> None:
    """Its objects are not recorded as unreadable, either."""
    store.put("a.dcm", INSTANCE)
    source = source_of(store, spool)
    candidates = [found for found in scanned(source) if isinstance(found, Candidate)]
    store.remove("a.dcm")
    store.client.delete_bucket(Bucket=BUCKET)
    with pytest.raises(StorageGone, match="the bucket is gone"):
        await fetched(source, candidates)


async def test_a_login_that_ends_stops_the_run_after_some_objects(faulty: FaultyStore, spool: Spool) -> None:
    """One refused object is unreadable; a hundred in succession are the login's fault."""
    for number in range(120):
        faulty.contents[f"{number:03}.dcm"] = INSTANCE
    source = source_of(faulty, spool)
    candidates = [found for found in scanned(source) if isinstance(found, Candidate)]
    faulty.refusal = 403, "ExpiredToken"
    found = await fetched(source, candidates[:50])
    assert {item.reason for item in found.values() if isinstance(item, FileResult)} == {
        "cannot be fetched: the store answers 403, ExpiredToken: ExpiredToken was said"
    }
    with pytest.raises(StorageGone, match="100 objects in succession failed"):
        await fetched(source, candidates[50:])


@pytest.mark.parametrize("scheme", ["s3", "gs"])
async def test_a_bucket_that_does_not_exist_is_an_error_of_the_user(store: Moto, spool: Spool, scheme: str) -> None:
    """Nothing is sent before the name is right."""
    options = StoreOptions(endpoint=store.endpoint, is_anonymous=scheme == "gs", retry_s=RETRY_S)
    names = [f"{scheme}://{BUCKET}", f"{scheme}://no-such-bucket"]
    with pytest.raises(ConfigurationError, match="no-such-bucket: there is no such bucket"):
        next(iter(ObjectSource(names, spool, options).scan()))


async def test_a_refused_login_is_an_error_of_the_user(faulty: FaultyStore, spool: Spool) -> None:
    """The message has the store's code and the option for a public bucket, and not the secret."""
    faulty.refusal = 403, "InvalidAccessKeyId"
    with pytest.raises(
        ConfigurationError, match=r"access is refused.*InvalidAccessKeyId.*--source-anonymous"
    ) as raised:
        scanned(source_of(faulty, spool))
    assert LOGIN["AWS_SECRET_ACCESS_KEY"] not in str(raised.value)


async def test_without_a_login_the_message_says_where_it_was_looked_for(
    store: Moto, spool: Spool, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """--source-anonymous needs none."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    with pytest.raises(ConfigurationError, match="no login was found"):
        scanned(source_of(store, spool))
    store.put("a.dcm", INSTANCE)
    options = StoreOptions(endpoint=store.endpoint, is_anonymous=True)
    assert await fetch_all(ObjectSource([f"s3://{BUCKET}"], spool, options)) == {f"s3://{BUCKET}/a.dcm": INSTANCE}


async def test_a_profile_of_the_tools_of_aws_is_a_login(
    store: Moto, spool: Spool, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also its endpoint and its region, so that no flag is needed."""
    home = tmp_path_factory.mktemp("home")
    (home / "credentials").write_text("[pacs]\naws_access_key_id = a\naws_secret_access_key = b\n")
    (home / "config").write_text(f"[profile pacs]\nregion = eu-central-1\nendpoint_url = {store.endpoint}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    monkeypatch.setenv("AWS_PROFILE", "pacs")
    store.put("a.dcm", INSTANCE)
    assert await fetch_all(ObjectSource([f"s3://{BUCKET}"], spool)) == {f"s3://{BUCKET}/a.dcm": INSTANCE}


async def test_a_store_with_a_certificate_of_its_own_is_trusted_if_the_user_says_so(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both libraries, that which lists and that which reads, get the CA, or do not verify."""
    for name, value in LOGIN.items():
        monkeypatch.setenv(name, value)
    with faulty_store(contents={"a.dcm": INSTANCE}, tls=server_context(tmp_path)) as store:
        strange = StoreOptions(endpoint=store.endpoint, retry_s=RETRY_S)
        with pytest.raises(StorageGone, match="cannot be reached"):
            scanned(ObjectSource([f"s3://{BUCKET}"], spool, strange))
        for options in (replace(strange, ca_file=tmp_path / "ca.pem"), replace(strange, is_insecure=True)):
            assert await fetch_all(ObjectSource([f"s3://{BUCKET}"], spool, options)) == {
                f"s3://{BUCKET}/a.dcm": INSTANCE
            }


async def test_shards_are_disjoint_and_complete(store: Moto, spool: Spool) -> None:
    """As for directories, the names below the source decide."""
    keys = [f"p/{study}/{number}" for study in range(40) for number in range(2)]
    for key in keys:
        store.put(key, INSTANCE)
    options = StoreOptions(endpoint=store.endpoint)
    parts = [
        locations(ObjectSource([f"s3://{BUCKET}/p"], spool, options, sharding=Sharding(Shard(number, 3))))
        for number in (1, 2, 3)
    ]
    assert sorted(itertools.chain(*parts)) == sorted(f"s3://{BUCKET}/{key}" for key in keys)
    studies = [{location.rpartition("/")[0] for location in part} for part in parts]
    assert sum(map(len, studies)) == len(set().union(*studies)) == 40
    assert all(studies)


async def test_a_long_listing_is_drawn_page_by_page(faulty: FaultyStore, spool: Spool) -> None:
    """A list is a page, and the next page is asked for when it is drawn."""
    faulty.made_keys = 3500
    lists = source_of(faulty, spool).scan()
    assert [len(next(lists)) for _ in range(2)] == [1000, 1000]
    assert sum("continuation-token" in path for path in faulty.requests) == 1
    assert [len(found) for found in lists] == [1000, 500]


async def test_google_cloud_storage(store: Moto, spool: Spool) -> None:
    """Its XML interface lists as S3's does, so moto stands in for it, with public objects."""
    for key in ("a/x.dcm", "a/%2F ü", "dir/"):
        store.put(key, INSTANCE if key != "dir/" else b"")
    options = StoreOptions(endpoint=store.endpoint, is_anonymous=True, retry_s=RETRY_S)
    ends = await fetch_all(ObjectSource([f"gs://{BUCKET}"], spool, options))
    assert ends == {
        f"gs://{BUCKET}/a/x.dcm": INSTANCE,
        f"gs://{BUCKET}/a/%2F ü": INSTANCE,
        f"gs://{BUCKET}/dir": "skipped: empty",
    }


async def test_a_directory_of_google_that_cannot_be_listed_has_a_reason(store: Moto, spool: Spool) -> None:
    """obstore lists no page with such a key; the other directories are sent."""
    for key in ("a/x.dcm", "b//y.dcm", "b/z.dcm", "c/w.dcm"):
        store.put(key, INSTANCE)
    options = StoreOptions(endpoint=store.endpoint, is_anonymous=True, retry_s=RETRY_S)
    ends = await fetch_all(ObjectSource([f"gs://{BUCKET}"], spool, options))
    reason = ends.pop(f"gs://{BUCKET}/b/")
    assert str(reason).startswith("unreadable: cannot be listed: it has a key with an empty part")
    assert ends == {f"gs://{BUCKET}/{key}": INSTANCE for key in ("a/x.dcm", "c/w.dcm")}


@pytest.mark.parametrize("prefix", ["/a", "a//b", "a/../b"])
def test_a_prefix_that_obstore_cannot_address_is_an_error_of_the_user(store: Moto, spool: Spool, prefix: str) -> None:
    """It would be another one without its empty part."""
    options = StoreOptions(endpoint=store.endpoint, is_anonymous=True, retry_s=RETRY_S)
    with pytest.raises(ConfigurationError, match=r"its key has .*, which only works with S3"):
        scanned(ObjectSource([f"gs://{BUCKET}/{prefix}"], spool, options))


async def test_azure(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azurite, with the login of a connection string: listed, fetched, archived, replaced."""
    if (program := azurite_program()) is None:
        pytest.skip("azurite-blob is not installed: npm install -g azurite")
    with azurite(program) as server:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", server.connection_string)
        for key in ("a/x.dcm", "a/large.dcm", "cold.dcm", "replaced.dcm"):
            server.put(key, LARGE if "large" in key else INSTANCE)
        server.archive("cold.dcm")
        source = ObjectSource([f"az://{BUCKET}"], spool, StoreOptions(retry_s=RETRY_S))
        candidates = [found for found in scanned(source) if isinstance(found, Candidate)]
        server.put("replaced.dcm", INSTANCE + b"x")
        found = await fetched(source, candidates)
        ends = {
            location.rpartition("/")[2]: item.reason if isinstance(item, FileResult) else content_of(source, item)
            for location, item in found.items()
        }
        assert str(ends.pop("cold.dcm")).startswith("cannot be fetched: in an archive storage class: restore it first")
        assert ends == {
            "x.dcm": INSTANCE,
            "large.dcm": LARGE,
            "replaced.dcm": "cannot be fetched: replaced since it was listed: the next run sends it",
        }
        instance = source.read_head(next(c for c in candidates if c.location.endswith("x.dcm")))
        assert source.verify(instance) == ""
        source.release([item for item in found.values() if isinstance(item, Candidate)])


def test_variables_of_azures_tools_are_read() -> None:
    """obstore reads others; a key may have = at its end."""
    assert azure_configuration({"AZURE_STORAGE_ACCOUNT": "pacs", "AZURE_STORAGE_KEY": "a2V5==", "OTHER": "x"}) == {
        "account_name": "pacs",
        "account_key": "a2V5==",
    }
    string = "DefaultEndpointsProtocol=https;AccountName=pacs;AccountKey=a2V5==;EndpointSuffix=core.windows.net"
    assert azure_configuration({"AZURE_STORAGE_CONNECTION_STRING": string}) == {
        "account_name": "pacs",
        "account_key": "a2V5==",
    }
