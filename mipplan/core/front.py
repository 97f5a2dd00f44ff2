"""What lies on the package's front, for methods that are only another way to call it.

A result knows nothing of the rooms above it. Still ``plan.explain()`` is where people look for
``mipplan.explain(plan, …)``: such a method asks for the function when it is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def from_front(name: str, room: str = "mipplan") -> Any:
    """Return what ``mipplan``, or the front of one of its rooms, offers under a name."""
    return getattr(import_module(room), name)
