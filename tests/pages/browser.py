"""A headless Chromium, spoken to over the pipe of its DevTools protocol: no port, no driver."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest

REQUIRED = "BULKSTOW_REQUIRE_CHROMIUM"
"""The variable with which a test without a browser fails instead of being skipped."""

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
"""Debian's, others', Google's."""

DEADLINE_S = 60.0
"""For an answer; only a browser that hangs is ever waited for so long."""

_READ_FD, _WRITE_FD = 3, 4  # where Chromium expects the pipe


class Chromium:
    """A browser with a profile of its own; it ends with the context, with all its processes."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def connect() -> None:
            # High numbers first, as the pipe's own may be 3 and 4.
            high = [os.dup2(end, number, inheritable=False) for end, number in ((to_browser, 100), (from_browser, 101))]
            os.dup2(high[0], _READ_FD)
            os.dup2(high[1], _WRITE_FD)

        self._log = (profile.parent / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
                "--no-sandbox",  # root and containers need it; the page is our own
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-extensions",
                "--disable-sync",
                "--host-resolver-rules=MAP * ~NOTFOUND",  # no name leads anywhere, not for its own errands either
                "--no-first-run",
                "--no-default-browser-check",
                "about:blank",
            ],
            close_fds=False,
            preexec_fn=connect,  # noqa: PLW1509 - nothing but dup2, which takes no lock
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number = 0
        self._unread = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)  # the end of the pipe ends the browser
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its session is its own: what is left of it
            self._process.wait(10)
            os.close(self._read)
            self._log.close()

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """Return the answer to a command; events that come before it are kept in `events`."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                result: dict[str, Any] = found["result"]
                return result
            self.events.append(found)

    def wait_for(self, method: str) -> None:
        """Wait for an event, unless it came already."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        ends_s = time.monotonic() + DEADLINE_S
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], max(ends_s - time.monotonic(), 0))
            piece = os.read(self._read, 2**20) if ready else b""
            if not piece:
                raise RuntimeError(f"Chromium {'ended' if ready else 'does not answer'}: see chromium.log")
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def started(directory: Path) -> Iterator[Chromium]:
    """Start the installed browser with a profile in this directory; skip the test if there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        word = "Chromium is not installed: apt-get install chromium"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, but {word}", pytrace=False)
        pytest.skip(word)
    with Chromium(program, directory / "profile") as browser:
        yield browser


class Tab:
    """A page in it, and all that the browser told of it since it was opened."""

    def __init__(self, browser: Chromium, *, width_px: int = 1000, scheme: str = "light") -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width_px, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the answer to a command for this page."""
        return self._browser.call(method, self._session, **parameters)

    def open(self, path: Path) -> None:
        """Load a file, and wait until it and all that it asks for are there."""
        self._browser.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self._browser.wait_for("Page.loadEventFired")
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def print_pdf(self) -> bytes:
        """Return the page as it is printed, on the paper that its style names."""
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return b64decode(printed["data"])

    def complaints(self) -> list[str]:
        """Return what the page brought to the console: errors, warnings, exceptions, breaches of its own policy."""
        told = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self._browser.events if event.get("method") in told]

    def requests(self) -> list[str]:
        """Return the URLs that the page asked for, its own the first."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
