"""mipplan: the cheapest configuration of an ML inference pipeline that provably keeps its latency objective.

Everything public is reachable from here and imported on first use, so that ``import mipplan`` stays cheap.
"""

from typing import Any

import lazy_loader

__version__ = "0.1.0"

_find, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are those of __init__.pyi


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _find(name)
