"""Many pipelines on shared hardware: the cheapest set of certified plans, with a proven gap."""

from mipplan.fleet.arguments import Search, read_fleet
from mipplan.fleet.files import FleetFile, read_fleet_file
from mipplan.fleet.planning import plan_fleet
from mipplan.fleet.result import Admission, DeviceUse, FleetEffort, FleetPlan, FleetStatus, SloRelaxation

__all__ = [
    "Admission",
    "DeviceUse",
    "FleetEffort",
    "FleetFile",
    "FleetPlan",
    "FleetStatus",
    "Search",
    "SloRelaxation",
    "plan_fleet",
    "read_fleet",
    "read_fleet_file",
]
