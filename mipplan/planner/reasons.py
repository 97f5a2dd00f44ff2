"""Why there is no plan, with figures that were computed for this request."""

from __future__ import annotations

import math

from mipplan.certificate import CriticalStage, certify_services
from mipplan.curves import StageService
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
    ideal_ns = instance.certificate_ns(instance.ideal_services())
    if ideal_ns <= instance.slo_ns:
        return None
    head = (
        f"no configuration can be certified to keep P{100 * instance.quantile:g} ≤ "
        f"{format_duration(instance.slo_ns)}: at any cost the certificate is at least {format_duration(ideal_ns)}"
    )
    fastest = _fastest_found(instance)
    if fastest is None:
        return f"{head}. Ask for more time, or add faster hardware or smaller batches"
    certificate = certify_services(instance.workload, fastest, instance.quantile)
    path = " → ".join(_described(stage) for stage in certificate.critical_path)
    reachable = math.ceil(certificate.bound_ns / NS_PER_MS)
    return (
        f"{head}. Ask for at least {reachable}ms, which is certified with the fastest options found "
        f"(critical path: {path}), or add faster hardware or smaller batches on that path"
    )


def _fastest_found(instance: Instance) -> dict[str, StageService] | None:
    """Find a configuration with a certificate as small as possible: the most replicas, and one family at a time.

    None where stages share limited hardware: the most for each is then not to be had for all.
    """
    families = {stage: found.families for stage, found in instance.families.items()}
    if any(family.limited for members in families.values() for family in members):
        return None
    choices = {
        stage: [family.service(family.most) for family in members] for stage, members in families.items()
    }
    services = {stage: min(members, key=lambda s: s.latency_ns) for stage, members in choices.items()}
    best = instance.certificate_ns(services)
    improved = best > instance.certificate_ns(instance.ideal_services())
    while improved:
        improved = False
        for stage, members in choices.items():
            for service in members:
                certificate_ns = instance.certificate_ns({**services, stage: service})
                if certificate_ns < best:
                    services, best, improved = {**services, stage: service}, certificate_ns, True
    return services


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
