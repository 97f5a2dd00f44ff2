"""Driving a server: a trace sent at its time stamps, whatever the answers, and a log of what came of each query.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
