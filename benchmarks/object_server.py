"""Object stores to measure with: `python -m benchmarks.object_server moto|fast DIRECTORY`, `made NUMBER`.

`moto` keeps the files of a directory as objects in moto's S3 server, a Python program of one thread at a time. `fast`
answers the requests that a reader makes with the same files, at a fraction of the cost. `made` lists objects that it
does not have. Each prints its port, and ends with its input. A login is not asked for.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from benchmarks.processes import CHECKOUT, HOST, environment

BUCKET = "archive"
PAGE_LENGTH = 1000
FILE_BYTES = 526_000

LOGIN = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "something", "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def object_server(kind: str, content: str) -> Iterator[str]:
    """Give the URL of a server."""
    command = [sys.executable, "-m", "benchmarks.object_server", kind, content]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment() | LOGIN
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield f"http://{HOST}:{int(server.stdout.readline().removeprefix('PORT '))}"
        finally:
            server.stdin.close()


class _Listing:
    """Names in their order, some of which are made when they are listed."""

    def __init__(self, names: list[str], made: int = 0) -> None:
        self._names = names
        self._made = made

    def page(self, after: str) -> str:
        """Return a page of ListObjectsV2."""
        first = int(after) + 1 if after else 0
        count = len(self._names) or self._made
        numbers = range(first, min(count, first + PAGE_LENGTH))
        rows = "".join(
            f"<Contents><Key>{quote(self._name(number))}</Key><LastModified>2026-11-30T00:00:00.000Z</LastModified>"
            f'<ETag>"{number:032x}"</ETag><Size>{self._size(number)}</Size></Contents>'
            for number in numbers
        )
        is_truncated = numbers.stop < count
        token = f"<NextContinuationToken>{numbers[-1]}</NextContinuationToken>" if is_truncated else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><EncodingType>url</EncodingType>'
            f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>{token}{rows}</ListBucketResult>"
        )

    def _name(self, number: int) -> str:
        return self._names[number] if self._names else f"study {number // 500:06}/{number:08}.dcm"

    def _size(self, number: int) -> int:
        return os.stat(f"/{self._names[number]}").st_size if self._names else FILE_BYTES  # noqa: PTH116


async def _serve_fast(listing: _Listing, numbers: dict[str, int]) -> None:
    async def answer(request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if "list-type" in request.query:
            page = listing.page(request.query.get("continuation-token", ""))
            return web.Response(text=page, content_type="application/xml")
        with open(key, "rb", buffering=0) as file:  # noqa: PTH123, ASYNC230 - from the page cache
            size_bytes = os.fstat(file.fileno()).st_size
            begin, end = request.http_range.start or 0, min(request.http_range.stop or size_bytes, size_bytes)
            body = os.pread(file.fileno(), end - begin, begin)
        headers = {
            "ETag": f'"{numbers[key]:032x}"',
            "Last-Modified": "Mon, 30 Nov 2026 00:00:00 GMT",
            "Content-Range": f"bytes {begin}-{end - 1}/{size_bytes}",
        }
        return web.Response(status=206, body=body, headers=headers)

    application = web.Application()
    application.router.add_get(f"/{BUCKET}{{key:.*}}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    print("PORT", runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


def _files(directory: Path) -> list[str]:
    return sorted(str(path) for path in directory.rglob("*") if path.is_file())


def _serve_moto(directory: Path) -> None:
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    client = boto3.client("s3", endpoint_url=f"http://{HOST}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    for name in _files(directory):
        client.put_object(Bucket=BUCKET, Key=name.removeprefix("/"), Body=Path(name).read_bytes())
    print("PORT", port, flush=True)
    sys.stdin.read()
    server.stop()


def main() -> None:
    """Run a server."""
    kind, content = sys.argv[1:]
    if kind == "moto":
        _serve_moto(Path(content))
        return
    names = [] if kind == "made" else _files(Path(content))
    listing = _Listing([name.removeprefix("/") for name in names], int(content) if kind == "made" else 0)
    asyncio.run(_serve_fast(listing, {name: number for number, name in enumerate(names)}))


if __name__ == "__main__":
    main()
