"""From a model to a profile: `measure` checks what is asked for, then measures one batch size after the other."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mipplan.core import (
    Fault,
    Faults,
    InputError,
    Report,
    check_one_of,
    check_time_limit,
    format_seconds,
    is_finite,
    is_whole,
    name_problem,
    shown,
)
from mipplan.documents import folder_locked
from mipplan.profiling.machine import read_machine, usable_processors
from mipplan.profiling.measuring import BatchMeasurement, MeasuringParams, UnmeasuredError, measure_batch
from mipplan.profiling.record import MeasurementRecord, ProfileFolder
from mipplan.profiling.replicas import Replicas, replicas_of
from mipplan.profiling.result import LATENCIES, Measurement
from mipplan.profiling.sizes import AdaptiveSizes, InTime, NamedSizes, NextSize, SizeRule, check_sizes
from mipplan.profiling.subjects import SUBJECTS, SubjectRequest, content_digest, kind_of
from mipplan.profiling.subjects.base import axes_faults, request_faults
from mipplan.profiling.subjects.callables import CallableSubject, check_callable
from mipplan.profiling.worker import Server

if TYPE_CHECKING:  # only a measurement for a plan needs what plans
    from mipplan.pipeline import Pipeline
    from mipplan.profiles import Profiles
    from mipplan.result import Plan
    from mipplan.trace import Trace

#: A straight line between measured sizes may be off by this, unless told otherwise.
_TOLERANCE = 0.05
#: More threads or replicas than this are a slip.
_MOST_AT_ONCE = 1_024


def measure(
    model: str | os.PathLike[str] | Callable[[int], object],
    *,
    hardware: str,
    batches: Sequence[int] | None = None,
    max_batch: int | None = None,
    tolerance: float | None = None,
    for_: Pipeline | Plan | None = None,
    trace: Trace | None = None,
    profiles: Profiles | None = None,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    kind: str | None = None,
    usd_per_hour: float | None = None,
    threads: int | None = None,
    together: int = 1,
    providers: Sequence[str] = (),
    axes: Mapping[str, int] | None = None,
    inputs: str | None = None,
    latency: str = "p99",
    precision: float = 0.05,
    time_limit_s: float = 60.0,
    total_time_s: float | None = None,
    timeout_s: float = 60.0,
    disturbed: str = "reject",
    again: bool = False,
    progress: Report = lambda _: None,
    params: MeasuringParams | None = None,
) -> Measurement:
    """Measure the latency of a model at several batch sizes, and write it into a profile folder.

    Every replica is a process of its own, with the threads that are stated. For each batch size, runs are made one
    right after the other until the P50 and the P99 are known well enough or the time is spent; warm-up is found and cut
    off, and runs that other load disturbed are repeated (`docs/how-to/profile.md`).

    Parameters
    ----------
    model : str, path or callable
        An ONNX file, ``module:function``, the URL of a model on a server that speaks the Open Inference Protocol v2
        (``http://HOST:PORT/v2/models/NAME``), or a shell command that holds ``{batch}``. A function itself is called in
        this process, with the batch size.
    hardware : str
        Name of the hardware type that this machine, or the share of it that one replica gets, stands for.
    batches : sequence of int, optional
        Batch sizes, in any order, each once: exactly these are measured. Without them sizes are chosen as the ones
        before come out: 1, 2, 4, …, then where a straight line between measured sizes may be off by most.
    max_batch : int, optional
        Where sizes are chosen, the largest of them.
    tolerance : float, optional
        … and stop when no straight line may be off by more than this share; 0.05 by default.
    for_ : Pipeline or Plan, optional
        Choose those sizes that could change the cheapest plan for this pipeline, or for what this plan was asked for,
        and stop when none could (`docs/how-to/profile.md` says what is guaranteed).
    trace : Trace, optional
        With `for_`: the traffic to plan for.
    profiles : Profiles, optional
        With a pipeline: the other models and hardware; by default what is in `out`.
    out : path, optional
        Profile folder to write into; it is made if need be. What it holds already of this measurement is kept.
    name : str, optional
        What the model is called in the table; by default its file, function, or name in the URL.
    kind : str, optional
        ``onnx``, ``callable``, ``oip`` or ``command``, where the text leaves it open.
    usd_per_hour : float, optional
        Price of one device, where ``hardware.yaml`` does not have it.
    threads : int, optional
        Threads of one replica; by default what the library chooses.
    together : int
        Replicas that run at once; all their runs count. More than one show what sharing a machine costs.
    providers : sequence of str
        Execution providers of onnxruntime, in the order of preference.
    axes : mapping of str to int, optional
        Sizes of free axes other than the first: by name, or ``input.1`` where they have none.
    inputs : str, optional
        Where inputs come from, instead of the signature: an ``.npz`` file, or ``module:function`` that makes them for a
        batch size. For a callable: what makes its argument.
    latency : str
        What the column ``latency_ms`` holds: ``p99``, ``p50``, ``mean`` or ``max``.
    precision : float
        The intervals of P50 and P99 may reach this far from the quantile, as a share of it.
    time_limit_s : float
        Seconds for each batch size, in two visits with the other sizes in between; some more where these differ.
    total_time_s : float, optional
        Where sizes are chosen: seconds for all of them, those measured before included. A size that has begun is
        finished.
    timeout_s : float
        Seconds that one run may take before it counts as failed; loading may take a minute in any case.
    disturbed : str
        ``reject`` (runs disturbed by other load do not count) or ``keep``.
    again : bool
        Measure everything anew, whatever is there.
    progress : callable
        Told how it goes, and how long it may still take.
    params : MeasuringParams, optional
        How a batch size is measured, beyond the arguments above.

    Returns
    -------
    Measurement
        With those batch sizes that could be measured, and why the others could not.

    Raises
    ------
    InputError
        With all that is wrong in the arguments; or if the model cannot be loaded.
    """
    if os.name != "posix":
        raise InputError.one("model", "measuring needs a POSIX system: replicas are told over pipes")
    faults = Faults()
    faults.take(lambda: check_sizes(batches, max_batch, tolerance, total_time_s, for_ is not None))
    for place, given in (("trace", trace), ("profiles", profiles)):
        if given is not None and for_ is None:
            faults.add(Fault(place, "goes with a pipeline or plan to measure for (for_, --for)"))
    faults.take(lambda: check_numbers(threads, together, precision, timeout_s, axes or {}))
    faults.take(lambda: check_one_of("latency", latency, LATENCIES))
    faults.take(lambda: check_one_of("disturbed", disturbed, ("reject", "keep")))
    limit_s = faults.take(lambda: check_time_limit(time_limit_s))
    loaded = faults.take(lambda: _request(model, kind, threads, providers, axes or {}, inputs, timeout_s))
    called = name or (loaded.value[1] if loaded else "model")
    for place, text in (("hardware", hardware), ("name", called)):
        problem = name_problem(text)
        if problem is not None:
            faults.add(Fault(place, problem))
    if out is not None and not isinstance(out, str | os.PathLike):
        faults.add(Fault("out", f"expected the name of a folder, found {shown(out)}"))
    if together != 1 and callable(model):
        faults.add(Fault("together", "a function in this process is alone; name it as module:function"))
    faults.check()
    request, _, server = loaded.value
    folder = None if out is None else ProfileFolder(Path(out), called, hardware)
    params = params or MeasuringParams(least_s=min(MeasuringParams.least_s, limit_s.value / 10))
    params = replace(
        params,
        time_limit_s=limit_s.value,
        precision=precision,
        keeps_disturbed=disturbed == "keep",
        is_alone=together == 1 and (threads or 1) <= usable_processors(),
    )
    if batches is not None and len(batches) == 1:  # there is nothing to take turns with
        params = replace(params, visits=1, most_visits=1)
    if folder is not None:
        folder.prepare(usd_per_hour, replaces=again)
    rule: SizeRule
    if batches is not None:
        rule = NamedSizes(tuple(sorted(map(int, batches))))
    elif for_ is None:
        off = _TOLERANCE if tolerance is None else tolerance
        rule = AdaptiveSizes(int(max_batch or 1), off, latency, limit_s.value, params.fewest_runs)
    else:
        from mipplan.profiling.sizes.plans import PlanSizes

        root = None if folder is None else folder.root
        others = (profiles, called, hardware, usd_per_hour, max_batch, root)
        rule = PlanSizes.of(for_, trace, *others, latency, progress)
    if total_time_s is not None:
        rule = InTime(rule, total_time_s, params.visits)
    with replicas_of(request, together, server) as replicas:
        progress(f"loading {called}")
        try:
            replicas.start()
        except UnmeasuredError as error:
            raise InputError.one("model", f"cannot be loaded: {error}") from None
        subject = {**request.to_document(), "content": content_digest(request)}
        del subject["timeout_s"]
        record = MeasurementRecord(called, hardware, subject, together, read_machine(replicas.versions))
        if folder is not None and not again:
            before = folder.read_record()
            folder.check_table({} if before is None else before.batches)
            if before is not None:
                before.check_continues(record, str(folder.record_path))
                record = replace(before, machine=record.machine)
        if folder is not None:  # a price that stands there could not be corrected by the next call
            folder.add_hardware(usd_per_hour)
        return _Run(record, replicas, params, progress, folder, latency, request, rule, again).measure()


@dataclass
class _Run:
    """One call of `measure` under way."""

    record: MeasurementRecord
    replicas: Replicas
    params: MeasuringParams
    progress: Report
    folder: ProfileFolder | None
    latency: str
    request: SubjectRequest
    rule: SizeRule
    is_anew: bool  # What is written first takes the place of whatever is there.
    own: set[int] = field(default_factory=set)  # Batch sizes that this call measured.
    failures: dict[int, str] = field(default_factory=dict)
    failed_s: dict[int, float] = field(default_factory=dict)  # How long each failure took.
    ended: str = ""  # Why no other size was measured.

    def measure(self) -> Measurement:
        """Measure what the rule asks for and is not there yet; what is found is written at once."""
        before = self.record
        while (
            isinstance(choice := self.rule.next(self.record.batches, self.failed_s), NextSize) or self._due()
        ):
            if isinstance(choice, NextSize):
                self._visit(choice, len(self.own - before.batches.keys()) + len(self.failed_s))
                continue
            due = self._due()
            for done, batch in enumerate(due):
                self._visit(NextSize(batch, self.record.chosen.get(batch, ""), len(due) - done), done)
        self.ended = choice.why
        if self.record is before:  # perhaps another latency is asked for, or the table is gone
            self._write()
        return self._told()

    def _due(self) -> list[int]:
        """Sizes that are to be visited once more, as far as there is time for all of them."""
        found = self.record.batches
        wanted = self.rule.batches if isinstance(self.rule, NamedSizes) else tuple(found)
        again = [batch for batch in wanted if batch in found and batch not in self.failures]
        due = [batch for batch in again if found[batch].is_due(self.params)]
        if isinstance(self.rule, InTime):
            visit_s = sum(found[batch].spent_s / len(found[batch].visits) for batch in due)
            return due if visit_s <= self.rule.left_s(found, self.failed_s) else []
        return due

    def _visit(self, choice: NextSize, done: int) -> None:
        """Measure a size, or once more, and write what is known of it; or say why not."""
        began_s, before = time.monotonic(), self.record.batches.get(choice.batch)
        try:
            found = self._one(choice, done, before)
        except (UnmeasuredError, InputError) as error:  # there may be no inputs of this size
            why = str(error)
            if isinstance(error, InputError):
                why = "; ".join(fault.message for fault in error.faults)
            if before is None:
                self.failed_s[choice.batch] = time.monotonic() - began_s
            self.failures[choice.batch] = why if before is None else f"visit {len(before.visits) + 1}: {why}"
            return
        days, whys = {choice.batch: datetime.date.today().isoformat()}, {choice.batch: choice.why}
        new = replace(self.record, batches={choice.batch: found}, days=days, chosen=whys)
        self.record = new.joined(self.record, new.batches)
        self.own.add(choice.batch)
        self._write(choice.batch)

    def _one(self, choice: NextSize, done: int, before: BatchMeasurement | None) -> BatchMeasurement:
        is_named = isinstance(self.rule, NamedSizes)
        ahead = f"{done + 1} of {'' if is_named or before else 'about '}{done + choice.left}"
        if before is not None:
            label = f"batch {choice.batch}, visit {len(before.visits) + 1} ({ahead})"
        else:
            label = f"batch {choice.batch} ({ahead}{'' if is_named else f'; {choice.why}'})"
        self.progress(f"{label}: preparing")
        self.replicas.prepare(choice.batch)
        rest_s = self._rest_s(choice, before)

        def report(text: str, left_s: float) -> None:
            most = " at most" if is_named else ""
            self.progress(f"{label}: {text}, about {format_seconds(left_s + rest_s)}{most} left")

        report("first runs", self.params.visit_s)
        observe = self.replicas.observe
        return measure_batch(choice.batch, observe, time.monotonic, self.params, report, before)

    def _rest_s(self, choice: NextSize, before: BatchMeasurement | None) -> float:
        """Seconds that all may take after this visit: at most, or as visits before where the rule chooses sizes."""
        params, found = self.params, self.record.batches
        if isinstance(self.rule, NamedSizes):
            due = [*self._due(), *set(self.rule.batches) - found.keys() - self.failures.keys()]
            spent_s = sum(found[batch].spent_s for batch in due if batch in found)
            return max(0.0, len(due) * params.time_limit_s - spent_s - params.visit_s)
        visit_s = [one.spent_s / len(one.visits) for one in found.values() if one.visits]
        each_s = sum(visit_s) / len(visit_s) if visit_s else params.visit_s
        if before is not None:  # a round of visits
            return (choice.left - 1) * each_s
        once_more = sum(0 < len(one.visits) < params.visits for one in found.values())
        return (params.visits * choice.left - 1 + once_more) * each_s

    def _told(self) -> Measurement:
        record = self.record
        return Measurement(
            record.model,
            record.hardware,
            self.request,
            record.together,
            self.latency,
            record.machine,
            record.batches,
            record.days,
            dict(self.failures),
            self.replicas.energy_from,
            record.chosen,
            self.ended,
        )

    def _write(self, last: int | None = None) -> None:
        """Write what is known, with the sizes that another call has written meanwhile, which are known from now on."""
        found = self.record.batches
        if self.folder is None or not found:
            return
        try:
            with folder_locked(self.folder.root):
                if not self.is_anew:
                    self.record = self.folder.joined(self.record, self.own)
                self.folder.write(self.record, self._told().table)
            self.is_anew = False
        except InputError as error:
            if last is None:
                raise
            figures = ", ".join(f"{name} {found[last].latency_ms(name):.6g} ms" for name in LATENCIES)
            lost = Fault("out", f"so batch {last} is not saved; measured were {figures}")
            raise InputError([*error.faults, lost]) from None


def check_numbers(
    threads: object, together: object, precision: object, timeout_s: object, axes: object
) -> None:
    """Refuse counts, shares and times that are none; raises `InputError` with all of them."""
    faults, expected = list[Fault](), f"expected a whole number from 1 to {_MOST_AT_ONCE}"
    counts = {"together": together} | ({} if threads is None else {"threads": threads})
    for place, count in counts.items():
        if not is_whole(count) or not 1 <= count <= _MOST_AT_ONCE:
            faults.append(Fault(place, f"{expected}, found {shown(count)}"))
    faults += axes_faults(axes)
    if not is_finite(precision) or not 0 < precision < 1:
        faults.append(Fault("precision", f"expected a share such as 0.05, found {shown(precision)}"))
    if not is_finite(timeout_s) or not 0 < timeout_s <= 86_400:
        faults.append(Fault("timeout_s", f"expected seconds, at most a day, found {shown(timeout_s)}"))
    InputError.raise_if(faults)


def _request(
    model: object,
    kind: str | None,
    threads: int | None,
    providers: Sequence[str],
    axes: Mapping[str, int],
    inputs: str | None,
    timeout_s: float,
) -> tuple[SubjectRequest, str, Server | None]:
    """Return what is to be loaded, what it is called, and for a function what serves it in this process."""
    InputError.raise_if(request_faults(providers, axes, inputs))
    if callable(model):
        name = getattr(model, "__qualname__", type(model).__name__)
        check_callable(model, "model", name)
        request = SubjectRequest("callable", name, threads, tuple(providers), dict(axes), inputs, timeout_s)
        why = "goes with a function that is named as module:function"
        request.refuse(threads=why, providers=why, axes=why, inputs=why)
        return request, name.rpartition(".")[2], Server(CallableSubject(model, None))
    if not isinstance(model, str | os.PathLike) or not os.fspath(model):
        raise InputError.one("model", f"expected what is to be measured, found {shown(model)}")
    text = str(os.fspath(model))
    known = kind_of(text, kind)
    request = SubjectRequest(known, text, threads, tuple(providers), dict(axes), inputs, timeout_s)
    return request, SUBJECTS[known].default_name(text), None
