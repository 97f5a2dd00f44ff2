"""Every error mipplan raises on purpose, and the one way faults in user input are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


class MipplanError(Exception):
    """Base of all errors raised on purpose; anything else is a defect of ours."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong in an input, with its place and what was expected there.

    Attributes
    ----------
    place : str
        Where: a file with line or row, then the field, for example
        ``video.yaml:12: stages.detect.batch``.
    message : str
        What is wrong and what would be right.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class InputError(MipplanError, ValueError):
    """Bad input: carries *every* fault found, never only the first.

    Parameters
    ----------
    faults : iterable of Fault
        At least one.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        if not self.faults:
            raise ValueError("an InputError needs at least one fault")
        super().__init__("\n".join(str(fault) for fault in self.faults))

    @classmethod
    def one(cls, place: str, message: str) -> InputError:
        """Build the error for a single fault."""
        return cls([Fault(place, message)])


def faults_of(*checks: Callable[[], object]) -> list[Fault]:
    """Make every check before complaining, and return all faults, so that one run shows all that is wrong."""
    faults: list[Fault] = []
    for check in checks:
        try:
            check()
        except InputError as error:
            faults += error.faults
    return faults


def check_all(*checks: Callable[[], object]) -> None:
    """Make every check, then complain of all that is wrong at once; of what two checks find, once.

    Raises
    ------
    InputError
        With every fault.
    """
    faults = faults_of(*checks)
    if faults:
        raise InputError(dict.fromkeys(faults))


class NoPlanError(MipplanError):
    """`Plan.require()` was called on a result that holds no plan (infeasible, or nothing found in time)."""


class SolverError(MipplanError):
    """A solver failed, or gave an answer that our own arithmetic refutes."""


class SolverUnavailableError(SolverError):
    """There is no solver of that name, or its package does not work here."""
