"""Plans side by side: of all planners, judged on what they did not see, and of one objective under every guarantee.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
