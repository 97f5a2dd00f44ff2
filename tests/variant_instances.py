"""Random small pipelines with variants, some of which change how many tokens a stage makes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import mipplan as mp
from oracle_variants import Combination, all_combinations, every_choice
from planning_instances import planning_instance

#: More combinations than this take brute force too long.
MOST_COMBINATIONS = 12
_RULES = ("product", "product", "sum", "weighted", "worst_path", "path_shares", "table")


@dataclass(frozen=True)
class VariantInstance:
    """One pipeline with variants, as a document, and all that is asked of it."""

    document: dict[str, Any]
    accuracies: dict[str, dict[str, float]]
    profiles: mp.Profiles
    trace: mp.Trace
    slo_ns: int
    quantile: float
    seed: int
    features: frozenset[str]

    @property
    def pipeline(self) -> mp.Pipeline:
        """The pipeline."""
        return mp.Pipeline.from_document(self.document)

    @property
    def given(self) -> tuple[mp.Pipeline, mp.Profiles, mp.Trace]:
        """Positional arguments of every question."""
        return self.pipeline, self.profiles, self.trace

    @property
    def asked(self) -> dict[str, Any]:
        """Keyword arguments of every question."""
        return {"slo_s": self.slo_ns / 1e9, "quantile": self.quantile, "seed": self.seed}

    def plan(self, **more: Any) -> mp.Plan:
        """Plan it."""
        return mp.plan(*self.given, **{**self.asked, **more})

    def truth(self) -> list[Combination]:
        """Every combination, by brute force."""
        return all_combinations(
            self.document,
            self.accuracies,
            profiles=self.profiles,
            trace=self.trace,
            slo_ns=self.slo_ns,
            quantile=self.quantile,
            seed=self.seed,
        )


def variant_instance(number: int) -> VariantInstance:
    """Instance `number`, always the same one."""
    rng = np.random.default_rng([20261126, number])
    base = planning_instance(5000 + number)
    document, features = base.pipeline.to_document(), set(base.features)
    models = [str(model) for model in base.profiles.models]
    in_profiles = bool(
        rng.random() < 0.4
    )  # Where accuracies are written: in the profiles, or with the stages.
    levels = {model: float(rng.choice([0.45, 0.5, 0.62, 0.7, 0.7, 0.9, 1.0])) for model in models}
    accuracies: dict[str, dict[str, float]] = {}
    count = 1
    for name, entry in document["stages"].items():
        several = int(rng.choice([1, 2, 3], p=[0.3, 0.45, 0.25]))
        if several == 1 or count * several > MOST_COMBINATIONS:
            if in_profiles:
                accuracies[name] = {entry["model"]: levels[entry["model"]]}
            continue
        chosen = [str(model) for model in rng.permutation(models)[:several]]
        own = {
            m: levels[m] if in_profiles else float(rng.choice([0.4, 0.55, 0.7, 0.8, 0.95])) for m in chosen
        }
        entry["model"], entry["variants"] = chosen[0], chosen if in_profiles else own
        accuracies[name], count = own, count * several
    if count == 1:
        first = next(iter(document["stages"].values()))
        first["model"], first["variants"] = models[0], {models[0]: 0.5, models[1]: 0.75}
        accuracies = {next(iter(document["stages"])): dict(first["variants"])}
        in_profiles = False
    for edge in document["edges"]:
        variants = document["stages"][edge["from"]].get("variants")
        if variants and len(variants) > 1 and rng.random() < 0.5:
            features.add("changing tokens")
            if rng.random() < 0.6:
                edge["fanout"] = {model: float(rng.choice([1, 1.5, 2, 2])) for model in variants}
            else:
                edge["probability"] = {model: float(rng.choice([0.2, 0.6, 0.6, 1.0])) for model in variants}
    rule = str(rng.choice(_RULES))
    features.add(rule)
    features.add("accuracy in profiles" if in_profiles else "accuracy with stages")
    _add_rule(rng, rule, document, accuracies)
    profiles = base.profiles
    if in_profiles:
        tables = [
            replace(t, accuracy=np.full(t.batch.size, levels[t.model])) for t in profiles.tables.values()
        ]
        profiles = mp.Profiles.from_parts(profiles.hardware.values(), tables)
    slo_ns = max(base.slo_ns, 1_000_000)
    return VariantInstance(
        document, accuracies, profiles, base.trace, slo_ns, base.quantile, base.seed, frozenset(features)
    )


def _add_rule(
    rng: np.random.Generator, rule: str, document: dict[str, Any], accuracies: dict[str, dict[str, float]]
) -> None:
    if rule == "weighted":
        document["accuracy"] = {
            "sum": {stage: float(rng.choice([0.2, 1.0, 3.0])) for stage in document["stages"]}
        }
    elif rule == "table":
        several = [name for name, entry in document["stages"].items() if len(entry.get("variants") or ()) > 1]
        combinations = {tuple(choice[name] for name in several) for choice in every_choice(document)}
        rows = [
            {**dict(zip(several, models, strict=True)), "accuracy": float(rng.choice([0.3, 0.5, 0.6, 0.8]))}
            for models in sorted(combinations)
            if rng.random() < 0.8 or models == min(combinations)
        ]
        document["accuracy"] = {"table": rows}
    else:
        document["accuracy"] = rule
