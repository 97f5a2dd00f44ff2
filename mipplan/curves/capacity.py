"""The fewest servers that keep a wait on traffic inside an envelope: a closed form (theory, section 10)."""

from __future__ import annotations

from fractions import Fraction

from mipplan.curves.envelopes import Envelope


def servers_needed(
    envelope: Envelope, period_ns: int, tokens: int, wait_ns: int, tokens_per_query: int | Fraction = 1
) -> Fraction | None:
    """Least real number n for which n servers keep a wait; None if no number does.

    ``n = max over corners of F·(a − 1)·period / (tokens·(u + wait))``, and at least ``F·rate·period / tokens``: the
    rate ``n·tokens/period`` then serves all but the first query of each window u within ``u + wait``.

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
    if wait_ns < 0:
        return None
    scale = Fraction(tokens_per_query) * period_ns / tokens
    # Numerators and denominators apart: one reduction at the end instead of one per corner.
    best, per = envelope.rate.numerator, envelope.rate.denominator
    for window, arrivals in envelope.corners:
        excess = arrivals.numerator - arrivals.denominator
        if excess <= 0:
            continue
        up = excess * window.denominator
        down = arrivals.denominator * (window.numerator + wait_ns * window.denominator)
        if down == 0:
            return None  # several at one instant, and no time for any but the first
        if up * per > best * down:
            best, per = up, down
    return scale * Fraction(best, per)
