"""Descriptions of the frozen instances, as they stand in ``instances.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FROZEN = Path(__file__).with_name("instances.json")


@dataclass(frozen=True)
class Spec:
    """What an instance is made of; `benchmarks.compare.instances.build` makes it.

    Attributes
    ----------
    name : str
    group : str
        ``shipped``, ``random``, ``small`` (for exhaustive replay), ``measured`` (needs the shared data) or ``large``
        (for planning times).
    source : str
        Of the pipeline and its profiles: ``shipped``, ``synthetic`` or ``measured``.
    pipeline : str
        Name of a shipped or measured pipeline, or the shape of a synthetic one.
    stages : int
    seed : int
        Of a synthetic pipeline and its profiles.
    arrivals : str
        ``gamma``, ``shipped:NAME`` or ``shared:NAME``.
    rate_rps, cv : float or None
        Of gamma arrivals.
    start_s, rate_factor : float or None
        Where a segment of a trace begins, and what its rate is multiplied by.
    traffic_seed : int
        Of gamma arrivals, and of the expansion of counts.
    queries : int
        To plan on; as many that follow are held out.
    slo_factor : float
        Objective as a multiple of the fastest service time.
    fingerprint : str
        Of what all this makes; empty before it is frozen.
    """

    name: str
    group: str
    source: str
    pipeline: str
    stages: int
    seed: int
    arrivals: str
    rate_rps: float | None
    cv: float | None
    start_s: float | None
    rate_factor: float | None
    traffic_seed: int
    queries: int
    slo_factor: float
    fingerprint: str = ""

    @property
    def needs_shared_data(self) -> bool:
        """Whether it can be made only where the public data lie beside the checkout."""
        return self.source == "measured" or self.arrivals.startswith("shared:")


def read_frozen(path: Path = FROZEN) -> list[Spec]:
    """Read the frozen instances."""
    return [Spec(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def write_frozen(specs: Sequence[Spec], path: Path = FROZEN) -> None:
    """Write them, one a line."""
    lines = ",\n".join(json.dumps(asdict(spec)) for spec in specs)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
