"""Many pipelines on shared hardware: the cheapest set of certified plans, with a proven gap."""

from mipplan.fleet.plan import plan_fleet
from mipplan.fleet.read import FleetFile, FleetSettings, read_fleet, read_fleet_file
from mipplan.fleet.result import Admission, DeviceUse, FleetEffort, FleetPlan, FleetStatus, SloRelaxation

__all__ = [
    "Admission",
    "DeviceUse",
    "FleetEffort",
    "FleetFile",
    "FleetPlan",
    "FleetSettings",
    "FleetStatus",
    "SloRelaxation",
    "plan_fleet",
    "read_fleet",
    "read_fleet_file",
]
