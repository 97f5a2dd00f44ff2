"""What can be set in a planning problem, by name: ``ocr.batch=8``, ``price.l4=-20%``, ``slo=300ms``, ``rate=2x``.

One register, `SETTINGS`: a form, what values it takes, and how it changes a problem. Every change is made to the
problem that is planned anew and, where it concerns them, to the choices that are judged as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from mipplan.core import (
    NS_PER_S,
    Fault,
    Faults,
    InputError,
    Slo,
    check_margin,
    check_quantile,
    check_slo,
    listed,
    parse_duration_ns,
    shown,
    suggestion,
)
from mipplan.pipeline import Pipeline, Stage
from mipplan.profiles import LatencyTable, Profiles
from mipplan.questions.axes import burstier, faster
from mipplan.questions.problems import Problem

_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{0,12})?"
_PERCENT = re.compile(rf"(?P<sign>[-+−])(?P<number>{_NUMBER}) ?%")
_FACTOR = re.compile(rf"(?:[x×] ?(?P<after>{_NUMBER})|(?P<before>{_NUMBER}) ?[x×])")
_PLAIN = re.compile(rf"(?P<number>{_NUMBER})")
_PRICE = re.compile(rf"\$?(?P<number>{_NUMBER})")
_AMOUNT = "+10%, -20%, 2x"


def factor_of(text: str) -> float | None:
    """Read a relative amount: ``+10%``, ``-20%``, ``2x``; None if it is none. Raises `ValueError` unless above 0."""
    if match := _PERCENT.fullmatch(text):
        sign = 1 if match["sign"] == "+" else -1
        factor = 1.0 + sign * float(match["number"]) / 100
    elif match := _FACTOR.fullmatch(text):
        factor = float(match["after"] or match["before"])
    else:
        return None
    if not factor > 0:
        raise ValueError(f"{text} leaves nothing")
    return factor


def _relative(text: str) -> float:
    factor = factor_of(text)
    if factor is None:
        raise ValueError(f"expected {_AMOUNT}, found {shown(text)}")
    return factor


@dataclass(frozen=True)
class SettingRule:
    """One thing that can be set; where `names` holds words, the key holds one of them in place of the star."""

    form: str
    """``price.*``."""
    accepts: Callable[[Problem, str], str]
    """What values it takes."""
    apply: Callable[[Problem, str, str], Problem]
    """The problem with the value set; raises `ValueError` or `InputError` where it cannot be."""
    names: Callable[[Problem], tuple[str, ...]] = lambda _: ()

    def keys(self, problem: Problem) -> Iterator[tuple[str, str]]:
        """Every key that there is of it in a problem, with the word in the place of the star."""
        if "*" not in self.form:
            yield self.form, ""
        for name in self.names(problem):
            yield self.form.replace("*", name), name


# --- the whole ----------------------------------------------------------------------------------------------------


def _slo(problem: Problem, _: str, text: str) -> Problem:
    objective = problem.plan.objective
    if objective.budget_microusd_per_hour is not None:
        raise ValueError("the plan is the fastest within a budget, and has no objective to change")
    factor = factor_of(text)
    if factor is None and objective.others:
        raise ValueError(f"the objective limits several quantiles, which change together: expected {_AMOUNT}")
    slo_ns = parse_duration_ns(text) if factor is None else round(objective.slo_ns * factor)
    others = tuple(replace(one, limit_ns=round(one.limit_ns * (factor or 1.0))) for one in objective.others)
    if min([slo_ns, *(one.limit_ns for one in others)]) <= objective.margin_ns:
        raise ValueError("leaves nothing of the objective, less the margin that is kept back")
    for limit_ns in (slo_ns, *(one.limit_ns for one in others)):
        check_slo(limit_ns / NS_PER_S)
    changed = replace(objective, slo_ns=slo_ns, others=others)
    if not others:
        return problem.changed(objective=changed)
    # Who plans anew reads further quantiles from the pipeline: an argument has one limit.
    stated = Slo(changed.quantile, changed.per_ns, changed.share, others).to_document(slo_ns)
    return problem.changed(objective=changed, pipeline=problem.pipeline.asking(stated))


def _quantile(problem: Problem, _: str, text: str) -> Problem:
    if problem.plan.objective.others:
        raise ValueError(
            "expected a plan with one limit: the objective has several quantiles, each with its own"
        )
    number = text[1:] if text[:1] in "pP" else text
    if not _PLAIN.fullmatch(number):
        raise ValueError(f"expected p95 or 0.95, found {shown(text)}")
    quantile = float(number if number is text else f"{number}e-2")  # 99.9 / 100 is not 0.999
    objective = replace(problem.plan.objective, quantile=check_quantile(quantile))
    return problem.changed(objective=objective)


def _margin(problem: Problem, _: str, text: str) -> Problem:
    objective = problem.plan.objective
    margin_ns = check_margin(parse_duration_ns(text) / NS_PER_S, objective.slo_ns)
    return problem.changed(objective=replace(objective, margin_ns=margin_ns))


def _rate(problem: Problem, _: str, text: str) -> Problem:
    factor = factor_of(text)
    if factor is None:
        match = _PLAIN.fullmatch(text.removesuffix("/s"))
        if match is None or not text.endswith("/s"):
            raise ValueError(f"expected {_AMOUNT} or 250/s, found {shown(text)}")
        if len(problem.traces) > 1:
            raise ValueError(f"several traces have several rates: expected {_AMOUNT}, found {shown(text)}")
        if not problem.traces[0].span_ns:
            raise ValueError("all queries arrive at once: the trace has no rate")
        factor = float(match["number"]) / problem.traces[0].rate_rps
    return faster(problem, factor)


def _burstiness(problem: Problem, _: str, text: str) -> Problem:
    if problem.plan.envelope is not None:
        raise ValueError("the plan holds for all traffic inside an arrival curve, however bursty")
    factor = _relative(text)
    if factor < 1:
        raise ValueError("traffic can be made burstier only: 1x or more")
    return burstier(problem, factor)


# --- hardware -----------------------------------------------------------------------------------------------------


def _hardware_names(problem: Problem) -> tuple[str, ...]:
    return tuple(problem.profiles.hardware)


def _price(problem: Problem, name: str, text: str) -> Problem:
    device, factor = problem.profiles.hardware[name], factor_of(text)
    if factor is None:
        match = _PRICE.fullmatch(text)
        if match is None:
            raise ValueError(f"expected {_AMOUNT} or $/h such as 0.5, found {shown(text)}")
        price = float(match["number"])
    else:
        price = device.usd_per_hour * factor
    return problem.changed(profiles=problem.profiles.with_hardware(replace(device, usd_per_hour=price)))


def _limit(problem: Problem, name: str, text: str) -> Problem:
    if text != "none" and not text.isdecimal():
        raise ValueError(f"expected a whole number of devices, or none, found {shown(text)}")
    device = replace(problem.profiles.hardware[name], limit=None if text == "none" else int(text))
    return problem.changed(profiles=problem.profiles.with_hardware(device))


# --- stages -------------------------------------------------------------------------------------------------------


def _stage_names(problem: Problem) -> tuple[str, ...]:
    return tuple(problem.pipeline.stages)


def _with_entry(problem: Problem, stage: str, field: str, value: object, **choice: Any) -> Problem:
    """Write something else into a stage's entry of the file, and change the choice at hand as far as it says so."""
    document = problem.pipeline.to_document()
    document["stages"][stage][field] = value
    own = problem.plan.choices.get(stage)
    choices = problem.plan.choices
    if own is not None and choice:
        choices = {**choices, stage: replace(own, **choice)}
    return problem.changed(pipeline=Pipeline.from_document(document, origin=""), choices=choices)


def _tables(problem: Problem, stage: Stage) -> Iterator[LatencyTable]:
    """Latency tables of all that a stage may run, on the hardware that it may use."""
    for (model, hardware), table in problem.profiles.tables.items():
        if model in stage.models and (stage.hardware is None or hardware in stage.hardware):
            yield table


def _batches(problem: Problem, name: str) -> str:
    tables = _tables(problem, problem.pipeline.stages[name])
    return ", ".join(map(str, sorted({size for table in tables for size in table.batch.tolist()})))


def _batch(problem: Problem, name: str, text: str) -> Problem:
    sizes = _batches(problem, name).split(", ")
    if text not in sizes:
        raise ValueError(f"expected a measured batch size, of {', '.join(sizes)}, found {shown(text)}")
    return _with_entry(problem, name, "batch", [int(text)], batch=int(text))


def _replicas(problem: Problem, name: str, text: str) -> Problem:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise ValueError(f"expected a whole number from 1 to 100000, found {shown(text)}")
    return _with_entry(problem, name, "replicas", int(text), replicas=int(text))


def _measured_on(problem: Problem, name: str) -> str:
    return listed(_measured(problem, name))


def _measured(problem: Problem, name: str) -> list[str]:
    models, profiles = problem.pipeline.stages[name].models, problem.profiles
    return [name for name in profiles.hardware if any((model, name) in profiles.tables for model in models)]


def _stage_hardware(problem: Problem, name: str, text: str) -> Problem:
    known = _measured(problem, name)
    if text not in known:
        raise ValueError(
            f"expected hardware that its model is measured on, of {listed(known)}, found {shown(text)}"
        )
    return _with_entry(problem, name, "hardware", [text], hardware=text)


def _latency(problem: Problem, name: str, text: str) -> Problem:
    factor, stage = _relative(text), problem.pipeline.stages[name]
    others = (other for key, other in problem.pipeline.stages.items() if key != name)
    shared = sorted({model for other in others for model in other.models} & set(stage.models))
    if shared and stage.variants:
        raise ValueError(
            f"expected models that no other stage may run, found {listed(shared)}: vary the profiles"
        )
    # Others that run the same model stay as they are.
    names = {model: f"{model} ({name})" if shared else model for model in stage.models}
    tables = dict(problem.profiles.tables)
    for (model, hardware), table in problem.profiles.tables.items():
        if model in names:
            tables[names[model], hardware] = replace(table.slower(factor), model=names[model])
    problem = problem.changed(profiles=Profiles(problem.profiles.hardware, tables))
    return _with_entry(problem, name, "model", names[stage.model]) if shared else problem


#: What can be set, in the order in which it is told.
SETTINGS: tuple[SettingRule, ...] = (
    SettingRule("slo", lambda *_: "300ms, -10%", _slo),
    SettingRule("quantile", lambda *_: "p95, 0.95", _quantile),
    SettingRule("margin", lambda *_: "10ms", _margin),
    SettingRule("rate", lambda *_: f"{_AMOUNT}, 250/s", _rate),
    SettingRule("burstiness", lambda *_: "+50%, 2x", _burstiness),
    SettingRule("price.*", lambda *_: f"{_AMOUNT}, 0.5 ($/h)", _price, _hardware_names),
    SettingRule("hardware.*.limit", lambda *_: "4, none", _limit, _hardware_names),
    SettingRule("*.batch", _batches, _batch, _stage_names),
    SettingRule("*.replicas", lambda *_: "3", _replicas, _stage_names),
    SettingRule("*.hardware", _measured_on, _stage_hardware, _stage_names),
    SettingRule("*.latency", lambda *_: _AMOUNT, _latency, _stage_names),
)


def settable(problem: Problem) -> Mapping[str, tuple[SettingRule, str]]:
    """Every key that can be set in a problem, with its rule and the name that it holds; a stage's come first."""
    found: dict[str, tuple[SettingRule, str]] = {}
    for rule in SETTINGS:
        found |= {key: (rule, name) for key, name in rule.keys(problem)}
    return MappingProxyType(found)


def set_all(problem: Problem, changes: Mapping[str, object]) -> Problem:
    """Return a problem with everything set, one after the other.

    Raises `InputError` listing every fault, each with what would be accepted there.
    """
    keys, faults = settable(problem), Faults()
    for key, value in changes.items():
        place, text = f"{key}={value}", str(value).strip()
        if key not in keys:
            faults.add(Fault(place, _unknown(key, keys)))
            continue
        rule, name = keys[key]
        try:
            problem = rule.apply(problem, name, text)
        except InputError as error:
            faults.add(*(Fault(place, fault.message) for fault in error.faults))
        except ValueError as error:
            accepts = rule.accepts(problem, name)
            told = "" if "expected" in str(error) else f"; accepted are {accepts}"
            faults.add(Fault(place, f"{error}{told}"))
    faults.check()
    return problem


def _unknown(key: str, keys: Mapping[str, object]) -> str:
    hint = suggestion(key, keys)
    forms = ", ".join(
        rule.form.replace("*", "HARDWARE" if rule.names is _hardware_names else "STAGE") for rule in SETTINGS
    )
    return f"cannot be set{hint or f'; what can: {forms}'}"
