"""What is run: which pairs of formulation and solver on which problems, with which limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.instances.specs import Spec
from mipplan_formulations import FORMULATIONS

#: Of `mipplan.solvers`; all take any formulation.
MIP_SOLVERS = ("highs", "pulp_highs", "cbc", "cp_sat", "scip")
#: For linear relaxations: HiGHS's simplex, and GLOP and PDLP of OR-Tools.
LP_SOLVERS = ("highs_lp", "glop", "pdlp")
MEMORY_LIMIT_MIB = 4096.0
#: A process may take so much longer than its solver's limit, for building the model and for solvers slow to stop.
GRACE_S = 5.0
RELAXATION_LIMIT_S = 3.0


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes
    ----------
    instance : str
    kind : str
        ``solve``, ``relax`` (the linear relaxation) or ``load`` (hand the model over, do not solve it).
    formulation : str
    solver : str
    seed : int
    gap : float
        Relative gap that counts as optimal.
    time_limit_s : float
    memory_limit_mib : float
    """

    instance: str
    kind: str
    formulation: str
    solver: str
    seed: int
    gap: float
    time_limit_s: float
    memory_limit_mib: float = MEMORY_LIMIT_MIB

    @property
    def pair(self) -> str:
        """Formulation and solver."""
        return f"{self.formulation} / {self.solver}"


@dataclass(frozen=True)
class Effort:
    """How a group of problems is run.

    Attributes
    ----------
    time_limit_s : float
    gap : float
    seeds : tuple of int
    relax : bool
        Whether linear relaxations are solved, too.
    """

    time_limit_s: float
    gap: float = 0.0
    seeds: tuple[int, ...] = (0,)
    relax: bool = False


EFFORTS = {
    "suite": Effort(10.0, relax=True),
    "ten-stages": Effort(5.0),
    "forty-stages": Effort(5.0, gap=1e-4, relax=True),
    "hundred-stages": Effort(10.0, gap=1e-3, relax=True),
    "stages": Effort(5.0),
    "modes": Effort(5.0),
    "paths": Effort(5.0),
    "pruning": Effort(10.0),
}


def list_jobs(specs: Sequence[Spec]) -> list[Job]:
    """All runs, problem by problem."""
    return [job for spec in specs for job in _jobs_of(spec)]


def _jobs_of(spec: Spec) -> Iterator[Job]:
    if spec.group == "building":
        for formulation in FORMULATIONS:
            for solver in MIP_SOLVERS:
                yield Job(spec.name, "load", formulation, solver, 0, 0.0, 120.0)
        return
    effort = EFFORTS[spec.group]
    for formulation, solver in pairs():
        for seed in effort.seeds:
            yield Job(spec.name, "solve", formulation, solver, seed, effort.gap, effort.time_limit_s)
    if effort.relax:
        for formulation in FORMULATIONS:
            for solver in LP_SOLVERS:
                yield Job(spec.name, "relax", formulation, solver, 0, 0.0, RELAXATION_LIMIT_S)


def pairs() -> list[tuple[str, str]]:
    """Every formulation with every solver."""
    return [(formulation, solver) for formulation in FORMULATIONS for solver in MIP_SOLVERS]
