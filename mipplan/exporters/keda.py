"""KEDA: a ScaledObject per stage, whose thresholds follow from the plan; for deployments as ``--to kserve`` makes them.

What the fields mean was read in the custom resource definition and in ``prometheus_scaler.go`` of KEDA's public
sources. KEDA gives its metrics to a HorizontalPodAutoscaler, which makes ``ceil(metric / threshold)`` replicas, the
most of all triggers.
"""

from __future__ import annotations

from mipplan.core import Fault, format_duration
from mipplan.exporters.departures import Departure, departures_of
from mipplan.exporters.deployment import DeployedStage, Deployment, remark, service_name
from mipplan.exporters.kserve import RULES
from mipplan.exporters.thresholds import ScalingThresholds, scaling_thresholds
from mipplan.pipeline import Discipline

#: Triggers are looked at this often, in seconds, since a queue that grows for 30 s, KEDA's default, is long.
_POLLING_S = 5
#: Rates are those of the last minute: shorter ones would scale for bursts that the plan has replicas for already.
_RATE_WINDOW = "1m"


class Keda:
    """``--to keda``."""

    name = "keda"
    title = "KEDA scalers"
    rules = RULES

    def faults(self, deployment: Deployment) -> list[Fault]:
        """Say why each stage stays as it is, if all do, and that there is nothing to emulate."""
        if deployment.emulate:
            return [Fault("emulate", "there are no models in what is written for keda")]
        thresholds = scaling_thresholds(deployment)
        if any(found.scales for found in thresholds.values()):
            return []
        name = deployment.plan.pipeline.name
        return [
            Fault(f"{name}: stage {stage}", f"nothing to scale: {_why_fixed(found)}")
            for stage, found in thresholds.items()
        ]

    def departures(self, deployment: Deployment) -> list[Departure]:
        """What the deployments below do not keep of a plan, and what scaling does to it."""
        plan, thresholds = deployment.plan, scaling_thresholds(deployment)
        found = departures_of(deployment, self.rules)
        found.append(
            Departure(
                "scaling",
                "more replicas than planned come after they were asked for: KEDA looks every "
                f"{_POLLING_S} s, a pod has to be scheduled, and the model loaded",
                "The certificate is about the planned replicas and traffic, which stay; beyond that traffic nothing is "
                "promised until new replicas serve (`mipplan tune` replays policies with such delays)",
            )
        )
        if plan.discipline is Discipline.FIFO:
            found.append(
                Departure(
                    "replicas",
                    "the plan is for fifo queues, where more replicas let more queries overtake",
                    "Its certificate is about exactly the planned replicas: verify the plan with more first",
                )
            )
        found += [
            Departure(
                "fixed",
                f"{stage} stays at {one.least} replicas",
                f"It has no ScaledObject: {_why_fixed(one)}",
            )
            for stage, one in thresholds.items()
            if not one.scales
        ]
        found += [
            Departure(
                "queue trigger",
                f"{stage} scales by its rate alone",
                f"By the bound, paths through it leave {format_duration(one.slack_ns)} of the objective for waiting: "
                "too little for one query per replica",
            )
            for stage, one in thresholds.items()
            if one.scales and one.queue is None
        ]
        return found

    def files(self, deployment: Deployment) -> dict[str, str]:
        """The ScaledObjects."""
        thresholds = scaling_thresholds(deployment)
        documents = [
            _scaled_object(deployment, stage, thresholds[stage.name])
            for stage in deployment.stages
            if thresholds[stage.name].scales
        ]
        return {"scaled-objects.yaml": "---\n".join(documents)}

    def settings(self, stage: DeployedStage) -> str:
        """Say where a stage's figures went."""
        return f"ScaledObject `…-{stage.label}`: `minReplicaCount`, `threshold`"

    def start(self, _deployment: Deployment) -> str:
        """Say how to start it."""
        return f"""\
For the deployments that `mipplan export PLAN --to kserve` describes, with `serving.kserve.io/autoscalerClass: external`
and without `autoscalers.yaml`: a deployment has one scaler. Put the address of your Prometheus into
`scaled-objects.yaml` first; it has to scrape the metrics of the Triton pods (port 8002).

```bash
kubectl apply -f scaled-objects.yaml
```

Thresholds are per replica. *Rate*: Λ/n, since the plan keeps its objective at Λ tokens/s with n replicas. *Queue*:
slack·b/ℓ(b), what a replica serves in the time that the longest path through the stage leaves for waiting,
slack = objective − margin − ΣT − Σdelays. Rates are means over {_RATE_WINDOW},
since the replicas of the plan are enough for the bursts of its trace.
"""


def _why_fixed(found: ScalingThresholds) -> str:
    if found.most <= found.least:
        return f"no more than {found.most} replicas are allowed ({found.most_because})"
    return (
        "the plan has no trace, hence no rate, and paths through the stage leave no time for waiting "
        f"({format_duration(found.slack_ns)})"
    )


def _scaled_object(deployment: Deployment, stage: DeployedStage, thresholds: ScalingThresholds) -> str:
    name = service_name(deployment, stage)
    head = f"Stage {stage.name} of {deployment.plan.pipeline.name}: {stage.text}; {stage.table_text}."
    least = "Replicas of the plan: never fewer, as its certificate is about them."
    polling = "In seconds."
    text = (
        remark(head)
        + "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\n"
        + f"metadata:\n  name: {name}\nspec:\n  scaleTargetRef:\n    name: {name}-predictor\n"
        + remark(polling, "  ")
        + f"  pollingInterval: {_POLLING_S}\n"
        + remark(least, "  ")
        + f"  minReplicaCount: {thresholds.least}\n"
        + remark(f"At most {thresholds.most}: {thresholds.most_because}.", "  ")
        + f"  maxReplicaCount: {thresholds.most}\n  triggers:\n"
    )
    selector = f'{{model="{name}"}}'
    if thresholds.rate_rps is not None:
        query = f"sum(rate(nv_inference_request_success{selector}[{_RATE_WINDOW}]))"
        text += _trigger("rate", query, f"{thresholds.rate_rps:g}", thresholds.rate_text(stage))
    if thresholds.queue is not None:
        query = f"sum(nv_inference_pending_request_count{selector})"
        text += _trigger("queue", query, str(thresholds.queue), thresholds.queue_text(stage))
    return text


def _trigger(name: str, query: str, threshold: str, why: str) -> str:
    return (
        f"    - type: prometheus\n      name: {name}\n      metricType: AverageValue\n      metadata:\n"
        + remark("Yours to replace.", "        ")
        + "        serverAddress: http://prometheus.monitoring:9090\n"
        + f"        query: '{query}'\n"
        + remark(why, "        ")
        + f'        threshold: "{threshold}"\n'
    )
