"""One self-contained page about a plan, a tuning or a fleet: figures, tables and where everything comes from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
