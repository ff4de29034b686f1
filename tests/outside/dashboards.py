"""Runs the queries of every panel of `deploy/dashboards` against a Prometheus that has seen a fleet at work: each must return data."""

import json
import math
import time
import urllib.parse
from pathlib import Path

DASHBOARDS = Path(__file__).parents[2].resolve() / "deploy/dashboards"
# What Grafana puts in for its variables, with a scrape a second.
VARIABLES = {"$__rate_interval": "10s"}
FEWEST_PANELS = 30


def targets():
    """Dashboard, panel, query."""
    for file in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(file.read_text())
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids), f"{file.name}: panels share an id"
        for panel in board["panels"]:
            if panel["type"] == "row":
                continue
            assert panel["targets"], f"{file.name}: {panel['title']} asks for nothing"
            for target in panel["targets"]:
                yield file.stem, panel["title"], target["expr"]


def has_data(get, server, query, since):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    if "$" in query:
        raise SystemExit(f"an unknown variable in {query}")
    asked = urllib.parse.urlencode({"query": query, "start": since, "end": time.time(), "step": 1})
    series = get(f"{server}/api/v1/query_range?{asked}")["result"]
    return any(not math.isnan(float(value)) for one in series for _, value in one["values"])


def check(get, server, since):
    """`get` reads a URL of the Prometheus `server`; `since` is when its fleet began to work."""
    found = list(targets())
    panels = {(board, panel) for board, panel, _ in found}
    if len(panels) < FEWEST_PANELS:
        raise SystemExit(f"only {len(panels)} panels in {DASHBOARDS}")
    empty = [f"{board}: {panel}: {query}" for board, panel, query in found if not has_data(get, server, query, since)]
    if empty:
        raise SystemExit("panels without data:\n" + "\n".join(empty))
    print(f"{len(panels)} panels with {len(found)} queries have data")
