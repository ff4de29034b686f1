"""A real Prometheus, a real Alertmanager and a receiver watch a fleet to which real things happen, with the rules and routes that ship.

A VAE is killed, comes back without its watermark, and is put right; a denoiser freezes with work waiting, and wakes. Each must be
heard of by the right receiver, its consequences must not, and its end must be heard of too.

So that nobody waits for hours, the play's copies of the rules and routes count seconds for minutes (`for:`, windows, `group_wait` and the
like); nothing else in them is changed but the addresses.

Usage, in namespaces of its own (run.sh): alerting.py FOLDER_OF_PROGRAMS FOLDER_FOR_LOGS
"""

import json
import os
import re
import signal
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from clients import Client
from processes import Failed, Service, play, say, until

DEPLOY = Path(__file__).parents[2].resolve() / "deploy/prometheus"
PORTS = {"orchestrator": 7000, "text-encoder": 7001, "vae": 7002, "denoiser": 7003}
PROMETHEUS, ALERTMANAGER, RECEIVER = "127.0.0.1:9090", "127.0.0.1:9093", "127.0.0.1:9095"
# A denoiser that freezes must not cost the request that waits for it.
RECOVERY_SECONDS = 120


def shorter(text):
    """Seconds for minutes, and minutes for hours, wherever a duration stands."""

    def scaled(found):
        unit = {"m": "s", "h": "m", "s": "s"}[found[3]]
        number = found[2] if found[3] != "s" else "1"
        return f"{found[1]}{number}{unit}"

    keys = "for|group_wait|group_interval|repeat_interval"
    text = re.sub(rf"(\b(?:{keys}): )(\d+)([smh])\b", scaled, text)
    return re.sub(r"(\[)(\d+)([smh])(?=\])", scaled, text)


class Receiver:
    """What Alertmanager's webhooks bring: (receiver, status, labels), in their order."""

    def __init__(self):
        self.heard = heard = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                for alert in body["alerts"]:
                    heard.append((self.path.strip("/"), alert["status"], alert["labels"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        host, port = RECEIVER.split(":")
        threading.Thread(target=ThreadingHTTPServer((host, int(port)), Handler).serve_forever, daemon=True).start()

    def count(self, receiver, status, alert, **labels):
        return sum(
            (one, state, told["alertname"]) == (receiver, status, alert) and labels.items() <= told.items() for one, state, told in self.heard
        )


class Monitoring:
    def __init__(self, folder):
        rules = folder / "rules"
        rules.mkdir()
        for file in (DEPLOY / "rules").glob("*.yml"):
            (rules / file.name).write_text(shorter(file.read_text()))
        # JSON is YAML too.
        jobs = [{"targets": [f"127.0.0.1:{port + 1000}"], "labels": {"service": service}} for service, port in PORTS.items()]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [f"{rules}/*.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [ALERTMANAGER]}]}]},
            "scrape_configs": [{"job_name": "darkroom", "static_configs": jobs}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        (folder / "alertmanager.yml").write_text(shorter((DEPLOY / "alertmanager.yml").read_text()))
        subprocess.run(["promtool", "check", "config", folder / "prometheus.yml"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["amtool", "check-config", folder / "alertmanager.yml"], check=True, stdout=subprocess.DEVNULL)
        self.start(
            folder, "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address={PROMETHEUS}",
        )
        self.start(
            folder, "prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/silences",
            f"--web.listen-address={ALERTMANAGER}", "--cluster.listen-address=",
        )
        until("Prometheus is ready", lambda: self.get(PROMETHEUS, "-/ready"))
        until("Alertmanager is ready", lambda: self.get(ALERTMANAGER, "-/ready"))

    def start(self, folder, *command):
        with (folder / f"{command[0]}.log").open("w") as log:
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def get(self, server, path):
        with urllib.request.urlopen(f"http://{server}/{path}", timeout=5) as answer:
            return answer.read().decode()

    def firing(self):
        """By Prometheus: the alerts that fire, as (name, labels)."""
        alerts = json.loads(self.get(PROMETHEUS, "api/v1/alerts"))["data"]["alerts"]
        return [(one["labels"]["alertname"], one["labels"]) for one in alerts if one["state"] == "firing"]

    def fires(self, alert, **labels):
        return any(name == alert and labels.items() <= told.items() for name, told in self.firing())

    def inhibited(self, alert, **labels):
        """By Alertmanager: another alert says it."""
        alerts = json.loads(self.get(ALERTMANAGER, "api/v2/alerts"))
        return any(
            one["labels"]["alertname"] == alert and labels.items() <= one["labels"].items() and one["status"]["inhibitedBy"] for one in alerts
        )


class Fleet:
    def __init__(self, programs, folder):
        self.programs, self.folder, self.started = programs, folder, 0
        self.services = {}
        for service in ("text-encoder", "vae", "denoiser"):
            self.start(service)
        self.start("orchestrator", "--check-interval-ms", 200, "--recovery-wait-seconds", RECOVERY_SECONDS)
        until("the fleet is ready", lambda: all(service.ready() for service in self.services.values()))

    def start(self, service, *settings):
        self.started += 1
        name = f"{service}-{self.started}"
        self.services[service] = Service(self.folder, self.programs / f"darkroom-{service}", name, "127.0.0.1", PORTS[service], *settings)
        return self.services[service]


def hears(receiver, who, status, alert, since=0, **labels):
    took = until(f"{who}: {alert} is {status}", lambda: receiver.count(who, status, alert, **labels) > since)
    say(f"  {who} hears that {alert} is {status} ({took:.1f} s)")


def killed_and_put_right(fleet, monitoring, receiver):
    say("the only VAE is killed")
    fleet.services["vae"].end()
    hears(receiver, "page", "firing", "DarkroomStageWithoutWorkers", stage="vae")
    for alert, labels in [("DarkroomServiceDown", {"service": "vae"}), ("DarkroomWorkerUnreachable", {"stage": "vae"})]:
        until(f"{alert} fires", lambda: monitoring.fires(alert, **labels))
        until(f"Alertmanager holds {alert} back", lambda: monitoring.inhibited(alert, **labels))
        if receiver.count("ticket", "firing", alert, **labels):
            raise Failed(f"{alert} is heard of, though the stage without workers says it")
    say("  its other alerts fire in Prometheus and are held back by Alertmanager")

    say("a VAE comes, without its watermark")
    if receiver.count("ticket", "firing", "DarkroomWatermarkOff"):
        raise Failed("an alert of the watermark that was on")
    fleet.start("vae", "--watermark", "off")
    hears(receiver, "page", "resolved", "DarkroomStageWithoutWorkers", stage="vae")
    hears(receiver, "ticket", "firing", "DarkroomWatermarkOff")
    until("Prometheus forgets that it was down", lambda: not monitoring.fires("DarkroomServiceDown", service="vae"))
    say("and is replaced by one with it")
    vae = fleet.services["vae"]
    vae.leave()
    vae.left()
    fleet.start("vae")
    hears(receiver, "ticket", "resolved", "DarkroomWatermarkOff")


def frozen(fleet, monitoring, receiver):
    say("the only denoiser freezes, with a request at work")
    denoiser, client = fleet.services["denoiser"], Client([fleet.services["orchestrator"].address])
    drawn, begun = [], threading.Event()
    fields = dict(prompt="a red circle on a white background", num_inference_steps=400)
    on_event = lambda event: event.WhichOneof("event") == "step" and begun.set()
    thread = threading.Thread(target=lambda: drawn.append(client.draw(fields, on_event, may_retry=False)), daemon=True)
    thread.start()
    if not begun.wait(30):
        raise Failed("the request does not begin")
    os.kill(denoiser.process.pid, signal.SIGSTOP)
    try:
        hears(receiver, "page", "firing", "DarkroomNoProgress")
        hears(receiver, "ticket", "firing", "DarkroomServiceDown", service="denoiser")
    finally:
        os.kill(denoiser.process.pid, signal.SIGCONT)
    say("and wakes")
    thread.join(60)
    if not drawn:
        raise Failed("the request that waited was lost")
    say("  the request that waited has its picture")
    hears(receiver, "page", "resolved", "DarkroomNoProgress")
    hears(receiver, "ticket", "resolved", "DarkroomServiceDown", service="denoiser")


def main(programs, folder):
    receiver, fleet = Receiver(), Fleet(programs, folder)
    monitoring = Monitoring(folder)
    until("all four are scraped", lambda: monitoring.get(PROMETHEUS, "api/v1/targets").count('"health":"up"') == len(PORTS))
    # The embedded model has no safety checker, and the alert says so: the one that fires while all is well.
    hears(receiver, "ticket", "firing", "DarkroomSafetyCheckerOff")
    if others := {name for name, _ in monitoring.firing()} - {"DarkroomSafetyCheckerOff"}:
        raise Failed(f"{others} fire though nothing has happened")
    killed_and_put_right(fleet, monitoring, receiver)
    frozen(fleet, monitoring, receiver)
    if receiver.count("page", "firing", "DarkroomWatermarkOff") or receiver.count("ticket", "firing", "DarkroomNoProgress"):
        raise Failed("an alert went to the wrong receiver")


if __name__ == "__main__":
    play(main)
