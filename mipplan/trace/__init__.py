"""Traces: when queries arrived, read from files or generated."""

from __future__ import annotations

from mipplan.trace.model import Trace

__all__ = ["Trace"]
