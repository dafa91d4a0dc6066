"""The HTML report of a measurement: one file that needs no network."""

from bulkstow.bench.report.page import html

__all__ = ["html"]
