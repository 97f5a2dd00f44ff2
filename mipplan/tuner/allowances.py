"""How long each stage may make the traffic wait, where that is known before anything is solved."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property

from mipplan.calculus import Envelope, EnvelopeCurve
from mipplan.core import UNLIMITED_NS, Fault, InputError, shown
from mipplan.tuner.paths import PathTimes
from mipplan.tuner.stages import StageScale


class Keep(StrEnum):
    """What replica counts keep."""

    OBJECTIVE = "objective"
    """The latency objective, for every query inside the envelope."""
    SAMPLE = "sample"
    """The waits of the plan on its sample."""


class Allowances:
    """Waits that the stages of a pipeline may cause.

    Parameters
    ----------
    paths : PathTimes
    stages : mapping of str to StageScale
    deadline_ns : int
        The objective less any margin.
    keep : Keep
    sample : Envelope or None
        Needed by ``Keep.SAMPLE``.

    Raises
    ------
    InputError
        If a sample is needed and missing, or the plan does not keep up with it.
    """

    def __init__(
        self,
        paths: PathTimes,
        stages: Mapping[str, StageScale],
        deadline_ns: int,
        keep: Keep,
        sample: Envelope | None,
    ) -> None:
        self.deadline_ns = deadline_ns
        self._paths = paths
        self._stages = stages
        self._fixed_ns = None if keep is Keep.OBJECTIVE else _sample_waits(stages, sample)

    @property
    def is_shared_out(self) -> bool:
        """Whether waits depend on replica counts: on how long queries wait for their own tokens."""
        return self._fixed_ns is None and any(stage.own_load_ns for stage in self._stages.values())

    @cached_property
    def waits_ns(self) -> dict[str, int]:
        """Longest wait of each stage, with own times as the plan's replicas leave them; perhaps negative."""
        planned = {stage: scale.planned for stage, scale in self._stages.items()}
        return self.waits_with(planned)

    def waits_with(self, replicas: Mapping[str, int]) -> dict[str, int]:
        """Longest wait of each stage, with own times as these replicas leave them; perhaps negative."""
        if self._fixed_ns is not None:
            return self._fixed_ns
        own = {stage: scale.own_ns(replicas[stage]) for stage, scale in self._stages.items()}
        through = self._paths.through_ns(own)
        return {stage: self.deadline_ns - through[stage] for stage in self._stages}


def check_keep(keep: str) -> Keep:
    """Return what to keep by name.

    Raises
    ------
    InputError
    """
    if keep not in list(Keep):
        raise InputError.one("keep", f"expected one of {', '.join(Keep)}, found {shown(keep)}")
    return Keep(keep)


def _sample_waits(stages: Mapping[str, StageScale], sample: Envelope | None) -> dict[str, int]:
    if sample is None:
        raise InputError.one("sample", "keep=sample needs the sample that the plan was made for")
    waits = {
        stage: EnvelopeCurve(sample, scale.tokens_per_query).exact(
            scale.period_ns, scale.planned * scale.batch
        )
        for stage, scale in stages.items()
    }
    message = "the plan's replicas do not keep up with the sample's most tokens per query; use tokens=mean"
    faults = [Fault(f"sample: {stage}", message) for stage, wait in waits.items() if wait >= UNLIMITED_NS]
    if faults:
        raise InputError(faults)
    return waits
