"""Whether other load disturbed a run: what the machine did meanwhile, never that the run was slow.

Throwing out runs because they are slow would make any 99th percentile look good. So a run counts as disturbed only by
evidence from outside it: the hypervisor gave its processor to somebody else (steal), other processes kept the machine
busy, or its own threads were ready and had to wait for a processor.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mipplan.core import NS_PER_S

_PROC = Path("/proc")


@dataclass(frozen=True)
class DisturbanceParams:
    """From where on a run counts as disturbed."""

    # More than 1 % of the machine's time taken by the hypervisor: on a quiet host it is none at all.
    most_steal: float = 0.01
    # Other processes may use a tenth of the machine, because some daemon always runs; beyond, caches and memory are
    # shared with somebody.
    most_other_load: float = 0.10
    # A run may wait for a processor for a twentieth of its time, and for 0.1 ms in any case: waking up takes that long.
    most_waiting: float = 0.05
    least_waiting_ns: int = 100_000
    # A batch size counts as disturbed if fewer than a third of its runs were not: what is left is hardly a fair sample.
    least_share: float = 1 / 3


class TimedRun(NamedTuple):
    """One batch served, and what the system says of the time it took. Times are of the monotonic clock."""

    start_ns: int
    wall_ns: int
    cpu_ns: int | None  # CPU time of the replica, all its threads; None if it is not on this machine.
    # Its threads were ready but had no processor, summed; None where Linux does not say.
    waited_ns: int | None
    preempted: int  # How often a thread was made to give up its processor.


class LoadReading(NamedTuple):
    """The processors' counters at one moment, in ticks of the system."""

    busy: int
    steal: int
    total: int


@dataclass(frozen=True)
class MachineLoad:
    """What the machine did during some runs."""

    steal: float  # Share of all processors' time taken by the hypervisor.
    others: float  # Share used by processes other than ours.


@dataclass(frozen=True)
class RunBlock:
    """Runs made one right after the other, and the machine's load meanwhile."""

    runs: tuple[TimedRun, ...]
    load: MachineLoad | None = None  # None where the system does not say.
    energy_j: float | None = None  # Per batch.
    memory_gib: float | None = None  # Most that one replica has held so far.


def read_load(proc: Path = _PROC) -> LoadReading | None:
    """Read the processors' counters from ``/proc/stat``; None where there are none."""
    try:
        line = (proc / "stat").read_text(encoding="ascii").splitlines()[0]
        user, nice, system, idle, waiting, interrupts, soft, steal = map(int, line.split()[1:9])
    except (OSError, ValueError, IndexError):
        return None
    busy = user + nice + system + interrupts + soft
    return LoadReading(busy, steal, busy + idle + waiting + steal)


def used_ticks(processes: Iterable[int], proc: Path = _PROC) -> int | None:
    """CPU time of processes and of those they have waited for, in ticks; None if one of them cannot be read."""
    used = 0
    try:
        for process in processes:
            # The second field is a name in brackets, which may hold blanks and brackets itself.
            fields = (proc / str(process) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
            used += sum(map(int, fields[11:15]))
    except (OSError, ValueError):
        return None
    return used


def load_between(
    before: LoadReading | None, after: LoadReading | None, own_ticks: int | None
) -> MachineLoad | None:
    """What the machine did between two readings.

    `own_ticks` is the CPU time that we used ourselves; None if it is not known, and then nothing counts as others'.
    """
    processors = os.cpu_count() or 1
    # Counters move in whole ticks: over fewer than ten of each processor they say nothing.
    if before is None or after is None or after.total - before.total < 10 * processors:
        return None
    total = after.total - before.total
    others = 0 if own_ticks is None else max(0, after.busy - before.busy - own_ticks - processors)
    return MachineLoad((after.steal - before.steal) / total, others / total)


def waited_ns(proc: Path = _PROC) -> int | None:
    """How long the threads of this process have been ready without a processor, summed; None if Linux does not say.

    The second figure of ``schedstat``, the *run delay*.
    """
    waited = 0
    try:
        for task in os.scandir(proc / "self" / "task"):
            try:
                waited += int(Path(task.path, "schedstat").read_text(encoding="ascii").split()[1])
            except (FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                continue
    except (OSError, ValueError, IndexError):
        return None
    return waited


def preemptions() -> int:
    """How often this process, and those it has started and waited for, were made to give up a processor."""
    import resource

    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_nivcsw for usage in used)


def find_disturbances(
    block: RunBlock, alone: bool, params: DisturbanceParams = DisturbanceParams()
) -> list[str | None]:
    """Say of each run of a block what disturbed it, None for those that nothing did.

    Parameters
    ----------
    block : RunBlock
    alone : bool
        Whether every thread has a processor to itself. Where replicas are measured together, or have more threads than
        there are processors, waiting for one is what is to be measured and no disturbance.
    params : DisturbanceParams
    """
    if block.load is not None and block.load.steal > params.most_steal:
        return ["steal"] * len(block.runs)
    if block.load is not None and block.load.others > params.most_other_load:
        return ["other load"] * len(block.runs)
    return ["waited for a processor" if alone and _waited(run, params) else None for run in block.runs]


def _waited(run: TimedRun, params: DisturbanceParams) -> bool:
    waited = run.waited_ns
    if waited is None:
        # Without Linux's word for it, waiting is time that is no CPU time. But so is reading a file; it takes a
        # preemption to tell the two apart.
        waited = run.wall_ns - run.cpu_ns if run.preempted and run.cpu_ns is not None else 0
    return waited > max(params.most_waiting * run.wall_ns, params.least_waiting_ns)


def children_cpu_ns() -> int:
    """CPU time of processes that this one has waited for, in nanoseconds."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((usage.ru_utime + usage.ru_stime) * NS_PER_S)
