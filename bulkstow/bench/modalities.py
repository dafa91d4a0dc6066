"""The instances of each modality as templates: data sets with placeholders, from `modalities.toml`.

The pixels are noise over the full range of their Bits Stored. Imports pydicom, which takes 0.2 s.
"""

from __future__ import annotations

import io
import struct
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from bulkstow.bench.templates import PLACEHOLDERS, STAMP_BYTES, Gap, Template, cut

IMPLEMENTATION_CLASS_UID = "2.25.183247298523475623984756239847"

SR_PARAGRAPHS = 16
SR_TEXT_BYTES = 460
"""An instance of 10 KB."""


def template(modality: str, run_tag: str) -> Template:
    """Return the template of a modality, whose instances carry `run_tag` (64 characters at most)."""
    gaps = {gap.name: placeholder for gap, placeholder in PLACEHOLDERS.items()}
    dataset = _dataset(_attributes()["all"] | _attributes()[modality], gaps | {"run_tag": run_tag})
    if modality == "sr":
        (finding,) = dataset.ContentSequence
        finding.TextValue = (finding.TextValue * SR_TEXT_BYTES)[:SR_TEXT_BYTES]
        dataset.ContentSequence = Sequence([finding] * SR_PARAGRAPHS)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    head = file.getvalue()
    pixel_bytes = 0
    if "Rows" in dataset:
        frames = int(dataset.get("NumberOfFrames", 1))
        size_bytes = frames * dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
        vr = b"OW" if dataset.BitsAllocated == 16 else b"OB"
        head += struct.pack("<HH2sHI", 0x7FE0, 0x0010, vr, 0, size_bytes) + PLACEHOLDERS[Gap.STAMP].encode("latin-1")
        pixel_bytes = size_bytes - STAMP_BYTES
    return cut(dataset.SOPClassUID, ExplicitVRLittleEndian, head, pixel_bytes=pixel_bytes)


@cache
def _attributes() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files("bulkstow.bench").joinpath("modalities.toml").read_text(encoding="utf-8"))


def _dataset(attributes: Mapping[str, Any], filled_in: Mapping[str, str]) -> Dataset:
    """Return a data set; a list of tables is a sequence."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            value = Sequence([_dataset(item, filled_in) for item in value])
        elif isinstance(value, str):
            value = value.format_map(filled_in)
        setattr(dataset, keyword, value)
    return dataset
