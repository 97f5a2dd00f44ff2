"""Policies in closed loop on a trace, replayed exactly, and what came of it."""

from mipplan.tuner.simulation.loop import check_delay, check_period, simulate, tune
from mipplan.tuner.simulation.outcome import Action, Tuning, TuningRun, WorstWindow

__all__ = ["Action", "Tuning", "TuningRun", "WorstWindow", "check_delay", "check_period", "simulate", "tune"]
