"""Letting Ctrl-C through to a solver that runs inside this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def run_interruptibly(work: Callable[[], Result], stop: Callable[[], object], name: str) -> Result:
    """Work in a second thread, so that Ctrl-C reaches this one, which then stops the solver and passes it on.

    Parameters
    ----------
    work : callable
        Must return soon after `stop` was called.
    stop : callable
    name : str
        Of the solver.
    """
    results: list[Result] = []
    failures: list[BaseException] = []
    # not Thread.join: interrupted in it, Python 3.11 takes the thread for ended while it still runs, and the
    # process would end, and abort, beneath the solver
    ended = threading.Event()

    def attempt() -> None:
        try:
            results.append(work())
        except BaseException as failure:  # raised again by the thread that waits
            failures.append(failure)
        finally:
            ended.set()

    threading.Thread(target=attempt, name=f"mipplan-{name}", daemon=True).start()
    try:
        while not ended.wait(timeout=0.2):  # without a timeout, Ctrl-C would not get through on Windows
            pass
    except BaseException:
        while (
            not ended.is_set()
        ):  # a solver that had not begun yet when asked to stop needs to be asked again
            stop()
            ended.wait(timeout=0.2)
        raise
    if failures:
        raise failures[0]
    return results[0]
