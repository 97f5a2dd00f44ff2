"""Every error mipplan raises on purpose, and the one way faults in user input are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


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

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Fault, ...]]]:
        # An exception is made again of its text otherwise, whose letters would count as the faults.
        return type(self), (self.faults,)

    @classmethod
    def one(cls, place: str, message: str) -> InputError:
        """Build the error for a single fault."""
        return cls([Fault(place, message)])

    @classmethod
    def raise_if(cls, faults: Iterable[Fault]) -> None:
        """Raise the error for all of these faults, if there are any."""
        found = tuple(faults)
        if found:
            raise cls(found)


class Faults:
    """Reads one input after the other and keeps every fault, so that the user hears of all of them at once."""

    def __init__(self) -> None:
        self._found: dict[Fault, None] = {}

    def __bool__(self) -> bool:
        """Whether anything was wrong."""
        return bool(self._found)

    def take(self, read: Callable[[], ValueT]) -> Taken[ValueT]:
        """Read one input, or make one check; what is wrong in it is kept."""
        try:
            return Taken(self, [read()])
        except InputError as error:
            self.add(*error.faults)
            return Taken(self, [])

    def add(self, *faults: Fault) -> None:
        """Keep faults found in another way; of equal ones the first."""
        self._found |= dict.fromkeys(faults)

    def check(self) -> None:
        """Complain of everything wrong so far.

        Raises
        ------
        InputError
            If anything was.
        """
        InputError.raise_if(self._found)


@dataclass(frozen=True)
class Taken(Generic[ValueT]):
    """What `Faults.take` read, if it could be read."""

    _faults: Faults
    _read: list[ValueT]

    def __bool__(self) -> bool:
        """Whether it could be read."""
        return bool(self._read)

    @property
    def value(self) -> ValueT:
        """What was read.

        Raises `InputError` with all faults found so far, if it could not be read.
        """
        if not self._read:
            self._faults.check()
        return self._read[0]

    def or_else(self, other: ValueT) -> ValueT:
        """Return what was read, or something else in the place of what could not be."""
        return self._read[0] if self._read else other


def check_all(*checks: Callable[[], object]) -> None:
    """Make every check, then complain of all that is wrong at once; of what two checks find, once.

    Raises `InputError` with every fault.
    """
    faults = Faults()
    for check in checks:
        faults.take(check)
    faults.check()


class LimitReachedError(MipplanError):
    """A search has used up what it was given; caught where searches are started."""


class NoPlanError(MipplanError):
    """`Plan.require()` was called on a result that holds no plan (infeasible, or nothing found in time)."""


class SolverError(MipplanError):
    """A solver failed, or gave an answer that our own arithmetic refutes."""


class SolverUnavailableError(SolverError):
    """There is no solver of that name, or its package does not work here."""
