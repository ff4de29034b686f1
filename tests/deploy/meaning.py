"""What a release's manifests must mean together, whatever the values: names that lead somewhere, and doors that are open to the right ones."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2].resolve()
STAGES = {"text-encoder", "denoiser", "vae"}
# As alerts know containers by name (deploy/prometheus/rules).
CONTAINERS = STAGES | {"orchestrator"}
COMPONENT = "app.kubernetes.io/component"


def matches(selector, labels):
    """Whether a label selector, with `matchLabels` and `matchExpressions`, selects these labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for term in selector.get("matchExpressions", []):
        assert term["operator"] == "In", f"an operator that this check does not know: {term}"
        if labels.get(term["key"]) not in term["values"]:
            return False
    return True


class Release:
    """The manifests of one set of values."""

    def __init__(self, manifests, values):
        self.manifests = manifests
        self.values = values
        self.deployments = self.of("Deployment")
        # By the chart's name of a model what its denoisers call it: its folder, or its file without the ending.
        self.served = {}
        for model in values["models"]:
            weights = model.get("weights", {})
            file = weights.get("path") or weights.get("download", {}).get("file") or "pocket"
            self.served[model["name"]] = re.sub(r"\.(safetensors|ckpt)$", "", Path(file).name)
        self.config = next(tomllib.loads(one["data"]["orchestrator.toml"]) for one in self.of("ConfigMap") if "orchestrator.toml" in one["data"])

    def of(self, kind):
        return [one for one in self.manifests if one["kind"] == kind]

    def check(self):
        for name in sorted(name for name in dir(self) if name.startswith("check_")):
            getattr(self, name)()

    def check_names(self):
        names = [(one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]) for one in self.manifests]
        assert len(set(names)) == len(names), f"two objects of one name: {sorted(set(name for name in names if names.count(name) > 1))}"
        for kind, _, name in names:
            assert len(name) <= 63, f"{kind} {name}: a name of {len(name)} characters"

    def check_nothing_is_null(self):
        def visit(value, path):
            assert value is not None, f"{path} is null"
            for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
                visit(one, f"{path}.{key}")

        for one in self.manifests:
            visit(one, f"{one['kind']} {one['metadata']['name']}")

    def check_pods(self):
        accounts = {one["metadata"]["name"]: one for one in self.of("ServiceAccount")}
        config_maps = {one["metadata"]["name"] for one in self.of("ConfigMap")}
        for deployment in self.deployments:
            name, spec = deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]
            assert matches(deployment["spec"]["selector"], labels(deployment)), f"{name} does not select its own pods"
            assert spec["automountServiceAccountToken"] is False, f"{name}: its pods get a token"
            account = accounts[spec["serviceAccountName"]]
            assert account["automountServiceAccountToken"] is False, f"{name}: its account gives tokens"
            assert spec["enableServiceLinks"] is False, f"{name}: variables of Services could be taken for settings"
            [container] = spec["containers"]
            assert container["name"] in CONTAINERS and container["name"] == labels(deployment)[COMPONENT], f"{name}: {container['name']}"
            volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
            for one in spec["containers"] + spec.get("initContainers", []):
                security = one["securityContext"]
                assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"], f"{name}: {one['name']}"
                assert {mount["name"] for mount in one.get("volumeMounts", [])} <= set(volumes), f"{name}: a mount without a volume"
                assert all("subPath" not in mount for mount in one.get("volumeMounts", [])), f"{name}: a Secret that is mounted by subPath never changes"
                for kind in ("requests", "limits"):
                    assert {"cpu", "memory"} <= set(one["resources"][kind]), f"{name}: {one['name']} has no {kind}"
            for volume in volumes.values():
                assert "projected" not in volume, f"{name}: {volume['name']} may hold a token"
                if "configMap" in volume:
                    assert volume["configMap"]["name"] in config_maps, f"{name}: no ConfigMap {volume['configMap']['name']}"

    def check_probes_ask_the_http_port(self):
        for deployment in self.deployments:
            [container] = deployment["spec"]["template"]["spec"]["containers"]
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert ports == {"grpc": 7000, "http": 8000}, ports
            paths = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")]
            assert all(container[f"{kind}Probe"]["httpGet"]["port"] == "http" for kind in ("startup", "liveness", "readiness"))
            assert paths[1] == "/healthz", f"{deployment['metadata']['name']}: who cannot serve is not dead"
            assert paths[2] == "/readyz", f"{deployment['metadata']['name']}: who cannot serve gets no calls"
            if container["name"] in STAGES:
                assert paths[0] == "/readyz", paths

    def check_time_to_leave(self):
        for deployment in self.deployments:
            spec = deployment["spec"]["template"]["spec"]
            [container] = spec["containers"]
            if container["name"] == "orchestrator":
                drain, sleep = self.config["drain_grace_seconds"], container["lifecycle"]["preStop"]["sleep"]["seconds"]
            else:
                drain, sleep = int(environment(container)["DARKROOM_DRAIN_GRACE_SECONDS"]), 0
            grace = spec["terminationGracePeriodSeconds"]
            assert grace >= drain + sleep + 5, f"{deployment['metadata']['name']} is killed after {grace} s, and drains for {sleep} + {drain} s"

    def check_updates(self):
        for deployment in self.deployments:
            name, spec = deployment["metadata"]["name"], deployment["spec"]
            update = spec["strategy"]["rollingUpdate"]
            gpus = spec["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu", 0)
            assert (update["maxSurge"], update["maxUnavailable"]) == ((0, 1) if gpus else (1, 0)), f"{name}: {update}"
            if labels(deployment)[COMPONENT] in STAGES:
                assert spec["minReadySeconds"] >= 40, f"{name}: the old one leaves before the new one is known"

    def check_services(self):
        for service in self.of("Service"):
            name, spec = service["metadata"]["name"], service["spec"]
            selected = [one for one in self.deployments if matches({"matchLabels": spec["selector"]}, labels(one))]
            assert len(selected) == 1, f"Service {name} selects {len(selected)} Deployments"
            ports = {port["name"] for port in selected[0]["spec"]["template"]["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} <= ports, f"Service {name}: its pods have no such port"
            if labels(selected[0])[COMPONENT] in STAGES:
                assert spec["clusterIP"] == "None" and spec["ports"][0]["port"] == 7000, f"Service {name} is not headless"

    def check_orchestrators_find_every_worker(self):
        """Each address is a headless Service of that stage, and each Service is somebody's address; certificates name them so."""
        services = {f"{one['metadata']['name']}.{one['metadata']['namespace']}.svc.cluster.local": one for one in self.of("Service")}
        stage_of = {"text_encoders": "text-encoder", "denoisers": "denoiser", "vaes": "vae"}
        named = set()
        for table in self.config.get("model", [self.config]):
            for key, stage in stage_of.items():
                for address in table[key]:
                    [host] = re.fullmatch(r"dns:///(.+):7000", address).groups()
                    assert services[host]["metadata"]["labels"][COMPONENT] == stage, f"{key}: {host} is no {stage}"
                    named.add(host)
        headless = {host for host, one in services.items() if one["spec"].get("clusterIP") == "None"}
        assert named == headless, f"nobody asks {headless - named}"
        models = [model["name"] for model in self.config.get("model", [])]
        assert models == (list(self.served.values()) if len(self.served) > 1 else []), f"models {models}"
        assert not models or not set(stage_of) & set(self.config), "lists beside [[model]] tables"
        certified = {name for one in self.of("Certificate") if "server auth" in one["spec"].get("usages", []) for name in one["spec"]["dnsNames"]}
        if any(one["metadata"]["name"].endswith("-client") for one in self.of("Certificate")):
            assert headless <= certified, f"no certificate for {headless - certified}"

    def check_secrets_stay_secret(self):
        assert not self.of("Secret"), "the chart makes a Secret: its content would stand in values"
        for one in self.of("ConfigMap"):
            text = yaml.safe_dump(one["data"])
            for trace in ("PRIVATE KEY", "BEGIN ", "key_sha256", "api_key", "password"):
                assert trace not in text, f"ConfigMap {one['metadata']['name']} holds {trace!r}"
        for key, value in self.config.items():
            if key.endswith(("_key", "_cert", "_ca", "_file")) and key != "require_key":
                assert re.match("/etc/darkroom/(clients|public|stages)/", value), f"{key} = {value} is no file of a Secret"

    def check_disruption_budgets(self):
        budgets = self.of("PodDisruptionBudget")
        for budget in budgets:
            selected = [one for one in self.deployments if matches(budget["spec"]["selector"], labels(one))]
            assert len(selected) == 1, f"{budget['metadata']['name']} selects {len(selected)} Deployments"
        for one in self.deployments if budgets else []:
            found = [budget for budget in budgets if matches(budget["spec"]["selector"], labels(one))]
            assert len(found) == 1, f"{one['metadata']['name']} has {len(found)} budgets, and a pod with two cannot be evicted"

    def check_autoscaling(self):
        wanted = {one["metadata"]["name"]: one for one in self.deployments}
        scaled, to_zero = set(), False
        for one in self.of("ScaledObject") + self.of("HorizontalPodAutoscaler"):
            spec = one["spec"]
            target = wanted[spec["scaleTargetRef"]["name"]]
            model = self.served[target["metadata"]["labels"]["darkroom-model"]]
            assert labels(target)[COMPONENT] == "denoiser"
            scaled.add(target["metadata"]["name"])
            several = len(self.served) > 1
            if one["kind"] == "ScaledObject":
                queued, load = (trigger["metadata"] for trigger in spec["triggers"])
                assert queued["query"].startswith("sum(darkroom_queued_work_seconds{"), queued["query"]
                assert load["query"].startswith("sum(rate(darkroom_admitted_work_seconds_total{"), load["query"]
                for asked in (queued, load):
                    assert 'release="' in asked["query"], asked["query"]
                    assert (f'model="{model}"' in asked["query"]) == several, f"{asked['query']} asks for another model than {model}"
                    assert float(asked["threshold"]) > 0
                # Queued work alone starts the first denoiser, and is missed when it is not there.
                assert float(queued["activationThreshold"]) < 60 and queued["ignoreNullValues"] == "false"
                assert float(load["activationThreshold"]) >= 1000
                to_zero |= spec["minReplicaCount"] == 0
            else:
                assert spec["minReplicas"] >= 1
                names = [metric["external"]["metric"]["name"] for metric in spec["metrics"]]
                assert names == ["darkroom_queued_work_seconds", "darkroom_load"], names
                for metric in spec["metrics"]:
                    selector = metric["external"]["metric"]["selector"]["matchLabels"]
                    assert selector.get("model") == (model if several else None), selector
        for name, deployment in wanted.items():
            assert ("replicas" in deployment["spec"]) == (name not in scaled), f"{name}: its number is the autoscaler's, or nobody's"
        if to_zero:
            assert self.config["no_worker_wait_seconds"] > 0, "requests would be refused before the first denoiser is there"

    def check_gpus(self):
        for deployment in self.deployments:
            [container] = deployment["spec"]["template"]["spec"]["containers"]
            gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
            settings = environment(container)
            assert gpus == container["resources"]["requests"].get("nvidia.com/gpu", 0)
            assert (settings.get("DARKROOM_DEVICE") == "cuda:0") == (gpus > 0), f"{deployment['metadata']['name']}: {gpus} GPUs"
            assert container["image"].endswith("-cuda") == (gpus > 0) or "@sha256:" in container["image"], container["image"]

    def check_monitoring(self):
        for monitor in self.of("PodMonitor"):
            for deployment in self.deployments:
                assert matches(monitor["spec"]["selector"], labels(deployment)), f"{deployment['metadata']['name']} is not watched"
            [endpoint] = monitor["spec"]["podMetricsEndpoints"]
            assert endpoint["port"] == "http"
            given = {one["targetLabel"]: one["sourceLabels"] for one in endpoint["relabelings"]}
            assert given["service"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_component"], "rules and dashboards need `service`"
            assert "release" in given and "model" not in given
        for rule in self.of("PrometheusRule"):
            groups = [group for file in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]
            assert rule["spec"]["groups"] == groups, "the chart's rules are not those of deploy/prometheus/rules"
        boards = {key: text for one in self.of("ConfigMap") for key, text in one["data"].items() if key.endswith(".json")}
        if self.values.get("monitoring", {}).get("dashboards", {}).get("enabled"):
            files = {f"darkroom-{file.name}": file.read_text().strip() for file in (ROOT / "deploy/dashboards").glob("*.json")}
            assert {key: text.strip() for key, text in boards.items()} == files, "the chart's dashboards are not those of deploy/dashboards"


def labels(deployment):
    return deployment["spec"]["template"]["metadata"]["labels"]


def environment(container):
    return {one["name"]: one["value"] for one in container.get("env", [])}
