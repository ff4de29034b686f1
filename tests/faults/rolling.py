"""Plays the updates of deploy/UPGRADING.md with processes: replicas come and go behind names, as Deployments have them behind headless
services, while clients ask all the time. No request may fail, and every picture must have the bytes of an undisturbed one.

1. Every stage, then both orchestrators, to another version of the same model: all bytes stay.
2. The VAEs to another policy (no watermark), which is another revision, and back: each picture is wholly of one of the two.
3. All stages to another model of another name, side by side, and back: the same.

Usage, in namespaces of its own (run.sh): rolling.py FOLDER_OF_PROGRAMS FOLDER_FOR_LOGS
"""

import itertools
import json
import shutil
import struct
import subprocess
import time
from pathlib import Path

from clients import Client, Load, requests, undisturbed
from processes import Failed, Service, play, say, until

PORT = 7000
PROGRAMS = {"text_encoder": "darkroom-text-encoder", "vae": "darkroom-vae", "denoiser": "darkroom-denoiser"}
REPLICAS = 2
# Settings of the orchestrators. A real fleet's names are looked up less often, so its minReadySeconds are more.
GRACE_SECONDS = 30
RESOLVE_MS = 200
CHECK_MS = 200
# What a service may need to end when its calls have.
END_SECONDS = 5
ROUND = 4
MODEL = Path(__file__).parents[2].resolve() / "deploy/models/pocket"
LAST_LAYERS = {
    "text_encoder/model.safetensors": "text_model.final_layer_norm.bias",
    "unet/diffusion_pytorch_model.safetensors": "conv_out.bias",
    "vae/diffusion_pytorch_model.safetensors": "decoder.conv_out.bias",
}


class Cluster:
    """Addresses on loopback, and an /etc/hosts that says which of them each name leads to."""

    def __init__(self, programs, folder):
        self.programs, self.folder = programs, folder
        self.numbers = itertools.count(10)
        self.hosts = folder / "hosts"
        self.pods = {stage: [] for stage in PROGRAMS}
        # What clients are led to: the list itself is shared with them.
        self.orchestrators, self.addresses = [], []
        self.publish()
        subprocess.run(["mount", "--bind", self.hosts, "/etc/hosts"], check=True)

    def publish(self):
        """In place: the file is mounted."""
        lines = [f"{pod.host} {stage}.test" for stage, pods in self.pods.items() for pod in pods]
        self.hosts.write_text("127.0.0.1 localhost\n" + "\n".join(lines) + "\n")

    def service(self, program, name, *settings, grace=GRACE_SECONDS):
        number = next(self.numbers)
        host = f"127.0.1.{number}"
        service = Service(self.folder, self.programs / program, f"{name}-{number}", host, PORT, "--drain-grace-seconds", grace, *settings)
        service.host = host
        return service

    def start(self, stage, *settings):
        """A replica more, which its name leads to once it is ready."""
        pod = self.service(PROGRAMS[stage], stage, "--threads", 1, *settings)
        until(f"{pod.name} is ready", pod.ready)
        self.pods[stage].append(pod)
        self.publish()
        self.seen(stage)
        return pod

    def seen(self, stage):
        """Every orchestrator knows of all replicas: what minReadySeconds is for."""
        states = ("ready", "misfit_revision")
        known = lambda one: sum(one.metric("darkroom_workers", stage=stage, state=state) for state in states)
        until(f"each {stage} is known", lambda: all(known(one) == len(self.pods[stage]) for one in self.orchestrators))

    def stop(self, stage, pod):
        """Its name leads to it no longer, it is told to leave, finishes or hands over what it has, and ends."""
        self.pods[stage].remove(pod)
        self.publish()
        pod.leave()
        return pod.left(GRACE_SECONDS + END_SECONDS)

    def roll(self, stage, *settings):
        """One more (maxSurge 1), then one less (maxUnavailable 0), until all are new."""
        took = []
        for old in list(self.pods[stage]):
            self.start(stage, *settings)
            took.append(self.stop(stage, old))
        say(f"  {stage}: {len(took)} replaced; they left within {max(took):.1f} s")

    def orchestrator(self, **grace):
        names = [word for stage in PROGRAMS for word in (f"--{stage.replace('_', '-')}s", f"dns:///{stage}.test:{PORT}")]
        times = ["--resolve-interval-ms", RESOLVE_MS, "--check-interval-ms", CHECK_MS]
        one = self.service("darkroom-orchestrator", "orchestrator", *names, *times, **grace)
        until(f"{one.name} is ready", one.ready)
        return one

    def start_orchestrator(self):
        one = self.orchestrator()
        self.orchestrators.append(one)
        self.addresses.append(one.address)
        return one

    def stop_orchestrator(self, one):
        self.orchestrators.remove(one)
        self.addresses.remove(one.address)
        one.leave()
        return one.left(GRACE_SECONDS + END_SECONDS)

    def state(self, stage, state):
        """As the orchestrator sees it that sees the fewest."""
        return min(one.metric("darkroom_workers", stage=stage, state=state) for one in self.orchestrators)


def same_model(cluster, fields):
    say("another version of the same model: every stage, then the orchestrators")
    expected = undisturbed(cluster.addresses[0], fields)
    load = Load(cluster.addresses, fields, expected)
    until("requests are served", lambda: load.count() >= ROUND)
    resumes = lambda: sum(one.metric("darkroom_resumes_total", reason="drained") for one in cluster.orchestrators)
    before = resumes()
    for stage in PROGRAMS:
        cluster.roll(stage)
        load.check()
    # Of the stages' update clients see nothing at all.
    if load.retries():
        raise Failed(f"{load.retries()} requests had to be sent again in an update of the stages")
    say(f"  {resumes() - before:.0f} pictures went on with another denoiser, from their checkpoints")
    if resumes() == before:
        raise Failed("no denoiser handed over anything: none was at work when it was told to leave")
    for old in list(cluster.orchestrators):
        cluster.start_orchestrator()
        took = cluster.stop_orchestrator(old)
        say(f"  {old.name} left after {took:.1f} s, its streams done")
        load.check()
    since = time.monotonic()
    until("requests go on", lambda: load.count(since) >= ROUND)
    load.stop()
    return expected


def grace_too_short(cluster, expected, fields):
    """A stream that outlasts its orchestrator's grace ends with UNAVAILABLE, and the same request elsewhere has the same bytes."""
    say("an orchestrator whose grace is shorter than a request")
    short = cluster.orchestrator(grace=0)
    addresses = [short.address]
    client = Client(addresses)

    def leave(event):
        if event.WhichOneof("event") == "step" and addresses == [short.address]:
            addresses[:] = cluster.addresses
            short.leave()

    drawn = client.draw(fields[0], on_event=leave)
    short.left(END_SECONDS)
    if client.retries == 0:
        raise Failed("the stream outlived its orchestrator's grace of 0 s")
    if drawn != expected[0]:
        raise Failed("the picture has other bytes when it is asked for again elsewhere")
    say(f"  sent again {client.retries} times under its name, the same bytes")


def either(load, old, new, switched):
    """Every picture is wholly old or wholly new; none is old that was asked for after the fleet had gone over."""
    if any(one == other for one, other in zip(old, new)):
        raise Failed("the update changes no bytes, so nothing is shown")
    for done in load.done:
        allowed = {new[done.index]} if done.begun > switched else {old[done.index], new[done.index]}
        if done.drawn not in allowed:
            raise Failed(f"picture {done.index} is neither as before nor as after, or late: {done}")
    kinds = [sum(done.drawn == told[done.index] for done in load.done) for told in (old, new)]
    say(f"  {kinds[0]} pictures as before, {kinds[1]} as after, no other")
    if 0 in kinds:
        raise Failed("there must be pictures of both")


def another_policy(cluster, fields):
    """The VAEs alone: one after the other. The fleet goes over when more of the new are there."""
    new = undisturbed(cluster.addresses[0], fields)
    for title, settings in [("VAEs without a watermark", ["--watermark", "off"]), ("and back", [])]:
        say(title)
        old = new
        load = Load(cluster.addresses, fields)
        until("requests are served", lambda: load.count() >= 2)
        before = list(cluster.pods["vae"])
        for pod in before:
            cluster.start("vae", *settings)
            if pod is before[-1]:
                # One old, two new: the fleet goes over. What was begun before needs the old one until it is done.
                until("the fleet goes over", lambda: cluster.state("vae", "ready") == REPLICAS and cluster.state("vae", "misfit_revision") == 1)
                switched = time.monotonic()
                until("what was begun before is done", lambda: load.all_done_of(switched))
            cluster.stop("vae", pod)
        until("more is drawn", lambda: load.count(switched) >= ROUND)
        load.stop()
        if load.retries():
            raise Failed(f"{load.retries()} requests had to be sent again")
        new = undisturbed(cluster.addresses[0], fields)
        either(load, old, new, switched)


def model_of_another_name(folder):
    """The pocket model with other biases in the last layer of each part."""
    other = folder / "pocket-next"
    shutil.copytree(MODEL, other)
    for part, layer in LAST_LAYERS.items():
        path = other / part
        data = bytearray(path.read_bytes())
        (length,) = struct.unpack_from("<Q", data)
        tensor = json.loads(data[8 : 8 + length])[layer]
        if tensor["dtype"] != "F16":
            raise Failed(f"{part}: {layer} is of {tensor['dtype']}")
        start, end = (8 + length + offset for offset in tensor["data_offsets"])
        for at in range(start, end, 2):
            struct.pack_into("<e", data, at, struct.unpack_from("<e", data, at)[0] + 0.1)
        path.write_bytes(data)
    return other


def another_model(cluster, fields):
    """A whole second fleet beside the first. It is gone over to as a whole, when the old one has fewer denoisers."""
    new = undisturbed(cluster.addresses[0], fields)
    for title, settings in [("another model, side by side", ["--model", model_of_another_name(cluster.folder)]), ("and back", [])]:
        say(title)
        before = {stage: list(pods) for stage, pods in cluster.pods.items()}
        old = new
        load = Load(cluster.addresses, fields)
        until("requests are served", lambda: load.count() >= 2)
        for stage in PROGRAMS:
            for _ in range(REPLICAS):
                cluster.start(stage, *settings)
        # A tie changes nothing.
        for stage in PROGRAMS:
            if cluster.state(stage, "ready") != REPLICAS:
                raise Failed(f"{stage}: {cluster.state(stage, 'ready'):.0f} serve while the fleets are equally large")
        cluster.stop("denoiser", before["denoiser"].pop())
        went = lambda: all(cluster.state(stage, "ready") == REPLICAS for stage in PROGRAMS)
        until("the fleet goes over", lambda: went() and cluster.state("denoiser", "misfit_revision") == 1)
        switched = time.monotonic()
        until("what was begun before is done", lambda: load.all_done_of(switched))
        for stage, pods in before.items():
            for pod in pods:
                cluster.stop(stage, pod)
        until("more is drawn", lambda: load.count(switched) >= ROUND)
        load.stop()
        if load.retries():
            raise Failed(f"{load.retries()} requests had to be sent again")
        new = undisturbed(cluster.addresses[0], fields)
        either(load, old, new, switched)


def main(programs, folder):
    cluster = Cluster(programs, folder)
    for stage in PROGRAMS:
        for _ in range(REPLICAS):
            cluster.start(stage)
    for _ in range(2):
        cluster.start_orchestrator()
    say(f"{REPLICAS} of each stage, 2 orchestrators")
    fields = list(requests(num_inference_steps=20))
    expected = same_model(cluster, fields)
    grace_too_short(cluster, expected, fields)
    # Smaller pictures cannot hold a watermark.
    another_policy(cluster, [dict(one, width=256, height=256, num_inference_steps=4) for one in fields[:3]])
    another_model(cluster, [dict(one, num_inference_steps=10) for one in fields[:3]])


if __name__ == "__main__":
    play(main)
