"""What tests of every room share."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio: aiohttp knows no other event loop."""
    return "asyncio"
