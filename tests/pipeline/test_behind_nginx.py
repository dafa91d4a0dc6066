"""Whole runs behind a real nginx that limits the rate of requests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from bulkstow.config import DestinationSettings, UploadSettings
from bulkstow.destination.auth import NoLogin
from bulkstow.ledger import Ledger
from bulkstow.model import Outcome
from bulkstow.progress.tally import Tally
from bulkstow.server.origin import Origin, serving
from bulkstow.server.storage import DirectoryStorage
from bulkstow.source.files import FileSource
from tests.archives import write_instance
from tests.pipeline.runs import new_run
from tests.stow import FileStow

pytestmark = pytest.mark.anyio

REQUIRED = "BULKSTOW_REQUIRE_NGINX"
PER_S = 20
STUDIES, INSTANCES = 10, 8

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {root}/nginx.pid;
error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log {root}/access.log;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    limit_req_zone $binary_remote_addr zone=requests:1m rate={per_s}r/s;
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        location / {{
            limit_req zone=requests {burst};
            limit_req_status {status};
            proxy_pass {origin};
        }}
    }}
}}
"""


def program() -> str:
    """Return the path of nginx, or skip the test."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        word = "nginx is not installed: apt-get install nginx-light"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, but {word}", pytrace=False)
        pytest.skip(word)
    return found


@contextmanager
def nginx(root: Path, origin: str, *, burst: str, status: int) -> Iterator[int]:
    """Run an nginx before an origin, and yield its port."""
    root.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    configuration = root / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(root=root, per_s=PER_S, port=port, burst=burst, status=status, origin=origin)
    )
    process = subprocess.Popen([program(), "-p", str(root), "-c", str(configuration)])
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


async def is_listening(port: int) -> None:
    """Wait until a port accepts connections."""
    with anyio.fail_after(10):
        while True:
            with suppress(OSError):
                async with await anyio.connect_tcp("127.0.0.1", port):
                    return
            await anyio.sleep(0.01)


@pytest.mark.parametrize(("burst", "status"), [("", 503), ("burst=5 nodelay", 429)])
async def test_everything_is_stored_at_the_rate_of_the_limiter(tmp_path: Path, burst: str, status: int) -> None:
    """Without Retry-After nothing is unconfirmed, few requests are rejected, no outage occurs, the rate is reported."""
    for study in range(STUDIES):
        for number in range(INSTANCES):
            write_instance(tmp_path / "archive" / f"{study}", number, study=study)
    tally = Tally()
    settings = UploadSettings(ledger=tmp_path / "l.db", batch_instances=1)
    async with serving(Origin(DirectoryStorage(tmp_path / "origin"))) as url:
        host = url.removesuffix("/dicom-web")
        with (
            nginx(tmp_path / "nginx", host, burst=burst, status=status) as port,
            Ledger(settings.ledger, url) as ledger,
        ):
            await is_listening(port)
            destination = FileStow(DestinationSettings(url=url.replace(host, f"http://127.0.0.1:{port}")), NoLogin())
            async with destination:
                await new_run(settings, FileSource([str(tmp_path / "archive")]), destination, ledger, tally).carry_out()
        answers = Counter(
            line.split('" ')[1].split()[0] for line in (tmp_path / "nginx/access.log").read_text().splitlines()
        )
    assert tally.outcomes == Counter({Outcome.STORED: STUDIES * INSTANCES})
    assert answers.keys() == {"200", str(status)}
    assert answers[str(status)] <= 0.25 * STUDIES * INSTANCES
    assert tally.outage_s == 0.0
    assert tally.server_requests_per_s is not None
