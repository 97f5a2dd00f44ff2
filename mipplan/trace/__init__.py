"""Traces: when queries arrived, read from files or generated."""

from __future__ import annotations

from mipplan.trace.model import Trace
from mipplan.trace.splitting import check_split, split_trace
from mipplan.trace.stream_files import read_pieces
from mipplan.trace.streams import checked_chunks

__all__ = [
    "Trace",
    "check_split",
    "checked_chunks",
    "read_pieces",
    "split_trace",
]
