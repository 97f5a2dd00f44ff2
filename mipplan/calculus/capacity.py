"""The fewest servers that keep a wait on traffic inside an envelope: a closed form (theory, section 10)."""

from __future__ import annotations

from fractions import Fraction

from mipplan.calculus.envelopes import Envelope


def rate_needed(envelope: Envelope, wait_ns: int) -> tuple[int, int] | None:
    """Least rate, in queries per ns, at which all but the first query of each window u are served within ``u + wait``.

    ``max over corners of (a − 1)/(u + wait)``, and at least the long-run rate.

    Returns
    -------
    (int, int) or None
        Numerator and denominator; None if no rate is enough.

    References
    ----------
    Theorem (replicas), docs/theory.md.
    """
    if wait_ns < 0:
        return None
    best, per = envelope.rate.numerator, envelope.rate.denominator
    for excess, window, common in envelope.excesses:
        time = window + wait_ns * common
        if excess * per > best * time:
            if time == 0:
                return None  # several at one instant, and no time for any but the first
            best, per = excess, time
    return best, per


def servers_needed(
    envelope: Envelope, period_ns: int, tokens: int, wait_ns: int, tokens_per_query: int | Fraction = 1
) -> Fraction | None:
    """Least real number n for which n servers keep a wait; None if no number does.

    ``n = F·period/tokens · rate_needed``: the n servers then serve at the rate that is needed.

    Parameters
    ----------
    envelope : Envelope
    period_ns, tokens : int
        One server takes `period_ns` for `tokens` tokens.
    wait_ns : int
        Longest wait allowed; None is returned if it is negative.
    tokens_per_query : int or Fraction
        F.

    References
    ----------
    Theorem (replicas), docs/theory.md.
    """
    rate = rate_needed(envelope, wait_ns)
    if rate is None:
        return None
    up, down = rate
    fanout = tokens_per_query
    return Fraction(fanout.numerator * period_ns * up, fanout.denominator * tokens * down)
