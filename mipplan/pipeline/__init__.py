"""Pipelines: stages that run models, the edges along which their tokens flow, and by which law they are dispatched."""

from mipplan.pipeline.accuracy import AccuracyKind, AccuracyRule, accuracy_problem, ways
from mipplan.pipeline.fanout import FanOut
from mipplan.pipeline.laws import (
    MIXED,
    Discipline,
    Dispatch,
    DispatchLaw,
    Laws,
    Stagger,
    are_timed,
    check_law,
    check_stagger,
    common_law,
    duties_text,
    stagger_text,
)
from mipplan.pipeline.model import Edge, Join, Pipeline, Stage
from mipplan.pipeline.schema import read_slo
from mipplan.pipeline.variants import alike, choosing, combinations, pinned

__all__ = [
    "MIXED",
    "AccuracyKind",
    "AccuracyRule",
    "Discipline",
    "Dispatch",
    "DispatchLaw",
    "Edge",
    "FanOut",
    "Join",
    "Laws",
    "Pipeline",
    "Stage",
    "Stagger",
    "accuracy_problem",
    "alike",
    "are_timed",
    "check_law",
    "check_stagger",
    "choosing",
    "combinations",
    "common_law",
    "duties_text",
    "pinned",
    "read_slo",
    "stagger_text",
    "ways",
]
