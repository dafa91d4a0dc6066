"""An origin that runs, and a client to talk to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage


@pytest.fixture
async def session(anyio_backend: str) -> AsyncIterator[ClientSession]:
    """Give a client."""
    async with ClientSession() as session:
        yield session


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    """Give an empty storage in a directory of its own."""
    return DirectoryStorage(tmp_path / "root")


@pytest.fixture
async def url(storage: DirectoryStorage) -> AsyncIterator[str]:
    """Give the base URL of an origin on that storage."""
    async with serving(Origin(storage)) as url:
        yield url
