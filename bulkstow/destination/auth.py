"""Who we are to the destination.

Owns the Authorization header and where its secret comes from: the environment, a file, a command. A secret is held in
a type that does not print itself, and never leaves this room but in the header. Knows nothing of HTTP clients: it gives
headers, and on a 401 it says whether it has new ones.
"""

from __future__ import annotations

import base64
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from bulkstow.config import DestinationSettings
from bulkstow.errors import ConfigurationError, LoginRefused

PASSWORD_VARIABLE = "BULKSTOW_PASSWORD"  # noqa: S105 - a name, not a password
BEARER_VARIABLE = "BULKSTOW_BEARER"

COMMAND_TIMEOUT_S = 60
"""A cloud's command line needs a second or two for a token; one that asks for input would wait for ever."""


class Secret:
    """A string that shows itself only when asked by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret(…)"

    def reveal(self) -> str:
        """Return the string."""
        return self._value


class Auth(Protocol):
    """A login: headers for a request, and new ones after a 401."""

    def headers(self) -> dict[str, str]:
        """Return the headers that log a request in."""

    async def refresh(self, refused: dict[str, str]) -> bool:
        """Get a new secret after `refused` was answered with 401; False when there is none to be had."""


class NoLogin:
    """No Authorization of our own; the user may have given one with --header."""

    def headers(self) -> dict[str, str]:
        """Return nothing."""
        return {}

    async def refresh(self, refused: dict[str, str]) -> bool:  # noqa: ARG002 - the protocol's
        """There is nothing to refresh."""
        return False


class Basic:
    """User and password (RFC 7617)."""

    def __init__(self, user: str, password: Secret) -> None:
        pair = f"{user}:{password.reveal()}".encode()
        self._header = Secret(f"Basic {base64.b64encode(pair).decode('ascii')}")

    def headers(self) -> dict[str, str]:
        """Return the Authorization header."""
        return {"Authorization": self._header.reveal()}

    async def refresh(self, refused: dict[str, str]) -> bool:  # noqa: ARG002 - the protocol's
        """A password does not change by itself."""
        return False


class Bearer:
    """A token (RFC 6750) that `read` gives, again whenever the server no longer takes it."""

    def __init__(self, read: Callable[[], Secret]) -> None:
        self._read = read
        self._token = read()
        self._refreshing = anyio.Lock()

    def headers(self) -> dict[str, str]:
        """Return the Authorization header."""
        return {"Authorization": f"Bearer {self._token.reveal()}"}

    async def refresh(self, refused: dict[str, str]) -> bool:
        """Read the token again; of many requests refused together the first does it for all."""
        async with self._refreshing:
            if self.headers() != refused:
                return True
            try:
                self._token = await anyio.to_thread.run_sync(self._read)
            except ConfigurationError as error:
                raise LoginRefused(f"the server refuses our login (401), and there is no new one: {error}") from error
            return True


def login(settings: DestinationSettings, environment: Mapping[str, str]) -> Auth:
    """Return the login that the settings name.

    Raises ConfigurationError when its secret is not where they say.
    """
    if settings.user is not None:
        return Basic(settings.user, _password(settings.password_file, environment))
    if settings.bearer_file is not None:
        path = settings.bearer_file
        return Bearer(lambda: _first_line(path, "--bearer-file"))
    if settings.bearer_command is not None:
        command = settings.bearer_command
        return Bearer(lambda: _output(command))
    if token := environment.get(BEARER_VARIABLE):
        return _fixed_bearer(Secret(token))
    return NoLogin()


def _fixed_bearer(token: Secret) -> Bearer:
    return Bearer(lambda: token)


def _password(path: Path | None, environment: Mapping[str, str]) -> Secret:
    if path is not None:
        return _first_line(path, "--password-file")
    if (password := environment.get(PASSWORD_VARIABLE)) is not None:
        return Secret(password)
    raise ConfigurationError(f"--user without a password: set {PASSWORD_VARIABLE}, or give --password-file")


def _first_line(path: Path, flag: str) -> Secret:
    try:
        line = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{flag} {path}: cannot be read ({_why(error)})") from error
    if not line:
        raise ConfigurationError(f"{flag} {path}: its first line is empty")
    return Secret(line)


def _output(command: str) -> Secret:
    """Run the command without a shell; what it prints is a secret, so it is never part of a message."""
    try:
        run = subprocess.run(  # noqa: S603 - it is the user's own command
            shlex.split(command), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"--bearer-command: cannot be run ({_why(error)})") from None
    if run.returncode != 0 or not run.stdout.strip():
        raise ConfigurationError(f"--bearer-command: ended with status {run.returncode} and printed no token")
    return Secret(run.stdout.strip())


def _why(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
