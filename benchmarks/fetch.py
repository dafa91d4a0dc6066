"""The minimal work of a client in Python: `python -m benchmarks.fetch URLS CONCURRENCY [ACCEPT]`.

Gets every URL of a file with aiohttp, CONCURRENCY at once, and drops the bodies. It parses and compares nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp

READ_BYTES = 2**18


async def fetch(urls: Iterator[str], concurrency: int, accept: str) -> None:
    """Get every URL."""
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, headers={"Accept": accept}) as session:

        async def work() -> None:
            for url in urls:
                async with session.get(url) as response:
                    response.raise_for_status()
                    while await response.content.read(READ_BYTES):
                        pass

        await asyncio.gather(*(work() for _ in range(concurrency)))


if __name__ == "__main__":
    accept = sys.argv[3] if len(sys.argv) > 3 else "application/dicom+json"
    asyncio.run(fetch(iter(Path(sys.argv[1]).read_text().split()), int(sys.argv[2]), accept))
