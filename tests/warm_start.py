"""A command `mipplan` that starts at once: a process that has loaded the program answers each call by a copy of itself.

Starting takes a second of a processor, most of it to import NumPy, SciPy and the like, and the documentation starts
the program a hundred times. What is imported at a start of its own, and what that prints, have tests of their own.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path

#: Sends what a program is given to the waiting process, and ends as the copy there does.
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as waiting:
    waiting.connect({address!r})
    given = json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]) + "\\n"
    socket.send_fds(waiting, [b"-"], [0, 1, 2])
    waiting.sendall(given.encode())
    answer = waiting.recv(1)
sys.exit(answer[0] if answer else "mipplan was ended")
"""
#: Left out: whether they are loaded decides how the program works.
COLD = ("numba_kernels", "numba_sorting", "interval_kernels")


@cache
def folder_of_commands(**surroundings: str) -> str:
    """Start the process that waits, once, with these variables set; the folder of the command that asks it."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    address, command = f"{folder.name}/socket", Path(folder.name) / "mipplan"
    command.write_text(CLIENT.format(python=sys.executable, address=address))
    command.chmod(0o755)
    waiting = subprocess.Popen(
        [sys.executable, __file__, address],
        env={**os.environ, **surroundings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(folder.cleanup)
    atexit.register(waiting.kill)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waiting\n"
    return folder.name


def _wait(address: str) -> None:
    """Load the program, and answer calls until killed or left alone."""
    import typer.main

    import mipplan
    import mipplan.cli.commands
    from mipplan.cli.app import app

    for package in (mipplan, mipplan.cli.commands):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    for name in ("highspy", "matplotlib.figure", "pulp", "pyarrow.csv", "rich.table"):
        import_module(name)
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(app)
    assert not any(name.endswith(COLD) for name in sys.modules)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.bind(address)
        waiting.listen()
        waiting.settimeout(1.0)
        parent = os.getppid()
        print("waiting", flush=True)
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                call, _ = waiting.accept()
                if os.fork() == 0:
                    waiting.close()
                    os._exit(_answer(call))
                call.close()


def _answer(call: socket.socket) -> int:
    """Be the program that was called."""
    from mipplan.cli import main

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(call, 1, 3)
    with call.makefile(encoding="utf-8") as lines:
        folder, arguments, environment = json.loads(lines.readline())
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, code = ["mipplan", *arguments], 1
    sys.modules["__main__"].__package__ = None
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        call.sendall(bytes([code & 255]))
    return 0


if __name__ == "__main__":
    _wait(sys.argv[1])
