"""Whether a prediction came true: a plan's replay against the log of a system that served it, and which term is off.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
