"""Variants of a stage: which models it may run, which of them it does, and what of the pipeline depends on that."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from mipplan.core import Fault, InputError, listed, shown, suggestion

if TYPE_CHECKING:
    from mipplan.pipeline.model import Pipeline

#: Keys of a fan-out that is a distribution, and no mapping from variants.
_DISTRIBUTION: Final = {"poisson", "values", "weights"}
#: Combinations of variants that make different tokens are at most a million, because each is looked at.
MAX_COMBINATIONS: Final = 1_000_000


class ByVariant(dict[str, Any]):
    """A mapping in a document from variants of a stage to what depends on them."""


def may_draw(pipeline: Pipeline) -> bool:
    """Whether any edge draws what it does with a token under some variant: then the seed matters to some plan."""
    every = (edge.under(model) for edge in pipeline.edges for model in pipeline.stages[edge.parent].models)
    return any(probability < 1 or not fanout.is_constant_integer for probability, fanout in every)


def choosing(pipeline: Pipeline, chosen: Mapping[str, str], *, only: bool = False) -> Pipeline:
    """Return the pipeline whose stages run these variants; with `only` they have no others.

    Raises
    ------
    InputError
        Listing every stage and variant that there is not.
    """
    faults = []
    for name, model in chosen.items():
        if name not in pipeline.stages:
            known = tuple(pipeline.stages)
            hint = suggestion(name, known) or f"; the stages are {listed(known)}"
            faults.append(Fault(f"variants.{name}", f"there is no such stage{hint}"))
        elif model not in (models := pipeline.stages[name].models):
            hint = suggestion(str(model), models) or f"; there are {listed(models)}"
            faults.append(Fault(f"variants.{name}", f"there is no variant {shown(model)}{hint}"))
    InputError.raise_if(faults)
    if all(pipeline.stages[name].model == model for name, model in chosen.items()) and not only:
        return pipeline
    document = pipeline.to_document()
    for name, model in chosen.items():
        entry = document["stages"][name]
        entry["model"] = model
        if only and "variants" in entry:
            own = pipeline.stages[name].accuracy_of(model)
            entry["variants"] = [model] if own is None else {model: own}
    if only and pipeline.accuracy.rows:
        rows = document["accuracy"]["table"]
        rows = [row for row in rows if all(row.get(name, model) == model for name, model in chosen.items())]
        document["accuracy"] = {"table": rows} if rows else "product"
    for edge in document["edges"] if only else ():
        for key in ("probability", "fanout"):
            if edge["from"] in chosen and edge["from"] in _by_variant(
                pipeline, edge["from"], edge["to"], key
            ):
                edge[key] = edge[key][chosen[edge["from"]]]
    made = type(pipeline).from_document(document, pipeline.name)
    # Without a limit of its own the document has no word for its windows.
    object.__setattr__(made, "slo", pipeline.slo)
    return made


def _by_variant(pipeline: Pipeline, parent: str, child: str, key: str) -> set[str]:
    edge = next(edge for edge in pipeline.outgoing(parent) if edge.child == child)
    return {parent} if (edge.fanouts if key == "fanout" else edge.probabilities) else set()


def pinned(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline whose stages have no other variants than those that they run."""
    several = {name: stage.model for name, stage in pipeline.stages.items() if len(stage.models) > 1}
    return choosing(pipeline, several, only=True) if several else pipeline


def alike(pipeline: Pipeline, stage: str) -> tuple[str, ...]:
    """Return the variants of a stage with which it makes the same tokens as with the one that it runs."""
    return next(group for group in _groups(pipeline, stage) if pipeline.stages[stage].model in group)


def combinations(pipeline: Pipeline) -> list[dict[str, str]]:
    """Return the choices of variants that make different tokens: one of each group of alike ones, by stage.

    Only stages with several groups are named; where there is none, the only combination names nothing.

    Raises `InputError` if there are too many.
    """
    groups = {name: _groups(pipeline, name) for name in pipeline.stages}
    several = {name: found for name, found in groups.items() if len(found) > 1}
    count = 1
    for found in several.values():
        count *= len(found)
    if count > MAX_COMBINATIONS:
        message = f"{count:,} combinations of variants make different tokens; at most {MAX_COMBINATIONS:,} are planned"
        raise InputError.one("stages", message)
    picks = itertools.product(*([group[0] for group in found] for found in several.values()))
    return [dict(zip(several, pick, strict=True)) for pick in picks]


def _groups(pipeline: Pipeline, stage: str) -> list[tuple[str, ...]]:
    """Variants of a stage by what its outgoing edges do with their tokens, in file order."""
    groups: dict[Any, list[str]] = {}
    edges = pipeline.outgoing(stage)
    for model in pipeline.stages[stage].models:
        groups.setdefault(tuple(edge.under(model) for edge in edges), []).append(model)
    return [tuple(group) for group in groups.values()]


# --- documents -------------------------------------------------------------------------------------------------------


def _variants_of(stages: object, name: object, own: bool = False) -> list[str]:
    """Variants of a stage as written, whatever else may be wrong; `own`: its only model where it lists none."""
    # A name may be anything that a file can hold, lists too.
    entry = stages.get(name) if isinstance(stages, Mapping) and isinstance(name, str) else None
    given = entry.get("variants") if isinstance(entry, Mapping) else None
    if given is None and isinstance(entry, Mapping) and own:
        given = [entry.get("model")]
    return [one for one in given if isinstance(one, str)] if isinstance(given, list | dict) else []


def mark_variants(value: Any) -> Any:
    """Mark what depends on the variant of an edge's parent, so that it is read as such."""
    if not isinstance(value, dict) or not isinstance(value.get("edges"), list):
        return value
    edges = []
    for edge in value["edges"]:
        if isinstance(edge, dict) and _variants_of(value.get("stages"), edge.get("from")):
            given = {key: edge[key] for key in ("fanout", "probability") if isinstance(edge.get(key), dict)}
            marked = {key: ByVariant(held) for key, held in given.items() if not set(held) <= _DISTRIBUTION}
            edge = {**edge, **marked}
        edges.append(edge)
    return {**value, "edges": edges}


def edge_findings(
    stages: Mapping[Any, Any], index: int, edge: object
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield what is wrong with the variants that an edge names."""
    if not isinstance(edge, Mapping):
        return
    variants = _variants_of(stages, edge.get("from"))
    for key in ("fanout", "probability"):
        given = edge.get(key)
        if not variants or not isinstance(given, dict) or set(given) <= _DISTRIBUTION:
            continue
        for name in given:
            if name not in variants:
                hint = suggestion(str(name), variants) or f"; there are {listed(variants)}"
                yield (
                    ("edges", index, key, str(name)),
                    f"stage {shown(edge['from'])} has no variant {shown(name)}{hint}",
                )
        missing = [name for name in variants if name not in given]
        if missing:
            yield ("edges", index, key), f"says nothing of the variants {listed(missing)}: name all or none"


def rule_findings(rule: object, stages: Mapping[Any, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield what is wrong with the stages and variants that an accuracy rule names."""
    if not isinstance(rule, dict):
        return
    weights, rows = rule.get("sum"), rule.get("table")
    named: list[tuple[tuple[int, ...], Any]] = [((), weights)] if isinstance(weights, dict) else []
    named += [((index,), row) for index, row in enumerate(rows if isinstance(rows, list) else [])]
    for place, held in named:
        for stage, model in held.items() if isinstance(held, dict) else ():
            path = ("accuracy", "table" if place else "sum", *place, str(stage))
            if stage == "accuracy" and place:
                continue
            if stage not in stages:
                hint = suggestion(str(stage), [name for name in stages if isinstance(name, str)])
                yield path, f"there is no stage {shown(stage)}{hint}"
            elif (
                place
                and isinstance(model, str)
                and model not in (known := _variants_of(stages, stage, own=True))
            ):
                hint = suggestion(model, known) or f"; there are {listed(known)}"
                yield path, f"stage {shown(stage)} has no variant {shown(model)}{hint}"
