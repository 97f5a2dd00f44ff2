"""A schedule as entries of what keeps time: crontab lines, KEDA's cron scaler, minima of HorizontalPodAutoscalers.

All name the deployments as ``mipplan export PLAN --to kserve`` does. Cron knows minutes: orders are moved to the full
minute before, removals to the one after.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from mipplan.core import NS_PER_HOUR, NS_PER_S, Fault, InputError, Int64, check_one_of, shown
from mipplan.exporters import Deployment, most_replicas, service_name
from mipplan.scheduling.result import DaySchedule

_MINUTE_NS = 60 * NS_PER_S
_DAY_NS = 24 * NS_PER_HOUR
_MIDNIGHT = "0 0 * * *"
#: As Kubernetes names a namespace.
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: What CronJobs act as: it may change autoscalers, and nothing else.
_RIGHTS = """\
apiVersion: v1
kind: ServiceAccount
metadata: {{name: mipplan-schedule, namespace: {namespace}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: mipplan-schedule, namespace: {namespace}}}
rules:
  - {{apiGroups: ["autoscaling"], resources: ["horizontalpodautoscalers"], verbs: ["get", "patch"]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: mipplan-schedule, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: mipplan-schedule}}
subjects:
  - {{kind: ServiceAccount, name: mipplan-schedule, namespace: {namespace}}}
"""


def schedule_entries(
    made: DaySchedule, kind: str, *, namespace: str = "default", time_zone: str = "Etc/UTC"
) -> str:
    """Write a day's schedule for what keeps time.

    Parameters
    ----------
    made : DaySchedule
        Of one day that repeats, in bins of whole minutes.
    kind : str
        ``cron``: lines of a crontab that scale deployments; ``keda``: a ScaledObject with cron triggers per stage;
        ``hpa``: an autoscaler per stage, and CronJobs that set the least it may scale to, which leave it to go above.
    namespace : str
        Of the deployments.
    time_zone : str
        In which the first bin begins at midnight. What keeps time leaves out what is due in an hour that clocks skip,
        and may leave out or repeat it in one that comes twice. So in hours in which clocks change within a year,
        entries hold the most that is asked for there, from one activation delay before.

    Raises
    ------
    InputError
        With every fault.
    """
    check_entries(kind, namespace, time_zone)
    if not made.repeats:
        raise InputError.one("repeats", "entries are for every day, and this one does not repeat")
    if made.span_ns != _DAY_NS or made.bin_ns % _MINUTE_NS:
        raise InputError.one(
            "counts",
            "entries need the counts of one day of 24 h that repeats, in bins of whole minutes; one on which clocks "
            "change has 23 or 25 h: take another",
        )
    return ENTRY_KINDS[kind](made, namespace, time_zone)


def check_entries(kind: object, namespace: str, time_zone: str) -> None:
    """Refuse what cannot be written; raises `InputError` with every fault."""
    faults: list[Fault] = []
    try:
        check_one_of("to", kind, ENTRY_KINDS)
    except InputError as error:
        faults += error.faults
    if not (isinstance(namespace, str) and _NAMESPACE.fullmatch(namespace)):
        faults.append(
            Fault("namespace", f"expected lower-case letters, digits and hyphens, found {shown(namespace)}")
        )
    try:
        zone_of(time_zone)
    except InputError as error:
        faults += error.faults
    InputError.raise_if(faults)


def zone_of(time_zone: str) -> ZoneInfo:
    """Return the time zone of a name; raises `InputError` if there is none."""
    try:
        return ZoneInfo(time_zone)
    except (TypeError, ValueError, OSError, ZoneInfoNotFoundError):
        message = f"expected a name such as Europe/Berlin, found {shown(time_zone)}"
        raise InputError.one("time_zone", message) from None


def _deployments(made: DaySchedule) -> Iterator[tuple[str, str, str]]:
    """Stage, service and deployment of each."""
    deployment = Deployment(made.plan)
    for stage in deployment.stages:
        name = service_name(deployment, stage)
        yield stage.name, name, f"{name}-predictor"


def _told(made: DaySchedule, stage: str, time_zone: str) -> Int64:
    """Counts at every minute of the day, shape (1440,)."""
    change_ns, counts = made.commands(stage, _MINUTE_NS)
    begin_ns = np.arange(_DAY_NS // _MINUTE_NS) * _MINUTE_NS
    told: Int64 = counts[np.searchsorted(change_ns, begin_ns, side="right")]
    # At least by a minute: what is due as the hour begins is left out with it.
    lead, lag = (max(1, -(-time_ns // _MINUTE_NS)) for time_ns in (made.delay_ns, made.settle_ns))
    hours = list(_changing_hours(time_zone))
    for first, last in hours * len(hours):  # where they overlap, the most of one is that of all
        held = np.arange(first - lead, last + lag) % told.size
        told[held] = told[held].max()
    return told


@cache
def _changing_hours(time_zone: str) -> set[tuple[int, int]]:
    """Minutes of the day, from and to, that a day of the coming year lacks or has twice."""
    now, zone = datetime.now(UTC).replace(minute=0, second=0, microsecond=0), ZoneInfo(time_zone)
    looks = [(now + timedelta(minutes=30 * half)).astimezone(zone) for half in range(2 * 24 * 366)]
    found = set()
    for before, after in pairwise(looks):
        shift = round((after.utcoffset() - before.utcoffset()) / timedelta(minutes=1))  # type: ignore[operator]
        if shift:
            first = 60 * after.hour + after.minute - max(shift, 0)
            found.add((first, first + abs(shift)))
    return found


def _entries(told: Int64) -> list[tuple[str, int]]:
    """Cron expression and count of each change of a day; none where the count stays."""
    changes = np.flatnonzero(told != np.roll(told, 1)).tolist()
    return [(f"{minute % 60} {minute // 60} * * *", int(told[minute])) for minute in changes]


def _cron(made: DaySchedule, namespace: str, time_zone: str) -> str:
    lines = [f"# {made.plan.pipeline.name}: {made.keep}.", f"CRON_TZ={time_zone}"]
    for stage, _, deployment in _deployments(made):
        counts = _told(made, stage, time_zone)
        lines.append(f"# {_flat(stage)}: {counts.min()} to {counts.max()} replicas.")
        scale = f"kubectl -n {namespace} scale deployment/{deployment} --replicas="
        entries = _entries(counts)
        if not entries and counts[0] != made.stages[stage].planned:
            entries = [(_MIDNIGHT, int(counts[0]))]
        lines += [f"{when} {scale}{count}" for when, count in entries]
    return "\n".join([*lines, ""])


def _keda(made: DaySchedule, namespace: str, time_zone: str) -> str:
    documents = []
    days = [(*names, _told(made, names[0], time_zone)) for names in _deployments(made)]
    # KEDA scales nothing without a trigger, and kubectl applies no file without a document.
    is_calm = all((counts == made.stages[stage].planned).all() for stage, _, _, counts in days)
    for stage, name, deployment, counts in days:
        least, most = int(counts.min()), int(counts.max())
        text = (
            f"# Stage {_flat(stage)} of {_flat(made.plan.pipeline.name)}, by the clock.\n"
            "# Between triggers the least of the day.\n"
            "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\n"
            f"metadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  scaleTargetRef:\n    name: {deployment}\n"
            "  # Down at once: the end of a trigger has the time for queries to leave in it.\n"
            "  cooldownPeriod: 0\n"
            f"  minReplicaCount: {least}\n  maxReplicaCount: {most}\n"
            "  advanced:\n    horizontalPodAutoscalerConfig:\n      behavior:\n        scaleDown:\n"
            "          stabilizationWindowSeconds: 0\n"
            "  triggers:\n"
        )
        windows = list(_windows(_entries(counts), least))
        if least == most and (is_calm or least != made.stages[stage].planned):
            windows = [(_MIDNIGHT, "59 23 * * *", least)]
        for start, end, count in windows:
            text += (
                "    - type: cron\n      metadata:\n"
                f"        timezone: {time_zone}\n        start: {start}\n        end: {end}\n"
                f'        desiredReplicas: "{count}"\n'
            )
        if windows:  # a stage that keeps the plan's count needs no scaler
            documents.append(text)
    return "---\n".join(documents)


def _windows(entries: list[tuple[str, int]], least: int) -> Iterator[tuple[str, str, int]]:
    """Stretches of one count above the least: when each begins and ends. The last goes on to the first, tomorrow."""
    for (start, count), (end, _) in zip(entries, [*entries[1:], *entries[:1]], strict=True):
        if count > least:
            yield start, end, count


def _hpa(made: DaySchedule, namespace: str, time_zone: str) -> str:
    documents = [_RIGHTS.format(namespace=namespace)]
    peaks = {stage: int(own.replicas.max()) for stage, own in made.stages.items()}
    for number, (stage, name, deployment) in enumerate(_deployments(made)):
        counts = _told(made, stage, time_zone)
        most, because = most_replicas(made.plan, stage, peaks, "the peak")
        documents.append(
            f"# Stage {_flat(stage)}. Its minimum is the schedule's; beyond that it goes by load, to {most} replicas:\n"
            f"# {because}.\n"
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\n"
            f"metadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n"
            f"  scaleTargetRef:\n    apiVersion: apps/v1\n    kind: Deployment\n    name: {deployment}\n"
            f"  minReplicas: {int(counts[0])}\n  maxReplicas: {most}\n"
            "  metrics:\n    # Yours to replace by the thresholds of `mipplan export PLAN --to kserve`.\n"
            "    - type: Resource\n      resource:\n        name: cpu\n"
            "        target:\n          type: Utilization\n          averageUtilization: 80\n"
        )
        for place, (when, count) in enumerate(_entries(counts)):
            patch = f'{{"spec":{{"minReplicas":{count}}}}}'
            documents.append(
                "apiVersion: batch/v1\nkind: CronJob\n"
                f"metadata:\n  name: {name[:40].rstrip('-')}-{number}-{place}\n  namespace: {namespace}\nspec:\n"
                f"  schedule: {when}\n  timeZone: {time_zone}\n  concurrencyPolicy: Replace\n"
                "  jobTemplate:\n    spec:\n      template:\n        spec:\n"
                "          serviceAccountName: mipplan-schedule\n          restartPolicy: OnFailure\n"
                "          containers:\n            - name: kubectl\n              image: bitnami/kubectl\n"
                f"              args: [patch, hpa, {name}, -n, {namespace}, --patch, '{patch}']\n"
            )
    return "---\n".join(documents)


def _flat(name: str) -> str:
    """Write a name so that it can stand in a comment."""
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", name)


#: How entries are written, by kind.
ENTRY_KINDS: Mapping[str, Callable[[DaySchedule, str, str], str]] = MappingProxyType(
    {"cron": _cron, "keda": _keda, "hpa": _hpa}
)
