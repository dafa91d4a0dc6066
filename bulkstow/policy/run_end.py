"""The end of a run: its exit status, and the reason for an early end."""

from __future__ import annotations

from bulkstow.errors import INTERRUPTED, BulkstowError, RunStopped


def exit_status_of(stopped_by: BaseException | None, *, complete: bool, is_success: bool) -> int:
    """Return the exit status of a run; if it is incomplete, `stopped_by` ended it, or a signal if that is None."""
    match stopped_by:
        case None if complete:
            return 0 if is_success else 1
        case None | KeyboardInterrupt():
            return INTERRUPTED
        case BulkstowError():
            return stopped_by.exit_status
        case _:
            return RunStopped.exit_status


def stop_reason(stopped_by: BaseException | None, *, complete: bool) -> str | None:
    """Return the reason for an early end, in one line; None if the run is complete."""
    match stopped_by:
        case None if complete:
            return None
        case None | KeyboardInterrupt():
            return "interrupted"
        case BulkstowError():
            return " ".join(str(stopped_by).split())
        case _:
            return f"internal error: {type(stopped_by).__name__}"
