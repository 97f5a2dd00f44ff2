"""Why there is no plan, with figures that were computed for this request."""

from __future__ import annotations

import math

from mipplan.certificate import CriticalStage, certify_services
from mipplan.planner.instance import Instance
from mipplan.units import NS_PER_MS, format_duration


def blocked_stages_reason(instance: Instance) -> str | None:
    """Name every stage that nothing can carry, and why each of its options fell out; None if there is none."""
    lines = []
    for stage, found in instance.families.items():
        if not found.families:
            rate = instance.workload.stages[stage].count / (instance.workload.span_ns / 1e9)
            why = "; ".join(found.rejected) or "no hardware is admitted"
            lines.append(f"no hardware can carry stage {stage!r} at {rate:.4g} tokens/s: {why}")
    return "\n".join(lines) or None


def too_slow_reason(instance: Instance) -> str | None:
    """Whether even ideal options miss the objective: then nothing can be certified, and this is why.

    Each stage gets the least T and the greatest R of all its options, whatever they cost together.
    """
    services = instance.ideal_services()
    certificate = certify_services(instance.workload, services, instance.quantile)
    if certificate.bound_ns <= instance.slo_ns:
        return None
    path = " → ".join(_described(stage) for stage in certificate.critical_path)
    reachable = math.ceil(certificate.bound_ns / NS_PER_MS)
    return (
        f"no configuration can be certified to keep P{100 * instance.quantile:g} ≤ "
        f"{format_duration(instance.slo_ns)}: even with the fastest option of every stage and as many replicas as "
        f"allowed the certificate is {format_duration(certificate.bound_ns)} (critical path: {path}). "
        f"Ask for at least {reachable}ms, or add faster hardware or smaller batches on that path"
    )


def limits_reason(instance: Instance) -> str:
    """Explain that every stage alone can be served fast enough, but not all together."""
    limits = ", ".join(f"{name}: {limit}" for name, limit in instance.limits.items())
    bounds = f" within the device limits ({limits})" if limits else " within the stages' replica limits"
    return (
        f"no combination of options can be certified to keep P{100 * instance.quantile:g} ≤ "
        f"{format_duration(instance.slo_ns)}{bounds}, although every stage has options. "
        "Ask for a longer objective, or raise the limits"
    )


def _described(stage: CriticalStage) -> str:
    parts = [f"T {format_duration(stage.latency_ns)}"]
    if stage.wait_ns:
        parts.append(f"wait {format_duration(stage.wait_ns)}")
    if stage.delay_ns:
        parts.append(f"after a delay of {format_duration(stage.delay_ns)}")
    return f"{stage.stage} ({', '.join(parts)})"
