"""Solvers that are reached through PuLP: HiGHS, and the CBC that PuLP bundles.

PuLP builds models and files. Running the solvers is done here: PuLP's own `HiGHS` prints a banner and its log to
stdout, knows no start and cannot be interrupted, and CBC would be left running after Ctrl-C.
"""

from __future__ import annotations

import functools
import math
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mipplan.core import Float64, SolverError
from mipplan.solvers import highs
from mipplan.solvers.backend import Answer, PackageBackend, Settings, SolverFeature, SolverInfo, Termination
from mipplan.solvers.exact import check_solution
from mipplan.solvers.numerics import ScaledModel, scale_model, values_of
from mipplan_formulations import LinearModel

_BOUND_PATTERN = re.compile(r"^Lower bound:\s+(\S+)", re.MULTILINE)
_VERSION_PATTERN = re.compile(r"^Version:\s+(\S+)", re.MULTILINE)
_NODES_PATTERN = re.compile(r"^Enumerated nodes:\s+(\d+)", re.MULTILINE)
_WITHOUT_PREPROCESSING = ("-preprocess", "off")

# CBC prints the bound with three decimals; a bound must not be rounded up.
_PRINTED_PRECISION = 1e-3


def build_pulp(model: LinearModel, scaled: ScaledModel) -> Any:
    """Build PuLP's objects, columns named ``x{j}``. Its expressions are dictionaries, hence the loops."""
    import pulp

    problem = pulp.LpProblem("model", pulp.LpMinimize)
    columns = [
        problem.add_variable(f"x{j}", lower, upper, pulp.LpInteger if integral else pulp.LpContinuous)
        for j, (lower, upper, integral) in enumerate(
            zip(scaled.column_lower.tolist(), scaled.column_upper.tolist(), model.integrality, strict=True)
        )
    ]
    costs = scaled.objective.tolist()
    problem.setObjective(pulp.LpAffineExpression([(x, c) for x, c in zip(columns, costs, strict=True) if c]))
    starts, indices = scaled.starts.tolist(), scaled.columns.tolist()
    coefficients = scaled.entries.tolist()
    sides = zip(scaled.row_lower.tolist(), scaled.row_upper.tolist(), strict=True)
    for i, (lower, upper) in enumerate(sides):
        entries = range(starts[i], starts[i + 1])
        terms = pulp.LpAffineExpression([(columns[indices[e]], coefficients[e]) for e in entries])
        # PuLP's senses: 0 equal, 1 at least, -1 at most
        for side, sense in [(lower, 0)] if lower == upper else [(lower, 1), (upper, -1)]:
            if math.isfinite(side):
                problem.addConstraint(pulp.LpConstraint(terms, sense, f"r{i}_{sense}", side))
    return problem


class PulpHighs(PackageBackend):
    """HiGHS through PuLP: the model takes PuLP's way, the settings and the answer are those of the solver `highs`.

    How it ended is not read from PuLP: after a time limit its `status` says Optimal, and its table is not complete.
    """

    name = "pulp_highs"
    packages = ("pulp", "highspy")
    features = frozenset({SolverFeature.CONTINUOUS})
    params = highs.HighsParams()

    def run(self, model: LinearModel, settings: Settings, start: Float64 | None) -> Answer[Float64]:
        """Solve a model."""
        import pulp

        scaled = scale_model(model, gain_bits=self.params.gain_bits, slack=self.params.slack)
        problem = build_pulp(model, scaled)
        problem.fixObjective()
        problem.solverModel = solver = highs.make_highs(settings.log)
        highs.set_options(solver, scaled, settings, self.params)
        pulp.HiGHS(msg=False).buildSolverModel(problem)
        # PuLP sorts columns by name, has one of its own where objective or a row is empty, and does not know a column
        # that occurs nowhere: for that any value will do
        columns = {f"x{j}": j for j in range(model.num_columns)}
        order = np.array([columns.get(variable.name, -1) for variable in problem.variables()], dtype=np.intp)
        if start is not None:
            highs.pass_start(solver, np.append(scaled.lower_values(start), 0.0)[order])
        highs.run_until_told(solver)

        def values() -> Float64:
            found = np.append(scaled.column_lower, 0.0)
            found[order] = values_of(solver)
            return found[:-1]

        return highs.read_answer(solver, scaled, self.name, values)


@dataclass(frozen=True)
class CbcParams:
    """What CBC is tuned to."""

    #: Rows with event times are relaxed by ten times the tolerance that CBC keeps rows to.
    slack: float = 1e-6
    grace_s: float = 5.0  # CBC looks at the clock only now and then: 5 s after its time limit it is killed.


class Cbc(PackageBackend):
    """CBC, the solver bundled with PuLP, through PuLP: the fallback where HiGHS is missing.

    The CBC that PuLP bundles is of 2019. Its preprocessing now and then loses the optimum, so it is off; without it
    CBC now and then crashes, returns a fractional point, or calls a small model infeasible that is not, so in these
    cases it is asked again with preprocessing. What it returns is checked exactly, but what it fails to find cannot be:
    of 8,700 random problems with near-ties of one unit, at scales from 1 to 5·10¹⁰, it called one (at 10⁹) infeasible
    that is not. HiGHS was right in all of 5,100 such problems.
    """

    name = "cbc"
    packages = ("pulp",)
    features = frozenset({SolverFeature.CONTINUOUS})
    params = CbcParams()

    def probe(self) -> SolverInfo:
        """Tell whether PuLP and the CBC it bundles work here."""
        if missing := self.missing():
            return missing
        reader = _bundled_cbc()
        if not reader.available():
            return SolverInfo(self.name, False, None, "PuLP brings no CBC for this platform")
        return SolverInfo(self.name, True, _read_version(reader.path), None)

    def run(self, model: LinearModel, settings: Settings, start: Float64 | None) -> Answer[Float64]:
        """Solve a model; where CBC finds it infeasible, crashes or gives no solution, ask it again in another way."""
        scaled = scale_model(model, slack=self.params.slack)
        run = _CbcRun(
            model, scaled, build_pulp(model, scaled), None if start is None else scaled.lower_values(start)
        )
        deadline, grace_s = settings.deadline(), self.params.grace_s
        try:
            answer = run.answer(settings, grace_s, _WITHOUT_PREPROCESSING)
            settled = answer.termination is not Termination.INFEASIBLE
            if answer.values is not None:
                check_solution(model, answer.values, self.name)
        except SolverError:
            settled = False
        return answer if settled else run.answer(settings.until(deadline), grace_s, ())


def _bundled_cbc() -> Any:
    """PuLP's COIN_CMD with the CBC it bundles; its PULP_CBC_CMD is the same with a deprecation warning."""
    import pulp

    return pulp.COIN_CMD(path=pulp.PULP_CBC_CMD.pulp_cbc_path, msg=False)


@functools.cache
def _read_version(path: str) -> str | None:
    """Version that CBC prints when started; asked once per process."""
    try:
        done = subprocess.run(
            [path, "-stop"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION_PATTERN.search(done.stdout)
    return match[1] if match else None


@dataclass(frozen=True, eq=False)
class _CbcRun:
    """A model on its way to CBC and back; the start is one of the scaled model."""

    model: LinearModel
    scaled: ScaledModel
    problem: Any
    start: Float64 | None

    def answer(self, settings: Settings, grace_s: float, way: tuple[str, ...]) -> Answer[Float64]:
        """Run CBC once, with further options, and translate what it says."""
        limit_s = settings.time_limit_s
        with tempfile.TemporaryDirectory(prefix="mipplan-cbc-") as folder:
            started = time.monotonic()
            options = [*self._options(settings), *way]
            kill_after_s = None if limit_s is None else limit_s + grace_s
            log, status, found, values = self._run_cbc(options, kill_after_s, Path(folder))
            elapsed_s = time.monotonic() - started
        if settings.log:
            sys.stderr.write(log)
        ran_out = limit_s is not None and elapsed_s >= limit_s
        termination, point = self._judge(log, status, found, values, ran_out=ran_out)
        nodes = _NODES_PATTERN.search(log)
        details = {"nodes": int(nodes[1])} if nodes else {}
        if termination is Termination.INFEASIBLE:
            return Answer(termination, None, details=details)
        bound = self.scaled.lift_bound(_read_bound(log))
        return Answer(termination, point, lower_bound=bound, details=details)

    def _options(self, settings: Settings) -> list[str]:
        # CBC's own tolerances stay: tightened, it calls models infeasible that are not, whereas a solution that breaks
        # a row within them is found out and cut off afterwards
        options = ["-timeMode", "elapsed", "-randomCbcSeed", str(settings.seed), "-ratio", repr(settings.gap)]
        # objectives differ by a whole step, so half a step left is a proof
        options += ["-allow", repr(self.scaled.objective_step / 2)]
        if settings.threads > 1:  # told to use 1, CBC starts one worker, and now and then hangs or crashes
            options += ["-threads", str(settings.threads)]
        if settings.time_limit_s is not None:
            options += ["-sec", repr(settings.time_limit_s)]
        return options

    def _run_cbc(
        self, options: list[str], kill_after_s: float | None, folder: Path
    ) -> tuple[str, int | None, int | None, dict[str, float]]:
        """Let PuLP write and read the files, but start CBC here: PuLP would leave it running after Ctrl-C.

        Returns CBC's log, then status, solution status and values as PuLP reads them; no status if CBC was killed.
        """
        reader = _bundled_cbc()
        model_path, solution_path, log_path, start_path = (
            folder / name for name in ("model.mps", "model.sol", "cbc.log", "start.txt")
        )
        columns, column_names, row_names, _ = self.problem.writeMPS(str(model_path), rename=True)
        if self.start is not None:
            _write_start(start_path, self.start, column_names)
            options = [*options, "-mipstart", str(start_path)]
        command = [reader.path, str(model_path), *options, "-solve", "-printingOptions", "all"]
        with log_path.open("w", encoding="utf-8") as log:
            command += ["-solution", str(solution_path)]
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
                code: int | None
                try:
                    code = process.wait(kill_after_s)
                except subprocess.TimeoutExpired:
                    code = None
                finally:  # whatever happens, CBC does not outlive this
                    process.kill()
                    process.wait()
        text = log_path.read_text(encoding="utf-8", errors="replace")
        if code is None:
            return text, None, None, {}
        if code != 0 or not solution_path.exists():
            raise SolverError(f"cbc: ended with exit code {code}\n{text[-2000:]}")
        status, values, _, _, _, found = reader.readsol_MPS(
            str(solution_path), self.problem, columns, column_names, row_names
        )
        return text, status, found, values

    def _judge(
        self, log: str, status: int | None, found: int | None, values: dict[str, float], *, ran_out: bool
    ) -> tuple[Termination, Float64 | None]:
        """Tell how it ended, and the solution if there is one, from what PuLP read.

        Its `status` is Optimal after a time limit, too: only the solution status tells. Yet an infeasibility found by
        branching is told by `status` alone. Values are there even if there is no solution.
        """
        import pulp

        if found in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
            # a column that occurs nowhere is not in the file, and any value will do for it
            lower = enumerate(self.scaled.column_lower.tolist())
            read = np.array([values.get(f"x{j}", low) for j, low in lower], dtype=np.float64)
            point = self.scaled.lift_values(read)
            if found == pulp.LpSolutionOptimal:
                return Termination.OPTIMAL, point
            try:
                check_solution(self.model, point, Cbc.name)
            except SolverError:  # stopped by a limit, CBC may write down a fractional or broken point
                return Termination.NO_SOLUTION_FOUND, None
            return Termination.FEASIBLE, point
        if ran_out or status == pulp.LpStatusNotSolved:
            # even if it says infeasible: that is what CBC calls a model when stopped while preprocessing
            return Termination.NO_SOLUTION_FOUND, None
        if pulp.LpStatusInfeasible in (found, status):
            return Termination.INFEASIBLE, None
        raise SolverError(f"cbc: ended without telling how\n{log[-2000:]}")


def _write_start(path: Path, start: Float64, column_names: dict[str, str]) -> None:
    """Write a start in CBC's own format of solutions; CBC completes it, or ignores it if it is none."""
    lines = ["Stopped on time - objective value 0"]
    lines += [
        f"{number} {renamed} {float(start[int(name[1:])])!r} 0"
        for number, (name, renamed) in enumerate(column_names.items())
        if name[1:].isdecimal()  # PuLP has a column of its own where objective or a row is empty
    ]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _read_bound(log: str) -> float:
    """Bound on the scaled objective from the log, which is the only place that has it."""
    match = _BOUND_PATTERN.search(log)
    try:
        return float(match[1]) - _PRINTED_PRECISION if match else -math.inf
    except ValueError:
        return -math.inf
