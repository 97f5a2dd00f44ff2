"""Plans with variants by trying every combination of them: slow, and written from the definitions in docs/variants.md.

Every combination makes a pipeline of single models, whose cheapest certified plan is brute force's (`oracle_planner`).
Accuracies are those of the definitions: ways are walked one by one, and shares multiplied along them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mipplan as mp
from oracle_planner import cheapest_certified

#: Accuracies closer than this count as the same: docs/variants.md says 2(n + 3) billionths.
CLOSE = 5e-8


@dataclass(frozen=True)
class Combination:
    """A variant for every stage, its accuracy (None: not in the table), and what its cheapest plan costs, if any."""

    models: Mapping[str, str]
    accuracy: float | None
    cost: int | None


def all_combinations(
    document: Mapping[str, Any], accuracies: Mapping[str, Mapping[str, float]], **asked: Any
) -> list[Combination]:
    """Try every combination. `accuracies` are by stage and variant; `asked` goes to `cheapest_certified`."""
    found = []
    for models in every_choice(document):
        plain = single(document, models)
        answer = cheapest_certified(mp.Pipeline.from_document(plain), **asked)
        own = {stage: accuracies[stage][model] for stage, model in models.items() if stage in accuracies}
        value = accuracy(document, plain, models, own)
        found.append(Combination(models, value, None if answer is None else answer.cost))
    return found


def every_choice(document: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Every choice of a model for every stage."""
    lists = [list(entry.get("variants") or [entry["model"]]) for entry in document["stages"].values()]
    for models in itertools.product(*lists):
        yield dict(zip(document["stages"], models, strict=True))


def single(document: Mapping[str, Any], models: Mapping[str, str]) -> dict[str, Any]:
    """Write the pipeline whose stages have no variants but these."""
    stages = {
        name: {key: value for key, value in entry.items() if key != "variants"} | {"model": models[name]}
        for name, entry in document["stages"].items()
    }
    edges = []
    for edge in document["edges"]:
        own = dict(edge)
        for key in ("fanout", "probability"):
            given = own.get(key)
            if isinstance(given, dict) and not set(given) & {"poisson", "values", "weights"}:
                own[key] = given[models[edge["from"]]]
        edges.append(own)
    return {"name": "single", "slo": document.get("slo", "1s"), "stages": stages, "edges": edges}


def accuracy(
    document: Mapping[str, Any],
    plain: Mapping[str, Any],
    models: Mapping[str, str],
    own: Mapping[str, float],
) -> float | None:
    """Accuracy of a pipeline whose stages have these accuracies, the others 1, by the rule of the document."""
    rule = document.get("accuracy", "product")
    if isinstance(rule, dict) and "table" in rule:
        for row in rule["table"]:
            if all(models[stage] == model for stage, model in row.items() if stage != "accuracy"):
                return float(row["accuracy"])
        return None
    if rule == "product":
        return math.prod(own.values())
    if rule == "sum" or isinstance(rule, dict):
        weights = rule["sum"] if isinstance(rule, dict) else dict.fromkeys(models, 1.0)
        worth = sum(weight * own.get(stage, 1.0) for stage, weight in weights.items())
        return worth / sum(weights.values())
    walked = list(_ways(plain))
    products = [math.prod(own.get(stage, 1.0) for stage in way) for way, _ in walked]
    if rule == "worst_path":
        return min(products)
    tokens = sum(share for _, share in walked)
    return sum(share * product for (_, share), product in zip(walked, products, strict=True)) / tokens


def _ways(plain: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every way from a source to a sink, and the mean number of tokens of a query that go along it."""
    edges = plain["edges"]
    heads = {edge["to"] for edge in edges}
    pending = [((name,), 1.0) for name in plain["stages"] if name not in heads]
    while pending:
        way, share = pending.pop()
        onward = [edge for edge in edges if edge["from"] == way[-1]]
        if not onward:
            yield way, share
        pending += [
            ((*way, edge["to"]), share * edge.get("probability", 1.0) * _mean(edge)) for edge in onward
        ]


def _mean(edge: Mapping[str, Any]) -> float:
    given = edge.get("fanout", 1)
    if isinstance(given, dict) and "poisson" in given:
        return float(given["poisson"])
    if isinstance(given, dict):
        total = sum(given["weights"])
        return sum(v * w for v, w in zip(given["values"], given["weights"], strict=True)) / total
    return float(given)


def cheapest(found: list[Combination], least: float | None) -> int | None:
    """What the cheapest plan of at least some accuracy costs; None if there is none."""
    costs = [
        one.cost
        for one in found
        if one.cost is not None
        and (least is None or (one.accuracy is not None and one.accuracy >= least - 1e-12))
    ]
    return min(costs, default=None)


def most_accurate_of(found: list[Combination], cost: int | None) -> float:
    """The greatest known accuracy of a plan that costs just that; 0 where none is known."""
    return max(
        (one.accuracy or 0.0 for one in found if one.cost is not None and one.cost == cost), default=0.0
    )


def front(found: list[Combination]) -> list[tuple[int, float]]:
    """Costs and accuracies that no other combination beats, by cost; accuracies that are close count as one."""
    kept: list[tuple[int, float]] = []
    points = [(c.cost, c.accuracy) for c in found if c.cost is not None and c.accuracy is not None]
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or value > kept[-1][1] + CLOSE:
            kept.append((cost, value))
    return kept
