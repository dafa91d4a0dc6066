"""Who is compared: each peer as the command line that a person would use.

Owns commands, and nothing of how they are timed. Every peer gets the same archive in the same page cache; what is sent
ready-made (curl, the sink's ceiling) was glued before the clock starts, the shell script glues on the clock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.corpus import Corpus
from benchmarks.processes import Server

Peer = Callable[[Corpus, Server, Path], list[str]]
"""From what to send, where to and a directory of one's own to a command."""

_WITH_UVLOOP = "import uvloop; uvloop.install(); from bulkstow.cli import main; main()"


def bulkstow(*options: str) -> Peer:
    """Return bulkstow with these options beside the defaults, and a new ledger."""

    def command(corpus: Corpus, server: Server, scratch: Path) -> list[str]:
        return [sys.executable, "-m", "bulkstow", *_upload(corpus, server, scratch), *options]

    return command


def bulkstow_with_uvloop(corpus: Corpus, server: Server, scratch: Path) -> list[str]:
    """Return bulkstow on another event loop: is it time to use that?"""
    return [sys.executable, "-c", _WITH_UVLOOP, *_upload(corpus, server, scratch)]


def feeling(peer: Peer, late: Path) -> Peer:
    """Return bulkstow as `peer` has it, with what its event loop was late written to `late`."""

    def command(corpus: Corpus, server: Server, scratch: Path) -> list[str]:
        python, _, _, *words = peer(corpus, server, scratch)
        return [python, "-m", "benchmarks.pulse", str(late), *words]

    return command


def on_one_core(peer: Peer) -> Peer:
    """Return a peer that is kept to one core; the server has the others."""

    def command(corpus: Corpus, server: Server, scratch: Path) -> list[str]:
        return ["taskset", "--cpu-list", "0", *peer(corpus, server, scratch)]

    return command


def _upload(corpus: Corpus, server: Server, scratch: Path) -> list[str]:
    trust = ["--ca-file", str(server.ca_file)] if server.ca_file else []
    return ["upload", str(corpus.directory), "--url", server.url, "--ledger", str(scratch / "ledger.db"), *trust]


def curl_upload(corpus: Corpus, server: Server, scratch: Path) -> list[str]:
    """Return `curl -T`: curl reads the ready-made body as it sends it."""
    return _curl(corpus, server, scratch, "--request", "POST", "--upload-file", str(corpus.body().path))


def curl_data(corpus: Corpus, server: Server, scratch: Path) -> list[str]:
    """Return `curl --data-binary`: curl reads the ready-made body into memory first."""
    return _curl(corpus, server, scratch, "--data-binary", f"@{corpus.body().path}")


def _curl(corpus: Corpus, server: Server, scratch: Path, *body: str) -> list[str]:
    trust = ["--cacert", str(server.ca_file)] if server.ca_file else []
    headers = [f"Content-Type: {corpus.body().content_type}", "Accept: application/dicom+json", "Expect:"]
    with_headers = [word for header in headers for word in ("--header", header)]
    quiet = ["--silent", "--show-error", "--fail", "--output", str(scratch / "answer")]
    return ["curl", *quiet, *trust, *with_headers, *body, f"{server.url}/studies"]


def sendfile(corpus: Corpus, server: Server, _scratch: Path) -> list[str]:
    """Return the sink's ceiling."""
    body = corpus.body()
    return [sys.executable, "-m", "benchmarks.sendfile", str(body.path), body.content_type, server.url]


def shell_script(corpus: Corpus, server: Server, scratch: Path) -> list[str]:
    """Return the script that glues all files into one body and has curl send it."""
    script = Path(__file__).with_name("glue.sh")
    return ["sh", str(script), str(corpus.directory), server.url, str(scratch / "glued")]


def dicomweb_client(corpus: Corpus, server: Server, _scratch: Path) -> list[str]:
    """Return dicomweb-client, in one process."""
    return [sys.executable, "-m", "benchmarks.store_datasets", str(corpus.directory), server.url]


def dcmsend(corpus: Corpus, server: Server, _scratch: Path) -> list[str]:
    """Return DCMTK's bulk sender: DIMSE instead of DICOMweb, one association."""
    where = ["127.0.0.1", str(server.dicom_port)]
    return ["dcmsend", "--scan-directories", "--recurse", *where, str(corpus.directory)]
