"""The machine that is measured on: what it is, in which state, and what energy it uses where that can be read."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mipplan.core import version_of

_SYSTEM = Path("/sys")
_PROC = Path("/proc")
_BYTES_PER_GIB = 1024**3


@dataclass(frozen=True)
class MachineRecord:
    """What a measurement was made on."""

    processor: str
    processors: int  # Those this process may use.
    memory_gib: float | None
    system: str
    # Of the processors: the governor, whether turbo is on, mains or battery; None where the system does not say.
    power: str | None
    load: float | None  # Mean number of processes that wanted to run, over the minute before.
    versions: dict[str, str]

    def __str__(self) -> str:
        return f"{self.processor} ({self.processors} CPUs)"

    def is_same_as(self, other: MachineRecord) -> bool:
        """Whether measurements on both belong into one table: load and power state may differ."""

        def lasting(machine: MachineRecord) -> tuple[object, ...]:
            return machine.processor, machine.processors, machine.versions

        return lasting(self) == lasting(other)


def read_machine(versions: dict[str, str], system: Path = _SYSTEM, proc: Path = _PROC) -> MachineRecord:
    """Describe this machine, its state, and the software of a measurement."""
    pages = _sysconf("SC_PHYS_PAGES") * _sysconf("SC_PAGE_SIZE")
    load: float | None = None
    with contextlib.suppress(OSError):
        load = round(os.getloadavg()[0], 2)
    own = {"mipplan": version_of("mipplan"), "python": platform.python_version()}
    return MachineRecord(
        processor=_processor(proc),
        processors=usable_processors(),
        memory_gib=round(pages / _BYTES_PER_GIB, 1) if pages > 0 else None,
        system=f"{platform.system()} {platform.release()}",
        power=_power_state(system),
        load=load,
        versions=own | versions,
    )


def usable_processors() -> int:
    """How many processors this process may use: in a container, or under ``taskset``, perhaps few of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sysconf(name: str) -> int:
    return os.sysconf(name) if name in os.sysconf_names else 0


def _processor(proc: Path) -> str:
    with contextlib.suppress(OSError):
        for line in (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model") and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine() or "unknown processor"


def _power_state(system: Path) -> str | None:
    cpu = system / "devices/system/cpu"
    governor = _text(cpu / "cpu0/cpufreq/scaling_governor")
    no_turbo = _text(cpu / "intel_pstate/no_turbo")
    boost = _text(cpu / "cpufreq/boost")
    mains = [_text(path) for path in sorted(system.glob("class/power_supply/A*/online"))]
    told = [
        f"governor {governor}" if governor else "",
        {"0": "turbo on", "1": "turbo off"}.get(no_turbo or "", ""),
        {"1": "turbo on", "0": "turbo off"}.get(boost or "", "") if no_turbo is None else "",
        "on battery" if mains and "1" not in mains else "",
    ]
    return ", ".join(filter(None, told)) or None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class EnergyMeter:
    """Counters of energy in microjoules, each with where it begins anew; without one, nothing is said."""

    name: str
    counters: Sequence[Callable[[], int | None]]
    wraps: Sequence[int | None]

    @classmethod
    def of_machine(cls, system: Path = _SYSTEM) -> EnergyMeter:
        """Find what meters energy here: RAPL for processor packages, NVML for GPUs of NVIDIA.

        Both count what the whole device uses, idle power included. RAPL can often be read by root only.
        """
        names: list[str] = []
        counters: list[Callable[[], int | None]] = []
        wraps: list[int | None] = []
        for zone in sorted(system.glob("class/powercap/intel-rapl:?")):
            counter = zone / "energy_uj"
            if (_text(counter) or "").isdecimal():
                counters.append(lambda counter=counter: _whole(_text(counter)))  # type: ignore[misc]
                wraps.append(_whole(_text(zone / "max_energy_range_uj")))
                names = ["RAPL"]
        gpus = _gpu_counters()
        return cls(
            " and ".join([*names, *(["NVML"] if gpus else [])]),
            [*counters, *gpus],
            [*wraps, *([None] * len(gpus))],
        )

    def read(self) -> list[int | None]:
        """Read all counters."""
        return [counter() for counter in self.counters]

    def since(self, before: Sequence[int | None]) -> float | None:
        """Energy since a reading, in joules; None if nothing is metered, or a counter could not be read."""
        used = 0
        for start, end, wrap in zip(before, self.read(), self.wraps, strict=True):
            if start is None or end is None or (end < start and wrap is None):
                return None
            used += end - start + (wrap or 0 if end < start else 0)
        return used / 1e6 if self.counters else None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _gpu_counters() -> list[Callable[[], int | None]]:
    """Counters of the GPUs, if NVIDIA's package ``pynvml`` is installed and finds any."""
    try:
        import pynvml
    except ImportError:
        return []
    counters: list[Callable[[], int | None]] = []
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(device)  # older GPUs do not count
            counters.append(lambda device=device: _gpu_microjoules(pynvml, device))  # type: ignore[misc]
    except pynvml.NVMLError:
        return counters
    return counters


def _gpu_microjoules(pynvml: Any, device: object) -> int | None:
    try:
        return 1000 * int(pynvml.nvmlDeviceGetTotalEnergyConsumption(device))
    except pynvml.NVMLError:
        return None
