"""Questions about the variants of stages: best combinations, most accuracy, fronts, and menus of near-optimal plans.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
