"""Processes: those that are measured, and those that serve them.

A peer is run as a whole, from exec to exit, and what it used is the kernel's word (wait4). A server belongs to a
`with`; it is ended by its own handle. A process started from here cannot show a smaller peak of memory than this one
has (the kernel hands that figure on), so this package imports no more than it must.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
CHECKOUT = Path(__file__).resolve().parent.parent
"""Where `benchmarks` can be imported."""

START_PATIENCE_S = 30.0
ORTHANC_PLUGIN = "libOrthancDicomWeb.so"
ORTHANC_PLUGIN_PLACES = ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins", "/usr/lib/orthanc")
"""Debian's, the Docker images', and where builds from source put it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one peer."""

    wall_s: float
    cpu_s: float
    """User and system time of the process and its children."""
    rss_bytes: int
    """The largest that any of them was."""
    server_cpu_s: float = 0.0


class PeerFailed(Exception):
    """A peer did not do its work: its time says nothing."""


def environment() -> dict[str, str]:
    """Return ours without settings of bulkstow: what is measured are the defaults."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BULKSTOW_")}


def measured(command: Sequence[str]) -> Sample:
    """Run a command and return what it took; PeerFailed with its last words where its status is not 0."""
    with tempfile.TemporaryFile() as words:
        started_s = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment(), cwd=CHECKOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started_s
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            words.seek(0)
            said = words.read()[-2000:].decode(errors="replace")
            raise PeerFailed(f"{' '.join(command)}\nended with {process.returncode}:\n{said}")
    return Sample(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


@dataclass(frozen=True, slots=True)
class Server:
    """Somewhere to send to."""

    url: str
    counts_url: str
    count_key: str
    ca_file: Path | None = None
    dicom_port: int = 0
    pid: int = 0

    def instances(self) -> int:
        """Return how many instances it has taken."""
        return int(self.counts()[self.count_key])

    def counts(self) -> dict[str, Any]:
        """Return all that it says of itself."""
        trust = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        with urllib.request.urlopen(self.counts_url, timeout=START_PATIENCE_S, context=trust) as answer:
            counts: dict[str, Any] = json.load(answer)
        return counts


@contextmanager
def sink(*options: str, tls: Path | None = None) -> Iterator[Server]:
    """Give an acknowledging sink; with a certificate, over TLS."""
    command = [sys.executable, "-m", "bulkstow.server.sink", *options]
    if tls:
        command += ["--tls-cert", str(tls / "server.pem")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline().removeprefix("PORT "))
            url = f"{'https' if tls else 'http'}://{HOST}:{port}/dicom-web"
            yield Server(url, f"{url}/counts", "instances", tls / "ca.pem" if tls else None)
        finally:
            server.stdin.close()


@dataclass(slots=True)
class View:
    """A slowed view of a directory; `asked` is filled when it is gone."""

    directory: Path
    asked: dict[str, Any] = field(default_factory=dict)


@contextmanager
def slowed(directory: Path, mount: Path, *options: str) -> Iterator[View]:
    """Give a directory as slow storage would; PeerFailed where no such view can be mounted.

    `mount` is a directory within one that a library can be built in, for the process that serves the view.
    """
    programs = all(map(shutil.which, ("fusermount3", "cc")))
    if not Path("/dev/fuse").exists() or not programs or find_spec("mfusepy") is None:
        raise PeerFailed(
            "a slowed view wants /dev/fuse, fuse3 and cc (apt-get install fuse3 gcc), and mfusepy (pip install mfusepy)"
        )
    library = mount.with_name("parallel_lookups.so")
    build = ["cc", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_name("parallel_lookups.c"))]
    subprocess.run(build, check=True)
    command = [sys.executable, "-m", "benchmarks.slowed", str(directory), str(mount), *options]
    preloaded = {**environment(), "LD_PRELOAD": str(library)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=preloaded) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "MOUNTED\n":
            raise PeerFailed(f"{' '.join(command)}\nis not mounted: its words are above")
        view = View(mount)
        try:
            yield view
        finally:
            subprocess.run(["fusermount3", "-u", str(mount)], check=True)
            view.asked.update(json.loads(process.stdout.readline()))


def make_certificates(directory: Path) -> Path:
    """Write a certificate for this host and the authority that vouches for it."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
    return directory


@contextmanager
def orthanc(directory: Path) -> Iterator[Server]:
    """Give an Orthanc without data, with DICOMweb and a DICOM port; its data is gone afterwards."""
    program = shutil.which("Orthanc")
    plugin = next((path for place in ORTHANC_PLUGIN_PLACES if (path := Path(place) / ORTHANC_PLUGIN).exists()), None)
    if program is None or plugin is None:
        raise PeerFailed("Orthanc with its DICOMweb plugin is not installed: apt-get install orthanc orthanc-dicomweb")
    http_port, dicom_port = _free_port(), _free_port()
    storage = directory / "orthanc"
    storage.mkdir()
    config = storage / "orthanc.json"
    settings = {
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    config.write_text(json.dumps(settings))
    root = f"http://{HOST}:{http_port}"
    process = subprocess.Popen([program, str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Server(f"{root}/dicom-web", f"{root}/statistics", "CountInstances", dicom_port=dicom_port, pid=process.pid)
    try:
        _wait_for(server, process)
        yield server
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(storage)


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_PATIENCE_S
    while True:
        try:
            server.counts()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise PeerFailed("Orthanc does not come up") from None
            time.sleep(0.02)
        else:
            return


def _free_port() -> int:
    """Return a port that nobody has, below those that outgoing connections get."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
