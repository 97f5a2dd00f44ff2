"""Serving systems whose replicas can be told: one small adapter each, and their register."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from mipplan.core import Fault, Faults, InputError, is_whole, listed, shown, split_url, suggestion
from mipplan.exporters import Deployment, exported_names
from mipplan.following.readings import READERS, MetricsReader, RayReader
from mipplan.following.web import WebError, fetch_json
from mipplan.result import Plan


class FollowTarget(Protocol):
    """A running system."""

    name: str
    """As it was given: ``KIND:URL``."""
    metrics_urls: Sequence[str]
    """Where its metrics are, if it has a place of its own for them."""
    reads: str
    """Whose metrics these are: a name of `READERS`."""

    def serving(self, timeout_s: float) -> Mapping[str, int]:
        """Return how many replicas of each stage can serve now; empty where its metrics say so. Raises `WebError`."""

    def scale(self, stage: str, replicas: int, timeout_s: float) -> None:
        """Tell it to have so many replicas of a stage; raises `WebError` if it does not take that."""


class MipplanTarget:
    """``mipplan serve``, with emulated devices or real ones: ``POST /scale``."""

    reads = "mipplan"

    def __init__(self, plan: Plan, url: str, names: Mapping[str, str], _namespace: str) -> None:
        self.name, self._url = f"mipplan:{url}", url
        self._names = {stage: names.get(stage, stage) for stage in plan.choices}
        self.metrics_urls: Sequence[str] = [f"{url}/metrics"]

    def serving(self, timeout_s: float) -> Mapping[str, int]:  # noqa: ARG002  # as every target
        """Nothing: the metrics have it."""
        return {}

    def scale(self, stage: str, replicas: int, timeout_s: float) -> None:
        """Tell the dispatcher."""
        name = self._names[stage]
        asked = {name: replicas}
        answer = fetch_json(f"{self._url}/scale", method="POST", document=asked, timeout_s=timeout_s)
        told = answer.get("replicas")
        if not isinstance(told, dict) or told.get(name) != replicas:
            raise WebError(f"{self._url}/scale: asked for {asked}, it answers {shown(answer)}")


class TritonTarget:
    """Triton with explicit model control: a model is loaded again with another number of instances.

    Where nothing but the instances differs it adds or drops them in place. Without a GPU group all are in one group;
    GPUs share them as evenly as can be, also those that have none for now: all that were seen, or, if these are among
    them, all that the export names.
    """

    reads = "triton"

    def __init__(self, plan: Plan, url: str, names: Mapping[str, str], _namespace: str) -> None:
        self.name, self._url = f"triton:{url}", url
        exported = Deployment(plan).stages
        self._names = {stage.name: stage.label for stage in exported} | dict(names)
        self._exported = {stage.name: stage.gpus for stage in exported}
        self._seen: dict[str, tuple[int, ...]] = {}
        # Metrics have a port of their own, 8002 beside 8000 for HTTP.
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self.metrics_urls: Sequence[str] = [f"{parts.scheme}://{host}:8002/metrics"]

    def serving(self, timeout_s: float) -> Mapping[str, int]:
        """Count the instances of each model."""
        return {
            stage: sum(_instances(group) for group in self._groups(self._config(name, timeout_s)))
            for stage, name in self._names.items()
        }

    def scale(self, stage: str, replicas: int, timeout_s: float) -> None:
        """Load the model with its own configuration, but for the instances."""
        name = self._names[stage]
        config = self._config(name, timeout_s)
        groups = self._groups(config)
        gpus = self._gpus_of(stage, [gpu for group in groups for gpu in group.get("gpus") or ()])
        made = [{**groups[0], "count": replicas}]
        if gpus:
            shares = [replicas // len(gpus) + (place < replicas % len(gpus)) for place in range(len(gpus))]
            made = [
                {**groups[0], "name": f"{name}_{gpu}", "gpus": [gpu], "count": share}
                for gpu, share in zip(gpus, shares, strict=True)
                if share
            ]
        document = {"parameters": {"config": json.dumps({**config, "instance_group": made})}}
        url = f"{self._url}/v2/repository/models/{quote(name)}/load"
        fetch_json(url, method="POST", document=document, timeout_s=timeout_s)

    def _gpus_of(self, stage: str, there: Sequence[int]) -> tuple[int, ...]:
        """GPUs of a stage, which are more than those there if it has been scaled down."""
        if not there:
            return ()
        exported = self._exported[stage]
        known = self._seen.get(stage) or (exported if set(there) <= set(exported) else ())
        self._seen[stage] = tuple(dict.fromkeys([*there, *known]))
        return self._seen[stage]

    def _config(self, name: str, timeout_s: float) -> Mapping[str, Any]:
        return fetch_json(f"{self._url}/v2/models/{quote(name)}/config", timeout_s=timeout_s)

    def _groups(self, config: Mapping[str, Any]) -> list[dict[str, Any]]:
        groups = config.get("instance_group")
        if not isinstance(groups, list) or not groups or not all(isinstance(one, dict) for one in groups):
            raise WebError(f"{self._url}: model {shown(config.get('name'))} tells no instance_group")
        return groups


def _instances(group: Mapping[str, Any]) -> int:
    count = group.get("count", 1)
    return (count if is_whole(count) else 1) * max(1, len(group.get("gpus") or ()))


class RayTarget:
    """Ray Serve: its dashboard's ``scale``, where each stage is a deployment of one application.

    The application's configuration has ``external_scaler_enabled: true``, and no ``autoscaling_config``. Where Ray asks
    for a token, it is that of ``RAY_AUTH_TOKEN``, as for Ray's own clients.
    """

    reads = "ray"
    metrics_urls: Sequence[str] = ()

    def __init__(self, plan: Plan, url: str, names: Mapping[str, str], namespace: str) -> None:
        self.name, self._url = f"ray:{url}", url
        self.application, self._token = namespace, os.environ.get("RAY_AUTH_TOKEN")
        self._names = {stage: names.get(stage, stage) for stage in plan.choices}

    def serving(self, timeout_s: float) -> Mapping[str, int]:
        """Count the replicas that run."""
        url = f"{self._url}/api/serve/applications/"
        answer: Any = fetch_json(url, token=self._token, timeout_s=timeout_s)
        found = {}
        for stage, name in self._names.items():
            try:
                replicas = answer["applications"][self.application]["deployments"][name]["replicas"]
                found[stage] = sum(replica["state"] == "RUNNING" for replica in replicas)
            except (KeyError, TypeError):
                place = f"application {shown(self.application)}, deployment {shown(name)}"
                raise WebError(f"{self._url}: tells no replicas of {place}") from None
        return found

    def scale(self, stage: str, replicas: int, timeout_s: float) -> None:
        """Tell the controller, which does it by and by."""
        place = f"applications/{quote(self.application)}/deployments/{quote(self._names[stage])}"
        fetch_json(
            f"{self._url}/api/v1/{place}/scale",
            method="POST",
            document={"target_num_replicas": replicas},
            token=self._token,
            timeout_s=timeout_s,
        )


#: KServe makes the deployment of an inference service by its name and this.
_PREDICTOR = "-predictor"


class KServeTarget:
    """Deployments of Kubernetes, as ``mipplan export --to kserve`` names them: the API server's ``scale``.

    Best through ``kubectl proxy``, which has the credentials. The pods run Triton, whose metrics are read: a model
    there is called as its deployment, without ``-predictor``, since KServe adds that.
    """

    reads = "triton"
    metrics_urls: Sequence[str] = ()

    def __init__(self, plan: Plan, url: str, names: Mapping[str, str], namespace: str) -> None:
        self.name, self._url = f"kserve:{url}", url
        labels = {stage: f"{name}{_PREDICTOR}" for stage, name in exported_names(plan)["kserve"].items()}
        folder = f"{url}/apis/apps/v1/namespaces/{quote(namespace)}/deployments"
        self._places = {stage: f"{folder}/{quote(names.get(stage, labels[stage]))}" for stage in plan.choices}

    def serving(self, timeout_s: float) -> Mapping[str, int]:
        """Count the pods that are ready."""
        found = {}
        for stage, place in self._places.items():
            status = fetch_json(place, timeout_s=timeout_s).get("status")
            ready = status.get("readyReplicas", 0) if isinstance(status, dict) else None
            if not is_whole(ready):
                raise WebError(f"{place}: tells no status.readyReplicas")
            found[stage] = int(ready)
        return found

    def scale(self, stage: str, replicas: int, timeout_s: float) -> None:
        """Patch the scale."""
        answer: Any = fetch_json(
            f"{self._places[stage]}/scale",
            method="PATCH",
            document={"spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
            timeout_s=timeout_s,
        )
        try:
            told = answer["spec"]["replicas"]
        except (KeyError, TypeError):
            told = None
        if told != replicas:
            raise WebError(f"{self._places[stage]}/scale: asked for {replicas}, it answers {shown(told)}")


#: Targets by kind; each is made of a plan, a URL, names by stage, and a namespace or application.
FOLLOW_TARGETS: Mapping[str, Callable[[Plan, str, Mapping[str, str], str], FollowTarget]] = MappingProxyType(
    {"mipplan": MipplanTarget, "triton": TritonTarget, "ray": RayTarget, "kserve": KServeTarget}
)


def check_names(names: object, stages: Collection[str] | None) -> None:
    """Refuse what does not name stages; without stages to compare with, what is no mapping of names alone.

    Raises `InputError` with every fault.
    """
    if names is None:
        return
    if not isinstance(names, Mapping) or not all(isinstance(name, str) for name in names.values()):
        raise InputError.one("names", f"expected a mapping of stages to names, found {shown(names)}")
    InputError.raise_if(
        Fault(f"names.{stage}", "the plan has no such stage")
        for stage in names
        if stages is not None and stage not in stages
    )


def open_target(
    plan: Plan, text: str, *, names: Mapping[str, str] | None = None, namespace: str = "default"
) -> FollowTarget:
    """Return the target ``KIND:URL``; nothing is asked of it yet.

    Raises
    ------
    InputError
        With every fault.
    """
    kind, _, url = text.partition(":")
    faults = Faults()
    if kind not in FOLLOW_TARGETS:
        hint = suggestion(kind, FOLLOW_TARGETS) or f"; there are {listed(FOLLOW_TARGETS)}"
        faults.add(Fault("target", f"there is no {shown(kind)}{hint}"))
    if split_url(url) is None:
        faults.add(Fault("target", f"expected KIND:http://HOST:PORT, found {shown(text)}"))
    faults.take(lambda: check_names(names, plan.choices))
    faults.check()
    return FOLLOW_TARGETS[kind](plan, url.rstrip("/"), names or {}, namespace)


def reader_of(target: FollowTarget, plan: Plan, names: Mapping[str, str] | None = None) -> MetricsReader:
    """Make the reader of a target's metrics."""
    labels = exported_names(plan).get(target.name.partition(":")[0], {})
    given = dict(names or {})
    if isinstance(target, KServeTarget):
        given = {stage: name.removesuffix(_PREDICTOR) for stage, name in given.items()}
    if isinstance(target, RayTarget):
        return RayReader(plan, {**labels, **given}, target.application)
    return READERS[target.reads](plan, {**labels, **given})
