"""What one stage guarantees, R and T, and the recursion under every bound.

Proofs: [theory, section 2][2-what-one-stage-guarantees] and [3][3-the-certificate].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mipplan.core import NS_PER_S, PIECE, UNLIMITED_NS, Deadline, InputError, Int64, running_maximum
from mipplan.pipeline import DispatchLaw

#: Products above this are split, because no intermediate result may leave int64.
SAFE = 2**62
_TOO_LONG = "these replicas would need more than a century for this trace: too long to count"
#: Called before passes over a trace, and may end what is under way by raising: whoever asks for it in this context.
TIME_CHECK: ContextVar[Callable[[], None]] = ContextVar("TIME_CHECK", default=lambda: None)


@contextmanager
def given_up_at(deadline: Deadline) -> Iterator[None]:
    """Within this context no stage of a trace is evaluated after the deadline: `LimitReachedError` is raised."""
    before = TIME_CHECK.set(deadline.check)
    try:
        yield
    finally:
        TIME_CHECK.reset(before)


@dataclass(frozen=True)
class StageService:
    """Rate-latency service β(t) = R·(t − T)⁺ with R = ``tokens / period_ns`` kept as a ratio of integers."""

    latency_ns: int  # T, in ns.
    period_ns: int  # ℓ(b), the time of one full batch; 0 stands for R = ∞.
    tokens: int  # n·b, tokens served per period.
    #: Under fifo, how many tokens may pass another one, for each slack of the messages it sends (`most_passing`).
    passing: tuple[int, ...] = ()

    @property
    def rate_rps(self) -> float:
        """R in tokens per second."""
        return float("inf") if self.period_ns == 0 else self.tokens * NS_PER_S / self.period_ns

    @property
    def ns_per_token(self) -> Fraction:
        """1/R, exactly."""
        return Fraction(self.period_ns, self.tokens)


def stage_service(
    service_ns: Int64,
    replicas: int,
    is_source: bool,
    law: DispatchLaw = DispatchLaw.EAGER,
    stagger_ns: int = 0,
    window_ns: int = 0,
) -> StageService:
    """Service curve of `replicas` replicas with batch cap ``b = service_ns.size``.

    Eager and timed: ``T = 2·max ℓ(k)``, as the batch in service may be waited out in full, then the own batch takes as
    long again; ``R = n·b/ℓ(b)``. Paced: ``T = L + δ`` and ``R = b/δ`` with ``L = max ℓ(k)`` and ``δ = ⌈L/n⌉``.
    Under every law ``T = ℓ(1)`` at a source with b = 1: tokens arrive in token order and are served one by one in
    constant time ([theory, section 2][2-what-one-stage-guarantees]). Neither T nor 1/R grows with n. Where outputs of a
    batch go on one after another, T is longer by the time until the last has gone; where one is collected, by that.

    Parameters
    ----------
    service_ns : int64, shape (b,)
        ℓ(1), …, ℓ(b).
    is_source : bool
        Whether the stage has no incoming edge.
    law : DispatchLaw
    stagger_ns : int
        Between the outputs of a batch on their way to other stages.
    window_ns : int
        For which a replica of an eager stage collects a batch, at most.

    References
    ----------
    [Lemma (service)][lemma-service], [Lemma (service, paced)][lemma-service-paced],
    [Lemma (service, collecting)][lemma-service-collecting].
    """
    batch, longest_ns, full_ns = int(service_ns.size), int(service_ns.max()), int(service_ns[-1])
    if law is not DispatchLaw.PACED:
        latency_ns = longest_ns if is_source and batch == 1 else 2 * longest_ns
        beyond_ns = (batch - 1) * stagger_ns + min(batch - 1, 1) * window_ns
        return StageService(latency_ns + beyond_ns, full_ns, replicas * batch)
    own = np.array([longest_ns, full_ns, batch, replicas], dtype=np.int64)[:, None]
    columns = service_columns(own[0], own[1], own[2], own[3], is_source, law, stagger_ns, window_ns)
    latency, period, tokens = (int(column[0]) for column in columns)
    return StageService(latency, period, tokens)


def service_columns(
    longest_ns: Int64,
    full_ns: Int64,
    batch: Int64,
    replicas: Int64,
    is_source: bool,
    law: DispatchLaw,
    stagger_ns: int = 0,
    window_ns: int = 0,
) -> tuple[Int64, Int64, Int64]:
    """T, ℓ(b) and n·b of `stage_service` for many max ℓ(k), ℓ(b), b and n, shape (m,) each; paced they are T, δ, b."""
    one_by_one = is_source & (batch == 1)
    spread_ns = (batch - 1) * stagger_ns + np.minimum(batch - 1, 1) * window_ns
    if law is not DispatchLaw.PACED:
        return np.where(one_by_one, 1, 2) * longest_ns + spread_ns, full_ns, replicas * batch
    pace_ns = -(-longest_ns // replicas)
    latency_ns = longest_ns + np.where(one_by_one, 0, pace_ns) + spread_ns
    return latency_ns, np.where(replicas == 1, _alone_ns(longest_ns, full_ns), pace_ns), batch


def _alone_ns(longest_ns: Int64 | int, full_ns: Int64 | int) -> Int64:
    """Time in which one paced replica serves a full batch; ``δ = ⌈L/n⌉`` for two or more.

    One replica is eager and needs ℓ(b), perhaps less than L where the table is not monotone; no less than two replicas
    need is claimed even so, that more replicas never seem slower.
    """
    alone_ns: Int64 = np.maximum(full_ns, -(-longest_ns // 2))
    return alone_ns


def fewest_replicas(
    service_ns: Int64, tokens_per_ns: Fraction, law: DispatchLaw = DispatchLaw.EAGER, *, reached: bool = False
) -> int:
    """Fewest replicas whose R exceeds a rate, or reaches it; where no number does, more than there ever are."""
    batch, full_ns = service_ns.size, int(service_ns[-1])
    if law is not DispatchLaw.PACED:
        work, room = tokens_per_ns.numerator * full_ns, tokens_per_ns.denominator * batch
        return -(-work // room) if reached else work // room + 1
    most_ns, longest_ns = UNLIMITED_NS, int(service_ns.max())
    if tokens_per_ns:
        period_ns = batch / tokens_per_ns
        most_ns = math.floor(period_ns) if reached else math.ceil(period_ns) - 1
    if most_ns < 1:
        return UNLIMITED_NS
    if _alone_ns(longest_ns, full_ns) <= most_ns:
        return 1
    return max(2, -(-longest_ns // most_ns))


def service_time_ns(service: StageService, serial_tokens: int = 0) -> int:
    """``T + serial_tokens/R`` in ns, rounded up."""
    return service.latency_ns + -(-serial_tokens * service.period_ns // service.tokens)


def latest_start_ns(
    arrival_ns: Int64,
    period_ns: int,
    tokens: int,
    position: Int64 | None = None,
    probes: tuple[Int64, Int64] | None = None,
) -> Int64:
    """``Y(i) = ⌈ max_{j ≤ i} ( E(j) + (p(i) − p(j))·period_ns/tokens ) ⌉``, shape (k,).

    Raises `InputError` if the result would come near the end of int64 (292 years): absurd overload, and no
    wrong number for it.

    Parameters
    ----------
    arrival_ns : int64, shape (k,)
        E: bounds on arrival times, any order.
    period_ns, tokens : int
        1/R = ``period_ns / tokens`` ns per token; ``period_ns = 0`` means R = ∞.
    position : int64, shape (k,), optional
        p: increasing token numbers; 0, 1, … if absent. Gaps count tokens whose arrivals are left out.
    probes : (last, number), optional
        Evaluate Y for other tokens, shape (q,): `last` is the index of the last entry that counts as j ≤ i, and
        `number` the token number p(i).

    Notes
    -----
    Exact in integers: with E(j)·tokens − p(j)·period_ns the maximum is a running one. Where the products could
    leave int64 (spans of months times thousands of parallel tokens) the work p·period_ns/tokens is split into
    whole nanoseconds and a remainder, and the running maximum taken in lexicographic order: just as exact, and
    slower.

    References
    ----------
    [Theorem (sample path)][theorem-sample-path].
    """
    count = arrival_ns.size
    if count == 0:
        return np.empty(0, dtype=np.int64)
    base, latest = int(arrival_ns.min()), int(arrival_ns.max())
    if probes is not None:
        served = int(probes[1].max(initial=0)) + 1
    else:
        served = count if position is None else int(position[-1]) + 1
    # What would come near the end of int64 is refused, delays of years on the way as well as work: a number that
    # wrapped around would look like a bound.
    if latest + served * (period_ns // tokens + 1) >= SAFE:
        raise InputError.one("load", _TOO_LONG)
    if period_ns == 0:
        return running_maximum(arrival_ns)[slice(None) if probes is None else probes[0]]
    if (latest - base + 1) * tokens + served * period_ns < SAFE:
        found = np.empty(count, dtype=np.int64)
        for some, _, greatest, work in running_maxima(arrival_ns, base, period_ns, tokens, position):
            if probes is None:
                _rounded_up(np.add(greatest, work, out=found[some]), tokens, base)
            else:
                found[some] = greatest
        if probes is None:
            return found
        return _rounded_up(found[probes[0]] + probes[1] * np.int64(period_ns), tokens, base)
    if served * tokens >= SAFE:
        raise InputError.one("load", _TOO_LONG)
    index = np.arange(count, dtype=np.int64) if position is None else position
    last, number = (slice(None), index) if probes is None else probes
    done, remainder = _work_ns(index, period_ns, tokens)
    whole, least_remainder = _lexicographic_maximum(arrival_ns - done, remainder, tokens)
    asked, broken = _work_ns(number, period_ns, tokens)
    # The broken part asked for, less the one done, lies between −1 and 1 ns: rounded up it is 1 or 0.
    start: Int64 = whole[last] + asked + (broken > least_remainder[last])
    return start


def running_maxima(
    arrival_ns: Int64, base: int, period_ns: int, tokens: int, position: Int64 | None
) -> Iterator[tuple[slice, Int64, Int64, Int64]]:
    """Go piece by piece through ``K = (E − base)·tokens − p·period_ns``: which tokens, K, its maximum so far, work.

    The work is p·period_ns. The arrays are written again for the next piece: with long traces, making more is what
    takes the time.
    """
    size = min(PIECE, arrival_ns.size)
    counted = np.arange(size, dtype=np.int64) * np.int64(period_ns)
    key, greatest, work = np.empty((3, size), dtype=np.int64)
    so_far = np.iinfo(np.int64).min
    for start in range(0, arrival_ns.size, size):
        some = slice(start, min(start + size, arrival_ns.size))
        fewer = some.stop - start
        counted, key, greatest, work = counted[:fewer], key[:fewer], greatest[:fewer], work[:fewer]
        if position is None:
            np.add(counted, np.int64(start * period_ns), out=work)
        else:
            np.multiply(position[some], np.int64(period_ns), out=work)
        np.subtract(arrival_ns[some], np.int64(base), out=key)
        key *= np.int64(tokens)
        key -= work
        first = key[0]
        key[0] = max(so_far, first)
        so_far = np.maximum.accumulate(key, out=greatest)[-1]
        key[0] = first
        yield some, key, greatest, work


def _rounded_up(scaled: Int64, tokens: int, base: int) -> Int64:
    """Divide by `tokens`, rounding up, and add `base`: in place."""
    scaled += np.int64(tokens - 1)
    scaled //= np.int64(tokens)
    scaled += np.int64(base)
    return scaled


def _lexicographic_maximum(whole: Int64, remainder: Int64, tokens: int) -> tuple[Int64, Int64]:
    """Running maximum of ``whole − remainder/tokens``, remainders in [0, tokens): greatest whole, least remainder."""
    greatest = running_maximum(whole)
    # Remainders count only where the maximum is attained. Each new maximum starts a segment whose remainders are
    # put below those of all segments before, so that one running minimum serves them all.
    segment = np.cumsum(np.r_[0, greatest[1:] != greatest[:-1]]) * np.int64(tokens)
    counting = np.where(whole == greatest, remainder, np.int64(tokens - 1)) - segment
    return greatest, np.minimum.accumulate(counting) + segment


def _work_ns(index: Int64, period_ns: int, tokens: int) -> tuple[Int64, Int64]:
    """``index·period_ns/tokens`` as whole ns and the remainder (in 1/tokens ns), without overflow."""
    whole, broken = divmod(period_ns, tokens)
    part, remainder = np.divmod(index * np.int64(broken), np.int64(tokens))
    return index * np.int64(whole) + part, remainder
