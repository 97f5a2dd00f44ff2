"""What a plan bears: it is replayed under more traffic, slower service and lost replicas until its objective is missed.

`mipplan.fragility` is the door. The room is not called after it, since a module would hide the function of its name.

The names are imported on first use (see ``__init__.pyi``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
