"""Bytes to facts and back: heads of files, multipart framing, store responses. No I/O."""
