"""Documents people write: read safely, with every fault and its place; what they must contain, others say.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
