"""The file of `--log`, opened for a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from bulkstow import __version__
from bulkstow.cli.files import check_no_ledger
from bulkstow.config import UploadSettings
from bulkstow.errors import ConfigurationError
from bulkstow.progress.background import BackgroundStream
from bulkstow.progress.log import Log

LOG_LINES_AHEAD = 100_000
"""The most lines of the log that wait for the disk: a minute at 1,500 requests per second, 30 MB."""

LOG_CLOSE_TIMEOUT_S = 30.0
"""Time that the end of a run waits for a slow disk to write them."""


def opened_log(
    settings: UploadSettings, begin: Mapping[str, object], stack: contextlib.ExitStack, say: Callable[[str], None]
) -> Log | None:
    """Open the log for appending, readable only by its owner, and write `begin`, the settings of the run."""
    path = settings.log
    if path is None:
        return None
    check_no_ledger("--log", Path(path))
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(f"--log {path}: cannot be written ({error.strerror})") from error
    file = os.fdopen(fd, "w", encoding="ascii")
    stack.callback(_closed, file)
    stream = stack.enter_context(contextlib.closing(BackgroundStream(file, LOG_LINES_AHEAD, LOG_CLOSE_TIMEOUT_S)))
    log = Log(path, settings.log_format, stream, say)
    log.begin({"version": __version__, **begin})
    return log


def _closed(file: TextIO) -> None:
    with contextlib.suppress(OSError):  # a full disk was reported already
        file.close()
