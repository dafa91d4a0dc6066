"""The filters of a run as the keys of searches for studies (PS3.18 §10.6.1, PS3.4 §C.2.2.2).

A server may ignore a key, so every listed study is compared with the filters again.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator, Mapping, Sequence

from bulkstow.days import Days
from bulkstow.policy.selection import Selection
from bulkstow.wire.search_result import ListedStudy


def study_queries(selection: Selection) -> Iterator[Mapping[str, str]]:
    """Yield the keys of the searches that together find all selected studies; a study may be found by several.

    No key matches an instance without a date or a modality, so where such instances are selected the key is left out.
    """
    if selection.studies is not None:
        for uid in sorted(selection.studies):
            yield {"StudyInstanceUID": uid}
        return
    for dates in _ranges(selection.study_dates):
        for modality in _modalities(selection.modalities):
            yield dates | modality


def may_select(selection: Selection, study: ListedStudy) -> bool:
    """Return whether filters may select an instance of a study; an attribute the server omits excludes nothing."""
    if selection.studies is not None and study.uid not in selection.studies:
        return False
    dates = selection.study_dates
    if dates is not None and study.study_date is not None and study.study_date not in dates:
        return False
    # Instances without a modality are not in the list of a study's modalities.
    if study.modalities is None or not selection.modalities or "" in selection.modalities:
        return True
    return not selection.modalities.isdisjoint(study.modalities)


def _modalities(modalities: frozenset[str]) -> Sequence[dict[str, str]]:
    if not modalities or "" in modalities:
        return ({},)
    return [{"ModalitiesInStudy": modality} for modality in sorted(modalities)]


def _ranges(days: Days | None) -> Sequence[dict[str, str]]:
    if days is None or "" in days:
        return ({},)
    ranges = [f"{_first_day(first)}-{_last_day(last)}" for first, last in days.spans]
    return ({},) if "-" in ranges else [{"StudyDate": text} for text in ranges]


def _first_day(bound: str) -> str:
    """Return the first date that is not before a bound of `Days`, whose month and day may be 00; empty for no bound."""
    year, month, day = bound[:4], bound[4:6], bound[6:]
    return "" if year == "0000" else f"{year}{max(month, '01')}{max(day, '01')}"


def _last_day(bound: str) -> str:
    """Return the last date that is not after a bound, whose month and day may be 99; empty for no bound."""
    year, month, day = bound[:4], min(bound[4:6], "12"), bound[6:]
    return "" if year == "9999" else f"{year}{month}{min(day, str(monthrange(int(year), int(month))[1]))}"
