"""Plays a release with processes: every pod of the chart's CPU values is one, with the settings that its manifest gives it, and headless Services
are names in /etc/hosts. A picture comes out, and each process ends within its grace period. It runs as root in network and mount
namespaces of its own:

    unshare --net --mount python tests/deploy/play.py MANIFESTS FOLDER_OF_THE_PROGRAMS FOLDER_FOR_FILES
"""

import fcntl
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import yaml

from meaning import COMPONENT, STAGES, Release, environment, labels, matches

PATIENCE_SECONDS = 60
PNG = b"\x89PNG\r\n\x1a\n"


def raise_loopback():
    get, put, up = 0x8913, 0x8914, 1
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack_from("h", fcntl.ioctl(any_socket, get, request), 16)[0]
        fcntl.ioctl(any_socket, put, struct.pack("16sh14x", b"lo", flags | up))


def is_ready(address):
    try:
        with urllib.request.urlopen(f"http://{address}:8000/readyz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def main(manifests, programs, scratch):
    values = {"models": [{"name": "pocket"}]}
    release = Release([one for one in yaml.safe_load_all(manifests.read_text()) if one], values)
    raise_loopback()
    addresses, hosts = {}, ["127.0.0.1 localhost"]
    for number, deployment in enumerate(release.deployments):
        address = addresses[deployment["metadata"]["name"]] = f"127.0.1.{number + 1}"
        for service in release.of("Service"):
            if matches({"matchLabels": service["spec"]["selector"]}, labels(deployment)):
                name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
                hosts.append(f"{address} {name}")
    (scratch / "hosts").write_text("\n".join(hosts) + "\n")
    subprocess.run(["mount", "--bind", scratch / "hosts", "/etc/hosts"], check=True)
    (scratch / "orchestrator.toml").write_text(
        next(one["data"]["orchestrator.toml"] for one in release.of("ConfigMap") if "orchestrator.toml" in one["data"])
    )

    pods = []
    for deployment in release.deployments:
        name, spec = deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]
        [container] = spec["containers"]
        address = addresses[name]
        # All of a machine's addresses are one pod's alone in a cluster; here each has one of loopback's.
        command = [programs / f"darkroom-{container['name']}", "--grpc-addr", f"{address}:7000", "--http-addr", f"{address}:8000"]
        if labels(deployment)[COMPONENT] not in STAGES:
            command += ["--config", scratch / "orchestrator.toml"]
        log = open(scratch / f"{name}.log", "w+b")
        pods.append((name, address, spec, subprocess.Popen(command, env=environment(container), stdout=log, stderr=log), log))

    def logs():
        return "\n".join(f"{name}:\n{Path(log.name).read_text()}" for name, *_, log in pods)

    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while not all(is_ready(address) for _, address, *_ in pods):
            assert all(process.poll() is None for *_, process, _ in pods), logs()
            assert time.monotonic() < until, f"not ready in time\n{logs()}"
            time.sleep(0.1)
        [service] = [one for one in release.of("Service") if one["spec"].get("clusterIP") != "None"]
        name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
        command = [programs / "darkroom", "txt2img", "a red circle on a white background", "--server", f"http://{name}:7000", "--outdir", scratch / "pictures"]
        done = subprocess.run([*command, "--steps", "10"], env={}, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, f"{done.stderr}\n{logs()}"
        [picture] = (scratch / "pictures").rglob("*.png")
        assert picture.read_bytes().startswith(PNG)
        for *_, process, _ in pods:
            process.send_signal(signal.SIGTERM)
        for name, _, spec, process, _ in pods:
            assert process.wait(spec["terminationGracePeriodSeconds"]) == 0, f"{name} ended with {process.returncode}\n{logs()}"
    finally:
        for *_, process, _ in pods:
            if process.poll() is None:
                process.kill()
    print(f"{len(pods)} pods as processes: a picture, and all left in time")


main(Path(sys.argv[1]), Path(sys.argv[2]).resolve(), Path(sys.argv[3]))
