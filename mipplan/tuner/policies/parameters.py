"""Checks of what policies are made with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from mipplan.documents import shown
from mipplan.errors import Fault, InputError


def check_parameters(positive: Mapping[str, object], not_negative: Mapping[str, object]) -> None:
    """Refuse numbers that a policy cannot work with.

    Raises
    ------
    InputError
        With every fault.
    """
    faults = [
        Fault(name, f"expected a number above 0, found {shown(value)}")
        for name, value in positive.items()
        if not (_is_number(value) and float(value) > 0)  # type: ignore[arg-type]
    ]
    faults += [
        Fault(name, f"expected a number of at least 0, found {shown(value)}")
        for name, value in not_negative.items()
        if not (_is_number(value) and float(value) >= 0)  # type: ignore[arg-type]
    ]
    if faults:
        raise InputError(faults)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
