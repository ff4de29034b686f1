"""Holds deploy/compose.yaml against the compose specification's schema, against the services' programs, and against what it must mean.

    python tests/deploy/compose.py FOLDER_OF_THE_PROGRAMS FOLDER_FOR_FILES
"""

import json
import re
import sys
from pathlib import Path

import check_jsonschema
import jsonschema
import yaml

from meaning import CONTAINERS, ROOT
from settings import Programs

DEPLOY = ROOT / "deploy"
# The schema of the compose specification (Apache-2.0), as check-jsonschema carries it.
SCHEMA = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/compose-spec.json"


def interpolated(value):
    """With nothing set, ${NAME:-word} is the word."""
    if isinstance(value, str):
        value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        assert "$" not in value, f"{value} needs a variable"
        return value
    if isinstance(value, list):
        return [interpolated(one) for one in value]
    if isinstance(value, dict):
        return {key: interpolated(one) for key, one in value.items()}
    return value


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def names_on(compose, profile, network):
    """What the names of a network lead to in a profile."""
    found = {}
    for name, service in compose["services"].items():
        if profile not in service["profiles"]:
            continue
        networks = service["networks"]
        if network in networks:
            aliases = networks[network].get("aliases", []) if isinstance(networks, dict) else []
            for alias in [name, *aliases]:
                assert alias not in found, f"{alias} is both {name} and {found[alias]}"
                found[alias] = name
    return found


def main(programs, scratch):
    text = (DEPLOY / "compose.yaml").read_text()
    compose = interpolated(yaml.safe_load(text))
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    faults = [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in validator.iter_errors(compose)]
    assert not faults, "\n".join(faults)
    wrong = yaml.safe_load(text)
    wrong["services"]["orchestrator"]["surely_unknown"] = 1
    assert list(validator.iter_errors(wrong)), "the schema takes what it does not know"

    settings = Programs(Path(programs).resolve(), scratch)
    for name, service in compose["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], f"{name} may write or do more than it needs"
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"]), f"{name} has no limits"
        assert re.search(r":[^:/]+$", service["image"]) and not service["image"].endswith(":latest"), service["image"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is open to the network: {port}"
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert (DEPLOY / volume["source"]).exists() and volume["read_only"], f"{name}: {volume['source']}"
            else:
                assert volume["source"] in compose["volumes"], f"{name}: {volume['source']}"
        assert set(service["networks"]) <= set(compose["networks"]), name
        if "build" not in service:
            continue
        arguments = service["build"]["args"]
        kind, backend = arguments["SERVICE"], arguments["BACKEND"]
        assert kind in CONTAINERS and service["image"] == f"darkroom-{kind}:{backend}", f"{name} is {service['image']}"
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        variables = service["environment"]
        assert seconds(service["stop_grace_period"]) >= int(variables["DARKROOM_DRAIN_GRACE_SECONDS"]) + 5, f"{name} is killed while it drains"
        assert (variables.get("DARKROOM_DEVICE") == "cuda:0") == (backend == "cuda") == ("reservations" in service["deploy"]["resources"]), name
        assert set(service["networks"]) == {"fleet"} or kind == "orchestrator", f"{name}: a stage is for the fleet alone"
        done = settings.run(kind, [], variables)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        unknown = {key for key in variables if key.removeprefix("DARKROOM_").lower() not in settings.known(kind)}
        assert not unknown, f"{name}: darkroom-{kind} has no settings {unknown}"

    assert compose["networks"]["fleet"] == {"internal": True}
    scraped = yaml.safe_load((DEPLOY / "prometheus/compose.yml").read_text())["scrape_configs"][0]["dns_sd_configs"][0]["names"]
    for profile in ("cpu", "gpu"):
        names = names_on(compose, profile, "fleet")
        variables = compose["services"]["orchestrator"]["environment"]
        for key, kind in (("TEXT_ENCODERS", "text-encoder"), ("DENOISERS", "denoiser"), ("VAES", "vae")):
            assert variables[f"DARKROOM_{key}"] == f"dns:///{kind}:7000"
            assert compose["services"][names[kind]]["build"]["args"]["SERVICE"] == kind, f"{profile}: {kind} is {names[kind]}"
        assert set(scraped) == CONTAINERS and set(scraped) <= set(names), f"{profile}: Prometheus asks {scraped}"
        assert "prometheus" in names_on(compose, profile, "outside"), "Grafana finds no Prometheus"
    source = yaml.safe_load((DEPLOY / "grafana/datasources.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090" and source["type"] == "prometheus"
    provider = yaml.safe_load((DEPLOY / "grafana/dashboards.yml").read_text())["providers"][0]
    targets = [volume["target"] for volume in compose["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in targets, "Grafana finds no dashboards"
    print(f"{len(compose['services'])} services in profiles cpu and gpu")


main(sys.argv[1], Path(sys.argv[2]))
