"""From a plan to what a serving system reads: files that deploy it, and what of the plan the system does not keep.

The names are imported on first use (see ``__init__.pyi``), so that ``import mipplan`` stays cheap.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
