"""The cheapest plan by replay, or by the sharp certificate, and what is proven about it; and parts of the search.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
