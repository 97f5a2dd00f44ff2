"""From counts per interval to arrivals, by a stated process and seed."""

from __future__ import annotations

import numpy as np

from mipplan.core import Float64, InputError, Int64, check_seed, shown, suggestion
from mipplan.trace.checks import MAX_ARRIVALS

#: How counts can be expanded, and what each means.
EXPANSIONS = {
    "poisson": "a Poisson number of arrivals with the count as its mean, at random times",
    "uniform": "the count itself, at random times",
    "even": "the count itself, evenly spaced",
}


def check_expansion(expand: object, place: str) -> str:
    """Return the name of an expansion, or raise `InputError` listing them."""
    if expand is None:
        choices = "; ".join(f"{name}: {meaning}" for name, meaning in EXPANSIONS.items())
        raise InputError.one(
            place,
            "holds counts per interval, and how they become arrivals must be said: add "
            f"--expand poisson --seed 1 (in Python: expand='poisson', seed=1). {choices}",
        )
    if expand not in EXPANSIONS:
        known = ", ".join(EXPANSIONS)
        hint = suggestion(expand, EXPANSIONS) or f"; known are {known}"
        raise InputError.one(place, f"there is no expansion {shown(expand)}{hint}")
    return str(expand)


def expand_counts(
    start_ns: Int64, interval_ns: int, counts: Float64, expand: str, seed: int, place: str = "counts"
) -> Int64:
    """Make arrival times from counts.

    Parameters
    ----------
    start_ns : int64[w]
        Starts of the intervals, increasing.
    interval_ns : int
        Their common length.
    counts : float64[w]
        Mean or observed number of arrivals in each; observed ones are rounded to whole numbers.
    expand : {"poisson", "uniform", "even"}
    seed : int
    place : str
        For messages.

    Returns
    -------
    int64[n]
        Sorted; each arrival lies in its interval.

    Raises
    ------
    InputError
        If there would be more than 200 million arrivals.
    """
    rng = np.random.Generator(np.random.PCG64(check_seed(seed)))
    _check_total(float(counts.sum()), place)
    whole = rng.poisson(counts) if expand == "poisson" else np.rint(counts).astype(np.int64)
    total = int(whole.sum())
    _check_total(total, place)
    if expand == "even":
        rank = np.arange(total) - np.repeat(np.cumsum(whole) - whole, whole)
        offsets = np.floor((rank + 0.5) / np.repeat(whole, whole) * interval_ns).astype(np.int64)
    else:
        offsets = rng.integers(0, interval_ns, size=total)
    arrival_ns = np.repeat(start_ns, whole) + offsets
    arrival_ns.sort()
    return arrival_ns


def _check_total(total: float, place: str) -> None:
    if total > MAX_ARRIVALS:
        raise InputError.one(
            place,
            f"the counts make {total:.4g} arrivals, more than the {MAX_ARRIVALS} possible: "
            "take a shorter window (--from, --to; in Python start_s, end_s)",
        )
