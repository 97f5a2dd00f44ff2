"""What is read of the system: counters of load and energy, the machine and its state; from folders like Linux's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mipplan.profiling import MachineLoad
from mipplan.profiling.disturbance import LoadReading, load_between, read_load, used_ticks, waited_ns
from mipplan.profiling.machine import EnergyMeter, read_machine

PROCESSORS = os.cpu_count() or 1


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_load_is_read_from_the_first_line(tmp_path: Path) -> None:
    proc = write(tmp_path, {"stat": "cpu  10 20 30 400 5 6 7 8 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n"})
    assert read_load(proc) == LoadReading(busy=73, steal=8, total=486)
    assert read_load(tmp_path / "nowhere") is None
    (proc / "stat").write_text("intr 5\n")
    assert read_load(proc) is None


def test_load_of_others_is_what_is_not_ours() -> None:
    span = 1_000 * PROCESSORS
    before, after = LoadReading(100, 10, 1_000), LoadReading(100 + span // 2, 10 + span // 10, 1_000 + span)
    found = load_between(before, after, span // 4)
    assert found is not None
    assert found.steal == pytest.approx(0.1, abs=0.001)
    assert found.others == pytest.approx(0.25, abs=0.002)  # less a tick of each processor
    assert load_between(before, after, None) == MachineLoad(
        found.steal, 0.0
    )  # ours is unknown, perhaps all of it
    assert load_between(before, after, span) == MachineLoad(found.steal, 0.0)
    assert load_between(None, after, 0) is None
    assert load_between(before, before._replace(total=1_000 + PROCESSORS), 0) is None  # too short to say


def test_ticks_of_processes_are_added_up(tmp_path: Path) -> None:
    fields = "S 1 1 1 0 -1 4194304 100 0 0 0 11 22 33 44 20 0 1 0 100 0 0"
    proc = write(tmp_path, {"7/stat": f"7 (a) b) {fields}", "8/stat": f"8 (worker) {fields}"})
    assert used_ticks([7, 8], proc) == 2 * (11 + 22 + 33 + 44)
    assert used_ticks([7, 9], proc) is None
    assert (used_ticks([os.getpid()]) or 0) >= 0


def test_waiting_is_added_up_over_threads(tmp_path: Path) -> None:
    proc = write(tmp_path, {"self/task/1/schedstat": "100 40 3\n", "self/task/2/schedstat": "100 2 3\n"})
    (proc / "self" / "task" / "3").mkdir()  # one that has just ended
    assert waited_ns(proc) == 42
    assert waited_ns(tmp_path / "nowhere") is None


def test_energy_is_counted_over_packages_and_over_the_end_of_a_counter(tmp_path: Path) -> None:
    def zone(name: str, microjoules: int) -> dict[str, str]:
        folder = f"class/powercap/{name}"
        return {f"{folder}/energy_uj": f"{microjoules}\n", f"{folder}/max_energy_range_uj": "10000000\n"}

    system = write(tmp_path, zone("intel-rapl:0", 9_000_000) | zone("intel-rapl:1", 1_000))
    write(system, zone("intel-rapl:0:0", 5))  # a part of package 0, which counts it already
    meter = EnergyMeter.of_machine(system)
    assert meter.name == "RAPL"
    before = meter.read()
    write(system, zone("intel-rapl:0", 500_000) | zone("intel-rapl:1", 2_001_000))
    assert meter.since(before) == pytest.approx(1.5 + 2.0)
    (system / "class/powercap/intel-rapl:1/energy_uj").unlink()
    assert meter.since(before) is None
    none = EnergyMeter.of_machine(tmp_path / "nowhere")
    assert (none.name, none.since(none.read())) == ("", None)


def test_machine_is_described_with_its_power_state(tmp_path: Path) -> None:
    proc = write(tmp_path / "proc", {"cpuinfo": "processor : 0\nmodel name\t:  Fast   CPU 9000\n"})
    cpu = "devices/system/cpu"
    system = write(
        tmp_path / "sys",
        {
            f"{cpu}/cpu0/cpufreq/scaling_governor": "powersave\n",
            f"{cpu}/intel_pstate/no_turbo": "1\n",
            "class/power_supply/AC/online": "0\n",
        },
    )
    machine = read_machine({"onnxruntime": "1.20"}, system, proc)
    assert machine.processor == "Fast CPU 9000"
    assert machine.power == "governor powersave, turbo off, on battery"
    assert machine.versions.keys() == {"mipplan", "python", "onnxruntime"}
    bare = read_machine({}, tmp_path / "nowhere", tmp_path / "nowhere")
    assert bare.power is None
    assert bare.processor
    assert not machine.is_same_as(bare)
