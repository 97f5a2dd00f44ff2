"""Which batch sizes to measure: those named, those that a line misses by most, those that could change a plan.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
