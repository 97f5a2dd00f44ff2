"""What people and programs are shown: JSON documents, and tables for a terminal."""

from mipplan.reporting.comparisons import comparison_report, show_comparison
from mipplan.reporting.fleets import fleet_report, show_fleet
from mipplan.reporting.latency_files import LATENCY_FILES, write_latencies
from mipplan.reporting.streams import show_stream, stream_report
from mipplan.reporting.summaries import error_report
from mipplan.reporting.tunings import show_tuning, tune_report

__all__ = [
    "LATENCY_FILES",
    "comparison_report",
    "error_report",
    "fleet_report",
    "show_comparison",
    "show_fleet",
    "show_stream",
    "show_tuning",
    "stream_report",
    "tune_report",
    "write_latencies",
]
