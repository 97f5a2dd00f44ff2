"""Plans that keep the objective in a stated share of tomorrow's scenarios, and the test that says so."""

from mipplan.reliability.planning import ReliabilityParams, check_reliability, plan_reliably
from mipplan.reliability.scenarios import (
    Purpose,
    Scenario,
    ScenarioParams,
    ScenarioSource,
    best_block,
    resample,
)
from mipplan.reliability.testing import clopper_pearson, fewest_scenarios, level_of_test

__all__ = [
    "Purpose",
    "ReliabilityParams",
    "Scenario",
    "ScenarioParams",
    "ScenarioSource",
    "best_block",
    "check_reliability",
    "clopper_pearson",
    "fewest_scenarios",
    "level_of_test",
    "plan_reliably",
    "resample",
]
