"""Serving a plan: a dispatcher that keeps the laws that guarantees rest on, and hosts that run it in real time.

The names are imported on first use (see ``__init__.pyi``), so that ``import mipplan`` stays cheap and the core needs
none of the packages of ``mipplan[serve]``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
