"""What speaks against a plan file by itself, whatever the traffic: costs, figures and limits that contradict it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mipplan.core import MICRODOLLARS_PER_DOLLAR
from mipplan.pipeline import Discipline, is_accurate
from mipplan.result import CertificateKind, Guarantee, Plan, PlanStatus, worst_sample


def cost_problems(plan: Plan, electricity_microusd: int = 0) -> list[str]:
    """Add up what the choices cost; a file that states nothing states nothing wrong."""
    hardware, choices = plan.profiles.hardware, plan.choices.values()
    actual = sum(choice.replicas * hardware[choice.hardware].microusd_per_hour for choice in choices)
    actual += electricity_microusd
    if plan.microusd_per_hour == actual:
        return []
    cost_usd = actual / MICRODOLLARS_PER_DOLLAR
    return [f"the file states a cost of {plan.usd_per_hour} $/h; its choices cost {cost_usd} $/h"]


def consistency_problems(plan: Plan) -> list[str]:
    """Hold the figures of a file against each other."""
    problems = []
    lower_bound, cost = plan.lower_bound_microusd_per_hour, plan.microusd_per_hour
    assert cost is not None  # a plan with choices has one
    if lower_bound is not None:
        if lower_bound > cost:
            problems.append("the file states a lower bound above its cost")
        elif plan.status is PlanStatus.OPTIMAL and lower_bound < cost:
            problems.append("the file calls the plan optimal, but its lower bound is below its cost")
    budget = plan.budget_microusd_per_hour
    if budget is not None and cost > budget:
        problems.append("the plan costs more than the budget that the file states")
    is_sharp, by_arrival = plan.certificate is CertificateKind.SHARP, plan.discipline is Discipline.FIFO
    if is_sharp != (plan.runs is not None) and not by_arrival:
        problems.append("the file's certificate and its class of runs do not go together")
    if (worst := worst_sample(plan.samples)) is not None and worst.certificate_ns != plan.certificate_ns:
        problems.append("the file's certificate is not the greatest of those on its samples")
    if (plan.guarantee is Guarantee.ENVELOPE) != (plan.envelope is not None):
        problems.append("the file's guarantee and its arrival curve do not go together")
    return problems


def limit_problems(plan: Plan) -> Iterator[str]:
    """Name what the choices take beyond what the file allows: no plan is made of that, whatever it certifies."""
    devices: Counter[str] = Counter()
    for name, choice in plan.choices.items():
        stage, own = plan.pipeline.stages[name], choice.replicas
        devices[choice.hardware] += own
        if stage.hardware is not None and choice.hardware not in stage.hardware:
            yield f"stage {name!r} runs on {choice.hardware}; the pipeline allows {', '.join(stage.hardware)}"
        if not stage.allows_batch(choice.batch):
            yield f"stage {name!r} has batch cap {choice.batch}, which the pipeline does not allow"
        table, has = plan.table(name), plan.profiles.hardware[choice.hardware].memory_gib
        needed = None if table.memory_gib is None else table.memory_gib[table.batch <= choice.batch][-1:]
        if has is not None and needed is not None and (needed > has).any():
            yield f"stage {name!r} needs {needed[0]:g} GiB of memory; {choice.hardware} has {has:g}"
        if own < stage.replicas_min or own > (stage.replicas_max or own):
            most = "any number" if stage.replicas_max is None else stage.replicas_max
            yield f"stage {name!r} has {own} replicas; the pipeline allows {stage.replicas_min} to {most}"
    for name, used in devices.items():
        limit = plan.profiles.hardware[name].limit
        if limit is not None and used > limit:
            yield f"the plan runs on {used} {name}, of which there are {limit}"
    least, accuracy = plan.min_accuracy, plan.accuracy
    if least is not None and not is_accurate(accuracy, least, len(plan.choices)):
        yield f"the accuracy is {'not known' if accuracy is None else f'{accuracy:.6g}'}, below the {least:g} asked for"
