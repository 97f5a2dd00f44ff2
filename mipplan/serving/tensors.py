"""Tensors of the Open Inference Protocol v2 in JSON, and batches made of those of single queries.

The protocol: https://github.com/kserve/open-inference-protocol. Nothing is computed with them here, so their values
stay the lists that they came as.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mipplan.core import Fault, Faults, InputError, is_whole, shown


@dataclass(frozen=True)
class InferTensor:
    """A named tensor; the first dimension counts the queries in it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any]
    """Values in row-major order."""


def read_tensors(entries: object, place: str, rows: int = 1) -> list[InferTensor]:
    """Read the tensors of a request or an answer.

    Raises
    ------
    InputError
        Listing each that is none, or whose first dimension is not `rows`.
    """
    if not isinstance(entries, list) or not entries:
        raise InputError.one(place, f"expected a list of tensors, found {shown(entries)}")
    faults, tensors = Faults(), []
    for number, entry in enumerate(entries):
        found = _read(entry, rows)
        if isinstance(found, InferTensor):
            tensors.append(found)
        else:
            faults.add(Fault(f"{place}[{number}]", found))
    faults.check()
    return tensors


def _read(entry: object, rows: int) -> InferTensor | str:
    """Return a tensor, or what is wrong with it."""
    if not isinstance(entry, dict) or not {"name", "datatype", "shape"} <= entry.keys():
        return f"expected an object with name, datatype, shape and data, found {shown(entry)}"
    shape, data = entry["shape"], entry.get("data")
    if not isinstance(shape, list) or not shape or not all(is_whole(size) and size >= 0 for size in shape):
        return f"expected a shape such as [1, 3], found {shown(shape)}"
    if shape[0] != rows:
        what = "a request is one query" if rows == 1 else f"the batch has {rows} queries"
        return f"the first dimension is {shape[0]}, expected {rows}: {what}"
    if not isinstance(data, list):
        return "holds no data; binary tensors are not supported here"
    flat = _flattened(data)
    if len(flat) != math.prod(shape):
        return f"holds {len(flat)} values, the shape {shape} says {math.prod(shape)}"
    return InferTensor(str(entry["name"]), str(entry["datatype"]), tuple(int(size) for size in shape), flat)


def _flattened(data: list[Any]) -> list[Any]:
    """Values of a tensor; the protocol allows nested lists."""
    while data and isinstance(data[0], list):
        data = [value for row in data for value in (row if isinstance(row, list) else [row])]
    return data


def tensor_document(tensor: InferTensor) -> dict[str, Any]:
    """Return a tensor as the protocol writes it."""
    shape = list(tensor.shape)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "data": tensor.data}


def together(queries: Sequence[Sequence[InferTensor]]) -> list[InferTensor]:
    """Make the tensors of a batch of those of its queries, each with the same names, in whichever order.

    Raises
    ------
    InputError
        If names, types or shapes differ between queries.
    """
    made = []
    order = [tensor.name for tensor in queries[0]]
    if len(set(order)) == len(order):  # else two have one name, and only their places tell them apart
        queries = [
            sorted(query, key=lambda tensor: order.index(tensor.name))
            if {tensor.name for tensor in query} == set(order)
            else query
            for query in queries
        ]
    for tensors in zip(*queries, strict=False):
        first = tensors[0]
        kind = first.name, first.datatype, first.shape[1:]
        for tensor in tensors:
            if (tensor.name, tensor.datatype, tensor.shape[1:]) != kind:
                message = f"{shown(tensor.name)} of {tensor.datatype}{list(tensor.shape)} does not go together with "
                raise InputError.one(
                    "inputs", f"{message}{shown(first.name)} of {first.datatype}{list(first.shape)}"
                )
        values = [value for tensor in tensors for value in tensor.data]
        made.append(InferTensor(first.name, first.datatype, (len(tensors), *first.shape[1:]), values))
    if len({len(tensors) for tensors in queries}) > 1:
        raise InputError.one("inputs", "queries of one batch have different numbers of tensors")
    return made


def named_as(names: Sequence[str], tensors: Sequence[InferTensor]) -> list[InferTensor]:
    """Name tensors as a model names its inputs: those of other names by their order; as they are if there are more."""
    left, kept = list(names), [False] * len(tensors)
    for place, tensor in enumerate(tensors):
        if tensor.name in left:
            left.remove(tensor.name)
            kept[place] = True
    if len(left) != kept.count(False):
        return list(tensors)
    others = iter(left)
    return [
        tensor if is_kept else replace(tensor, name=next(others))
        for tensor, is_kept in zip(tensors, kept, strict=True)
    ]


def apart(tensors: Sequence[InferTensor], count: int) -> list[list[InferTensor]]:
    """Return the tensors of each query of a batch."""
    queries: list[list[InferTensor]] = [[] for _ in range(count)]
    for tensor in tensors:
        size = len(tensor.data) // count
        for number, parts in enumerate(queries):
            values = tensor.data[number * size : (number + 1) * size]
            parts.append(InferTensor(tensor.name, tensor.datatype, (1, *tensor.shape[1:]), values))
    return queries
