"""The dispatcher without a clock and without input or output, and a virtual clock to drive it."""

from mipplan.serving.dispatching.blueprint import (
    AdmissionParams,
    Blueprint,
    BlueprintEdge,
    StageBlueprint,
    with_allowance,
)
from mipplan.serving.dispatching.dispatcher import Dispatcher
from mipplan.serving.dispatching.events import (
    Answered,
    BatchEnded,
    Dispatched,
    Outcome,
    Overran,
    ServedBatch,
    ServedQuery,
    ServedToken,
    Step,
    Voided,
)
from mipplan.serving.dispatching.rehearsal import Rehearsal, rehearse
from mipplan.serving.dispatching.routes import Decisions, DrawnDecisions
from mipplan.serving.dispatching.stage import StageState

__all__ = [
    "AdmissionParams",
    "Answered",
    "BatchEnded",
    "Blueprint",
    "BlueprintEdge",
    "Decisions",
    "Dispatched",
    "Dispatcher",
    "DrawnDecisions",
    "Outcome",
    "Overran",
    "Rehearsal",
    "ServedBatch",
    "ServedQuery",
    "ServedToken",
    "StageBlueprint",
    "StageState",
    "Step",
    "Voided",
    "rehearse",
    "with_allowance",
]
