"""Judges mutants: a process that has imported what takes long forks for each, and the fork runs tests till one fails.

The mutated file exists in the memory of the fork only: the checkout is never touched. Tests that failed for a
mutant of the same function come first, then the quick ones; which order that is makes no difference to the verdict.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any

from benchmarks.mutants.subjects import Subject
from benchmarks.provenance import ROOT, code_key

#: A test may take this many times as long as without a mutation, and this much more in any case (s of CPU).
SLOWER, MORE_S = 5.0, 4.0
#: What goes on for ever while it is imported has this much before all tests together have taken too long.
IMPORT_S = 60.0
#: Memory that a mutant may take besides what is there when it starts.
MORE_BYTES = 4 << 30
#: Set for all tests: CI's draws, and one thread.
ENVIRONMENT = {
    "CI": "true",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
}
#: Where code of this project lies, which no process may have imported that forks for mutants.
OURS = ("mipplan", "formulations", "tests")


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    outcome: str
    """``killed``, ``timed out`` or ``survived``."""
    test: str
    """The test that noticed, or took too long; empty if none did."""
    cpu_s: float


class DisagreementError(Exception):
    """The tests fail without any mutation, so they cannot judge one."""


class _MutatedFile(MetaPathFinder, SourceFileLoader):
    """Lets one module be imported from a text instead of its file."""

    def __init__(self, file: str, source: str) -> None:
        super().__init__(_module_of(file), str(ROOT / file))
        self._source = source

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        return spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def get_code(self, _: str) -> CodeType:
        return compile(self._source, self.path, "exec")  # type: ignore[no-any-return]


def _module_of(file: str) -> str:
    return ".".join(Path(file).with_suffix("").parts)


@dataclass(eq=False)
class _Watch:
    """A plugin of pytest: orders the tests, limits each, and says which failed."""

    tell: Callable[[dict[str, Any]], None]
    order: Callable[[str], tuple[float, ...]] | None
    baseline_s: Mapping[str, float]
    running: str = "collection"
    spent_s: dict[str, float] = field(default_factory=dict)

    def pytest_collection(self) -> None:
        """Hypothesis neither shrinks what fails nor looks for a second failure: one is enough."""
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutants",
            settings(),
            phases=(Phase.explicit, Phase.generate),
            report_multiple_bugs=False,
        )
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Put the tests first that are likely to notice."""
        if self.order is not None:
            order = self.order
            items.sort(key=lambda item: order(item.nodeid))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Start the clock of a test."""
        self.running = nodeid
        self._began_s = time.process_time()
        if self.order is not None:
            signal.signal(signal.SIGPROF, self._stop)
            signal.setitimer(signal.ITIMER_PROF, MORE_S + SLOWER * self.baseline_s.get(nodeid, 0.0))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Stop it."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        self.spent_s[nodeid] = time.process_time() - self._began_s

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Say at once what failed."""
        if report.failed:
            self.tell({"outcome": "killed", "test": report.nodeid})

    def pytest_collectreport(self, report: Any) -> None:
        """A file of tests that cannot be imported has noticed, too."""
        if report.failed:
            self.tell({"outcome": "killed", "test": report.nodeid})

    def _stop(self, *_: object) -> None:
        self.tell({"outcome": "timed out", "test": self.running})


class Judge:
    """Judges the mutants of one subject, in a process of which nothing else is asked."""

    def __init__(self, subject: Subject, known: Path, import_s: float = IMPORT_S) -> None:
        """Run the tests without any mutation, unless `known` has what came of it for the same code."""
        self._subject, self._import_s = subject, import_s
        self._killers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        os.environ.update(ENVIRONMENT | subject.environment)
        code = code_key("mutants")
        found = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}
        if found.get("code") != code:
            found = {**self._in_fork(None, None), "code": code}
            if found["outcome"] != "survived":
                raise DisagreementError(f"without any mutation {found['test']} {found['outcome']}")
            known.write_text(json.dumps(found), encoding="utf-8")
        self.baseline_s: dict[str, float] = found["spent_s"]
        for name in found["modules"]:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        assert "mipplan" not in sys.modules

    def judge(self, file: str, scope: str, source: str) -> Verdict:
        """Run the tests on a file with another text."""
        near, far = self._killers[file, scope], self._killers[file, ""]

        def order(test: str) -> tuple[float, ...]:
            return -near[test], -far[test], self.baseline_s.get(test, 0.0)

        found = self._in_fork(_MutatedFile(file, source), order)
        if found["outcome"] != "survived":
            near[found["test"]] += 1
            far[found["test"]] += 1
        return Verdict(found["outcome"], found.get("test", ""), found["cpu_s"])

    def _in_fork(
        self, mutated: _MutatedFile | None, order: Callable[[str], tuple[float, ...]] | None
    ) -> dict[str, Any]:
        """Run the tests in a fork, and return what it tells first."""
        total_s = self._import_s + SLOWER * sum(self.baseline_s.values()) if mutated else 3600.0
        reading, writing = os.pipe()
        with tempfile.TemporaryDirectory(prefix="mutant-") as scratch:
            child = os.fork()
            if child == 0:
                os.close(reading)
                self._run(mutated, order, writing, scratch, int(total_s))
            os.close(writing)
            try:
                told = _read(reading, 20 * total_s)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
                _, status, usage = os.wait4(child, 0)
                os.close(reading)
        cpu_s = round(usage.ru_utime + usage.ru_stime, 2)
        if not told:
            # It ended without a word: by the limits of the system, or as machine code does that goes wrong.
            stopped = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
            return {"outcome": "timed out" if stopped else "killed", "test": "", "cpu_s": cpu_s}
        return {**json.loads(told), "cpu_s": cpu_s}

    def _run(
        self,
        mutated: _MutatedFile | None,
        order: Callable[[str], tuple[float, ...]] | None,
        writing: int,
        scratch: str,
        total_s: int,
    ) -> None:
        """Run the tests, tell what was found, and end: a fork never returns."""

        def tell(found: dict[str, Any]) -> None:
            os.write(writing, (json.dumps(found) + "\n").encode())
            os._exit(0)

        try:
            # In a group of its own it does not see Ctrl-C, which would look like a failure.
            os.setpgid(0, 0)
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            resource.setrlimit(resource.RLIMIT_CPU, (total_s, total_s + 5))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if mutated is not None:
                sys.meta_path.insert(0, mutated)
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                most = pages * os.sysconf("SC_PAGE_SIZE") + MORE_BYTES
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
            watch = _Watch(tell, order, getattr(self, "baseline_s", {}))
            import pytest

            code = pytest.main(_arguments(self._subject, scratch), plugins=[watch])
            if code != pytest.ExitCode.OK:
                tell({"outcome": "killed", "test": f"pytest ended with {int(code)}"})
            tell({"outcome": "survived", "spent_s": watch.spent_s, "modules": [] if mutated else _foreign()})
        except BaseException as error:
            tell({"outcome": "killed", "test": f"{type(error).__name__}: {error}"[:200]})


def _arguments(subject: Subject, scratch: str) -> list[str]:
    return [
        *(str(ROOT / name) for name in subject.tests),
        *(f"--deselect={name}" for name in subject.slow),
        f"--rootdir={ROOT}",
        f"--basetemp={scratch}/t",
        *("-x", "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider"),
        *(argument for each in subject.warnings for argument in ("-W", each)),
    ]


def _foreign() -> list[str]:
    """Modules that are loaded and are not ours, in the order in which they were."""
    ours = tuple(str(ROOT / folder) for folder in OURS)
    return [
        name
        for name, module in sys.modules.items()
        if getattr(module, "__spec__", None) is not None
        and not str(getattr(module, "__file__", None) or "").startswith(ours)
        and not name.startswith(("mipplan", "benchmarks", "tests", "__"))
    ]


def _read(reading: int, limit_s: float) -> bytes:
    """One line, or what there is of it when the time is over or the writer has ended."""
    text = b""
    until_s = time.monotonic() + limit_s
    while not text.endswith(b"\n"):
        ready, *_ = select.select([reading], [], [], max(0.0, until_s - time.monotonic()))
        part = os.read(reading, 1 << 20) if ready else b""
        if not part:
            return b""
        text += part
    return text
