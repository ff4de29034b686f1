"""Runs a real Prometheus for some seconds against the four services at work, and asks it for what must be there: the services' own
numbers, the rules, and every panel of the dashboards.

Usage: prometheus.py PORT_BASE DARKROOM
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import dashboards
from free_ports import find_free

BASE, DARKROOM = int(sys.argv[1]), sys.argv[2]
PATIENCE_SECONDS = 30
PICTURES = 8
RULES = Path(__file__).parents[2].resolve() / "deploy/prometheus/rules/*.yml"
# The order is that of the ports.
SERVICES = ["orchestrator", "text-encoder", "vae", "denoiser"]
# Queries that must find a value above 0 once a picture was made.
QUERIES = [
    *(f'sum(darkroom_requests_total{{service="{service}"}})' for service in SERVICES),
    *(f'sum(darkroom_request_seconds_count{{service="{service}"}})' for service in SERVICES),
    *(f'darkroom_build_info{{service="{service}"}}' for service in SERVICES),
    'darkroom_images_total{service="orchestrator"}',
    'darkroom_steps_total{service="denoiser"}',
    'histogram_quantile(0.9, sum by (le) (darkroom_step_seconds_bucket{service="denoiser"}))',
]


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)["data"]


def wait_for(what, condition):
    end = time.monotonic() + PATIENCE_SECONDS
    problem = None
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError as error:
            problem = error
        time.sleep(0.5)
    raise SystemExit(f"{what}: not within {PATIENCE_SECONDS} s ({problem})")


def configuration():
    """JSON, which is YAML too."""
    targets = [
        {"targets": [f"127.0.0.1:{BASE + 1000 + number}"], "labels": {"service": service}}
        for number, service in enumerate(SERVICES)
    ]
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "darkroom", "static_configs": targets}],
    }


def check(server):
    def all_up():
        targets = get(f"{server}/api/v1/targets")["activeTargets"]
        return len(targets) == len(SERVICES) and all(target["health"] == "up" for target in targets)

    def value(query):
        result = get(f"{server}/api/v1/query?query={urllib.parse.quote(query)}")["result"]
        # A misspelt name is a successful, empty answer; so is a NaN for a histogram that was never written.
        return max((float(series["value"][1]) for series in result), default=0)

    def rules_evaluate():
        groups = get(f"{server}/api/v1/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        broken = [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] == "err"]
        if broken:
            raise SystemExit("\n".join(broken))
        return rules and all(rule["health"] == "ok" for rule in rules)

    wait_for("all four targets up", all_up)
    wait_for("all rules evaluated", rules_evaluate)
    # So that rates and quantiles have something to tell of.
    since = time.time()
    for seed in range(PICTURES):
        prompt = f"a red circle on a white background {'red ' * 90 if seed == 0 else ''}"
        command = [DARKROOM, "txt2img", prompt, "--server", f"http://127.0.0.1:{BASE}", "--seed", str(seed), "--skip-save"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for query in QUERIES:
        wait_for(query, lambda query=query: value(query) > 0)
        print(f"{query} = {value(query):g}")
    dashboards.check(get, server, since)


with tempfile.TemporaryDirectory() as folder:
    config = Path(folder, "prometheus.yml")
    config.write_text(json.dumps(configuration()))
    subprocess.run(["promtool", "check", "config", config], check=True)
    port = find_free(0)
    with Path(folder, "log").open("w+") as log:
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            check(f"http://127.0.0.1:{port}")
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read())
            raise
        finally:
            prometheus.terminate()
            prometheus.wait(10)
