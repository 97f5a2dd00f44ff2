"""Questions to a plan: why it is so, what if something changes, what differs, what an objective costs, what matters.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
