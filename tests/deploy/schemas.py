"""Holds every manifest against the schema of its kind: Kubernetes' own for each of the newest versions, a custom resource's definition else.

A field that the schema does not have is refused, and so is a kind without a schema.
"""

from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yaml
from cloudcoil.models.cert_manager import v1 as cert_manager
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from packaging.version import Version

# It reads its largest file again for each manifest else.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)

# Of those that kubernetes-validate has. Image volumes, which one set of values uses, are on without a feature gate in all of them.
VERSIONS = sorted(set(kubernetes_validate.utils.all_versions()), key=Version)[-3:]
DEFINITIONS = Path(__file__).parent / "schemas"

# Kinds of the projects whose definitions come as Python models: made from them, so their JSON schemas are theirs.
MODELS = {
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus_operator.PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): prometheus_operator.PrometheusRule,
    ("cert-manager.io/v1", "Certificate"): cert_manager.Certificate,
    ("cert-manager.io/v1", "Issuer"): cert_manager.Issuer,
}


def closed(schema):
    """The schema, with what it does not name refused: as an API server that is asked to be strict about fields."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    # `properties` may be the name of a property as well: then its value is a schema, not a table of them.
    properties = schema.get("properties")
    if isinstance(properties, dict) and schema.get("type") == "object" and "additionalProperties" not in schema:
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    return result


@cache
def custom_schema(api_version, kind):
    """The closed schema of a custom kind, or `None`."""
    if model := MODELS.get((api_version, kind)):
        return closed(model.model_json_schema(by_alias=True))
    for file in DEFINITIONS.glob("*.yaml"):
        definition = yaml.safe_load(file.read_text())["spec"]
        if definition["names"]["kind"] != kind:
            continue
        for version in definition["versions"]:
            if f"{definition['group']}/{version['name']}" == api_version:
                schema = closed(version["schema"]["openAPIV3Schema"])
                # The definition leaves these to Kubernetes.
                schema["properties"]["metadata"] = METADATA
                return schema
    return None


METADATA = {
    "type": "object",
    "required": ["name", "namespace"],
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "additionalProperties": False,
}


def faults(manifest):
    """What is wrong with a manifest, in words; nothing if it is right."""
    api_version, kind = manifest.get("apiVersion", ""), manifest.get("kind", "")
    schema = custom_schema(api_version, kind)
    if schema is not None:
        found = jsonschema.Draft202012Validator(schema).iter_errors(manifest)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:400]}" for error in found]
    told = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            told.append(f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message[:400]}")
        except kubernetes_validate.SchemaNotFoundError:
            told.append(f"Kubernetes {version} has no schema of {api_version} {kind}, and none is here")
    return told


def try_the_check():
    """That this check can fail: right manifests, each with one thing made wrong."""
    metadata = {"name": "a", "namespace": "b"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}},
    }
    scaled = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata,
        "spec": {"scaleTargetRef": {"name": "a"}, "triggers": [{"type": "prometheus", "metadata": {"query": "up"}}]},
    }
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "podMetricsEndpoints": [{"port": "http", "relabelings": [{"action": "replace"}]}]},
    }
    certificate = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": metadata,
        "spec": {"secretName": "a", "issuerRef": {"name": "b"}, "privateKey": {"size": 256}},
    }

    def wrong(manifest, *path):
        """The manifest with a field that nobody knows at the end of the path."""
        copy = yaml.safe_load(yaml.safe_dump(manifest))
        place = copy
        for step in path:
            place = place[step]
        place["surely_unknown"] = 1
        return copy

    for right in (deployment, scaled, monitor, certificate):
        assert not faults(right), f"a right {right['kind']} is refused: {faults(right)}"
    for bad in (
        {**deployment, "kind": "Deploiment"},
        {**deployment, "apiVersion": "extensions/v1beta1"},
        {**scaled, "apiVersion": "keda.sh/v2"},
        {**scaled, "spec": {**scaled["spec"], "maxReplicaCount": "eight"}},
        wrong(deployment, "spec", "template", "spec", "containers", 0),
        wrong(scaled, "spec"),
        wrong(scaled, "spec", "triggers", 0),
        wrong(monitor, "spec", "podMetricsEndpoints", 0),
        wrong(monitor, "spec", "podMetricsEndpoints", 0, "relabelings", 0),
        wrong(certificate, "spec", "privateKey"),
    ):
        assert faults(bad), f"a wrong {bad['kind']} passes: {bad}"
