"""A comparison in observable steps, so that a hanging comparison is abandoned."""

from __future__ import annotations

from collections.abc import Generator

from bulkstow.blocking import Work, Worker
from bulkstow.verification.content_result import ContentResult, NotCompared

Steps = Generator[None, None, ContentResult]
"""A comparison that pauses after each step."""


class StepwiseComparison(Work[bool, ContentResult]):
    """The steps of one comparison, for one thread at a time."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(results_per_list=1)
        self._steps = steps
        self._has_more = True

    @property
    def has_more(self) -> bool:
        """False while a step is under way, and after the last one."""
        return self._has_more

    def _next_step(self, _worker: Worker[bool, ContentResult]) -> bool | None:
        has_more, self._has_more = self._has_more, False
        return has_more or None

    def _run(self, _step: bool) -> ContentResult | None:
        """Return the result; None if steps follow."""
        try:
            next(self._steps)
        except StopIteration as stop:
            result: ContentResult = stop.value
            return result
        return None

    def _finish(self, _step: bool, result: object, worker: Worker[bool, ContentResult]) -> None:
        self._has_more = result is None
        if result is not None:
            worker.results.append(result)  # type: ignore[arg-type]  # `_run` returned it

    def _time_out(self, _step: bool, why: str, worker: Worker[bool, ContentResult]) -> None:
        worker.results.append(NotCompared(f"cannot be read: {why}"))
