"""Logins: the headers that authorize a request, and when they are refreshed.

A login is an object with the protocol `Auth`; `destination.authorized` calls it for every request, whether STOW-RS,
QIDO-RS or DELETE. To add one, copy `Bearer` and return it from `login`. Secrets come from the environment, a file or a
command, and are held in a type that does not print them. This module knows no HTTP client.
"""

from __future__ import annotations

import base64
import math
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from bulkstow.config import DestinationSettings
from bulkstow.errors import ConfigurationError, LoginRefused
from bulkstow.wire import json_web_token

PASSWORD_VARIABLE = "BULKSTOW_PASSWORD"  # noqa: S105 - a name, not a password
BEARER_VARIABLE = "BULKSTOW_BEARER"
LOGIN_VARIABLES = (PASSWORD_VARIABLE, BEARER_VARIABLE)

COMMAND_TIMEOUT_S = 60
"""Time limit for --bearer-command. The command lines of clouds take 1 to 2 s; one that asks for input never ends."""

REFRESH_AHEAD_S = 60.0
"""How long before its expiry a token is refreshed: more than the clocks of two machines with NTP differ."""

REFRESH_AHEAD_SHARE = 0.1
"""The same as a share of the remaining lifetime, for tokens that live only minutes; the smaller one counts."""

SHORTEST_LIFETIME_S = 1.0
"""A token with less left is refreshed only after a 401: this machine's clock may be fast, or no newer token exists."""


class Secret:
    """A string that only `reveal` shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def reveal(self) -> str:
        """Return the string."""
        return self._value


class Token(Secret):
    """A bearer token and the time of its expiry, in seconds since 1970.

    Without an explicit `expires_at_s`, a JSON Web Token tells it; an opaque token has none (infinity).
    """

    __slots__ = ("expires_at_s",)

    def __init__(self, value: str, expires_at_s: float | None = None) -> None:
        super().__init__(value)
        known_s = json_web_token.expires_at_s(value) if expires_at_s is None else expires_at_s
        self.expires_at_s = math.inf if known_s is None else known_s


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """A request that needs authorization."""

    method: str
    url: str
    """The URL as it is sent, with its query."""
    headers: Mapping[str, str] = field(repr=False)
    """The headers that are known so far; those that describe a body are not."""


class Auth(Protocol):
    """A login. Implementations may keep state; calls are concurrent, on one event loop."""

    async def authorize(self, request: AuthRequest) -> Mapping[str, str]:
        """Return the headers that authorize a request; wait for a refresh that has to come first.

        Is called before every attempt of every request. No value of these headers appears in logs, ledger or messages.
        Raises LoginRefused to end the run.
        """

    async def refresh(self, refused: Mapping[str, str]) -> bool:
        """Refresh the login after a 401 to a request with the headers `refused`.

        Return True to have the request authorized again and repeated once, False if that is pointless. Raises
        LoginRefused to end the run.
        """


class NoLogin:
    """No login; the user may have given an Authorization with --header."""

    async def authorize(self, request: AuthRequest) -> Mapping[str, str]:  # noqa: ARG002 - the protocol's
        """Return no headers."""
        return {}

    async def refresh(self, refused: Mapping[str, str]) -> bool:  # noqa: ARG002 - the protocol's
        """Refresh nothing."""
        return False


class Basic:
    """User and password (RFC 7617)."""

    def __init__(self, user: str, password: Secret) -> None:
        pair = f"{user}:{password.reveal()}".encode()
        self._header = Secret(f"Basic {base64.b64encode(pair).decode('ascii')}")

    async def authorize(self, request: AuthRequest) -> Mapping[str, str]:  # noqa: ARG002 - the protocol's
        """Return the Authorization header."""
        return {"Authorization": self._header.reveal()}

    async def refresh(self, refused: Mapping[str, str]) -> bool:  # noqa: ARG002 - the protocol's
        """Refresh nothing: a password does not expire by itself."""
        return False


class Bearer:
    """A token (RFC 6750) from `read`, which blocks and is called again before the token expires and after a 401.

    One call refreshes the token for all requests; those that have a valid one do not wait for it. Raises what `read`
    raises for the first token: ConfigurationError.
    """

    def __init__(self, read: Callable[[], Token], *, now: Callable[[], float] = time.time) -> None:
        self._read = read
        self._now = now
        self._refreshing = anyio.Lock()
        self._keep(read())

    async def authorize(self, request: AuthRequest) -> Mapping[str, str]:  # noqa: ARG002 - the protocol's
        """Return the Authorization header."""
        now_s = self._now()
        if now_s >= self._refresh_at_s and (now_s >= self._token.expires_at_s or not self._refreshing.locked()):
            await self._refresh_ahead()
        return self._headers()

    async def refresh(self, refused: Mapping[str, str]) -> bool:
        """Read the token again, unless another request has done so since `refused` was sent."""
        async with self._refreshing:
            if self._headers() == refused:
                try:
                    self._keep(await anyio.to_thread.run_sync(self._read))
                except ConfigurationError as error:
                    text = f"the server refuses our login (401), and there is no new one: {error}"
                    raise LoginRefused(text) from error
            return True

    async def _refresh_ahead(self) -> None:
        async with self._refreshing:
            if self._now() < self._refresh_at_s:
                return
            try:
                self._keep(await anyio.to_thread.run_sync(self._read))
            except ConfigurationError:
                self._keep(self._token)  # the server decides whether it is still valid

    def _keep(self, token: Token) -> None:
        """Use a token from now on; one that is refreshed too late for its expiry comes up again, ever closer to it."""
        self._token = token
        left_s = token.expires_at_s - self._now()
        ahead_s = min(REFRESH_AHEAD_S, left_s * REFRESH_AHEAD_SHARE)
        self._refresh_at_s = token.expires_at_s - ahead_s if left_s >= SHORTEST_LIFETIME_S else math.inf

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token.reveal()}"}


def with_password(
    settings: DestinationSettings, environment: Mapping[str, str]
) -> tuple[DestinationSettings, Mapping[str, str]]:
    """Read the file of the password, and return settings and an environment that need no file for it.

    A pipe can be read only once. Blocks on the file. Raises ConfigurationError if it cannot be read.
    """
    if settings.user is None or settings.password_file is None:
        return settings, environment
    password = _first_line(settings.password_file, "--password-file")
    return replace(settings, password_file=None), {**environment, PASSWORD_VARIABLE: password}


def login(settings: DestinationSettings, environment: Mapping[str, str]) -> Auth:
    """Return the login of the settings.

    Blocks on files and commands. Raises ConfigurationError if the secret cannot be read.
    """
    if settings.user is not None:
        return Basic(settings.user, _password(settings.password_file, environment))
    if settings.bearer_file is not None:
        path = settings.bearer_file
        return Bearer(lambda: Token(_first_line(path, "--bearer-file")))
    if settings.bearer_command is not None:
        command = settings.bearer_command
        return Bearer(lambda: Token(_output(command)))
    if value := environment.get(BEARER_VARIABLE):
        token = Token(value)
        return Bearer(lambda: token)
    return NoLogin()


def _password(path: Path | None, environment: Mapping[str, str]) -> Secret:
    if path is not None:
        return Secret(_first_line(path, "--password-file"))
    if (password := environment.get(PASSWORD_VARIABLE)) is not None:
        return Secret(password)
    raise ConfigurationError(f"--user without a password: set {PASSWORD_VARIABLE}, or give --password-file")


def _first_line(path: Path, flag: str) -> str:
    try:
        line = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{flag} {path}: cannot be read ({_why(error)})") from error
    if not line:
        raise ConfigurationError(f"{flag} {path}: its first line is empty")
    return line


def _output(command: str) -> str:
    """Run the command without a shell and return its output, which is a secret and never part of a message."""
    try:
        run = subprocess.run(  # noqa: S603 - it is the user's own command
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"--bearer-command: cannot be run ({_why(error)})") from None
    if run.returncode != 0 or not run.stdout.strip():
        raise ConfigurationError(f"--bearer-command: ended with status {run.returncode} and printed no token")
    return run.stdout.strip()


def _why(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
