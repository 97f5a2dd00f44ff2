"""From a model to a profile: latencies measured, with intervals, warm-up found and disturbed runs told apart.

The names are imported on first use (see ``__init__.pyi``), so that the process of a replica stays small.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
