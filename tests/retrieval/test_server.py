"""Claims about the connection to a source server: settings, login, and messages in the words of the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkstow.config import UploadSettings
from bulkstow.errors import ConfigurationError, DestinationRefused, LoginRefused
from bulkstow.pipeline.worker_threads import WorkerThreads
from bulkstow.policy.selection import EVERYTHING
from bulkstow.quantities import Shard
from bulkstow.retrieval.source import open_source
from bulkstow.server.login import Login
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage
from bulkstow.source.spool import Spool
from bulkstow.source_settings import SourceSettings
from tests.retrieval.servers import Told, archive, candidates_of, opened, origin_with

pytestmark = pytest.mark.anyio


async def try_to_open(
    *names: str,
    source: SourceSettings | None = None,
    settings: UploadSettings | None = None,
    environment: dict[str, str] | None = None,
) -> None:
    """Open a source and close it."""
    threads = WorkerThreads(1)
    try:
        async with open_source(
            names,
            source or SourceSettings(),
            settings or UploadSettings(),
            Spool(2**20),
            EVERYTHING,
            threads=threads,
            reporter=Told(),
            environment=environment or {},
        ):
            pass
    finally:
        threads.shutdown(wait=True)


async def test_a_login_is_that_of_the_source(tmp_path: Path) -> None:
    """The password comes from the source's own variable, and the secret of the destination is not sent to it."""
    login = Login(users={"reader": "secret-of-the-source"})
    settings = SourceSettings(source_user="reader")
    async with serving(Origin(DirectoryStorage(tmp_path), login=login)) as url:
        name = f"dicomweb+{url}"
        await try_to_open(name, source=settings, environment={"BULKSTOW_SOURCE_PASSWORD": "secret-of-the-source"})
        with pytest.raises(ConfigurationError, match="--source-user without a password: set BULKSTOW_SOURCE_PASSWORD"):
            await try_to_open(name, source=settings, environment={"BULKSTOW_PASSWORD": "secret-of-the-source"})
        with pytest.raises(LoginRefused, match=r"requires a login \(401\), and none was given: --source-user, "):
            await try_to_open(name, environment={"BULKSTOW_BEARER": "secret-of-the-destination"})


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("dicomweb+http:///x", SourceSettings(), "the source 'http:///x': expected"),
        ("dicomweb+http://u:p@h/x", SourceSettings(), "the source holds a user or password"),
        (
            "dicomweb+http://h/x",
            SourceSettings(source_header=("Authorization: a",), source_user="u"),
            "--source-header Authorization",
        ),
        (
            "dicomweb+http://h/x",
            SourceSettings(source_bearer_file=Path("/nonexistent")),
            "--source-bearer-file /nonexistent: cannot be read",
        ),
        (
            "dicomweb+https://h/x",
            SourceSettings(source_ca_file=Path("/nonexistent")),
            "certificates /nonexistent cannot be loaded",
        ),
    ],
)
async def test_wrong_settings_are_named_as_the_user_wrote_them(name: str, settings: SourceSettings, words: str) -> None:
    """An error names the setting of the source, not that of the destination with the same purpose."""
    with pytest.raises(ConfigurationError) as caught:
        await try_to_open(name, source=settings)
    assert words in str(caught.value)


async def test_only_whole_studies_of_one_server() -> None:
    """Several servers, and shards of another unit, are refused before anything is asked."""
    with pytest.raises(ConfigurationError, match="one DICOMweb server at a time"):
        await try_to_open("dicomweb+http://a/x", "dicomweb+http://b/x")
    with pytest.raises(ConfigurationError, match="whole studies"):
        await try_to_open("dicomweb+http://a/x", settings=UploadSettings(shard=Shard(1, 2), shard_level="file"))


async def test_a_server_that_is_not_there_is_told_at_once() -> None:
    """The run does not wait for a source that it has never reached."""
    with pytest.raises(DestinationRefused, match=r"127\.0\.0\.1:1/x"):
        await try_to_open("dicomweb+http://127.0.0.1:1/x")


async def test_the_limit_of_concurrent_requests_is_kept(tmp_path: Path) -> None:
    """--source-concurrency bounds searches and retrievals together."""
    async with (
        origin_with(tmp_path, archive(12, 2, 2)) as stored,
        opened(stored.name, SourceSettings(source_concurrency=2)) as source,
    ):
        most = 0
        requests = source.server.requests
        search = source.server.search
        asked = search.search

        async def counted(*args: object, **kwargs: object) -> object:
            nonlocal most
            most = max(most, requests.in_flight)
            return await asked(*args, **kwargs)  # type: ignore[arg-type]

        search.search = counted  # type: ignore[method-assign,assignment]
        candidates = candidates_of(await source.scanned())
        async for found in source.source.fetch(candidates):
            most = max(most, requests.in_flight)
            source.source.release(candidates_of([found]))
        assert most == 2
