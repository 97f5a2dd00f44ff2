"""What every room uses: errors and faults, checks, units, quantiles, arrays, graphs, searches. Knows no pipelines.

The names are imported on first use (see ``__init__.pyi``): most need NumPy, and ``mipplan --help`` does not.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
