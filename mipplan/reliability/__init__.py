"""Plans that keep the objective in a stated share of tomorrow's scenarios, and the test that says so.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
