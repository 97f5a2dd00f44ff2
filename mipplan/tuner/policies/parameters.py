"""Whether the parameters of a policy make sense, before a run starts with them."""

from __future__ import annotations

import math

import numpy as np

from mipplan.documents import shown
from mipplan.errors import Fault, InputError

#: A day: nothing that a policy waits for or looks back at takes longer.
DAY_S = 86_400.0
#: The shortest time that is one.
NANOSECOND_S = 1e-9
#: Nobody provisions for more times the traffic.
MOST_TIMES = 1_000.0


def check_numbers(owner: object, **ranges: tuple[float, float]) -> None:
    """Check that attributes are numbers within closed ranges; of a tuple, each of its numbers.

    Raises
    ------
    InputError
        With every one that is not.
    """
    faults = []
    for name, (least, most) in ranges.items():
        value = getattr(owner, name)
        for number in value if isinstance(value, tuple) else (value,):
            known = isinstance(number, int | float | np.integer | np.floating) and not isinstance(
                number, bool
            )
            if not known or not math.isfinite(number) or not least <= number <= most:
                faults.append(
                    Fault(
                        f"{type(owner).__name__}.{name}",
                        f"expected a number from {least:g} to {most:g}, found {shown(number)}",
                    )
                )
    if faults:
        raise InputError(faults)
