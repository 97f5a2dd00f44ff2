"""Each target speaks its system's own requests; answers as the systems give them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from following.servers import serving
from mipplan.core import InputError
from mipplan.following import FOLLOW_TARGETS, WebError, open_target, parse_metrics
from mipplan.following.readings import READERS
from mipplan.following.targets import reader_of
from serving_plans import small_plan

PLAN = small_plan({"detect": ([10, 14], 2), "read it": ([30], 3)}, {("detect", "read it"): {}})


class Triton:
    """Models with their configurations; a load replaces one."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.configs = {
            name: {"name": name, "max_batch_size": 2, "instance_group": groups}
            for name in ("detect", "read-it")
        }

    def __call__(self, method: str, path: str, document: Any) -> tuple[int, bytes]:
        name = path.split("/")[-2]
        if path == f"/v2/models/{name}/config":
            return 200, json.dumps(self.configs[name]).encode()
        if method == "POST" and path == f"/v2/repository/models/{name}/load":
            self.configs[name] = json.loads(document["parameters"]["config"])
            return 200, b""
        return 404, b'{"error": "no such thing"}'


def test_triton_loads_a_model_with_other_instances() -> None:
    server = Triton([{"name": "g", "kind": "KIND_CPU", "count": 2}])
    with serving(server) as fake:
        target = open_target(PLAN, f"triton:{fake.url}")
        assert target.serving(2.0) == {"detect": 2, "read it": 2}
        target.scale("read it", 5, 2.0)
        assert target.serving(2.0) == {"detect": 2, "read it": 5}
    changed = server.configs["read-it"]
    # Nothing but the instances differs: Triton then keeps those that it has.
    assert changed == {
        "name": "read-it",
        "max_batch_size": 2,
        "instance_group": [{"name": "g", "kind": "KIND_CPU", "count": 5}],
    }


@pytest.mark.parametrize(("replicas", "shares"), [(1, [1]), (3, [2, 1]), (4, [2, 2])])
def test_triton_shares_instances_among_gpus(replicas: int, shares: list[int]) -> None:
    server = Triton([{"name": "g", "kind": "KIND_GPU", "count": 1, "gpus": [4, 7]}])
    with serving(server) as fake:
        target = open_target(PLAN, f"triton:{fake.url}")
        assert target.serving(2.0)["detect"] == 2
        target.scale("detect", replicas, 2.0)
        assert target.serving(2.0)["detect"] == replicas
    assert [group["count"] for group in server.configs["detect"]["instance_group"]] == shares


@pytest.mark.parametrize("gpus", [[0, 1, 2], [4, 5, 7]])
def test_triton_goes_back_to_gpus_that_had_no_instance_for_a_while(gpus: list[int]) -> None:
    """As exported, 0 to 2 are those of the first stage; others are remembered for as long as it is followed."""
    plan = small_plan({"detect": ([10, 14], 3), "read it": ([30], 3)}, {("detect", "read it"): {}})
    server = Triton([{"name": "g", "kind": "KIND_GPU", "count": 1, "gpus": gpus}])

    def shared() -> dict[int, int]:
        groups = server.configs["detect"]["instance_group"]
        return {gpu: group["count"] for group in groups for gpu in group["gpus"]}

    with serving(server) as fake:
        target = open_target(plan, f"triton:{fake.url}")
        for replicas, counts in ((1, [1]), (2, [1, 1]), (5, [2, 2, 1]), (1, [1])):
            target.scale("detect", replicas, 2.0)
            assert shared() == dict(zip(gpus, counts, strict=False))
        open_target(plan, f"triton:{fake.url}").scale("detect", 3, 2.0)
        assert shared() == (dict.fromkeys(gpus, 1) if gpus[0] == 0 else {4: 3})


def test_triton_that_says_no_is_told_by_its_words() -> None:
    answer = (400, b'{"error": "explicit model load / unload is not allowed if polling is enabled"}')

    def says_no(method: str, path: str, document: Any) -> tuple[int, bytes]:
        return answer if method == "POST" else (200, b'{"name": "detect", "instance_group": [{"count": 1}]}')

    with serving(says_no) as fake, pytest.raises(WebError, match="explicit model load"):
        open_target(PLAN, f"triton:{fake.url}").scale("detect", 2, 2.0)


def ray_details(replicas: list[str]) -> bytes:
    deployment = {
        "name": "Detect",
        "replicas": [{"replica_id": str(n), "state": s} for n, s in enumerate(replicas)],
    }
    other = {"name": "read it", "replicas": [{"replica_id": "x", "state": "RUNNING"}]}
    return json.dumps(
        {"applications": {"ocr": {"deployments": {"Detect": deployment, "read it": other}}}}
    ).encode()


def test_ray_is_told_by_its_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")

    def dashboard(method: str, path: str, document: Any) -> tuple[int, bytes]:
        if path == "/api/serve/applications/":
            return 200, ray_details(["RUNNING", "STARTING", "RUNNING"])
        if path == "/api/v1/applications/ocr/deployments/read%20it/scale":
            return 200, b'{"message": "Scaling request received. Deployment will get scaled asynchronously."}'
        return 412, b'{"error": "external_scaler_enabled=false"}'

    with serving(dashboard) as fake:
        target = open_target(PLAN, f"ray:{fake.url}", names={"detect": "Detect"}, namespace="ocr")
        assert target.serving(2.0) == {"detect": 2, "read it": 1}
        target.scale("read it", 4, 2.0)
        assert fake.changes()[0][2] == {"target_num_replicas": 4}
        with pytest.raises(WebError, match="external_scaler_enabled"):
            target.scale("detect", 4, 2.0)
        with pytest.raises(WebError, match="application 'main'"):
            open_target(PLAN, f"ray:{fake.url}", namespace="main").serving(2.0)
        assert set(fake.tokens) == {"Bearer secret"}


def test_of_a_ray_cluster_one_application_is_read() -> None:
    """Others may have deployments of the same names; versions of Ray that tell no application have one."""
    target = open_target(PLAN, "ray:http://127.0.0.1:9", namespace="ocr")

    def waiting(*applications: str, of_all: bool = False) -> float:
        metric = 'ray_serve_deployment_queued_queries{deployment="%s"%s} 3\n'
        lines = [metric % (stage, label) for stage in PLAN.choices for label in applications]
        reader = READERS["ray"](PLAN, {}) if of_all else reader_of(target, PLAN)
        return reader.read(parse_metrics("".join(lines))).stages["detect"].waiting

    assert waiting(',application="ocr"', ',application="other"') == 3
    assert waiting("", ',application=""') == 6
    with pytest.raises(InputError, match="there is none of stage detect"):
        waiting(',application="other"')
    assert waiting(',application="ocr"', of_all=True) == 3
    with pytest.raises(InputError, match=r"which is stage detect .* in the applications ocr, other"):
        waiting(',application="ocr"', ',application="other"', of_all=True)


def test_kubernetes_scale_is_patched() -> None:
    folder = "/apis/apps/v1/namespaces/ml/deployments"

    def api(method: str, path: str, document: Any) -> tuple[int, bytes]:
        if method == "PATCH" and path == f"{folder}/small-read-it-predictor/scale":
            return 200, json.dumps({"kind": "Scale", "spec": document["spec"]}).encode()
        if method == "PATCH":
            return 200, b'{"kind": "Scale", "spec": {"replicas": 1}}'
        ready = {"readyReplicas": 3} if "detect" in path else {}
        return 200, json.dumps({"status": ready}).encode()

    with serving(api) as fake:
        target = open_target(PLAN, f"kserve:{fake.url}", namespace="ml")
        assert target.serving(2.0) == {"detect": 3, "read it": 0}
        target.scale("read it", 2, 2.0)
        with pytest.raises(WebError, match="asked for 2"):
            target.scale("detect", 2, 2.0)
        assert fake.changes()[0][2] == {"spec": {"replicas": 2}}


@pytest.mark.parametrize("given", [{}, {"detect": "mine-predictor"}, {"detect": "mine"}])
def test_kserve_names_deployments_and_their_models_alike(given: dict[str, str]) -> None:
    """One name for both, though KServe calls the deployment of a model NAME-predictor."""

    def api(method: str, path: str, document: Any) -> tuple[int, bytes]:
        asked.append(path.rpartition("/")[2])
        return 200, b'{"status": {"readyReplicas": 2}}'

    asked: list[str] = []
    with serving(api) as fake:
        target = open_target(PLAN, f"kserve:{fake.url}", names=given)
        assert target.serving(2.0)["detect"] == 2
    reader = reader_of(target, PLAN, given)
    models = {"mine" if given else "small-detect", "small-read-it"}
    waiting = "".join(f'nv_inference_pending_request_count{{model="{model}"}} 3\n' for model in models)
    assert asked[0] == given.get("detect", "small-detect-predictor")
    assert reader.read(parse_metrics(waiting)).stages["detect"].waiting == 3


@pytest.mark.parametrize("kind", FOLLOW_TARGETS)
def test_every_target_tells_what_is_wrong(kind: str) -> None:
    """A server that answers everything with an empty object, and one that is not there."""
    with serving(lambda method, path, document: (200, b"{}")) as fake:
        target = open_target(PLAN, f"{kind}:{fake.url}")
        if kind in ("mipplan", "kserve", "triton"):
            with pytest.raises(WebError):
                target.scale("detect", 2, 2.0)
    target = open_target(PLAN, f"{kind}:http://127.0.0.1:9")
    with pytest.raises(WebError, match=r"127\.0\.0\.1:9"):
        target.scale("detect", 2, 2.0)
