"""Descriptions of the frozen problems, as they stand in ``instances.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.compare.specs import read_frozen as read_compared

FROZEN = Path(__file__).with_name("instances.json")


@dataclass(frozen=True)
class Spec:
    """What a problem is made of; `benchmarks.instances.building.build` makes it.

    Attributes
    ----------
    name : str
    group : str
        ``suite`` (what means are taken over), ``ten-stages``, ``forty-stages``, ``hundred-stages`` (a time to keep),
        ``stages``, ``modes``, ``paths`` (growth with each), ``pruning`` (raw beside pruned) or ``building`` (large, to
        be built and not solved).
    family : str
        Shape of the graph: one of `benchmarks.instances.shapes.SHAPES`, or ``pipeline``: that of a pipeline of
        the comparison with greedy, named in `source`.
    source : str
        ``synthetic``, or the name of an instance of `benchmarks.compare`.
    stages : int
    width : int
        Branches of a diamond, stages of a layer, children of a tree; 0 for other shapes.
    modes : str
        Per stage: ``served:R`` for 5 hardware types × 8 batch sizes × R numbers of replicas, ``traded:M`` for M modes
        none of which another dominates, ``options`` for what a pipeline offers.
    pruned : bool
        Whether modes that another one dominates are left out.
    seed : int
    tightness : int
        The deadline in thousandths of what the fastest selection takes (of a pipeline: of the instance's objective).
        Negative: -1 just admits a good selection, -2 just does not, -3 is below what any selection could reach.
    limits : bool
        Whether hardware is limited.
    covers : int
        Disjunctive conditions beside the deadline, as the planner's cuts are.
    wait_classes : int
        How many different wait functions a stage has, depending on the path.
    fingerprint : str
        Of the problem; empty before it is frozen.
    """

    name: str
    group: str
    family: str
    source: str
    stages: int
    width: int
    modes: str
    pruned: bool
    seed: int
    tightness: int
    limits: bool = False
    covers: int = 0
    wait_classes: int = 1
    fingerprint: str = ""

    @property
    def needs_shared_data(self) -> bool:
        """Whether it can be made only where the public data lie beside the checkout."""
        return self.source in _reading_shared_data()


def _reading_shared_data() -> frozenset[str]:
    return frozenset(spec.name for spec in read_compared() if spec.needs_shared_data)


def read_frozen(path: Path = FROZEN) -> list[Spec]:
    """Read the frozen descriptions."""
    return [Spec(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def write_frozen(specs: Sequence[Spec], path: Path = FROZEN) -> None:
    """Write them, one a line."""
    lines = ",\n".join(json.dumps(asdict(spec)) for spec in specs)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
