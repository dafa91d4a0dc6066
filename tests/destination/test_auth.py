"""Logins: where secrets come from, which headers they give, and when they are refreshed."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import Auth, AuthRequest, Bearer, NoLogin, Secret, Token, login
from bulkstow.errors import BulkstowError, ConfigurationError, LoginRefused

pytestmark = pytest.mark.anyio

URL = "http://localhost/dicom-web"


def settings(**changes: object) -> DestinationSettings:
    """Return settings with one kind of login."""
    return DestinationSettings(url=URL, **changes)  # type: ignore[arg-type]


REQUEST = AuthRequest("POST", URL + "/studies", {})


async def header_of(auth: Auth) -> str:
    """Return the Authorization of a request."""
    return (await auth.authorize(REQUEST))["Authorization"]


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        """Return the time in seconds since 1970."""
        return self.now_s


class Issuer:
    """Issues numbered tokens with a lifetime, and counts them."""

    def __init__(self, clock: Clock, lifetime_s: float) -> None:
        self._clock = clock
        self._lifetime_s = lifetime_s
        self.issued = 0

    def __call__(self) -> Token:
        """Issue a token."""
        self.issued += 1
        return Token(str(self.issued), self._clock() + self._lifetime_s)


async def test_basic_from_the_environment() -> None:
    """User and password make the header of RFC 7617, in UTF-8."""
    auth = login(settings(user="Aladdin"), {"BULKSTOW_PASSWORD": "open sesame"})
    assert await header_of(auth) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert not await auth.refresh(await auth.authorize(REQUEST))


async def test_password_file_wins_over_the_environment(tmp_path: Path) -> None:
    """The first line of the file is the password, without its line end."""
    (tmp_path / "password").write_text("open sesame\nsecond line\n")
    auth = login(settings(user="Aladdin", password_file=tmp_path / "password"), {"BULKSTOW_PASSWORD": "x"})
    assert await header_of(auth) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


async def test_bearer_from_the_environment() -> None:
    """BULKSTOW_BEARER is the token."""
    assert await header_of(login(settings(), {"BULKSTOW_BEARER": "abc"})) == "Bearer abc"


async def test_no_login() -> None:
    """Without any of them there is no Authorization, and nothing to refresh."""
    auth = login(settings(), {})
    assert isinstance(auth, NoLogin)
    assert await auth.authorize(REQUEST) == {}
    assert not await auth.refresh({})


async def test_bearer_file_is_read_again(tmp_path: Path) -> None:
    """After a 401 the file's new token is used."""
    file = tmp_path / "token"
    file.write_text("old\n")
    auth = login(settings(bearer_file=file), {})
    refused = await auth.authorize(REQUEST)
    file.write_text("new\n")
    assert await auth.refresh(refused)
    assert await header_of(auth) == "Bearer new"


async def test_bearer_command_runs_again(tmp_path: Path) -> None:
    """After a 401 the command is run again; it is split as a shell splits words, without a shell."""
    file = tmp_path / "the token"
    file.write_text("old\n")
    auth = login(settings(bearer_command=f"cat '{file}'"), {})
    refused = await auth.authorize(REQUEST)
    file.write_text("new\n")
    assert await auth.refresh(refused)
    assert await header_of(auth) == "Bearer new"


async def test_requests_refused_together_refresh_once() -> None:
    """Of many requests refused with the same token only the first fetches a new one."""
    issue = Issuer(Clock(), 3600)
    auth = Bearer(issue)
    refused = await auth.authorize(REQUEST)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(auth.refresh, refused)
    assert await header_of(auth) == "Bearer 2"
    assert issue.issued == 2


async def test_token_that_cannot_be_renewed_stops_the_run(tmp_path: Path) -> None:
    """If there is no new token after a 401, the run stops with the reason."""
    file = tmp_path / "token"
    file.write_text("old\n")
    auth = login(settings(bearer_file=file), {})
    file.unlink()
    with pytest.raises(LoginRefused, match=r"no new one: --bearer-file .*No such file"):
        await auth.refresh(await auth.authorize(REQUEST))


@pytest.mark.parametrize(
    ("lifetime_s", "kept_s", "refreshed_s"),
    [(3600, 3539.9, 3540.1), (300, 269.9, 270.1), (math.inf, 1e9, None), (0.5, 10, None), (-30, 10, None)],
    ids=["an hour", "minutes", "opaque", "too short", "expired, or this clock is fast"],
)
async def test_a_token_is_refreshed_before_it_expires(
    lifetime_s: float, kept_s: float, refreshed_s: float | None
) -> None:
    """A minute ahead, or a tenth of a short lifetime; a token without a usable expiry is refreshed by a 401 only."""
    clock = Clock()
    began_s = clock()
    auth = Bearer(Issuer(clock, lifetime_s), now=clock)
    clock.now_s = began_s + kept_s
    assert await header_of(auth) == "Bearer 1"
    if refreshed_s is not None:
        clock.now_s = began_s + refreshed_s
        assert await header_of(auth) == "Bearer 2"


async def test_the_expiry_of_a_json_web_token_is_read() -> None:
    """An explicit expiry counts before the token's own, and an opaque token has none."""
    assert Token("e30.eyJleHAiOjEuNX0.").expires_at_s == 1.5
    assert Token("e30.eyJleHAiOjEuNX0.", 7).expires_at_s == 7
    assert Token("opaque").expires_at_s == math.inf


@pytest.mark.parametrize("is_expired", [False, True])
async def test_one_request_refreshes_for_all(is_expired: bool) -> None:
    """Meanwhile requests go on with a token that is still valid, and wait if it has expired."""
    clock, is_asked, may_issue = Clock(), threading.Event(), threading.Event()
    tokens = iter([Token("1", clock() + 100), Token("2", clock() + 1000)])

    def issue() -> Token:
        token = next(tokens)
        if token.reveal() == "2":
            is_asked.set()
            assert may_issue.wait(10)
        return token

    auth, seen = Bearer(issue, now=clock), []

    async def request() -> None:
        seen.append(await header_of(auth))

    async with anyio.create_task_group() as tasks:
        clock.now_s += 95
        tasks.start_soon(request)
        assert await anyio.to_thread.run_sync(is_asked.wait, 10)
        clock.now_s += 10 if is_expired else 0
        for _ in range(3):
            tasks.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        assert seen == ([] if is_expired else 3 * ["Bearer 1"])
        may_issue.set()
    assert seen.count("Bearer 2") == (4 if is_expired else 1)


async def test_a_refresh_that_comes_too_early_is_repeated_a_few_times(tmp_path: Path) -> None:
    """If the source has no newer token yet, or none at all, the old one is used, and only its refusal stops the run."""
    clock, file, reads = Clock(), tmp_path / "token", []
    file.write_text("old")

    def read() -> Token:
        reads.append(clock())
        if not file.exists():
            raise ConfigurationError("no such file")
        return Token("old", 1_000_600.0)

    auth = Bearer(read, now=clock)
    for second in range(700):
        clock.now_s = 1_000_000.0 + second
        if second == 595:
            file.unlink()
        assert await header_of(auth) == "Bearer old"
    assert [moment - 1_000_000 for moment in reads] == [0, 540, 594, 600]
    with pytest.raises(LoginRefused, match="no new one: no such file"):
        await auth.refresh(await auth.authorize(REQUEST))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user": "a"}, "--user without a password: set BULKSTOW_PASSWORD"),
        ({"user": "a", "password_file": Path("/nope")}, "--password-file /nope: cannot be read"),
        ({"bearer_file": Path("/nope")}, "--bearer-file /nope: cannot be read"),
        ({"bearer_command": "/nope"}, "--bearer-command: cannot be run"),
        ({"bearer_command": "sh -c 'echo s3cret; exit 3'"}, "--bearer-command: ended with status 3"),
        ({"bearer_command": "true"}, "printed no token"),
        ({"bearer_command": "echo 'unbalanced"}, "--bearer-command: cannot be run"),
    ],
)
async def test_messages_about_missing_secrets_show_none(changes: dict[str, object], words: str) -> None:
    """A secret that is not where the settings say is a configuration error that never shows one."""
    with pytest.raises(ConfigurationError) as error:
        login(settings(**changes), {})
    assert words in str(error.value)
    assert "s3cret" not in str(error.value)


async def test_secrets_do_not_print_themselves() -> None:
    """Neither repr nor str nor a format shows a secret."""
    for secret in (Secret("hunter2"), Token("hunter2")):
        assert "hunter2" not in f"{secret!r} {secret!s} {secret}"
        assert secret.reveal() == "hunter2"


async def test_errors_have_exit_statuses() -> None:
    """Login failures end a run with status 2 before it starts and 3 later."""
    assert (BulkstowError.exit_status, ConfigurationError.exit_status, LoginRefused.exit_status) == (1, 2, 3)
