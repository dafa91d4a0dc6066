"""Progress of a plan on standard error: files that were examined, studies that the server was asked for."""

from __future__ import annotations

import time
from collections import Counter

from bulkstow.events import Event, FilesFound, LeftOut, Planned, Recorded, Reopened, ScanEnded, SettledBefore
from bulkstow.policy.selection import Filter
from bulkstow.progress.background import Stream
from bulkstow.progress.display import BAR_INTERVAL_S, LINE_INTERVAL_S
from bulkstow.progress.figures import Pace
from bulkstow.progress.terminal import DisplayKind, Panel, screen
from bulkstow.quantities import show_duration, show_size


class Planning:
    """Counts the events of a plan, and shows the counts."""

    def __init__(self, kind: DisplayKind, stream: Stream) -> None:
        self._screen = screen(kind, stream)
        self.interval_s = BAR_INTERVAL_S if isinstance(self._screen, Panel) else LINE_INTERVAL_S
        self.empty_sources: tuple[str, ...] = ()
        self.left_out: Counter[Filter] = Counter()
        """Number of files by the filter that left them out."""
        self.pruned_directories = 0
        self._started_s = time.monotonic()
        self._pace = Pace()
        self._pace.rate(self._started_s, 0)
        self._found_files = self._found_bytes = 0
        self._listed_files = 0
        self._failed = 0
        self._has_all = False
        self._studies = self._studies_asked = 0

    def tell(self, event: Event) -> None:
        """Count an event."""
        match event:
            case FilesFound(files, size_bytes):
                self._found_files += files
                self._found_bytes += size_bytes
            case Planned(files):
                self._listed_files += files
            case Recorded(results):
                self._listed_files += len(results)
                self._failed += sum(result.is_failure for result in results)
            case Reopened(results):
                self._found_files -= len(results)
                self._found_bytes -= sum(result.candidate.content_bytes for result in results)
                self._listed_files -= len(results)
                self._failed -= len(results)
            case SettledBefore(outcomes, not_stored):
                self._listed_files += sum(outcomes.values())
                self._failed += sum(result.is_failure for result in not_stored)
            case ScanEnded(empty_sources):
                self._has_all = True
                self.empty_sources += empty_sources
            case LeftOut(files_by_filter, directories):
                self.left_out.update(files_by_filter)
                self.pruned_directories += directories
            case _:
                pass

    def begin_to_ask(self, studies: int) -> None:
        """Note that the server will be asked for so many studies."""
        self._studies = studies

    def note_answer(self) -> None:
        """Note that the server was asked for a study."""
        self._studies_asked += 1

    def show(self) -> None:
        """Show the figures as they are."""
        failed, *others = self._figures()
        if isinstance(self._screen, Panel):
            self._screen.draw(others, bar=(failed, *self._progress))
        else:
            self.say(", ".join((failed, *others)))

    def say(self, text: str) -> None:
        """Show a line of text."""
        if self._screen is not None:
            self._screen.say(text)

    def close(self) -> None:
        """Remove the bar; lines stay."""
        if isinstance(self._screen, Panel):
            self._screen.close()

    @property
    def _progress(self) -> tuple[int, int]:
        """The total and how much of it is done."""
        if self._studies:
            return self._studies, self._studies_asked
        return max(self._found_files, 1), min(self._listed_files, max(self._found_files, 1))

    def _figures(self) -> list[str]:
        now_s = time.monotonic()
        bound = "" if self._has_all else "at least "
        figures = [
            f"{self._failed:,} failed",
            f"{self._listed_files:,} of {bound}{self._found_files:,} files planned",
            f"{bound}{show_size(self._found_bytes)}",
            f"{self._pace.rate(now_s, self._listed_files):,.0f} files/s",
            show_duration(now_s - self._started_s),
        ]
        if self._studies:
            figures.insert(3, f"asked the server for {self._studies_asked:,} of {self._studies:,} studies")
        return figures
