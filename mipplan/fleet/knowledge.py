"""What is known of one pipeline while it is priced: options, waits, judge, and what the judge has refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mipplan.calculus import PathWaits, StageService, Wait
from mipplan.core import Int64
from mipplan.fleet.columns import Column, Memory, Refused
from mipplan.fleet.tables import PricingTables, curves_of, first_caps, make_tables
from mipplan.options import StageOptions
from mipplan.planner import CertificateOracle, Instance, WalkParams


class Knowledge:
    """One pipeline, apart from any prices.

    Parameters
    ----------
    make_instance : callable
        Realises the pipeline's request; called when the certificate is needed and the instance is not at hand.
    hardware : tuple of str
        The fleet's hardware types, in the order in which devices are counted.
    memory : Memory
        What was learnt before.
    walk : WalkParams, optional
        How far choices are built.
    """

    def __init__(
        self,
        make_instance: Callable[[], Instance],
        hardware: tuple[str, ...],
        memory: Memory | None = None,
        walk: WalkParams | None = None,
    ) -> None:
        self.walk = WalkParams() if walk is None else walk
        self._make_instance = make_instance
        self._hardware = hardware
        self._instance: Instance | None = None
        self._paths: PathWaits | None = None
        self._curves: list[list[Wait]] = []
        self.memory = Memory() if memory is None else memory
        instance = self.instance
        self.deadline_ns = instance.deadline_ns
        self._size = _trace_oracle(instance).tokens
        self.limits = np.array(
            [instance.limits.get(name, np.iinfo(np.int64).max) for name in hardware], dtype=np.int64
        )
        self.stages = tuple(instance.families)
        self.tables = self._tabulate()
        self.hopeless = self.tables is None or not instance.keeps_slo(self._ideal())

    @property
    def instance(self) -> Instance:
        """The pipeline's request, realised."""
        if self._instance is None:
            self._instance = self._make_instance()
        return self._instance

    def forget_instance(self) -> None:
        """Let go of the trace and all that was made of it; it comes back when needed."""
        self._instance = self._paths = None
        self._curves = []

    def forget_exits(self) -> None:
        """Let go of what certificates were last computed from; the trace stays."""
        if self._instance is not None:
            _trace_oracle(self._instance).forget()

    def recall(self, memory: Memory) -> None:
        """Take on what was learnt elsewhere."""
        if dict(memory.caps) != dict(self.memory.caps):
            self.memory = memory
            self.forget_instance()
            self.tables = self._tabulate()
        self.memory = memory

    @property
    def tokens(self) -> int:
        """Tokens of the trace at all stages together."""
        return self._size

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the trace's tokens, which can be drawn again."""
        return {**self.__dict__, "_instance": None, "_paths": None, "_curves": []}

    @property
    def required_tables(self) -> PricingTables:
        """The tables; there are some unless the pipeline is hopeless."""
        if self.tables is None:
            raise AssertionError("a hopeless pipeline is not priced")
        return self.tables

    def column_of(self, pick: Int64) -> Column:
        """Return the plan that takes these rows of the tables."""
        devices = [0] * len(self._hardware)
        choices = []
        for table, row in zip(self.required_tables.stages, pick.tolist(), strict=True):
            choice = table.options.choice(row)
            devices[int(table.device[row])] += choice.replicas
            choices.append(choice)
        return Column(tuple(choices), tuple(devices))

    def services(self, pick: Int64) -> dict[str, StageService]:
        """Service of every stage under these rows of the tables."""
        tables = self.required_tables.stages
        return {
            stage: table.options.service(row)
            for stage, table, row in zip(self.stages, tables, pick.tolist(), strict=True)
        }

    def judge(self, pick: Int64) -> Refused | None:
        """Ask the certificate; None if it keeps the deadline, else what is refused with this choice."""
        options = self._options()
        cuts = self.instance.separate(self.services(pick), options, ((self.stages, True),))
        if not cuts:
            return None
        refused = []
        for stage, latency_ns, speed in cuts[0]:
            table = options[stage]
            row = int(np.flatnonzero(table.speed == speed)[0])
            refused.append((stage, latency_ns, int(table.period_ns[row]), int(table.tokens[row])))
        self.memory = replace(self.memory, refused=(*self.memory.refused, tuple(refused)))
        return tuple(refused)

    def sharpen(self, entry: int, rows: Int64) -> None:
        """Make waits exact where they may decide."""
        tables = self.required_tables
        if not tables.exact[entry][rows].all():
            self._look_up_curves()
            tables.sharpen(entry, rows, self._curves[entry])

    def has_learnt(self) -> bool:
        """Whether waits can be known better since the judge has been asked; then none counts as exact."""
        if self.instance.oracle.paths is self._paths:
            return False
        self._look_up_curves()
        self.required_tables.doubt()
        return True

    def _look_up_curves(self) -> None:
        paths = self.instance.oracle.paths
        if paths is not self._paths:
            self._curves = curves_of(self.required_tables, paths.paths, self.stages)
            self._paths = paths

    def _tabulate(self) -> PricingTables | None:
        families = self.instance.families
        if not all(found.families for found in families.values()):
            return None
        caps = self.memory.caps or first_caps(families)
        tables = make_tables(self.instance, self._hardware, caps)
        return tables if all(table.options.count for table in tables.stages) else None

    def spell_out(self, rows: Mapping[str, int]) -> None:
        """Spell out more replicas of the families whose ranges were chosen, up to what was chosen."""
        caps = dict(self.memory.caps or first_caps(self.instance.families))
        for stage, row in rows.items():
            options = self.required_tables.stages[self.stages.index(stage)].options
            family = int(options.family[row])
            reached = list(caps[stage])
            reached[family] = max(reached[family], int(options.replicas[row]))
            caps[stage] = tuple(reached)
        self.memory = replace(self.memory, caps=caps)
        # A fresh instance, so that tables do not depend on what the judge has learnt meanwhile.
        self.forget_instance()
        self.tables = self._tabulate()

    def _options(self) -> dict[str, StageOptions]:
        tables = self.required_tables.stages
        return {stage: table.options for stage, table in zip(self.stages, tables, strict=True)}

    def _ideal(self) -> dict[str, StageService]:
        return {stage: options.ideal() for stage, options in self._options().items()}


def _trace_oracle(instance: Instance) -> CertificateOracle:
    if not isinstance(instance.oracle, CertificateOracle):
        raise AssertionError("fleets are certified on their traces")
    return instance.oracle
