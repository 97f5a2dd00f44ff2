"""Watching a plan: whether what runs is still what was planned for, and what a new plan would be.

The names are imported on first use (see ``__init__.pyi``), so that ``import mipplan`` stays cheap.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
