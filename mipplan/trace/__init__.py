"""Traces: when queries arrived, read from files or generated."""

from __future__ import annotations

from mipplan.trace.checks import check_split, checked_chunks
from mipplan.trace.counts import Counts
from mipplan.trace.generators import gamma_chunks
from mipplan.trace.model import Trace, TraceReference, split_trace
from mipplan.trace.moments import date_text, is_moment, moment_ns
from mipplan.trace.reading import ReadParams, read_bins, read_pieces

__all__ = [
    "Counts",
    "ReadParams",
    "Trace",
    "TraceReference",
    "check_split",
    "checked_chunks",
    "date_text",
    "gamma_chunks",
    "is_moment",
    "moment_ns",
    "read_bins",
    "read_pieces",
    "split_trace",
]
