"""Python callables: ``module:function``, called with the batch size, or with inputs that another one makes of it."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence, Sized
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from mipplan.core import InputError, suggestion
from mipplan.profiling.subjects.base import LocalSubject, Subject, SubjectError, SubjectRequest

FORM = "module:function"
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def recognises(text: str) -> bool:
    """Whether it reads ``module:function``."""
    return _REFERENCE.fullmatch(text) is not None


def default_name(text: str) -> str:
    """Return the name of the function."""
    return text.rpartition(":")[2].rpartition(".")[2]


def load(request: SubjectRequest) -> Subject:
    """Import the function, and the one that makes its inputs."""
    request.refuse(providers="go with ONNX models only", axes="go with models that have a signature")
    function = find_callable(request.text, "model")
    inputs = None if request.inputs is None else find_callable(request.inputs, "inputs")
    return CallableSubject(function, inputs)


class CallableSubject(LocalSubject):
    """A function, and what it is called with."""

    def __init__(self, function: Callable[[Any], object], inputs: Callable[[int], Any] | None) -> None:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InputError.one(
                "model", "is a generator, whose call does no work: give one that does it all"
            )
        self._function = function
        self._inputs = inputs
        self._argument: Any = None
        self._entries: int | None = None
        self._returned: type = type(None)

    def prepare(self, batch: int) -> None:
        """Make the argument of the calls."""
        self._argument = batch if self._inputs is None else called(self._inputs, batch)
        if isinstance(self._argument, Iterator):
            raise SubjectError(
                f"its inputs are a {type(self._argument).__name__}, which the first run uses up: give a list"
            )
        self._entries = _entries(self._argument)

    def run(self) -> None:
        """Call it; of what it returns only the type is kept, so that no run clears away what the last one made."""
        self._returned = type(called(self._function, self._argument))

    def check(self) -> None:
        """See that it has done its work, and that the next run will find the same to do."""
        if issubclass(self._returned, Iterator | AsyncIterator | Awaitable):
            raise SubjectError(
                f"it returns a {self._returned.__name__}, whose work is done when it is read: return what comes of it"
            )
        if _entries(self._argument) != self._entries:
            raise SubjectError(
                f"it changes its inputs, which had {self._entries} entries and have {_entries(self._argument)}: later "
                "runs have other work than the first"
            )


def _entries(argument: object) -> int | None:
    return len(argument) if isinstance(argument, Sized) else None


def find_callable(reference: str, place: str) -> Callable[[Any], Any]:
    """Import what ``module:function`` names.

    Raises `InputError` that tells a module that is not there from one that cannot be imported.
    """
    if not recognises(reference):
        raise InputError.one(place, f"expected {FORM}, found {reference!r}")
    name, _, path = reference.partition(":")
    # A command that is installed looks beside itself, and not where it is called; so does -m with PYTHONSAFEPATH.
    here = str(Path.cwd())
    if {"", here}.isdisjoint(sys.path):
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        where = "" if missing == name or name.startswith(f"{missing}.") else f", which {name} imports"
        raise InputError.one(
            place, f"there is no module {missing!r}{where} (looked for in {here}, too)"
        ) from None
    except Exception as error:
        raise InputError.one(place, f"importing {name} {raised(error)}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            hint = suggestion(part, [known for known in dir(found) if not known.startswith("_")])
            raise InputError.one(place, f"{name} has no {path!r}{hint}")
        found = getattr(found, part)
    check_callable(found, place, reference)
    function: Callable[[Any], Any] = found
    return function


def module_file(reference: str) -> str | None:
    """Return the file of the module that ``module:function`` names, without importing it; None if there is none."""
    if not recognises(reference):
        return None
    path: Sequence[str] | None = [str(Path.cwd()), *sys.path]
    file = None
    for part in reference.partition(":")[0].split("."):
        spec = PathFinder.find_spec(part, path)
        if spec is None:
            return None
        path, file = spec.submodule_search_locations or [], spec.origin if spec.has_location else None
    return file


def check_callable(function: object, place: str, name: str) -> None:
    """Refuse what cannot be called and timed.

    Raises `InputError`.
    """
    if not callable(function):
        raise InputError.one(place, f"{name} is no function but of type {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        raise InputError.one(place, f"{name} is a coroutine function: give one that waits for its answer")


def called(function: Callable[[Any], Any], argument: object) -> Any:
    """Call a function of the user.

    Raises `SubjectError` for whatever it raises, with the line.
    """
    try:
        return function(argument)
    except MemoryError:
        raise SubjectError("there is not enough memory") from None
    except Exception as error:
        raise SubjectError(raised(error)) from error


def raised(error: BaseException) -> str:
    """Say what was raised, and where."""
    # The last line that somebody wrote: Python's own import machinery tells nothing.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename[:1] != "<"]
    known = frames and not isinstance(error, SyntaxError)  # which says itself where it is
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if known else ""
    text = str(error).strip().splitlines()
    return f"raises {type(error).__name__}{': ' + text[0][:200] if text else ''}{where}"
