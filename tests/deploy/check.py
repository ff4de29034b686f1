"""Renders the chart with each set of values in its folder `ci` and holds what comes out against schemas, meaning and the programs.

    python tests/deploy/check.py HELM FOLDER_OF_THE_PROGRAMS FOLDER_FOR_MANIFESTS
"""

import json
import subprocess
import sys
from pathlib import Path

import yaml

import doors
import download
import mutations
import schemas
from meaning import ROOT, Release
from settings import Programs

CHART = ROOT / "deploy/helm/darkroom"
FEWEST_SETS = 5

OTHER = {"volume": {"emptyDir": {}}, "path": "other.ckpt"}
# Values that helm must refuse, with what it has to say of each.
REFUSED = [
    ({"foo": 1}, "foo"),
    ({"orchestrator": {"replicas": 0}}, "replicas"),
    ({"orchestrator": {"replicas": "two"}}, "replicas"),
    ({"orchestrator": {"settings": {"foo": 1}}}, "foo"),
    ({"orchestrator": {"settings": {"grpc_addr": "0.0.0.0:1"}}}, "grpc_addr"),
    ({"stages": {"denoiser": {"settings": {"watermark": "off"}}}}, "watermark"),
    ({"stages": {"denoiser": {"gpu": -1}}}, "gpu"),
    ({"stages": {"denoiser": {"gpu": 1}}}, "memory_limit_mib"),
    ({"models": []}, "models"),
    ({"models": [{"name": "Not a label"}]}, "name"),
    ({"models": [{"name": "a"}, {"name": "a"}]}, "two are called"),
    ({"models": [{"name": "a"}, {"name": "b"}]}, "have one name"),
    ({"models": [{"name": "a", "shares": {"vae": "b"}}]}, "which is no model"),
    ({"models": [{"name": "a", "shares": {"vae": "b"}, "weights": OTHER}, {"name": "b", "shares": {"vae": "a"}}]}, "none of its own"),
    ({"models": [{"name": "b"}, {"name": "a", "weights": OTHER, "shares": {"textEncoder": "b"}, "loras": {"volume": {"emptyDir": {}}}}]}, "would not read"),
    ({"models": [{"name": "a", "weights": {"volume": {"emptyDir": {}}}}]}, "weights.path"),
    ({"models": [{"name": "a", "weights": {"volume": {"emptyDir": {}}, "path": "../a"}}]}, "path"),
    ({"models": [{"name": "a", "weights": {"download": {"url": "http://a", "sha256": "0" * 64, "file": "a"}}}]}, "url"),
    ({"models": [{"name": "a", "weights": {"download": {"url": "https://a", "sha256": "0", "file": "a"}}}]}, "sha256"),
    ({"autoscaling": {"mode": "vpa"}}, "mode"),
    ({"autoscaling": {"mode": "keda"}}, "serverAddress"),
    ({"autoscaling": {"mode": "hpa", "denoiser": {"minReplicas": 0}}}, "needs mode keda"),
    ({"autoscaling": {"mode": "hpa", "denoiser": {"minReplicas": 9, "maxReplicas": 3}}}, "minReplicas 9"),
    ({"autoscaling": {"denoiser": {"queuedSecondsPerReplica": 0}}}, "queuedSecondsPerReplica"),
    (
        {
            "autoscaling": {"mode": "keda", "prometheus": {"serverAddress": "http://a"}, "denoiser": {"minReplicas": 0}},
            "orchestrator": {"settings": {"no_worker_wait_seconds": 0}},
        },
        "no_worker_wait_seconds",
    ),
    ({"orchestrator": {"requireKey": True}}, "secretName"),
    ({"tls": {"public": {"enabled": True}}}, "tls.public.secretName"),
    ({"tls": {"stages": {"enabled": True, "secretName": "a"}}}, "clientSecretName"),
    ({"tls": {"public": {"enabled": True}, "certManager": {"enabled": True}}}, "publicIssuer"),
    ({"tracing": {"ratio": 1.5}}, "ratio"),
    ({"tracing": {"endpoint": "collector:4317"}}, "endpoint"),
    ({"weightsCache": {"type": "persistentVolumeClaim"}}, "claimName"),
    ({"image": {"digests": {"denoiser-cuda": "sha256:0"}}}, "denoiser-cuda"),
]


def helm(program, command, *arguments, values=None):
    """Helm's answer; `values` go in by standard input."""
    call = [program, command, *arguments]
    if values is not None:
        call += ["--values", "-"]
    return subprocess.run(call, input=json.dumps(values) if values is not None else None, capture_output=True, text=True, timeout=120)


def render(program, values):
    done = helm(program, "template", "studio", CHART, "--namespace", "pictures", values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def main(program, programs, manifests):
    schemas.try_the_check()
    settings = Programs(Path(programs).resolve(), manifests)
    settings.check_schema(json.loads((CHART / "values.schema.json").read_text()))
    files = sorted((CHART / "ci").glob("*-values.yaml"))
    assert len(files) >= FEWEST_SETS, f"only {len(files)} sets of values"
    downloads = kinds = 0
    for file in files:
        values = yaml.safe_load(file.read_text())
        done = helm(program, "lint", CHART, "--strict", values=values)
        assert done.returncode == 0, f"{file.name}: {done.stdout}{done.stderr}"
        # What helm says after an installation.
        done = helm(program, "install", "studio", CHART, "--dry-run=client", values=values)
        assert done.returncode == 0 and "NOTES:" in done.stdout and "txt2img" in done.stdout.split("NOTES:")[1], f"{file.name}: {done.stderr}"
        text = render(program, values)
        (manifests / f"{file.stem}.yaml").write_text(text)
        found = [one for one in yaml.safe_load_all(text) if one]
        faults = [f"{file.name}: {one['kind']} {one['metadata']['name']}: {fault}" for one in found for fault in schemas.faults(one)]
        assert not faults, "\n".join(faults)
        release = Release(found, values)
        try:
            release.check()
            doors.check(release)
            settings.check(release)
        except (AssertionError, KeyError) as error:
            raise SystemExit(f"{file.name}: {error!r}") from error
        if file.name == "gpu-keda-values.yaml":
            mutations.try_the_checks(found, values)
        pods = [deployment["spec"]["template"]["spec"] for deployment in release.deployments]
        initial = [container for pod in pods for container in pod.get("initContainers", [])]
        if initial and not downloads:
            download.check(initial[0])
        downloads += len(initial)
        kinds = len({one["kind"] for one in found})
        print(f"{file.name}: {len(found)} objects of {kinds} kinds, right for Kubernetes {', '.join(schemas.VERSIONS)}")
    assert downloads, "no set of values fetches weights"
    for values, word in REFUSED:
        done = helm(program, "template", "studio", CHART, values=values)
        assert done.returncode != 0, f"helm takes {values}"
        told = "\n".join(line for line in done.stderr.splitlines() if "level=INFO" not in line)
        assert word in told, f"of {values} helm says nothing about {word}: {told}"
    print(f"{len(REFUSED)} wrong sets of values are refused")


main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
