"""Object stores on this machine: moto's S3 in this process, Azurite where node has it, and a server with faults."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import http.server
import logging
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "archive"

LOGIN = {
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""A login for moto, which accepts every one; nothing is asked of the machine's own metadata service."""


class Moto:
    """An S3 server with one bucket."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._start(0)
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="someone",
            aws_secret_access_key="x",
        )

    def _start(self, port: int) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def put(self, key: str, content: bytes, **fields: str) -> None:
        """Store an object with public read access."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content, ACL="public-read", **fields)

    def remove(self, key: str) -> None:
        """Remove an object."""
        self.client.delete_object(Bucket=BUCKET, Key=key)

    def clear(self) -> None:
        """Make the bucket anew, without objects."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("POST", "/moto-api/reset")
        assert connection.getresponse().status == http.HTTPStatus.OK
        connection.close()
        self.client.create_bucket(Bucket=BUCKET)

    def stop(self) -> None:
        """End the server; its stored objects are kept in this process."""
        self._server.stop()

    def start(self) -> None:
        """Begin again at the same address."""
        self._start(self.port)


@contextmanager
def moto() -> Iterator[Moto]:
    """Run an S3 server."""
    server = Moto()
    try:
        yield server
    finally:
        server.client.close()
        server.stop()


@dataclass
class FaultyStore:
    """A server with S3's interface for one bucket, which answers as a test wants it."""

    contents: dict[str, bytes] = field(default_factory=dict)
    made_keys: int = 0
    """It lists so many objects that it does not have, after its own."""
    refusal: tuple[int, str] | None = None
    """Status and code of every answer."""
    cut_after_bytes: int | None = None
    """Bodies of objects end after so many bytes, and the connection with them."""
    cuts_left: int = 0
    """How many bodies are cut."""
    unavailable_left: int = 0
    """How many requests are answered with 503."""
    on_object: Callable[[str], None] | None = None
    """Called with the key before an object is sent."""
    requests: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    """Bytes of objects that were sent."""
    port: int = 0
    tls: ssl.SSLContext | None = None
    """With it, the server uses TLS, as localhost."""

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}" if self.tls is None else f"https://localhost:{self.port}"

    def etag(self, key: str) -> str:
        """Return the ETag of an object."""
        return f'"{hashlib.md5(self.contents[key]).hexdigest()}"'

    def page(self, after: str) -> str:
        """Return a page of the listing."""
        own = [name for name in sorted(self.contents) if name > after]
        entries = [(name, len(self.contents[name]), self.etag(name)) for name in own]
        first = int(after.removeprefix("made/")) + 1 if after.startswith("made/") else 0
        made = range(first, min(self.made_keys, first + 1000 - len(entries)))
        entries += [(f"made/{number:07}", 500_000, f'"{number:032x}"') for number in made]
        is_truncated = bool(made) and made[-1] + 1 < self.made_keys
        rows = "".join(
            f"<Contents><Key>{quote(key)}</Key><LastModified>2026-11-30T00:00:00.000Z</LastModified>"
            f"<ETag>{etag}</ETag><Size>{size_bytes}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key, size_bytes, etag in entries
        )
        token = f"<NextContinuationToken>{entries[-1][0]}</NextContinuationToken>" if is_truncated else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><EncodingType>url</EncodingType>'
            f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>{token}{rows}</ListBucketResult>"
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers as its store says."""

    store: FaultyStore
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        store = self.store
        store.requests.append(self.path)
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        key = unquote(url.path).removeprefix(f"/{BUCKET}").removeprefix("/")
        if store.unavailable_left:
            store.unavailable_left -= 1
            return self._answer(503, _error("SlowDown"))
        if store.refusal is not None:
            status, code = store.refusal
            return self._answer(status, _error(code))
        if "list-type" in query:
            after = query.get("continuation-token", query.get("start-after", [""]))[0]
            return self._answer(200, store.page(after).encode())
        if key not in store.contents:
            return self._answer(404, _error("NoSuchKey"))
        return self._object(key)

    do_HEAD = do_GET  # noqa: N815

    def _object(self, key: str) -> None:
        store = self.store
        if store.on_object is not None:
            store.on_object(key)
        content = store.contents[key]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
        begin, end = (int(found[1]), min(int(found[2]) + 1, len(content))) if found else (0, len(content))
        self.send_response(206 if found else 200)
        self.send_header("ETag", store.etag(key))
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
        if found:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        piece = content[begin:end]
        if store.cut_after_bytes is not None and store.cuts_left and len(piece) > store.cut_after_bytes:
            store.cuts_left -= 1
            piece = piece[: store.cut_after_bytes]
            self.close_connection = True
        self.wfile.write(piece)
        store.sent_bytes += len(piece)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(http.server.ThreadingHTTPServer):
    """Logs no errors of clients that close their connections."""

    def handle_error(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def faulty_store(**fields: Any) -> Iterator[FaultyStore]:
    """Run a server with faults."""
    store = FaultyStore(**fields)
    handler = type("Handler", (_Handler,), {"store": store})
    with _Server(("127.0.0.1", 0), handler) as server:
        store.port = server.server_port
        if store.tls is not None:
            server.socket = store.tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield store
        finally:
            server.shutdown()
            thread.join()


def _error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code} was said</Message></Error>".encode()


AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The published key of Azurite's account."""

AZURITE_ACCOUNT = "devstoreaccount1"


@dataclass(frozen=True)
class Azurite:
    """A blob store of Azure's kind."""

    port: int

    @property
    def endpoint(self) -> str:
        """The URL of its account."""
        return f"http://127.0.0.1:{self.port}/{AZURITE_ACCOUNT}"

    @property
    def connection_string(self) -> str:
        """The account and its key, as Azure's tools want them."""
        return f"AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};BlobEndpoint={self.endpoint};"

    def make_container(self) -> None:
        """Make the container."""
        self._put(f"/{BUCKET}", "restype=container", {}, b"")

    def put(self, key: str, content: bytes) -> None:
        """Store a blob under a key that has no character to encode."""
        self._put(f"/{BUCKET}/{key}", "", {"x-ms-blob-type": "BlockBlob"}, content)

    def archive(self, key: str) -> None:
        """Move a blob to the archive tier."""
        self._put(f"/{BUCKET}/{key}", "comp=tier", {"x-ms-access-tier": "Archive"}, b"")

    def _put(self, path: str, query: str, headers: dict[str, str], body: bytes) -> None:
        """Make a request with a shared key (Azure Storage, Authorize with Shared Key)."""
        date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        sent = {"x-ms-date": date, "x-ms-version": "2021-12-02", **headers}
        canonical = "".join(f"{name}:{value}\n" for name, value in sorted(sent.items()))
        resource = f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}{path}" + "".join(
            f"\n{query.replace('=', ':')}" if query else ""
        )
        length = str(len(body)) if body else ""
        text = f"PUT\n\n\n{length}\n\n\n\n\n\n\n\n\n{canonical}{resource}"
        digest = hmac.new(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256).digest()
        sent["Authorization"] = f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(digest).decode()}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("PUT", f"/{AZURITE_ACCOUNT}{path}" + (f"?{query}" if query else ""), body, sent)
        answer = connection.getresponse()
        assert answer.status < http.HTTPStatus.MULTIPLE_CHOICES, answer.read()
        connection.close()


def azurite_program() -> list[str] | None:
    """Return the command of Azurite's blob service, if it is installed (`npm install -g azurite`)."""
    program = shutil.which("azurite-blob")
    return None if program is None else [program]


@contextmanager
def azurite(program: list[str]) -> Iterator[Azurite]:
    """Run Azurite in memory, with an empty container."""
    options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck"]
    with subprocess.Popen(
        [*program, *options, "--disableTelemetry"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if found := re.search(r"listens on http://127\.0\.0\.1:(\d+)", line):
                    server = Azurite(int(found[1]))
                    break
            else:
                raise AssertionError(f"Azurite ended: {said}")
            server.make_container()
            yield server
        finally:
            process.terminate()
