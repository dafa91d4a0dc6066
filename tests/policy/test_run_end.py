"""The end of a run: exit statuses and reasons."""

from __future__ import annotations

import pytest

from bulkstow.errors import ConfigurationError, LoginRefused
from bulkstow.policy.run_end import exit_status_of, stop_reason


@pytest.mark.parametrize(
    ("stopped_by", "complete", "is_success", "exit_status", "reason"),
    [
        (None, True, True, 0, None),
        (None, True, False, 1, None),
        (None, False, True, 130, "interrupted"),
        (KeyboardInterrupt(), False, True, 130, "interrupted"),
        (ConfigurationError("no\n  such file"), False, False, 2, "no such file"),
        (LoginRefused("401"), False, False, 3, "401"),
        (ZeroDivisionError("x"), False, False, 3, "internal error: ZeroDivisionError"),
    ],
)
def test_each_end_has_a_status_and_a_reason(
    stopped_by: BaseException | None, complete: bool, is_success: bool, exit_status: int, reason: str | None
) -> None:
    """Success and failures of a complete run, a signal, our errors, and a bug."""
    assert exit_status_of(stopped_by, complete=complete, is_success=is_success) == exit_status
    assert stop_reason(stopped_by, complete=complete) == reason
