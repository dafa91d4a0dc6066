"""What this client does by itself, against a sink."""

from __future__ import annotations

import shutil
import ssl
import urllib.request
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from bulkstow.bench import ceiling
from bulkstow.bench.result import Load
from bulkstow.bench.workload import workload
from bulkstow.config import DestinationSettings

pytestmark = pytest.mark.anyio

MR = workload("mr", "ceiling")
LOAD = Load(20, connections=2)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for a moment only."""
    monkeypatch.setattr(ceiling, "CEILING_S", 0.3)
    monkeypatch.setattr(ceiling, "CEILING_WARM_UP_S", 0.1)


@pytest.mark.parametrize(
    ("load", "alike"),
    [
        (Load(10, connections=1), Load(10, connections=1)),
        (Load(10, connections=32), Load(10, connections=ceiling.CONNECTIONS)),
        (Load(10, rate_per_s=500.0), Load(10, connections=ceiling.CONNECTIONS)),
    ],
)
def test_loads_that_are_alike_to_the_client(load: Load, alike: Load) -> None:
    """More connections than keep it busy make no difference, and a rate is no limit."""
    assert ceiling.alike(load) == alike


@pytest.mark.parametrize("url", ["http://pacs.example/rs", "https://pacs.example/rs"])
async def test_a_ceiling_is_found(url: str) -> None:
    """As many bytes as instances have, whether sent plainly or over TLS; the server itself is asked nothing."""
    found = await ceiling.measure(DestinationSettings(url=url), MR, LOAD)
    assert found is not None
    assert found.instances_per_s > 0
    assert found.megabytes_per_s == pytest.approx(found.instances_per_s * MR.mean_bytes / 1e6)


async def test_no_sink_no_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that does not come up ends no measurement."""
    monkeypatch.setattr("sys.executable", shutil.which("true"))
    assert await ceiling.measure(DestinationSettings(url="http://pacs.example/rs"), MR, LOAD) is None


async def test_a_sink_ends_with_its_block() -> None:
    """Nobody is left behind."""
    async with ceiling.sink() as url:
        with await anyio.to_thread.run_sync(urllib.request.urlopen, f"{url}/counts") as answer:
            assert answer.status == 200
    with pytest.raises(OSError, match="refused"):
        await anyio.to_thread.run_sync(urllib.request.urlopen, f"{url}/counts")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_the_certificate_is_of_this_host(tmp_path: Path) -> None:
    """A client that trusts it takes it for 127.0.0.1, and its key is with it."""
    certificate = ceiling._certificate(tmp_path)
    assert certificate is not None
    context = ssl.create_default_context(cafile=certificate)
    context.load_cert_chain(certificate)
    (found,) = context.get_ca_certs()
    assert found["subjectAltName"] == (("IP Address", "127.0.0.1"),)


def test_without_openssl_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the ceiling is that of a plain connection."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ceiling._certificate(tmp_path) is None
