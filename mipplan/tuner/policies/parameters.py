"""Whether the parameters of a policy make sense, before a run starts with them."""

from __future__ import annotations

from mipplan.core import Fault, InputError, is_finite, shown

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
        value, place = getattr(owner, name), f"{type(owner).__name__}.{name}"
        faults += [
            Fault(place, f"expected a number from {least:g} to {most:g}, found {shown(number)}")
            for number in (value if isinstance(value, tuple) else (value,))
            if not is_finite(number) or not least <= number <= most
        ]
    if faults:
        raise InputError(faults)
