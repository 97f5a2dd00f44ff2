"""What projects publish of their resources: Kubernetes' own from a wheel, KServe's and KEDA's from files.

KServe and KEDA publish their definitions in their repositories only. `MIPPLAN_CRDS` names a folder that holds
`config/crd/bases/keda.sh_scaledobjects.yaml` of kedacore/keda and, of `config/crd/full` of kserve/kserve,
`serving.kserve.io_inferenceservices.yaml` and `serving.kserve.io_inferencegraphs.yaml`; without it only Kubernetes' own
kinds are judged here.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

CRDS = "MIPPLAN_CRDS"
#: The version of Kubernetes whose schemas judge, which knows each kind that exports and schedules write.
KUBERNETES = "1.31"
_CUSTOM = ("serving.kserve.io/", "keda.sh/")


def check_resource(document: dict[str, Any]) -> bool:
    """Hold a resource to its definition, with no field that this does not name.

    Returns
    -------
    bool
        Whether its definition was there.

    Raises
    ------
    AssertionError
        With every fault.
    """
    if not document["apiVersion"].startswith(_CUSTOM):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return True
    if CRDS not in os.environ:
        return False
    schema = _definitions(Path(os.environ[CRDS]))[document["apiVersion"], document["kind"]]
    faults = [
        f"{'.'.join(map(str, fault.absolute_path))}: {fault.message}"
        for fault in jsonschema.Draft4Validator(schema).iter_errors(document)
    ]
    assert not faults, f"{document['kind']} {document['metadata']['name']}: {faults}"
    return True


@cache
def _definitions(folder: Path) -> dict[tuple[str, str], Any]:
    """Schemas by version and kind."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        for version in spec["versions"]:
            schema = _closed(version["schema"]["openAPIV3Schema"])
            # What each resource has in common is not in the definitions.
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def _closed(schema: Any) -> Any:
    """The same, refusing fields that it does not name: an API server drops them, and with them what they should do."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _closed(one) for name, one in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    open_ended = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if made.get("type") == "object" and "properties" in made and not open_ended:
        made["additionalProperties"] = False
    return made
