"""Start real serving systems on this machine alone, with models that sleep as long as a plan's tables say.

Each runs in processes of its own, on 127.0.0.1 and a port that was free, and is ended by the number of the one process
that was started here. Triton comes from the wheel ``nvidia-pytriton``, which wants an environment of its own
(``numpy<2``): `PYTRITON` names its Python.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mipplan as mp

ROOT = Path(__file__).resolve().parents[2]
#: Environment variable: the Python of an environment with ``nvidia-pytriton==0.7.0`` and ``numpy<2``.
PYTRITON = "MIPPLAN_PYTRITON"
#: Starting Ray with three applications on two busy cores takes up to half of this; who ends is noticed at once.
PATIENCE_S = 180.0
#: Quiet is when the processors have no more than this share of their time to do, for which that long is waited.
QUIET_SHARE, QUIET_WITHIN_S = 0.25, 30.0
#: Of ``@serve.batch`` as it is run here: batches may be full, which Ray's own bound of 5 would not let them be.
RAY_WINDOW_MS = 20
_PROBE = (
    "import sys, sysconfig, pytriton\n"
    "print(sysconfig.get_config_var('LIBDIR'), '%d.%d' % sys.version_info[:2], pytriton.__path__[0])"
)
ONGOING = 16
#: Models on Ray are so many times as slow, and rates as low: it takes some 10 to 20 ms of a processor for each query.
RAY_SLOWDOWN = 4
#: Before the name of what Ray Serve runs as it comes.
PLAIN = "plain:"


@dataclass(frozen=True)
class RunningServer:
    """A server that answers."""

    url: str
    how: Mapping[str, Any] = field(default_factory=dict)
    """What `mipplan.drive` is told besides."""


@dataclass(frozen=True)
class TruthSystem:
    """A system as it is started and as it is predicted."""

    name: str
    start: Callable[[mp.Plan, Path], AbstractContextManager[RunningServer]]
    law: str | None
    """For ``system=``; None where the plan's own laws are kept."""
    missing: Callable[[], str | None]
    """Why it cannot run here, or None."""
    slowdown: int = 1
    """Models are so many times as slow, and rates as low."""

    @property
    def is_on_ray(self) -> bool:
        """Whether it is served in a cluster of Ray, which can hold several."""
        return self.name.startswith("ray")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(
    command: list[str], folder: Path, ready_url: str, environment: Mapping[str, str | None] | None = None
) -> Iterator[None]:
    """Start a process, wait until it answers at a URL, and end it and what it started.

    `environment` changes that of this process; None takes a variable out.
    """
    log = folder / "server.log"
    variables = {**os.environ, **(environment or {})}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in variables.items() if value is not None},
            start_new_session=True,
        )
    try:
        _wait_for(ready_url, process, log)
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()  # Ends the one that waits for it; others are told by a signal.
        _end(process)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:  # It is there, and wants to be asked otherwise.
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the server did not answer at {url}: {log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process: asked first, then with everything that is left in its session, children it forgot among them."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)  # On a busy machine Ray takes its time, and writes its log in the end.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until_quiet() -> None:
    """Return once the machine has little to do, since what is started goes on for a while after it answers; or late."""
    deadline = time.monotonic() + QUIET_WITHIN_S
    before = _processor_ticks()
    while time.monotonic() < deadline:
        time.sleep(2.0)
        now = _processor_ticks()
        idle, whole = (after - earlier for after, earlier in zip(now, before, strict=True))
        if idle >= (1.0 - QUIET_SHARE) * whole:
            return
        before = now


def _processor_ticks() -> tuple[int, int]:
    """Ticks in which the processors were idle, and all of them, since the machine was started."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


# --- the systems -----------------------------------------------------------------------------------------------------


@contextmanager
def mosec_server(plan: mp.Plan, folder: Path) -> Iterator[RunningServer]:
    """Serve what ``--to mosec`` writes."""
    mp.export(plan, to="mosec", directory=folder / "service", emulate=True, force=True)
    with mosec_service(folder) as server:
        yield server


@contextmanager
def mosec_service(folder: Path) -> Iterator[RunningServer]:
    """Serve the service that lies in ``service/``."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "service/server.py", "--address", "127.0.0.1", "--port", str(port)]
    with started(command, folder, f"{url}/metrics", {"PYTHONPATH": _python_path()}):
        yield RunningServer(f"{url}/inference", {"body": "{query}"})


def _python_path(*first: Path) -> str:
    """Where a server finds `benchmarks`, besides what this process finds."""
    paths = [*map(str, first), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(path for path in paths if path)


@contextmanager
def dispatcher_server(plan: mp.Plan, folder: Path, *flags: str) -> Iterator[RunningServer]:
    """Serve by ``mipplan serve --emulate``, with further flags; its log of stages is ``stages.parquet``."""
    plan.save(folder / "plan.json")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mipplan", "serve", "plan.json", "--emulate", "--port", str(port)]
    with started([*command, *flags, "--log", "stages.parquet"], folder, f"{url}/v2/health/ready"):
        yield RunningServer(url, {"model": plan.pipeline.name})


@contextmanager
def ray_server(plan: mp.Plan, folder: Path) -> Iterator[RunningServer]:
    """Serve what ``--to ray`` writes."""
    with ray_servers({"application": plan}, folder) as (server,):
        yield server


@contextmanager
def plain_ray_server(plan: mp.Plan, folder: Path) -> Iterator[RunningServer]:
    """Serve the same models behind ``@serve.batch``, as Ray Serve comes."""
    with ray_servers({f"{PLAIN}application": plan}, folder) as (server,):
        yield server


@contextmanager
def ray_servers(
    plans: Mapping[str, mp.Plan], folder: Path, log: Path | None = None
) -> Iterator[list[RunningServer]]:
    """Serve plans in one cluster, each exported to a folder of its name; after `PLAIN` behind ``@serve.batch``."""
    routes = {}
    for number, (name, plan) in enumerate(plans.items()):
        mp.export(plan, to="ray", directory=folder / name.removeprefix(PLAIN), emulate=True, force=True)
        routes[name] = f"/{number or ''}"
    with ray_application(folder, routes, log) as server:
        yield [RunningServer(f"{server.url}{route[1:]}", server.how) for route in routes.values()]


@contextmanager
def ray_application(
    folder: Path, routes: Mapping[str, str] = MappingProxyType({"application": "/"}), log: Path | None = None
) -> Iterator[RunningServer]:
    """Serve the applications that lie in these folders below; `log` is where their stages are logged."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    applications = [f"{name}={route}" for name, route in routes.items()]
    command = [sys.executable, "-m", "benchmarks.truth.ray_server", str(port), *applications]
    environment = {
        "PYTHONPATH": _python_path(folder),
        **({} if log is None else {"MIPPLAN_LOG": str(log)}),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
    }
    with started(command, folder, f"{url}/-/routes", environment):
        _wait_for_line(folder / "server.log", "every application is running")
        yield RunningServer(f"{url}/", {"body": "{query}"})


def _wait_for_line(log: Path, line: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while line not in log.read_text(errors="replace"):
        if time.monotonic() > deadline or "Traceback" in log.read_text(errors="replace"):
            raise RuntimeError(f"Ray Serve did not come up: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


@contextmanager
def triton_server(plan: mp.Plan, folder: Path) -> Iterator[RunningServer]:
    """Serve what ``--to triton`` writes, for a pipeline of several stages, by the ``tritonserver`` of its wheel."""
    mp.export(plan, to="triton", directory=folder / "repository", emulate=True, force=True)
    python = Path(os.environ[PYTRITON])
    library, home, stub = _triton_of(python)
    # The backend looks for the stub of its Python beside itself, and the wheel has one for each Python elsewhere.
    backend = folder / "backends" / "python"
    shutil.copytree(home / "backends" / "python", backend)
    shutil.copy2(stub, backend)
    ports = {"http": free_port(), "grpc": free_port(), "metrics": free_port()}
    url = f"http://127.0.0.1:{ports['http']}"
    command = [
        str(home / "bin" / "tritonserver"),
        f"--model-repository={folder / 'repository' / 'models'}",
        f"--backend-directory={backend.parent}",
        *(f"--{name}-port={port}" for name, port in ports.items()),
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
    ]
    environment = {
        # The stub looks for its Python, and that one's library, here; with a PYTHONPATH outputs come back empty.
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": os.pathsep.join([library, str(home.parents[1] / "nvidia_pytriton.libs")]),
        "PYTHONPATH": None,
    }
    with started(command, folder, f"{url}/v2/health/ready", environment):
        yield RunningServer(url, {"model": mp.exporters.Deployment(plan).name})


def _triton_of(python: Path) -> tuple[str, Path, Path]:
    """Folder of an environment's libpython, that of its Triton, and the stub for its Python, which may be missing."""
    told = subprocess.run([str(python), "-I", "-c", _PROBE], capture_output=True, text=True, check=True)
    library, version, package = told.stdout.split()
    home = Path(package) / "tritonserver"
    return library, home, home / "python_backend_stubs" / version / "triton_python_backend_stub"


# --- whether they are there ------------------------------------------------------------------------------------------


def without(*modules: str) -> str | None:
    """Say which of these modules are not installed; None if all are."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def without_mosec() -> str | None:
    """Say why mosec cannot be started; None if it can."""
    if (reason := without("mosec")) is not None:
        return reason
    program = Path(sysconfig.get_path("scripts")) / "mosec"
    return None if program.exists() else f"there is no {program}, which mosec starts"


def _without_triton() -> str | None:
    python = os.environ.get(PYTRITON)
    if python is None:
        return f"{PYTRITON} names no Python of an environment with nvidia-pytriton"
    try:
        _, _, stub = _triton_of(Path(python))
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{PYTRITON}: {python} does not import pytriton: {error}"
    return None if stub.exists() else f"the wheel has no {stub}"


_SYSTEMS = (
    TruthSystem(
        "dispatcher", dispatcher_server, None, lambda: without("aiohttp", "prometheus_client", "uvloop")
    ),
    TruthSystem("mosec", mosec_server, "mosec", without_mosec),
    TruthSystem("triton", triton_server, "triton", _without_triton),
    TruthSystem(
        "ray_dispatcher", ray_server, None, lambda: without("ray", "starlette", "uvicorn"), RAY_SLOWDOWN
    ),
    TruthSystem(
        "ray",
        plain_ray_server,
        f"ray:window={RAY_WINDOW_MS}ms,ongoing={ONGOING}",
        lambda: without("ray", "starlette", "uvicorn"),
        RAY_SLOWDOWN,
    ),
)
#: Systems by name.
TRUTH_SYSTEMS: Mapping[str, TruthSystem] = {system.name: system for system in _SYSTEMS}
