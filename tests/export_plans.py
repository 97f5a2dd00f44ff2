"""Plans to export: the shipped pipelines with choices by hand, and random ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

import mipplan as mp
from mipplan.result import Provenance
from mipplan.trace import TraceReference
from random_pipelines import Case, cases

ROOT = Path(__file__).resolve().parents[1]
#: Choices that are of no interest but for what they look like: several hardware types, replicas and caps.
CHOICES: dict[str, dict[str, tuple[str, int, int]]] = {
    "image-processing": {"preprocess": ("cpu", 1, 2), "classify": ("v100", 16, 2)},
    "cascade": {"preprocess": ("cpu", 1, 3), "fast": ("t4", 8, 2), "slow": ("v100", 16, 1)},
    "audio-question-answering": {"recognise": ("v100", 4, 2), "answer": ("t4", 2, 4), "speak": ("t4", 1, 3)},
    "social-media": {
        "ingest": ("cpu", 1, 1),
        "language": ("t4", 4, 1),
        "translate": ("t4", 1, 6),
        "image": ("t4", 8, 1),
        "categorise": ("t4", 2, 3),
    },
    "video-monitoring": {
        "decode": ("cpu", 1, 2),
        "detect": ("v100", 8, 4),
        "identify": ("t4", 8, 2),
        "plates": ("v100", 4, 2),
        "merge": ("cpu", 1, 1),
    },
}


def shipped_plan(name: str, *, discipline: str = "oldest_first", dispatch: str | None = None) -> mp.Plan:
    """A plan of a shipped pipeline, as if made for ten thousand queries at 100 per second."""
    pipeline = mp.Pipeline.read(ROOT / "profiles" / "pipelines" / f"{name}.yaml")
    plan = mp.Plan.from_choices(
        pipeline, mp.Profiles.default(), CHOICES[name], discipline=discipline, dispatch=dispatch
    )
    return with_trace(plan, queries=10_000, span_ns=100_000_000_000)


def with_trace(plan: mp.Plan, *, queries: int, span_ns: int) -> mp.Plan:
    """The same as if planned for a trace, with a certificate of 0.1 s."""
    made_for = Provenance(TraceReference("made-up", "", "0" * 64, queries, span_ns))
    return replace(plan, provenance=made_for, figures=replace(plan.figures, certificate_ns=100_000_000))


def diamond(**choices: tuple[str, int, int]) -> mp.Plan:
    """Four stages, two of them at the same time: every query visits every stage once."""
    pipeline = mp.Pipeline.from_document(
        {
            "name": "diamond",
            "slo": "400ms",
            "stages": {
                "first": {"model": "preprocess"},
                "left": {"model": "resnet50"},
                "right": {"model": "efficientnet-b4"},
                "last": {"model": "postprocess"},
            },
            "edges": [
                {"from": "first", "to": "left"},
                {"from": "first", "to": "right"},
                {"from": "left", "to": "last"},
                {"from": "right", "to": "last"},
            ],
        }
    )
    chosen = {
        "first": ("cpu", 1, 1),
        "left": ("t4", 8, 2),
        "right": ("v100", 8, 1),
        "last": ("cpu", 1, 1),
    } | choices
    return mp.Plan.from_choices(pipeline, mp.Profiles.default(), chosen)


def random_plans() -> st.SearchStrategy[mp.Plan]:
    """Plans of random pipelines; some of them as if planned for their trace."""

    def made(case: Case, is_planned: bool) -> mp.Plan:
        plan = case.plan()
        trace = case.trace
        return with_trace(plan, queries=len(trace), span_ns=trace.span_ns + 1) if is_planned else plan

    return st.builds(made, cases(max_arrivals=10), st.booleans())
