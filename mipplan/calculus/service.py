"""The service a stage guarantees under one option: rate R and latency T, exact in integers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from mipplan.core import NS_PER_S, Int64


@dataclass(frozen=True)
class StageService:
    """Rate-latency service β(t) = R·(t − T)⁺ with R = ``tokens / period_ns`` kept as a ratio of integers."""

    latency_ns: int  # T, in ns.
    period_ns: int  # ℓ(b), the time of one full batch; 0 stands for R = ∞.
    tokens: int  # n·b, tokens served per period.

    @property
    def rate_rps(self) -> float:
        """R in tokens per second."""
        return float("inf") if self.period_ns == 0 else self.tokens * NS_PER_S / self.period_ns

    @property
    def ns_per_token(self) -> Fraction:
        """1/R, exactly."""
        return Fraction(self.period_ns, self.tokens)


def stage_latency_ns(service_ns: Int64, is_source: bool) -> int:
    """T of an option whose batch latencies ℓ(1..b) are `service_ns`, shape (b,).

    ``T = 2·max ℓ(k)``: the batch in service may be waited out in full, then the own batch takes as long again.
    ``T = ℓ(1)`` at a source with b = 1: tokens arrive in token order and are served one by one in constant
    time, so the recursion below T is exact (docs/theory.md, section 2).
    """
    if is_source and service_ns.size == 1:
        return int(service_ns[0])
    return 2 * int(service_ns.max())


def stage_service(service_ns: Int64, replicas: int, is_source: bool) -> StageService:
    """Service curve of `replicas` replicas with batch cap ``b = service_ns.size``.

    Parameters
    ----------
    service_ns : int64, shape (b,)
        ℓ(1), …, ℓ(b).
    is_source : bool
        Whether the stage has no incoming edge.

    References
    ----------
    Lemma (service), docs/theory.md.
    """
    batch = int(service_ns.size)
    return StageService(stage_latency_ns(service_ns, is_source), int(service_ns[-1]), replicas * batch)


def ideal_service(services: list[StageService]) -> StageService:
    """Least T and greatest R among `services` (perhaps no single one has both): no option is better."""
    fastest = min(services, key=lambda service: service.ns_per_token)
    return StageService(min(s.latency_ns for s in services), fastest.period_ns, fastest.tokens)


def service_time_ns(service: StageService, serial_tokens: int = 0) -> int:
    """``T + serial_tokens/R`` in ns, rounded up."""
    return service.latency_ns + -(-serial_tokens * service.period_ns // service.tokens)
