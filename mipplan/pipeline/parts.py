"""Stages and edges between their entries in a file and what they are: read from the one, written to the other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import networkx as nx

from mipplan.core import (
    Fault,
    Faults,
    Slo,
    check_one_of,
    duration_text,
    name_problem,
    positive_ns,
    seconds_to_ns,
    shown,
)
from mipplan.pipeline.fanout import Edge, FanOut
from mipplan.pipeline.laws import SERVER_TIMES, Discipline, DispatchLaw
from mipplan.pipeline.schema import Distribution, EdgeEntry, PipelineEntry, Range, StageEntry

if TYPE_CHECKING:
    from mipplan.pipeline.model import Stage


def edge_fields(raw: EdgeEntry, models: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of an edge from its entry, given what every stage runs."""
    own = models[raw.parent]
    fanouts = (
        tuple((name, _fan_out(held)) for name, held in raw.fanout.items())
        if isinstance(raw.fanout, dict)
        else ()
    )
    probabilities = tuple(raw.probability.items()) if isinstance(raw.probability, dict) else ()
    probability = raw.probability[own] if isinstance(raw.probability, dict) else raw.probability
    fanout = _fan_out(raw.fanout[own] if isinstance(raw.fanout, dict) else raw.fanout)
    return {
        "parent": raw.parent,
        "child": raw.child,
        "delay_ns": raw.delay,
        "probability": probability,
        "fanout": fanout,
        "probabilities": probabilities,
        "fanouts": fanouts,
    }


def _fan_out(raw: float | Distribution) -> FanOut:
    if isinstance(raw, float):
        return FanOut.constant(raw)
    if raw.poisson is not None:
        return FanOut.poisson(raw.poisson)
    return FanOut.choice(raw.values or (), raw.weights or ())


def stage_fields(name: str, raw: StageEntry, merging: bool, pipeline: PipelineEntry) -> dict[str, Any]:
    """Return the fields of a stage from its entry; `merging` if several edges lead into it."""
    hardware = (raw.hardware,) if isinstance(raw.hardware, str) else raw.hardware
    sizes = [raw.batch] if isinstance(raw.batch, int) else raw.batch
    # Lists and single numbers name the caps themselves, mappings a range of them.
    batch = sizes if isinstance(sizes, Range) else Range()
    replicas = raw.replicas or Range()
    if isinstance(replicas, int):
        replicas = Range(min=replicas, max=replicas)
    variants = tuple(raw.variants or ())
    accuracies = tuple(raw.variants.values()) if isinstance(raw.variants, dict) else None
    return {
        "name": name,
        "model": raw.model,
        "hardware": None if hardware is None else tuple(hardware),
        "batch_sizes": tuple(sorted(sizes)) if isinstance(sizes, list) else None,
        "batch_min": batch.min,
        "batch_max": batch.max,
        "replicas_min": replicas.min,
        "replicas_max": replicas.max,
        "join": raw.join or ("all" if merging else "each"),
        "dispatch": DispatchLaw(raw.dispatch or pipeline.dispatch),
        "stagger_ns": raw.stagger or (raw.stagger if pipeline.stagger else None),
        "window_ns": raw.window or (raw.window if pipeline.window else None),
        "variants": variants,
        "accuracies": accuracies,
    }


def stage_document(stage: Stage, merging: bool) -> dict[str, Any]:
    """Write a stage as in the file; what equals a default is left out, but for the join of a merging stage."""
    document: dict[str, Any] = {"model": stage.model}
    if stage.accuracies is not None:
        document["variants"] = dict(zip(stage.variants, stage.accuracies, strict=True))
    elif stage.variants:
        document["variants"] = list(stage.variants)
    if stage.hardware is not None:
        document["hardware"] = list(stage.hardware)
    if stage.batch_sizes is not None:
        document["batch"] = list(stage.batch_sizes)
    elif caps := _range_document(stage.batch_min, stage.batch_max):
        document["batch"] = caps
    if stage.replicas_min == stage.replicas_max:
        document["replicas"] = stage.replicas_min
    elif counts := _range_document(stage.replicas_min, stage.replicas_max):
        document["replicas"] = counts
    if merging or stage.join == "all":
        document["join"] = str(stage.join)
    if stage.dispatch is not DispatchLaw.EAGER:
        document["dispatch"] = str(stage.dispatch)
    if stage.stagger_ns is not None:
        document["stagger"] = duration_text(stage.stagger_ns)
    if stage.window_ns is not None:
        document["window"] = duration_text(stage.window_ns)
    return document


def _range_document(least: int, most: int | None) -> dict[str, int]:
    document = {} if least == 1 else {"min": least}
    return document if most is None else {**document, "max": most}


def edge_document(edge: Edge) -> dict[str, Any]:
    """Write an edge as in the file; what equals a default is left out."""
    document: dict[str, Any] = {"from": edge.parent, "to": edge.child}
    if edge.delay_ns:
        document["delay"] = duration_text(edge.delay_ns)
    if edge.probabilities:
        document["probability"] = dict(edge.probabilities)
    elif edge.probability != 1.0:
        document["probability"] = edge.probability
    if edge.fanouts:
        return {**document, "fanout": {name: fanout.to_document() for name, fanout in edge.fanouts}}
    fanout = edge.fanout.to_document()
    return document if fanout == 1 else {**document, "fanout": fanout}


def check_arguments(
    graph: object, slo_s: object, slo: object, name: object, times_s: Mapping[str, float], discipline: object
) -> dict[str, str]:
    """Report what is wrong with the arguments themselves, and write times and discipline as a document has them."""
    faults = Faults()
    if not isinstance(graph, nx.DiGraph) or isinstance(graph, nx.MultiDiGraph):
        faults.add(Fault("graph", f"expected a networkx.DiGraph, found {type(graph).__name__}"))
    if slo_s is not None and positive_ns(slo_s) is None:
        faults.add(Fault("slo_s", f"expected a positive number of seconds, found {shown(slo_s)}"))
    if not isinstance(slo, Slo):
        faults.add(Fault("slo", f"expected an Slo, found {shown(slo)}; slo_s takes seconds"))
    if (problem := name_problem(name)) is not None:
        faults.add(Fault("name", problem))
    for time in SERVER_TIMES:
        faults.take(partial(time.check, times_s[time.argument]))
    faults.take(lambda: check_one_of("discipline", discipline, Discipline))
    faults.check()
    times = {time.key: duration_text(seconds_to_ns(times_s[time.argument])) for time in SERVER_TIMES}
    return times | {"discipline": str(discipline)}
