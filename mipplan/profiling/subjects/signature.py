"""Inputs of models that say what they take: made from the signature, or taken from where the user keeps some."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Fault, InputError, listed, shown, suggestion
from mipplan.profiling.subjects.base import SubjectRequest
from mipplan.profiling.subjects.callables import called, find_callable, recognises

Arrays = dict[str, NDArray[Any]]
#: Inputs larger than this are a slip in an axis; making them would exhaust the memory first.
_MOST_BYTES = 8 * 1024**3
#: What exporters call the axis of the batch; an axis `n` may be anything.
_BATCH_NAMES = ("batch", "batch_size", "batchsize", "bs")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output as a model declares it."""

    name: str
    dtype: str  # As NumPy calls it; ``object`` for text.
    shape: tuple[int | str, ...]  # A name where the size is free.

    def axis_name(self, axis: int) -> str:
        """What an axis is called in messages and in `axes`: its own name, else ``input.1``."""
        size = self.shape[axis]
        return size if isinstance(size, str) and size else f"{self.name}.{axis}"


def input_maker(specs: Sequence[TensorSpec], request: SubjectRequest) -> Callable[[int], Arrays]:
    """Return what makes the inputs of a batch.

    Raises `InputError` with everything about axes and given inputs that does not go with the signature.
    """
    given = request.inputs
    if given is None:
        InputError.raise_if(_axis_faults(specs, request.axes))
        return lambda batch: _generated(specs, request.axes, batch)
    if request.axes:
        what = "goes with inputs made from the signature; yours have sizes of their own"
        raise InputError.one("axes", what)
    if recognises(given):
        function = find_callable(given, "inputs")
        return lambda batch: _fitting(specs, called(function, batch), given)
    arrays = _read_arrays(given)
    _fitting(specs, arrays, given)
    axis = _batch_axis(specs, {})
    axes = {spec.name: spec.shape.index(axis) if axis and axis in spec.shape else 0 for spec in specs}
    return lambda batch: {name: _of_batch(array, axes[name], batch) for name, array in arrays.items()}


def _batch_axis(specs: Sequence[TensorSpec], axes: Mapping[str, int]) -> str:
    """What the batch's axis is called; empty if every axis is fixed.

    The one that is named so, else the first of the first input where that is free; if a size is given for that one, and
    for all others but one, that one.
    """
    free = _free(specs)
    named = [name for name in free if name.lower() in _BATCH_NAMES]
    first = next((spec.axis_name(0) for spec in specs if spec.shape and isinstance(spec.shape[0], str)), "")
    left = [name for name in free if name not in axes]
    if not named and first in axes and len(left) == 1:
        return left[0]
    return (named or [first])[0]


def _free(specs: Sequence[TensorSpec]) -> dict[str, set[int]]:
    """Axes of free size, and the places of each: it has one size wherever it stands."""
    free: dict[str, set[int]] = {}
    for spec in specs:
        for place, size in enumerate(spec.shape):
            if isinstance(size, str):
                free.setdefault(spec.axis_name(place), set()).add(place)
    return free


def _of_batch(array: NDArray[Any], axis: int, batch: int) -> NDArray[Any]:
    """Repeat the rows of a given input, or leave some out; a single number, such as a sample rate, is that of all."""
    return np.take(array, np.arange(batch) % array.shape[axis], axis) if array.ndim > axis else array


def nan_in(arrays: Mapping[str, Any]) -> str | None:
    """Return the name of an output that holds NaN, None if there is none."""
    for name, array in arrays.items():
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and np.isnan(array).any():
            return name
    return None


def _axis_faults(specs: Sequence[TensorSpec], axes: Mapping[str, int]) -> Iterator[Fault]:
    free, batch_axis = _free(specs), _batch_axis(specs, axes)
    if batch_axis in axes:
        yield Fault("axes", f"{batch_axis!r} is the batch's: its sizes are those that are measured")
    for name in axes:
        if name not in free:
            hint = suggestion(name, free) or f"; free are {listed(free) or 'none'}"
            yield Fault("axes", f"no input has an axis {shown(name)} of free size{hint}")
    for name, places in free.items():
        # What stands only where the batch does, under another name, is the batch of another input.
        if name != batch_axis and name not in axes and places != free.get(batch_axis):
            yield Fault("axes", f"the size of axis {name!r} is free: say which one is to be measured")


def _generated(specs: Sequence[TensorSpec], axes: Mapping[str, int], batch: int) -> Arrays:
    """Make inputs of a batch: real numbers uniform in [0, 1), whole ones 0 or 1, the same every time."""
    batched = bool(_batch_axis(specs, axes))
    fixed = {spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)}
    if not batched and batch not in fixed:
        sizes = ", ".join(str(size) for size in sorted(fixed)) or "none"
        raise InputError.one(
            "batches",
            f"the first axis of every input has a fixed size ({sizes}), so there are no batches of {batch}: "
            "export the model with a free first axis",
        )
    random = np.random.default_rng(0)
    arrays: Arrays = {}
    for spec in specs:
        lengths = [
            size if isinstance(size, int) else axes.get(spec.axis_name(axis), batch)
            for axis, size in enumerate(spec.shape)
        ]
        wanted = int(np.prod(lengths, dtype=np.float64)) * np.dtype(spec.dtype).itemsize
        if wanted > _MOST_BYTES:
            raise InputError.one("axes", f"the input {spec.name!r} would take {wanted / 1024**3:.0f} GiB")
        arrays[spec.name] = _values(spec.dtype, lengths, random)
    return arrays


def _values(dtype: str, sizes: Sequence[int], random: np.random.Generator) -> NDArray[Any]:
    kind = np.dtype(dtype).kind
    if kind == "O":
        return np.full(sizes, "text", dtype=object)
    if kind == "f":
        return random.random(sizes, dtype=np.float32).astype(dtype)
    return random.integers(0, 2, sizes).astype(dtype)


def _read_arrays(path: str) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)  # an .npy file is one array, which opens nothing
    except FileNotFoundError:
        what = f"there is no file {path!r}; expected an .npz file or module:function"
        raise InputError.one("inputs", what) from None
    except (OSError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError.one("inputs", f"{Path(path).name} is no .npz file of arrays: {error}") from None
    empty = [name for name, array in arrays.items() if array.ndim and not len(array)]
    InputError.raise_if(Fault("inputs", f"{path}: {name!r} holds no row to repeat") for name in empty)
    return arrays


def _fitting(specs: Sequence[TensorSpec], arrays: object, origin: str) -> Arrays:
    """Return given inputs as arrays, if they are those that the model takes.

    Raises `InputError`.
    """
    if not isinstance(arrays, Mapping):
        message = f"expected arrays by the name of the input, found {type(arrays).__name__}"
        raise InputError.one("inputs", f"{origin}: {message}")
    names = [spec.name for spec in specs]
    faults = [
        Fault("inputs", f"{origin}: the model takes no {shown(name)}; it takes {listed(names)}")
        for name in arrays
        if name not in names
    ]
    faults += [Fault("inputs", f"{origin}: {name!r} is missing") for name in names if name not in arrays]
    InputError.raise_if(faults)
    return {name: np.asarray(arrays[name]) for name in names}
