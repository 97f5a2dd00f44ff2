"""Logs of runs: what was sent and answered, and what each stage did with it, as Parquet files in one form.

The names are imported on first use (see ``__init__.pyi``), so that a server or a load generator starts fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
