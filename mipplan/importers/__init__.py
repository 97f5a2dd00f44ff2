"""Importers: what other tools measured, and what clouds charge, as profiles; each figure with where it is from.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
