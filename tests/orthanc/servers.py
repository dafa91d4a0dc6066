"""An Orthanc of our own: started for a test, asked by plain HTTP, killed at the end.

Nothing of bulkstow is used here: what a server holds and what it takes is found out without the code under test.
"""

from __future__ import annotations

import http.client
import json
import random
import secrets
import signal
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"

PATIENCE_S = 60.0
"""Ends a test that waits for what will not come; nothing is measured by it."""

POLL_S = 0.01

STARTS = 5
"""Another program may take the port between our look and Orthanc's."""


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until `is_so`; fail with `what` when it does not come about."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"waited {PATIENCE_S:.0f} s in vain: {what}"
        time.sleep(POLL_S)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def listed(self) -> frozenset[str]:
        """SOP Instance UIDs in the ReferencedSOPSequence of a Store Instances Response in JSON, by hand."""
        items = json.loads(self.body).get("00081199", {}).get("Value", [])
        return frozenset(item["00081155"]["Value"][0] for item in items)


@dataclass(slots=True)
class Orthanc:
    """One Orthanc with its data in a directory."""

    program: str
    plugin: Path
    directory: Path
    users: dict[str, str] = field(default_factory=dict)
    """Passwords by user; without any there is no login."""
    lua: str = ""
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The DICOMweb root."""
        return f"http://{HOST}:{self.port}/dicom-web"

    def start(self) -> None:
        """Start it, on the port of last time if there was one, and wait until it answers."""
        ports = [self.port] if self.port else [_free_port() for _ in range(STARTS)]
        for port in ports:
            self.port, self._process = port, self._launch(port)
            if self._comes_up(self._process):
                return
        raise AssertionError(f"Orthanc ends at once:\n{self._log.read_text(errors='replace')}")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it from doing anything; connections stay."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Make one request on a connection of its own."""
        login: dict[str, str] = {}
        for user, password in self.users.items():
            login["Authorization"] = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, login | (headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def count(self) -> int:
        """Return how many instances it holds."""
        statistics: dict[str, Any] = json.loads(self.ask("GET", "/statistics").body)
        return int(statistics["CountInstances"])

    def instances(self) -> frozenset[str]:
        """Return the SOP Instance UIDs of what it holds."""
        instances: list[dict[str, Any]] = json.loads(self.ask("GET", "/instances?expand").body)
        return frozenset(instance["MainDicomTags"]["SOPInstanceUID"] for instance in instances)

    def store_alone(self, content: bytes) -> Answer:
        """Post one file alone: STOW-RS at its plainest."""
        boundary = f"alone{secrets.token_hex(16)}"
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        return self.ask(
            "POST",
            "/dicom-web/studies",
            head + content + f"\r\n--{boundary}--\r\n".encode(),
            {
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            },
        )

    def read_back(self, study_uid: str, series_uid: str, sop_instance_uid: str) -> bytes:
        """Return an instance as WADO-RS gives it, in whatever transfer syntax it has there."""
        answer = self.ask(
            "GET",
            f"/dicom-web/studies/{study_uid}/series/{series_uid}/instances/{sop_instance_uid}",
            headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
        )
        assert answer.status == 200, (answer.status, answer.body[:200])
        boundary = str(answer.headers.get_param("boundary")).encode()
        _, _, content = answer.body.partition(b"\r\n\r\n")
        return content[: content.rindex(b"\r\n--" + boundary)]

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        self.directory.mkdir(parents=True, exist_ok=True)
        script = self.directory / "script.lua"
        script.write_text(self.lua)
        config = self.directory / "orthanc.json"
        storage = str(self.directory / "storage")
        settings = {
            "Name": "bulkstow's tests",
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "HttpPort": port,
            "RemoteAccessAllowed": False,
            "DicomServerEnabled": False,
            "AuthenticationEnabled": bool(self.users),
            "RegisteredUsers": self.users,
            "LuaScripts": [str(script)],
            "Plugins": [str(self.plugin)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        config.write_text(json.dumps(settings))
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self.program, str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )

    def _comes_up(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until it answers or ends, and say whether it answers."""
        wait_until(lambda: process.poll() is not None or self._answers(), "Orthanc to answer")
        return process.poll() is None

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/system").status == 200
        except OSError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def _free_port() -> int:
    """Return a port that nobody has, below those that outgoing connections get.

    Among those, a client that tries again while its server is down may be connected to itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
