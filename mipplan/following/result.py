"""What following did, in sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.core import NS_PER_S, Printable, Summary, format_duration, usd_text


@dataclass(frozen=True, eq=False, repr=False)
class FollowSummary(Printable):
    """A run of `mipplan.follow`.

    Attributes
    ----------
    pipeline, target, policy : str
    shadow : bool
        Whether nothing was told to the target.
    duration_ns : int
    ticks : int
        Control periods with a decision.
    held : int
        Control periods without: metrics failed, and the last decision was kept.
    failed_looks : int
        Looks at metrics that failed.
    changes : int
        Decisions that changed some count.
    commands, failed_commands, delayed_commands : int
        Told, not taken, and put off for the limit of commands.
    mismatches : int
        How often a stage did not have what it was told.
    queries : int
        That entered, as metrics tell.
    replicas : mapping of str to int
        The last decision.
    told : mapping of str to int
        What the target took last.
    replica_hours : mapping of str to float
        Integral of `told`; of decisions in shadow mode.
    usd : float
        Their rent.
    notes : tuple of str
    """

    pipeline: str
    target: str
    policy: str
    shadow: bool
    duration_ns: int
    ticks: int
    held: int
    failed_looks: int
    changes: int
    commands: int
    failed_commands: int
    delayed_commands: int
    mismatches: int
    queries: int
    replicas: Mapping[str, int]
    told: Mapping[str, int]
    replica_hours: Mapping[str, float]
    usd: float
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """How long, s."""
        return self.duration_ns / NS_PER_S

    def _summary(self) -> Summary:
        how = "in shadow mode: nothing was told" if self.shadow else f"{self.commands:,} commands"
        troubles = {
            "periods held": self.held,
            "looks failed": self.failed_looks,
            "commands failed": self.failed_commands,
            "commands put off": self.delayed_commands,
            "mismatches": self.mismatches,
        }
        told = ", ".join(f"{count:,} {what}" for what, count in troubles.items() if count)
        return Summary(
            f"Followed {self.pipeline} on {self.target} by {self.policy} for {format_duration(self.duration_ns)}",
            figures=(
                ("decided", f"{self.ticks:,} times, {self.changes:,} changes; {how}"),
                ("troubles", told or "none"),
                ("queries", f"{self.queries:,}"),
                ("rent", f"{usd_text(self.usd)} $"),
                *(("note", note) for note in self.notes),
            ),
            headings=("stage", ">replicas", ">replica-hours"),
            rows=((stage, str(n), f"{self.replica_hours[stage]:.4f}") for stage, n in self.replicas.items()),
            count=len(self.replicas),
            what="stages",
        )

    def _line(self) -> str:
        return f" {self.pipeline} by {self.policy}: {self.ticks} decisions, {self.commands} commands"
