"""The instances of a load, by worker and number, generated in constant memory.

Defines the presets and how their instances fall into series and studies. The same run, load, worker and number give the
same instance; any other has other UIDs, and in a preset other pixels, so that no server can take it for one that it
has. A worker's numbers continue through warm-up, repeats and the loads of a sweep. `directory` has loads of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from bulkstow.bench.templates import NUMBER_FORMAT, PATIENT_FORMAT, InstancePosition, Level, Pool, Template, Uids
from bulkstow.errors import ConfigurationError
from bulkstow.model import Candidate, Header, Instance

RUN_TAG = "bulkstow-bench-"
"""Before the run ID in Study Description and Patient ID. Orthanc 1.10 finds no value with a space by QIDO-RS."""

_RUN_ID = re.compile(r"[0-9A-Za-z-]{1,24}")
"""No wildcard of QIDO-RS, no backslash; a Patient ID has 64 characters (PS3.5 §6.2), of which this leaves 24."""


@dataclass(frozen=True, slots=True)
class StudyShape:
    """The size of a preset's series and studies."""

    per_series: int
    series_per_study: int


STUDY_SHAPES: Mapping[str, StudyShape] = {
    "mr": StudyShape(40, 8),
    "ct": StudyShape(250, 2),
    "cr": StudyShape(1, 2),
    "mg": StudyShape(1, 4),
    "us": StudyShape(10, 1),
    "wsi": StudyShape(1, 2),
    "sr": StudyShape(1, 1),
}
"""A head scan of 8 sequences, a chest scan in 2 kernels, 2 and 4 views, 10 loops, 2 slides, a report."""

MIX: Mapping[str, int] = {"ct": 720, "mr": 245, "cr": 16, "sr": 10, "us": 5, "mg": 4}
"""Of 1000 instances. Assumed, not measured: of 100 examinations 50 x-ray, 23 ultrasound (of one loop), 16 CT, 9 MR and
2 mammography, times the instances of a study in STUDY_SHAPES, and a report for every second. No slide: one would
outweigh 1000 others, and pathology has its own archive."""

MIXED = "mixed"

PRESETS = (*STUDY_SHAPES, MIXED)

_MIX_ORDER_SEED = 1


class InstanceOrder(Protocol):
    """Which instance a number is."""

    @property
    def templates(self) -> Sequence[Template]:
        """All templates, each as often as it is used in a turn."""

    def position(self, number: int) -> InstancePosition:
        """Return the position of instance `number`."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A generated instance; only its head is a copy."""

    instance: Instance
    head: bytes
    template: Template
    pool: Pool
    worker: int
    number: int

    def pieces(self) -> Iterator[memoryview]:
        """Yield the file, `size_bytes` of the instance's candidate in all; each call starts again."""
        yield memoryview(self.head)
        if self.template.rest:
            yield self.template.rest
        yield from self.pool.pieces(self.worker, self.number, self.template.pixel_bytes)


class Workload:
    """Makes the instances of a run; `mean_bytes` is their mean size."""

    def __init__(self, name: str, uids: Uids, order: InstanceOrder, pool: Pool) -> None:
        self.name = name
        self._uids = uids
        self._order = order
        self._pool = pool
        sizes = [template.size_bytes for template in order.templates]
        self.mean_bytes = sum(sizes) / len(sizes)

    def instance(self, worker: int, number: int) -> Generated:
        """Return a worker's instance `number`, both from 0; ValueError for a worker beyond 65,535."""
        at = self._order.position(number)
        template, uids = at.template, self._uids
        stamp = uids.number(Level.INSTANCE, worker, number)
        sop_instance_uid = f"2.25.{stamp}"
        series_uid = uids.uid(Level.SERIES, worker, at.series)
        study_uid = uids.uid(Level.STUDY, worker, at.study)
        # In the order of `Gap`.
        head = template.filled(
            (
                sop_instance_uid.encode(),
                series_uid.encode(),
                study_uid.encode(),
                (PATIENT_FORMAT % (worker, at.study)).encode(),
                (NUMBER_FORMAT % (at.in_series + 1)).encode(),
                stamp.to_bytes(16, "big"),
            )
        )
        header = Header(study_uid, series_uid, sop_instance_uid, template.sop_class_uid, template.transfer_syntax_uid)
        candidate = Candidate(f"generated:{self.name}/{worker}/{number}", template.size_bytes, 0)
        return Generated(Instance(candidate, header), head, template, self._pool, worker, number)


class PresetOrder:
    """Presets by weight, interleaved so that every second of a measurement has the same mix.

    Within a modality instances fill series after series.
    """

    def __init__(self, weights: Mapping[str, int], templates: Mapping[str, Template]) -> None:
        self._kinds = [(templates[name], STUDY_SHAPES[name], weight) for name, weight in weights.items()]
        kinds = [kind for kind, weight in enumerate(weights.values()) for _ in range(weight)]
        Random(_MIX_ORDER_SEED).shuffle(kinds)
        counts = [0] * len(self._kinds)
        self._round: list[tuple[int, int]] = []
        for kind in kinds:
            self._round.append((kind, counts[kind]))
            counts[kind] += 1

    @property
    def templates(self) -> Sequence[Template]:
        """Each template as often as its weight."""
        return [self._kinds[kind][0] for kind, _ in self._round]

    def position(self, number: int) -> InstancePosition:
        """Return the position of an instance; no series or study has two modalities."""
        turn, at = divmod(number, len(self._round))
        kind, rank = self._round[at]
        template, shape, weight = self._kinds[kind]
        series, position = divmod(turn * weight + rank, shape.per_series)
        study = series // shape.series_per_study
        return InstancePosition(template, study * len(self._kinds) + kind, series * len(self._kinds) + kind, position)


def workload(name: str, run_id: str, *, compressibility: float = 0.0) -> Workload:
    """Return the load that `--workload` names: a preset, or a directory of files.

    `compressibility` is the share of constant bytes, from 0 to 1, in the pixels of a preset.

    Raises ConfigurationError for another name, a directory without instances, an invalid share or run ID.
    """
    tag, uids = run_tag(run_id), Uids(f"{run_id} {name}")
    if not 0 <= compressibility <= 1:
        raise ConfigurationError(f"compressibility {compressibility:g}: expected a share from 0 to 1")
    pool = Pool(Random(run_id), compressibility)
    if name in PRESETS:
        from bulkstow.bench.modalities import template

        weights = MIX if name == MIXED else {name: 1}
        return Workload(
            name, uids, PresetOrder(weights, {modality: template(modality, tag) for modality in weights}), pool
        )
    if Path(name).is_dir():
        from bulkstow.bench.directory import copies

        files = copies(Path(name), tag)
        return Workload(f"{len(files.templates)} files of {name}", uids, files, pool)
    raise ConfigurationError(f"--workload {name!r}: expected {', '.join(PRESETS)}, or a directory of DICOM files")


def run_tag(run_id: str) -> str:
    """Return the Study Description of a run's instances, with which their Patient IDs begin.

    Raises ConfigurationError for an invalid run ID.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigurationError(f"run ID {run_id!r}: expected 1 to 24 letters, digits and hyphens")
    return f"{RUN_TAG}{run_id}"
