"""Pipelines: stages that run models, the edges along which their tokens flow, and by which law they are dispatched."""

from mipplan.pipeline.accuracy import AccuracyKind, AccuracyRule, check_accuracy, ways
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
from mipplan.pipeline.systems import (
    FIRST_RETRY_NS,
    LONGEST_RETRY_NS,
    MOST_ROUTED,
    SYSTEMS,
    Collecting,
    CollectionWindow,
    Routing,
    ServingSystem,
    System,
    read_system,
    systems_of,
)
from mipplan.pipeline.variants import alike, choosing, combinations, pinned

__all__ = [
    "FIRST_RETRY_NS",
    "LONGEST_RETRY_NS",
    "MIXED",
    "MOST_ROUTED",
    "SYSTEMS",
    "AccuracyKind",
    "AccuracyRule",
    "Collecting",
    "CollectionWindow",
    "Discipline",
    "Dispatch",
    "DispatchLaw",
    "Edge",
    "FanOut",
    "Join",
    "Laws",
    "Pipeline",
    "Routing",
    "ServingSystem",
    "Stage",
    "Stagger",
    "System",
    "alike",
    "are_timed",
    "check_accuracy",
    "check_law",
    "check_stagger",
    "choosing",
    "combinations",
    "common_law",
    "duties_text",
    "pinned",
    "read_slo",
    "read_system",
    "stagger_text",
    "systems_of",
    "ways",
]
