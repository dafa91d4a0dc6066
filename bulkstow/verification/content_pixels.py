"""Compares pixel data in different transfer syntaxes, decoded frame by frame.

pydicom decodes, with numpy and, for most transfer syntaxes, a library: the extra `decoders`. Two frames are in memory
at a time. Without a decoder the result is `NotCompared`.
"""

from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec
from itertools import zip_longest
from typing import IO, BinaryIO, cast

from bulkstow.verification.content_names import syntax_name
from bulkstow.verification.content_result import NotCompared
from bulkstow.wire.part10 import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE
from bulkstow.wire.synthetic import EXPLICIT_VR_LITTLE_ENDIAN

INSTALL = "pip install '.[decoders]' in a checkout"

LOSSLESS = frozenset(
    {
        "1.2.840.10008.1.2.4.57",
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.4.201",
        "1.2.840.10008.1.2.4.202",
        "1.2.840.10008.1.2.5",
    }
)
"""Compressed transfer syntaxes that every decoder decodes to the same pixels (PS3.5 Annex A)."""

NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_BIG, *DEFLATED})


def compare_frames(
    ours: IO[bytes], our_syntax: str, theirs: IO[bytes], their_syntax: str
) -> Generator[None, None, bool | NotCompared]:
    """Return whether the decoded pixels of two whole files are equal. Pauses after each frame.

    Pixels of a lossy transfer syntax that differ may have been decoded by another decoder, so nothing is known then.
    """
    for uid in (our_syntax, their_syntax):
        if missing := _missing_decoder(uid):
            return NotCompared(missing)
    import numpy as np
    from pydicom.pixels.utils import iter_pixels

    try:
        for one, other in zip_longest(iter_pixels(cast("BinaryIO", ours)), iter_pixels(cast("BinaryIO", theirs))):
            if one is None or other is None or not np.array_equal(one, other):
                if our_syntax in LOSSLESS | NATIVE:
                    return False
                return NotCompared(
                    f"pixels in {syntax_name(our_syntax)}, decoded by another decoder, may differ a little"
                )
            yield
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders of several libraries raise any exception for damaged data
        return NotCompared(f"the pixel data cannot be decoded ({type(error).__name__})")
    return True


def _missing_decoder(uid: str) -> str:
    """Return the packages that are missing to decode a transfer syntax, or ""."""
    return "" if _is_decodable(uid) else f"pixels in {syntax_name(uid)} were not decoded: {INSTALL}"


def _is_decodable(uid: str) -> bool:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        return find_spec("numpy") is not None and get_decoder(uid).is_available
    except NotImplementedError:  # pydicom knows no decoder, such as for video
        return False
