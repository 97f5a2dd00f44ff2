"""The configuration of a stage, and what can be wrong with the configurations of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.core import Fault, InputError, is_whole
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles


@dataclass(frozen=True)
class Choice:
    """Configuration of one stage.

    Attributes
    ----------
    hardware : str
    batch : int
        Batch cap.
    replicas : int
    """

    hardware: str
    batch: int
    replicas: int


def read_choices(
    pipeline: Pipeline, profiles: Profiles, given: Mapping[str, Choice | tuple[str, int, int]]
) -> dict[str, Choice]:
    """Check the choices of all stages and bring them into file order, numbers as plain integers.

    Raises
    ------
    InputError
        Listing every stage missing, unknown, or impossible with these profiles.
    """
    faults = [
        Fault(f"choices.{stage}", f"there is no such stage; the stages are {', '.join(pipeline.stages)}")
        for stage in given
        if stage not in pipeline.stages
    ]
    made: dict[str, Choice] = {}
    for name, stage in pipeline.stages.items():
        place = f"choices.{name}"
        if name not in given:
            faults.append(Fault(place, "missing: every stage needs (hardware, batch, replicas)"))
            continue
        choice = _as_choice(given[name])
        if choice is None:
            faults.append(Fault(place, f"expected (hardware, batch, replicas), found {given[name]!r}"))
            continue
        found = _choice_faults(stage.model, profiles, place, choice)
        faults += found
        if not found:
            made[name] = Choice(choice.hardware, int(choice.batch), int(choice.replicas))
    if faults:
        raise InputError(faults)
    return made


def _as_choice(given: object) -> Choice | None:
    if isinstance(given, Choice):
        return given
    return Choice(*given) if isinstance(given, tuple | list) and len(given) == 3 else None


def _choice_faults(model: str, profiles: Profiles, place: str, choice: Choice) -> list[Fault]:
    faults = [
        Fault(f"{place}.{field_name}", f"expected a whole number of at least 1, found {value!r}")
        for field_name, value in (("batch", choice.batch), ("replicas", choice.replicas))
        if not is_whole(value) or value < 1
    ]
    table = profiles.table(model, choice.hardware) if isinstance(choice.hardware, str) else None
    if table is None:
        measured = ", ".join(profiles.hardware_for(model)) or "none"
        message = f"model {model!r} has no measurements on {choice.hardware!r} (measured: {measured})"
        faults.append(Fault(f"{place}.hardware", message))
    elif not faults and choice.batch > table.largest_batch:
        message = (
            f"largest measured is {table.largest_batch}, found {choice.batch}; latency is not extrapolated"
        )
        faults.append(Fault(f"{place}.batch", message))
    return faults
