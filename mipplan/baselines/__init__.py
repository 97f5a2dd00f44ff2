"""What others would do: InferLine's greedy search, sizing for a rate, and FA2 and RIM, which IPA was compared with.

None of them uses a solver.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
