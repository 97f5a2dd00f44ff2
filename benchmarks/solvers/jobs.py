"""What is run: which pairs of formulation and solver on which problems, with which limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.instances.specs import Spec
from mipplan_formulations import FORMULATIONS

#: Of `mipplan.solvers`; all take any formulation.
MIP_SOLVERS = ("highs", "pulp_highs", "cbc", "cp_sat", "scip")
#: These work on the problem itself; `auto` chooses by its features. `lp_rounding` is a heuristic, and decides by luck.
NATIVE, AUTO = "native", "auto"
NATIVE_SOLVERS = ("labels", "cp_sat_native", "lp_rounding")
#: For linear relaxations: HiGHS's simplex, and GLOP and PDLP of OR-Tools.
PDLP = "pdlp"
LP_SOLVERS = ("highs_lp", "glop", PDLP)
#: The suite meets every pair. Elsewhere PuLP's way to HiGHS, and SCIP, the slowest on the suite, are left out; PDLP,
#: slower by far than simplex, meets one problem in `PDLP_SHARE` of the suite.
CORE = ("highs", "cbc", "cp_sat")
PDLP_SHARE = 4
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
    solvers : tuple of str
        That get linear models.
    relax : bool
        Whether linear relaxations are solved, too.
    """

    time_limit_s: float
    gap: float = 0.0
    seeds: tuple[int, ...] = (0,)
    solvers: tuple[str, ...] = CORE
    relax: bool = False


EFFORTS = {
    "suite": Effort(5.0, solvers=MIP_SOLVERS, relax=True),
    "ten-stages": Effort(5.0),
    "forty-stages": Effort(5.0, gap=1e-4, relax=True),
    "hundred-stages": Effort(10.0, gap=1e-3, solvers=("highs",), relax=True),
    "stages": Effort(3.0),
    "modes": Effort(3.0),
    "paths": Effort(3.0),
    "pruning": Effort(5.0),
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
    for formulation, solver in pairs(effort.solvers):
        for seed in effort.seeds:
            yield Job(spec.name, "solve", formulation, solver, seed, effort.gap, effort.time_limit_s)
    if effort.relax:
        for formulation in FORMULATIONS:
            for solver in LP_SOLVERS:
                if solver == PDLP and not meets_pdlp(spec):
                    continue
                yield Job(spec.name, "relax", formulation, solver, 0, 0.0, RELAXATION_LIMIT_S)


def pairs(solvers: Sequence[str] = MIP_SOLVERS) -> list[tuple[str, str]]:
    """Every formulation with every of these solvers, the solvers of problems, and `auto`."""
    linear = [(formulation, solver) for formulation in FORMULATIONS for solver in solvers]
    return [*linear, *((NATIVE, solver) for solver in NATIVE_SOLVERS), (AUTO, AUTO)]


def meets_pdlp(spec: Spec) -> bool:
    """One problem in `PDLP_SHARE` of the suite, whatever the others are."""
    return spec.group == "suite" and int(spec.fingerprint or "0", 16) % PDLP_SHARE == 0
