"""A fast server of QIDO-RS: `python -m benchmarks.searchable --studies 400 --instances 500 --page 1000`.

Every study has the same number of instances, in one series. Items are made at start, with the attributes that PS3.18
Table 10.6.3-5 requires of an instance, so an answer is a join of bytes. It runs in its own process on loopback, prints
`PORT n` when it listens, and ends when its standard input ends. GET .../counts returns the counts of its answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import cast
from urllib.parse import parse_qs, urlsplit

from benchmarks.archive_uids import instance_uid, series_uid, study_uid

ROOT = "/dicom-web"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_TARGET = re.compile(rb"GET ([^ ]+) HTTP/1\.1\r\n")
_RESOURCE = re.compile(r"/studies(?:/([0-9.]+))?(?:/series/([0-9.]+))?(?:/(instances|series))?")


@dataclass(slots=True)
class Counts:
    """The counts of everything answered since the start."""

    requests: int = 0
    instances: int = 0
    body_bytes: int = 0

    def as_json(self) -> bytes:
        """Return the counts and the processor time used as a JSON object."""
        return json.dumps(asdict(self) | {"cpu_s": time.process_time()}).encode()


class Catalogue:
    """The answers to searches of so many studies."""

    def __init__(self, studies: int, instances: int, page: int) -> None:
        self._items = {study_uid(s): [_instance(s, number) for number in range(instances)] for s in range(studies)}
        self._by_uid = {
            instance_uid(s, n): self._items[study_uid(s)][n] for s in range(studies) for n in range(instances)
        }
        self._studies = {study_uid(s): _study(s, instances) for s in range(studies)}
        self._page = page

    def find(self, target: str) -> list[bytes]:
        """Return the items of the page that a request's target names."""
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        named = _RESOURCE.fullmatch(path.removeprefix(ROOT))
        if named is None:
            return []
        if named[3] == "instances":
            found = self._items.get(named[1], [])
            if uids := query.get("SOPInstanceUID"):
                found = [self._by_uid[uid] for uid in uids if uid in self._by_uid and uid.startswith(f"{named[1]}.")]
        elif uids := query.get("StudyInstanceUID"):
            found = [self._studies[uid] for uid in uids if uid in self._studies]
        else:
            found = list(self._studies.values())
        first = int(query.get("offset", ["0"])[0])
        return found[first : first + min(self._page, int(query.get("limit", [str(self._page)])[0]))]


class Connection(asyncio.Protocol):
    """The connection of one client, which sends a request when it has the answer to the last."""

    def __init__(self, catalogue: Catalogue, counts: Counts) -> None:
        self._catalogue = catalogue
        self._counts = counts
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for answers."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._pending += data
        while b"\r\n\r\n" in self._pending:
            head, _, self._pending = self._pending.partition(b"\r\n\r\n")
            found = _TARGET.match(head + b"\r\n")
            if found is None:
                self._transport.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
                continue
            self._answer(found[1].decode("ascii"))

    def _answer(self, target: str) -> None:
        if target.endswith("/counts"):
            self._send(self._counts.as_json())
            return
        items = self._catalogue.find(target)
        self._counts.requests += 1
        self._counts.instances += len(items)
        if not items:
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        body = b"[" + b",".join(items) + b"]"
        self._counts.body_bytes += len(body)
        self._send(body)

    def _send(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode())
        self._transport.write(body)


def _instance(study: int, number: int) -> bytes:
    url = f"http://pacs.example/dicom-web/studies/{study_uid(study)}/series/{series_uid(study)}"
    item = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080016": {"vr": "UI", "Value": [SECONDARY_CAPTURE]},
        "00080018": {"vr": "UI", "Value": [instance_uid(study, number)]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "00080201": {"vr": "SH", "Value": ["+0000"]},
        "00081190": {"vr": "UR", "Value": [f"{url}/instances/{instance_uid(study, number)}"]},
        "0020000D": {"vr": "UI", "Value": [study_uid(study)]},
        "0020000E": {"vr": "UI", "Value": [series_uid(study)]},
        "00200013": {"vr": "IS", "Value": [number + 1]},
        "00280008": {"vr": "IS", "Value": [1]},
        "00280010": {"vr": "US", "Value": [512]},
        "00280011": {"vr": "US", "Value": [512]},
        "00280100": {"vr": "US", "Value": [16]},
    }
    return json.dumps(item, separators=(",", ":")).encode("ascii")


def _study(study: int, instances: int) -> bytes:
    item = {
        "0020000D": {"vr": "UI", "Value": [study_uid(study)]},
        "00201206": {"vr": "IS", "Value": [1]},
        "00201208": {"vr": "IS", "Value": [instances]},
    }
    return json.dumps(item, separators=(",", ":")).encode("ascii")


async def _serve(catalogue: Catalogue) -> None:
    counts = Counts()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(catalogue, counts), "127.0.0.1", 0)
    print(f"PORT {server.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()
    server.close()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.searchable", description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--instances", type=int, default=500, help="of each study")
    parser.add_argument("--page", type=int, default=1000, help="the most results of one answer")
    options = parser.parse_args()
    asyncio.run(_serve(Catalogue(options.studies, options.instances, options.page)))


if __name__ == "__main__":
    main()
