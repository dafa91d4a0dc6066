"""Whether the peers and the servers here do what they are measured at: every instance must arrive, by every way."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import peers, processes
from benchmarks.bench import Bench
from benchmarks.corpus import CT, MR, TINY
from benchmarks.peers import Peer
from benchmarks.processes import make_certificates, sink

PLAIN: dict[str, Peer] = {
    "bulkstow": peers.bulkstow(),
    "bulkstow with uvloop": peers.bulkstow_with_uvloop,
    "bulkstow on one core": peers.on_one_core(peers.bulkstow()),
    "bulkstow --chunked": peers.bulkstow("--chunked"),
    "bulkstow --quote-boundary": peers.bulkstow("--quote-boundary"),
    "curl -T": peers.curl_upload,
    "curl --data-binary": peers.curl_data,
    "shell script": peers.shell_script,
    "dicomweb-client": peers.dicomweb_client,
    "sendfile": peers.sendfile,
}
TLS = ("bulkstow", "bulkstow with uvloop", "curl -T")
ORTHANC: dict[str, Peer] = {"dcmsend": peers.dcmsend, "dicomweb-client": peers.dicomweb_client}


def selftest(bench: Bench) -> None:
    """Send small archives in every way; PeerFailed for the first that does not arrive in full."""
    archives = [bench.corpus(CT, 0.01), bench.corpus(MR, 0.01), bench.corpus(TINY, 0.002)]
    certificates = make_certificates(bench.scratch)
    with sink() as plain, sink(tls=certificates) as encrypted, sink("--slots", "2", "--service-ms", "5") as slow:
        for archive in archives:
            for name, peer in PLAIN.items():
                bench.run(peer, archive, plain)
                print(f"ok: {archive.directory.name}, {name}", flush=True)
            for name in TLS:
                bench.run(PLAIN[name], archive, encrypted)
                print(f"ok: {archive.directory.name}, {name}, TLS", flush=True)
            bench.run(PLAIN["bulkstow"], archive, slow)
    for name, peer in ORTHANC.items():
        with tempfile.TemporaryDirectory(dir=bench.scratch) as own, processes.orthanc(Path(own)) as server:
            bench.run(peer, archives[0], server)
        print(f"ok: {archives[0].directory.name}, {name}, Orthanc", flush=True)
