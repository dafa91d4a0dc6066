"""Claims about the stream that never blocks its caller."""

from __future__ import annotations

import io
import os
import threading

from bulkstow.progress.background import PIECES_AHEAD, BackgroundStream


def test_text_arrives_in_order_by_the_end() -> None:
    """All text is written; closing waits for it, and leaves the stream open."""
    stream = io.StringIO()
    background = BackgroundStream(stream)
    for number in range(100):
        background.write(f"{number} ")
    background.close()
    assert stream.getvalue() == "".join(f"{number} " for number in range(100))
    assert not stream.closed


def test_a_full_pipe_does_not_block_the_caller() -> None:
    """If a pipe is full, the caller is not blocked: text is dropped, and memory is bounded."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        background = BackgroundStream(stream)
        for _ in range(3 * PIECES_AHEAD):
            background.write("x" * 1000)
        threading.Thread(target=_read_all, args=(reader,), daemon=True).start()
        background.close()
    assert not background._writer.is_alive()
    assert background.dropped >= 2 * PIECES_AHEAD - 100  # a pipe holds 64 kB


def _read_all(descriptor: int) -> None:
    while os.read(descriptor, 2**20):
        pass
    os.close(descriptor)


def test_a_failure_ends_it() -> None:
    """The error of a failed write is kept, and the following text is dropped."""

    class Full(io.StringIO):
        def write(self, text: str, /) -> int:
            raise OSError(28, "No space left on device")

    background = BackgroundStream(Full())
    for _ in range(10):
        background.write("text")
    background.close()
    assert str(background.failure) == "[Errno 28] No space left on device"
