"""Synthetic traffic. Every generator takes a seed and returns sorted int64 nanoseconds in [0, duration),
shape (n,); it raises `InputError` if an argument is unusable.

`gamma_chunks` makes traces larger than memory, piece by piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mipplan.core import (
    MAX_DURATION_NS,
    NS_PER_S,
    Fault,
    Float64,
    InputError,
    Int64,
    array_of,
    check_all,
    check_seed,
    is_number,
    shown,
)
from mipplan.trace.checks import MAX_ARRIVALS, number_fault

_MAX_DURATION_S = MAX_DURATION_NS / NS_PER_S
_MAX_CV = 1_000.0
#: Some of them together are a number, too.
_MAX_SOJOURN_S = 1e300
#: The path of a modulating chain is drawn one state at a time.
_MAX_JUMPS = 10_000_000
#: Pieces of constant burstiness into which a ramp between two regimes is cut.
_RAMP_PIECES = 16


def poisson(rate_rps: float, duration_s: float, seed: int) -> Int64:
    """Draw a Poisson process of constant rate.

    Parameters
    ----------
    rate_rps : float
        Mean arrivals per second.
    """
    _check(seed, number_fault("rate_rps", rate_rps), _duration_fault(duration_s))
    rng = _random(seed)
    count = rng.poisson(_expected(rate_rps * duration_s))
    return np.sort(_floor_ns(rng.random(count) * duration_s, duration_s))


def gamma(rate_rps: float, cv: float, duration_s: float, seed: int) -> Int64:
    """Draw a renewal process with gamma-distributed gaps.

    The first arrival comes one gap after time 0. So the process is not stationary: bursty traces (cv above 1)
    begin with a burst slightly more often than they would when observed from a random moment on.

    Parameters
    ----------
    rate_rps : float
        Arrivals per second in the long run; the mean gap is its inverse.
    cv : float
        Coefficient of variation of the gaps: 1 is Poisson, 4 very bursty; at most 1000.
    """
    cv_fault = number_fault("cv", cv, most=_MAX_CV)
    _check(seed, number_fault("rate_rps", rate_rps), cv_fault, _duration_fault(duration_s))
    _expected(rate_rps * duration_s)
    operational = _renewals(_random(seed), cv, rate_rps * duration_s)
    return _floor_ns(operational / rate_rps, duration_s)


def markov_modulated(
    rates_rps: Sequence[float], mean_sojourn_s: float | Sequence[float], duration_s: float, seed: int
) -> Int64:
    """Draw a Poisson process whose rate jumps between states, stationary from time 0 on.

    Parameters
    ----------
    rates_rps : sequence of float
        Rate of each state, at least two; 0 is allowed.
    mean_sojourn_s : float or sequence of float
        Mean of the exponential time spent in a state, one for all or one each. The next state is any other,
        equally likely.
    """
    rates_rps, for_all = _listed("rates_rps", rates_rps), is_number(mean_sojourn_s)
    sojourns = _listed("mean_sojourn_s", [mean_sojourn_s] * len(rates_rps) if for_all else mean_sojourn_s)
    faults = _number_faults("rates_rps", rates_rps, zero=True) + _number_faults(
        "mean_sojourn_s", sojourns, most=_MAX_SOJOURN_S
    )
    if len(rates_rps) < 2 or len(sojourns) != len(rates_rps):
        faults.append(
            Fault("rates_rps", "expected at least two rates, and one sojourn for all or one for each")
        )
    _check(seed, *faults, _duration_fault(duration_s))
    _expected(max(rates_rps) * duration_s)
    if duration_s * len(sojourns) / sum(sojourns) > _MAX_JUMPS:  # states are visited equally often
        message = f"more than {_MAX_JUMPS} changes of state are expected: lengthen it"
        raise InputError.one("mean_sojourn_s", message)
    rng = _random(seed)
    starts, states = _state_path(rng, np.asarray(sojourns, np.float64), duration_s)
    ends = np.append(starts[1:], duration_s)
    counts = rng.poisson(np.asarray(rates_rps, np.float64)[states] * (ends - starts))
    offsets = rng.random(int(counts.sum())) * np.repeat(ends - starts, counts)
    return _floor_ns(np.sort(np.repeat(starts, counts) + offsets), duration_s)


def diurnal(mean_rps: float, amplitude: float, period_s: float, duration_s: float, seed: int) -> Int64:
    """Draw a Poisson process of rate ``mean_rps · (1 + amplitude · sin(2π t / period_s))``.

    Parameters
    ----------
    mean_rps : float
        Mean rate over whole periods.
    amplitude : float
        From 0 (constant) to 1 (the rate falls to 0).

    Notes
    -----
    Thinning: points of a process of the highest rate are kept with probability proportional to the rate then.
    """
    _check(
        seed,
        number_fault("mean_rps", mean_rps),
        number_fault("amplitude", amplitude, zero=True, most=1.0),
        number_fault("period_s", period_s),
        _duration_fault(duration_s),
    )
    rng = _random(seed)
    peak = mean_rps * (1 + amplitude)
    candidates = np.sort(rng.random(rng.poisson(_expected(peak * duration_s)))) * duration_s
    rate = mean_rps * (1 + amplitude * np.sin(2 * np.pi * candidates / period_s))
    return _floor_ns(candidates[rng.random(len(candidates)) * peak < rate], duration_s)


def ramp(
    rates_rps: Sequence[float],
    cvs: Sequence[float],
    durations_s: Sequence[float],
    transition_s: float,
    seed: int,
) -> Int64:
    """Draw regimes of constant rate and burstiness, with linear ramps of both between them.

    Parameters
    ----------
    rates_rps, cvs, durations_s : sequence of float
        Rate, coefficient of variation of the gaps, and length of each regime; one regime at least.
    transition_s : float
        Length of each ramp, 0 for jumps. It adds to the regimes: the trace lasts
        ``sum(durations_s) + (len(rates_rps) − 1) · transition_s``.

    Notes
    -----
    Gamma renewals of unit rate in operational time, mapped to real time by the inverse of the cumulative rate
    (exact for linear ramps); on a ramp the burstiness changes in sixteen steps.
    """
    rates_rps, cvs = _listed("rates_rps", rates_rps), _listed("cvs", cvs)
    durations_s = _listed("durations_s", durations_s)
    faults = _number_faults("rates_rps", rates_rps) + _number_faults("cvs", cvs, most=_MAX_CV)
    faults += _number_faults("durations_s", durations_s, most=_MAX_DURATION_S)
    faults.append(number_fault("transition_s", transition_s, zero=True, most=_MAX_DURATION_S))
    if not len(rates_rps) == len(cvs) == len(durations_s) >= 1:
        faults.append(Fault("rates_rps", "expected as many rates as cvs and durations, at least one"))
    _check(seed, *faults)
    pieces = _ramp_pieces(rates_rps, cvs, durations_s, transition_s)
    _expected(sum((first + last) / 2 * length for first, last, _, length in pieces))
    rng = _random(seed)
    parts: list[Float64] = []
    start_s, carried = 0.0, None
    for first, last, cv, length in pieces:
        mass = (first + last) / 2 * length
        operational = _renewals(rng, cv, mass, carried, keep_next=True)
        carried = float(operational[-1]) - mass  # the gap in progress goes on in the next piece
        inside = operational[:-1]
        root = np.sqrt(first * first + 2 * inside * (last - first) / length)
        parts.append(start_s + 2 * inside / (first + root))
        start_s += length
    return _floor_ns(np.concatenate(parts), start_s)


def gamma_chunks(rate_rps: float, cv: float, queries: int, seed: int, size: int = 2**18) -> Iterator[Int64]:
    """Generate arrivals with gamma gaps, piece by piece; `Trace.gamma` for traces of any length.

    Parameters
    ----------
    rate_rps : float
        Mean arrivals per second.
    cv : float
        Coefficient of variation of the gaps: 1 is Poisson, 4 very bursty; at most 1000.
    queries : int
        Arrivals in all.
    seed : int
    size : int
        Arrivals in a piece. With another size, other numbers are drawn.

    Yields
    ------
    int64, shape (k,)

    Raises
    ------
    InputError
        With every argument that cannot be used; and when times beyond ten years are reached.
    """
    arguments = (
        number_fault("rate_rps", rate_rps),
        number_fault("cv", cv, most=_MAX_CV),
        _whole_number_fault("queries", queries),
        _whole_number_fault("size", size),
    )
    _check(seed, *arguments)
    # A generator function would check its arguments only when the first piece is asked for.
    return _gamma_pieces(float(rate_rps), float(cv), int(queries), _random(seed), int(size))


def _gamma_pieces(
    rate_rps: float, cv: float, queries: int, rng: np.random.Generator, size: int
) -> Iterator[Int64]:
    # Gaps of a CV below that are whole nanoseconds all the same.
    shape = max(cv, 1e-9) ** -2
    last_ns = 0
    for start in range(0, queries, size):
        gaps_ns = rng.gamma(shape, NS_PER_S / (rate_rps * shape), min(size, queries - start))
        # Sums begin anew in each piece: one float sum over all would lose nanoseconds in the end.
        since_ns = np.floor(np.cumsum(gaps_ns))
        if not since_ns[-1] <= MAX_DURATION_NS - last_ns:
            message = f"{queries:,} queries at {rate_rps:g} per second take over ten years"
            raise InputError.one("rate_rps", message)
        arrival_ns = last_ns + since_ns.astype(np.int64)
        last_ns = int(arrival_ns[-1])
        yield arrival_ns


def _whole_number_fault(name: str, value: object) -> Fault | None:
    """Return a fault unless `value` is a whole number from 1 on; ``1e6`` is one."""
    fault = number_fault(name, value)
    if fault is None and float(value) % 1 == 0:  # type: ignore[arg-type]  # a number, as just checked
        return None
    return Fault(name, f"expected a whole number from 1 on, found {shown(value)}")


def _ramp_pieces(
    rates_rps: Sequence[float], cvs: Sequence[float], durations_s: Sequence[float], transition_s: float
) -> list[tuple[float, float, float, float]]:
    """Return (first rate, last rate, cv, length) of each piece of a ramped trace."""
    pieces: list[tuple[float, float, float, float]] = []
    for index, (rate, cv, length) in enumerate(zip(rates_rps, cvs, durations_s, strict=True)):
        if index and transition_s:
            rates = np.linspace(rates_rps[index - 1], rate, _RAMP_PIECES + 1).tolist()
            edges = np.linspace(cvs[index - 1], cv, _RAMP_PIECES + 1)
            middles = ((edges[1:] + edges[:-1]) / 2).tolist()
            steps = [transition_s / _RAMP_PIECES] * _RAMP_PIECES
            pieces += zip(rates[:-1], rates[1:], middles, steps, strict=True)
        pieces.append((float(rate), float(rate), float(cv), float(length)))
    return pieces


def _renewals(
    rng: np.random.Generator, cv: float, until: float, first: float | None = None, *, keep_next: bool = False
) -> Float64:
    """Draw renewal times below `until` with gamma gaps of mean 1; `keep_next` adds the one that follows.

    `first` is the first renewal time where it is known already.
    """
    shape = max(cv, 1e-150) ** -2  # the inverse square of less is no number
    parts = [np.empty(0) if first is None else np.array([first])]
    reached = 0.0 if first is None else first
    while reached < until:
        # Mostly one block suffices; its size depends on the arguments only, so results are reproducible.
        size = int((until - reached) + 4 * cv * np.sqrt(until - reached)) + 16
        block = reached + np.cumsum(rng.gamma(shape, 1 / shape, size))
        parts.append(block)
        reached = float(block[-1])
        _expected(sum(map(len, parts)))
    times = np.concatenate(parts)
    count = int(np.searchsorted(times, until))
    return times[: count + 1] if keep_next else times[:count]


def _state_path(rng: np.random.Generator, sojourns: Float64, duration_s: float) -> tuple[Float64, Int64]:
    """Draw the states visited until `duration_s` and the times of entering them."""
    states = [int(rng.choice(len(sojourns), p=sojourns / sojourns.sum()))]  # stationary: by time spent
    starts = [0.0]
    while True:
        following = starts[-1] + float(rng.exponential(sojourns[states[-1]]))
        if following >= duration_s:
            return np.asarray(starts), np.asarray(states, np.int64)
        starts.append(following)
        states.append((states[-1] + int(rng.integers(1, len(sojourns)))) % len(sojourns))


def _floor_ns(times_s: Float64, duration_s: float) -> Int64:
    """Round down, so that everything before the end stays before it."""
    last = max(int(duration_s * NS_PER_S) - 1, 0)
    return np.minimum(np.floor(times_s * NS_PER_S).astype(np.int64), last)


def _random(seed: object) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(check_seed(seed)))


def _duration_fault(duration_s: object) -> Fault | None:
    return number_fault("duration_s", duration_s, most=_MAX_DURATION_S)


def _listed(name: str, values: Any) -> list[float]:
    """Return what should be several numbers as a list; raises `InputError` where it is none."""
    if array_of(values).ndim != 1:
        raise InputError.one(name, f"expected a list of numbers, found {shown(values)}")
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _number_faults(
    name: str, values: Sequence[object], *, zero: bool = False, most: float = math.inf
) -> list[Fault | None]:
    return [number_fault(f"{name}[{i}]", value, zero=zero, most=most) for i, value in enumerate(values)]


def _check(seed: object, *faults: Fault | None) -> None:
    found = [fault for fault in faults if fault is not None]
    check_all(lambda: InputError.raise_if(found), lambda: check_seed(seed))


def _expected(count: float) -> float:
    if count > MAX_ARRIVALS:
        message = f"about {count:.3g} arrivals are more than the {MAX_ARRIVALS} possible"
        raise InputError.one("trace", message)
    return count
