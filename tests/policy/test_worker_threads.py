"""Claims about the rule for another worker thread."""

from __future__ import annotations

import pytest

from bulkstow.policy.worker_threads import RunningCall, should_start_another

QUICK = RunningCall(0.002, 0.0)
WAITING = RunningCall(0.01, 0.001)
BUSY = RunningCall(0.05, 0.05)
LONG = RunningCall(0.07, 0.07)


@pytest.mark.parametrize(
    ("call", "is_waiting"),
    [
        (QUICK, False),
        (RunningCall(0.01, 0.0), True),
        (WAITING, True),
        (RunningCall(0.01, 0.003), False),
        (BUSY, False),
        (LONG, True),
    ],
    ids=["quick", "no processor time", "a tenth", "a third", "busy", "busy for long"],
)
def test_a_call_waits_for_the_storage(call: RunningCall, is_waiting: bool) -> None:
    """A call waits if it takes a while and uses little of the processor; a long one delays no others either way."""
    assert call.is_waiting is is_waiting


@pytest.mark.parametrize(
    ("running", "another"),
    [([], True), ([WAITING, LONG], True), ([WAITING, QUICK], False), ([BUSY, WAITING], False)],
    ids=["none", "all wait", "one has just begun", "one is busy"],
)
def test_another_thread_starts_while_all_wait(running: list[RunningCall], another: bool) -> None:
    """One call that does not wait is enough to keep the interpreter busy."""
    assert should_start_another(running) is another
