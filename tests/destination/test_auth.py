"""Claims about logins."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from bulkstow.config import DestinationSettings
from bulkstow.destination.auth import Bearer, NoLogin, Secret, login
from bulkstow.errors import BulkstowError, ConfigurationError, LoginRefused

pytestmark = pytest.mark.anyio

URL = "http://localhost/dicom-web"


def settings(**changes: object) -> DestinationSettings:
    """Return settings with one kind of login."""
    return DestinationSettings(url=URL, **changes)  # type: ignore[arg-type]


async def test_basic_from_the_environment() -> None:
    """User and password make the header of RFC 7617, in UTF-8."""
    auth = login(settings(user="Aladdin"), {"BULKSTOW_PASSWORD": "open sesame"})
    assert auth.headers() == {"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}
    assert not await auth.refresh(auth.headers())


async def test_password_file_wins_over_the_environment(tmp_path: Path) -> None:
    """The first line of the file is the password, without its line end."""
    (tmp_path / "password").write_text("open sesame\nsecond line\n")
    auth = login(settings(user="Aladdin", password_file=tmp_path / "password"), {"BULKSTOW_PASSWORD": "x"})
    assert auth.headers() == {"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}


async def test_bearer_from_the_environment() -> None:
    """BULKSTOW_BEARER is the token."""
    assert login(settings(), {"BULKSTOW_BEARER": "abc"}).headers() == {"Authorization": "Bearer abc"}


async def test_no_login() -> None:
    """Without any of them there is no Authorization."""
    assert isinstance(login(settings(), {}), NoLogin)


async def test_bearer_file_is_read_again(tmp_path: Path) -> None:
    """After a 401 the file's new token is used."""
    file = tmp_path / "token"
    file.write_text("old\n")
    auth = login(settings(bearer_file=file), {})
    refused = auth.headers()
    file.write_text("new\n")
    assert await auth.refresh(refused)
    assert auth.headers() == {"Authorization": "Bearer new"}


async def test_bearer_command_runs_again(tmp_path: Path) -> None:
    """After a 401 the command is run again; it is split as a shell splits words, without a shell."""
    file = tmp_path / "the token"
    file.write_text("old\n")
    auth = login(settings(bearer_command=f"cat '{file}'"), {})
    refused = auth.headers()
    file.write_text("new\n")
    assert await auth.refresh(refused)
    assert auth.headers() == {"Authorization": "Bearer new"}


async def test_requests_refused_together_refresh_once() -> None:
    """Of many requests refused with the same token only the first fetches a new one."""
    tokens = iter(["one", "two", "three"])
    auth = Bearer(lambda: Secret(next(tokens)))
    refused = auth.headers()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(auth.refresh, refused)
    assert auth.headers() == {"Authorization": "Bearer two"}


async def test_token_that_cannot_be_renewed_stops_the_run(tmp_path: Path) -> None:
    """If there is no new token after a 401, the run stops with the reason."""
    file = tmp_path / "token"
    file.write_text("old\n")
    auth = login(settings(bearer_file=file), {})
    file.unlink()
    with pytest.raises(LoginRefused, match=r"no new one: --bearer-file .*No such file"):
        await auth.refresh(auth.headers())


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
async def test_missing_secrets_are_told_without_the_secret(changes: dict[str, object], words: str) -> None:
    """A secret that is not where the settings say is a configuration error that never shows one."""
    with pytest.raises(ConfigurationError) as error:
        login(settings(**changes), {})
    assert words in str(error.value)
    assert "s3cret" not in str(error.value)


async def test_secrets_do_not_print_themselves() -> None:
    """Neither repr nor str nor a format shows a secret."""
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret!r} {secret!s} {secret}"
    assert secret.reveal() == "hunter2"


async def test_errors_have_exit_statuses() -> None:
    """Login troubles end a run with 2 before it starts and with 3 later."""
    assert (BulkstowError.exit_status, ConfigurationError.exit_status, LoginRefused.exit_status) == (1, 2, 3)
