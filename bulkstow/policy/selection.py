"""The choice of files by the user's filters: by path, size and age before a file is opened, and by its head.

A file is selected if no filter leaves it out; otherwise it is counted under the first filter that leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from bulkstow.days import Days
from bulkstow.model import Candidate, Header, Instance
from bulkstow.policy.globs import Globs


class Filter(StrEnum):
    """A filter, by the name of its setting."""

    EXCLUDE = "exclude"
    INCLUDE = "include"
    MAX_SIZE = "max-size"
    MIN_AGE = "min-age"
    STUDIES = "studies"
    MODALITY = "modality"
    STUDY_DATE = "study-date"
    SOP_CLASS = "sop-class"
    ARCHIVES = "archives"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The files that the user wants; the default is all of them.

    An unknown value leaves no file out, such as a modality or a date missing from an older ledger, or the age of a
    source that is not a file.
    """

    exclude: Globs = field(default_factory=Globs)
    include: Globs = field(default_factory=Globs)
    max_size_bytes: int | None = None
    min_age_ns: int | None = None
    studies: frozenset[str] | None = None
    """Study Instance UIDs."""
    modalities: frozenset[str] = frozenset()
    """In capitals; an empty one selects instances without a modality. If there are none, every modality is selected."""
    study_dates: Days | None = None
    sop_classes: frozenset[str] = frozenset()
    """SOP Class UIDs; if there are none, every class is selected."""

    @property
    def has_path_filters(self) -> bool:
        """Whether `filter_of` may leave out a file."""
        has_globs = bool(self.exclude or self.include)
        return has_globs or self.max_size_bytes is not None or self.min_age_ns is not None

    @property
    def has_header_filters(self) -> bool:
        """Whether `filter_of_header` may leave out an instance."""
        has_sets = bool(self.modalities or self.sop_classes)
        return has_sets or self.studies is not None or self.study_dates is not None

    def excludes(self, location: str) -> bool:
        """Return whether a path that cannot be read is left out.

        `--include` does not decide that: the path may be that of a directory with selected files.
        """
        return self.exclude.match(location)

    def excludes_directory(self, path: str) -> bool:
        """Return whether everything below a directory is left out."""
        return self.exclude.match_directory(path)

    def filter_of(self, candidate: Candidate, now_ns: int) -> Filter | None:
        """Return the filter that leaves out a file, before the file is opened; None if no filter does.

        A modification time in the future is younger than any age.
        """
        if self.exclude.match(candidate.location):
            return Filter.EXCLUDE
        if self.include and not self.include.match(candidate.location):
            return Filter.INCLUDE
        if self.max_size_bytes is not None and candidate.size_bytes > self.max_size_bytes:
            return Filter.MAX_SIZE
        modified_ns = candidate.version
        if self.min_age_ns is not None and isinstance(modified_ns, int) and now_ns - modified_ns < self.min_age_ns:
            return Filter.MIN_AGE
        return None

    def filter_of_instance(self, instance: Instance) -> Filter | None:
        """Return the filter that leaves out an instance; None if none does.

        Of an edited one, the head at the source counts. A study may be named by its UID there, or by the new one.
        """
        header, sent_study_uid = instance.source_header, instance.header.study_uid
        if instance.original is not None and self.studies is not None and sent_study_uid in self.studies:
            header = replace(header, study_uid=sent_study_uid)
        return self.filter_of_header(header)

    def filter_of_header(self, header: Header) -> Filter | None:
        """Return the filter that leaves out an instance with this head; None if none does."""
        if self.studies is not None and header.study_uid not in self.studies:
            return Filter.STUDIES
        if self.modalities and header.modality is not None and header.modality.upper() not in self.modalities:
            return Filter.MODALITY
        if self.study_dates is not None and header.study_date is not None and header.study_date not in self.study_dates:
            return Filter.STUDY_DATE
        if self.sop_classes and header.sop_class_uid not in self.sop_classes:
            return Filter.SOP_CLASS
        return None

    @property
    def of_members(self) -> Selection:
        """The filters of members of an archive that `filter_of` has selected: its name and its age are those of a
        file."""
        return replace(self, include=Globs(), min_age_ns=None)


EVERYTHING = Selection()
