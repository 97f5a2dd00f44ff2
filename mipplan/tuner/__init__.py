"""The tuner: replica counts that follow the traffic in milliseconds, hardware and batch caps as planned."""

from mipplan.tuner.conditions import Conditions
from mipplan.tuner.joint import JointTuner
from mipplan.tuner.policies import (
    POLICIES,
    USUAL,
    Clairvoyant,
    Observation,
    Policy,
    Setting,
    StageObservation,
    cheapest_cover,
    read_policies,
)
from mipplan.tuner.requirements import TuningStep
from mipplan.tuner.simulation.loop import check_delay, check_period, checked_counts, simulate, tune
from mipplan.tuner.simulation.outcome import Action, Tuning, TuningRun, WorstWindow
from mipplan.tuner.simulation.state import ReplicaState
from mipplan.tuner.traffic import LiveEnvelope, doubling_windows_ns
from mipplan.tuner.transients import Transient
from mipplan.tuner.tuner import Tuner

__all__ = [
    "POLICIES",
    "USUAL",
    "Action",
    "Clairvoyant",
    "Conditions",
    "JointTuner",
    "LiveEnvelope",
    "Observation",
    "Policy",
    "ReplicaState",
    "Setting",
    "StageObservation",
    "Transient",
    "Tuner",
    "Tuning",
    "TuningRun",
    "TuningStep",
    "WorstWindow",
    "cheapest_cover",
    "check_delay",
    "check_period",
    "checked_counts",
    "doubling_windows_ns",
    "read_policies",
    "simulate",
    "tune",
]
