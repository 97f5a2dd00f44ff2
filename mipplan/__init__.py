"""mipplan: the cheapest configuration of an ML inference pipeline that provably keeps its latency objective.

Everything public is reachable from here and imported on first use, so that ``import mipplan`` stays cheap.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
