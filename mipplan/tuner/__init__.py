"""The tuner: replica counts that follow the traffic in milliseconds, hardware and batch caps as planned."""

from mipplan.tuner.conditions import Conditions
from mipplan.tuner.joint import JointTuner
from mipplan.tuner.policies import POLICIES, USUAL, read_policies
from mipplan.tuner.requirements import TuningStep
from mipplan.tuner.simulation.loop import check_delay, check_period, simulate, tune
from mipplan.tuner.simulation.outcome import Action, Tuning, TuningRun, WorstWindow
from mipplan.tuner.traffic import LiveEnvelope, doubling_windows_ns
from mipplan.tuner.transients import Transient
from mipplan.tuner.tuner import Tuner

__all__ = [
    "POLICIES",
    "USUAL",
    "Action",
    "Conditions",
    "JointTuner",
    "LiveEnvelope",
    "Transient",
    "Tuner",
    "Tuning",
    "TuningRun",
    "TuningStep",
    "WorstWindow",
    "check_delay",
    "check_period",
    "doubling_windows_ns",
    "read_policies",
    "simulate",
    "tune",
]
