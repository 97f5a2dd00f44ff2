"""Reading a fleet file and everything that it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from mipplan.core import NS_PER_S, Fault, InputError
from mipplan.documents import AnyPath, Document, first_faults, read_yaml
from mipplan.fleet.schema import FleetEntry, MemberEntry, parse_fleet
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.trace import Trace

ReadT = TypeVar("ReadT")
#: Finds the file that a name in a fleet file stands for, given the kind of file and the fleet file's folder.
Finder = Callable[[str, str, Path], str]


@dataclass(frozen=True)
class FleetFile:
    """A fleet file with everything that it names, ready for `mipplan.plan_fleet`.

    Attributes
    ----------
    name : str
    pipelines : dict of str to (Pipeline, Trace, slo_s, weight)
    profiles : Profiles
    profiles_folder : str or None
        Where they were read from; None for the shipped ones.
    limits : dict of str to int
    budget : float or None
    quantile : float
    seed : int
    """

    name: str
    pipelines: dict[str, tuple[Pipeline, Trace, float | None, float]]
    profiles: Profiles
    profiles_folder: str | None
    limits: dict[str, int]
    budget: float | None
    quantile: float
    seed: int


def read_fleet_file(path: AnyPath, *, profiles: str | None = None, find: Finder | None = None) -> FleetFile:
    """Read a fleet file, its pipelines, traces and profiles.

    Parameters
    ----------
    path : path
    profiles : str, optional
        Profile folder to use instead of the one that the file names; without either, the shipped one.
    find : callable, optional
        Finds the file of a name; by default names are paths, relative ones from the fleet file's folder.

    Raises
    ------
    InputError
        With every fault of the file, or else of everything that it names, each with its place.
    """
    document = read_yaml(path)
    entry = parse_fleet(document)
    return _Reading(document, Path(path).parent, find or _beside).read(entry, profiles)


def _beside(kind: str, name: str, folder: Path) -> str:
    del kind
    return str(folder / name)


class _Reading:
    """Reads what a fleet file names, every file once, and keeps all faults."""

    def __init__(self, document: Document, folder: Path, find: Finder) -> None:
        self._document = document
        self._folder = folder
        self._find = find
        self._faults: dict[Fault, None] = {}
        self._pipeline = cache(self._read_pipeline)
        self._trace = cache(self._read_trace)

    def read(self, entry: FleetEntry, profiles: str | None) -> FleetFile:
        folder = profiles or (None if entry.profiles is None else str(self._folder / entry.profiles))
        read = self._keep((), lambda: Profiles.default() if folder is None else Profiles.read(folder))
        members: dict[str, tuple[Pipeline, Trace, float | None, float]] = {}
        for name, member in entry.pipelines.items():
            found = self._member(name, member, entry.seed)
            if found is not None:
                members[name] = found
        if self._faults or read is None:
            raise InputError(first_faults(self._faults, self._document.origin))
        return FleetFile(
            entry.name,
            members,
            read,
            folder,
            dict(entry.limits),
            entry.budget,
            entry.quantile,
            entry.seed,
        )

    def _member(
        self, name: str, member: MemberEntry, seed: int
    ) -> tuple[Pipeline, Trace, float | None, float] | None:
        place = ("pipelines", name)
        pipeline = self._keep((*place, "pipeline"), lambda: self._pipeline(member.pipeline))
        window = tuple(None if ns is None else ns / NS_PER_S for ns in (member.start, member.end))
        trace = self._keep((*place, "trace"), lambda: self._trace(member.trace, member.expand, seed, window))
        if pipeline is None or trace is None:
            return None
        slo_s = None if member.slo is None else member.slo / NS_PER_S
        scaled = trace if member.scale == 1.0 else trace.scale(member.scale)
        return pipeline, scaled, slo_s, member.weight

    def _read_pipeline(self, name: str) -> Pipeline:
        return Pipeline.read(self._find("pipelines", name, self._folder))

    def _read_trace(
        self, name: str, expand: str | None, seed: int, window: tuple[float | None, ...]
    ) -> Trace:
        start_s, end_s = window
        path = self._find("traces", name, self._folder)
        return Trace.read(path, expand=expand, seed=seed, start_s=start_s, end_s=end_s)

    def _keep(self, place: tuple[str, ...], read: Callable[[], ReadT]) -> ReadT | None:
        """Read something; None if it is faulty, with the faults kept, and where in the fleet file it was named."""
        try:
            return read()
        except InputError as error:
            named = f" (named in {self._document.place(place)})" if place else ""
            for fault in error.faults:
                self._faults[Fault(fault.place, f"{fault.message}{named}")] = None
            return None
