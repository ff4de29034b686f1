"""Cuts workers and a client off by real packet filters: every service is in a network namespace of its own, all on one bridge.

Of each stage there are two workers, and clients ask all the time. Then one worker of each stage is cut off from the orchestrator, in ways
that networks have: packets are dropped, connections are reset, packets are dropped in one direction alone. It must be noticed within
seconds, no request may fail or have other bytes, and the worker must get work again when the network is whole.

Usage, in namespaces of its own (run.sh): network.py FOLDER_OF_PROGRAMS FOLDER_FOR_LOGS [--apart: one stage after the other]
"""

import json
import subprocess
import sys
import time

import grpc
from clients import Client, Load, requests, undisturbed
from darkroom.v1 import image_generation_pb2 as pb
from darkroom.v1 import image_generation_pb2_grpc as rpc
from processes import Failed, Service, play, say, until

NET = "10.77.0"
HERE, ORCHESTRATOR, CLIENT = 1, 10, 90
PORT = 7000
# Stage: its program, the host number of its first worker, and the worker's counter of work done.
STAGES = {
    "text_encoder": ("darkroom-text-encoder", 21, "darkroom_prompts_total"),
    "denoiser": ("darkroom-denoiser", 31, "darkroom_steps_total"),
    "vae": ("darkroom-vae", 41, "darkroom_pictures_total"),
}
# Settings of the orchestrator, and constants of its channels (service-kit's channel.rs), from which the bounds follow.
CHECK_SECONDS = 0.5
ACKNOWLEDGE_SECONDS = 5
CONNECT_SECONDS = 5
# What a busy machine may add to any bound.
SLACK_SECONDS = 4
# Requests that must be done between two changes.
ROUND = 4
# A worker in the middle of many steps is what is to be cut off.
FIELDS = dict(num_inference_steps=40)

WHOLE = "delete table inet cut"


def rules(incoming, outgoing):
    """For a worker's own namespace: what becomes of packets from and to the orchestrator."""
    peer = f"{NET}.{ORCHESTRATOR}"
    # A reset that we send is no packet of the connection, and must get through.
    return (
        "table inet cut {\n"
        f" chain in {{ type filter hook input priority 0; {f'ip saddr {peer} {incoming};' if incoming else ''} }}\n"
        f" chain out {{ type filter hook output priority 0; tcp flags & rst == rst accept; {f'ip daddr {peer} {outgoing};' if outgoing else ''} }}\n"
        "}"
    )


DROP, RESET = "drop", "meta l4proto tcp reject with tcp reset"
# Way: rules for each stage's worker, and the seconds within which a request or a look finds out.
WAYS = {
    "packets are dropped": (dict.fromkeys(STAGES, (DROP, DROP)), ACKNOWLEDGE_SECONDS),
    "connections are reset": (dict.fromkeys(STAGES, (RESET, RESET)), 0),
    "packets are dropped one way": (
        {"text_encoder": (None, DROP), "denoiser": (DROP, None), "vae": (None, DROP)},
        ACKNOWLEDGE_SECONDS,
    ),
}


def run(*command, **options):
    subprocess.run([str(word) for word in command], check=True, **options)


def bridge():
    run("ip", "link", "add", "bridge", "type", "bridge")
    run("ip", "addr", "add", f"{NET}.{HERE}/24", "dev", "bridge")
    run("ip", "link", "set", "bridge", "up")


def namespace(number):
    """A host on the bridge; what to put before a command that is to run there."""
    name, inner = f"host{number}", f"veth{number}"
    run("ip", "netns", "add", name)
    run("ip", "link", "add", inner, "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "link", "set", inner, "master", "bridge", "up")
    run("ip", "-n", name, "addr", "add", f"{NET}.{number}/24", "dev", "eth0")
    run("ip", "-n", name, "link", "set", "eth0", "up")
    run("ip", "-n", name, "link", "set", "lo", "up")
    return ("ip", "netns", "exec", name)


class Fleet:
    def __init__(self, programs, folder):
        bridge()
        self.workers = {stage: [] for stage in STAGES}
        for stage, (program, first, _) in STAGES.items():
            for number in (first, first + 1):
                service = Service(
                    folder, programs / program, f"{stage}-{number}", f"{NET}.{number}", PORT, "--threads", 1, before=namespace(number)
                )
                service.host, service.stage = f"host{number}", stage
                self.workers[stage].append(service)
        addresses = {stage: ",".join(worker.address for worker in workers) for stage, workers in self.workers.items()}
        self.orchestrator = Service(
            folder, programs / "darkroom-orchestrator", "orchestrator", f"{NET}.{ORCHESTRATOR}", PORT,
            "--text-encoders", addresses["text_encoder"], "--denoisers", addresses["denoiser"], "--vaes", addresses["vae"],
            "--check-interval-ms", int(CHECK_SECONDS * 1000),
            # Every request is to come by a text encoder.
            "--prompt-cache-bytes", 0, before=namespace(ORCHESTRATOR),
        )
        self.info = rpc.ImageGenerationStub(grpc.insecure_channel(self.orchestrator.address))
        until("all workers are ready", self.orchestrator.ready)
        until("two of each are ready", lambda: all(self.state(stage, "ready") == 2 for stage in STAGES))

    def state(self, stage, state):
        return self.orchestrator.metric("darkroom_workers", stage=stage, state=state)

    def moved(self, stage):
        """Pieces of work that had to go on, or be done, elsewhere."""
        if stage == "denoiser":
            names = [("darkroom_resumes_total", {"reason": reason}) for reason in ("died", "hung")]
        else:
            names = [("darkroom_retries_total", {"stage": stage, "reason": reason}) for reason in ("died", "hung")]
        return sum(self.orchestrator.metric(name, **labels) for name, labels in names)

    def problem(self, worker):
        """As GetServerInfo tells it; empty while all is well."""
        workers = self.info.GetServerInfo(pb.GetServerInfoRequest(), timeout=5).workers
        told = next(one for one in workers if one.address == worker.address)
        if told.ready == bool(told.problem):
            raise Failed(f"GetServerInfo contradicts itself: {told}")
        return told.problem


def filter_packets(host, text):
    run("ip", "netns", "exec", host, "nft", "-f", "-", input=text.encode())


def cut_off(fleet, load, quick, way, stages):
    """One fault: found, gone around, and gone."""
    filters, seconds = WAYS[way]
    # The first worker of each stage; the other one has all the work meanwhile.
    lost = {stage: fleet.workers[stage][0] for stage in stages}
    moved = {stage: fleet.moved(stage) for stage in stages}
    say(f"{way}: {', '.join(stages)}")
    cut = time.monotonic()
    for stage, worker in lost.items():
        filter_packets(worker.host, rules(*filters[stage]))
    # So that every stage is asked for something before the fault is known.
    load.more(*quick)
    bound = CHECK_SECONDS + seconds + SLACK_SECONDS
    noticed = {}
    until(
        "the orchestrator's metrics show the lost workers",
        lambda: all(noticed.setdefault(stage, time.monotonic() - cut) for stage in stages if gone(fleet, stage)) and len(noticed) == len(stages),
        bound,
    )
    for stage, worker in lost.items():
        problem = fleet.problem(worker)
        if not problem:
            raise Failed(f"GetServerInfo takes {worker.name} for ready")
        say(f"  {stage}: noticed after {noticed[stage]:.1f} s: {problem}")
    until("requests that ran then are done", lambda: load.all_done_of(cut))
    say(f"  requests that ran then were all done after {time.monotonic() - cut:.1f} s")
    moved = {stage: fleet.moved(stage) - moved[stage] for stage in stages}
    say(f"  went on elsewhere: {', '.join(f'{stage} {count:.0f}' for stage, count in moved.items())}")
    # Who is found out at once may have had nothing to do just then.
    idle = [stage for stage, count in moved.items() if not count and (seconds or stage == "denoiser")]
    if idle:
        raise Failed(f"nothing of {idle} had to be done elsewhere, so nothing is shown")
    since = time.monotonic()
    until("requests go on without them", lambda: load.count(since) >= ROUND)

    healed = time.monotonic()
    before = {}
    for stage, worker in lost.items():
        before[stage] = worker.metric(STAGES[stage][2])
        filter_packets(worker.host, WHOLE)
    # A connection that was begun before may take its time; the next one is made at once.
    bound = CONNECT_SECONDS + CHECK_SECONDS + SLACK_SECONDS
    until("the workers are ready again", lambda: all(fleet.state(stage, "ready") == 2 for stage in stages), bound)
    say(f"  ready again {time.monotonic() - healed:.1f} s after the network was whole")
    for stage, worker in lost.items():
        until(f"{worker.name} works again", lambda stage=stage, worker=worker: worker.metric(STAGES[stage][2]) > before[stage])
        say(f"  {stage}: works again after {time.monotonic() - healed:.1f} s")
    load.check()


def gone(fleet, stage):
    return (fleet.state(stage, "ready"), fleet.state(stage, "unreachable")) == (1, 1)


def client_cut_off(fleet):
    """A client that loses its network in the middle, comes back under the same name, and gets all of it; nothing is drawn twice."""
    say("packets of a client are dropped")
    steps = lambda: sum(worker.metric("darkroom_steps_total") for worker in fleet.workers["denoiser"])
    joined = lambda: fleet.orchestrator.metric("darkroom_joins_total")
    fields = dict(prompt="a blue star on a white background", seed=5, num_images=8, num_inference_steps=50)
    before = steps()
    (whole,) = undisturbed(fleet.orchestrator.address, [fields])
    cost, before, joins = steps() - before, steps(), joined()
    command = [*namespace(CLIENT), sys.executable, __file__, "--client", fleet.orchestrator.address, json.dumps(fields)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        try:
            if client.stdout.readline() != "begun\n":
                raise Failed("the client does not begin")
            cut = time.monotonic()
            filter_packets(f"host{CLIENT}", rules(DROP, DROP))
            # By its own keep-alive: two seconds and two.
            if client.stdout.readline() != "cut off\n":
                raise Failed("the client was not cut off in the middle")
            say(f"  it noticed after {time.monotonic() - cut:.1f} s")
            filter_packets(f"host{CLIENT}", WHOLE)
            drawn = client.stdout.readline().strip()
            say(f"  it has its pictures {time.monotonic() - cut:.1f} s after the cut")
        finally:
            client.kill()
    if drawn != whole:
        raise Failed(f"the client got other bytes: {drawn}, undisturbed {whole}")
    if joined() <= joins or steps() - before > cost:
        raise Failed(f"{joined() - joins} joins, {steps() - before} steps for {cost}: the pictures were drawn twice")


def client(address, fields):
    """The client's own process."""
    told = []

    def tell(word):
        if word not in told:
            told.append(word)
            print(word, flush=True)

    class Watched(Client):
        def once(self, *arguments):
            try:
                return super().once(*arguments)
            except grpc.RpcError:
                tell("cut off")
                raise

    drawn = Watched([address]).draw(fields, on_event=lambda event: event.WhichOneof("event") == "step" and tell("begun"))
    print(drawn, flush=True)


def main(programs, folder):
    fleet = Fleet(programs, folder)
    fields = list(requests(**FIELDS))
    expected = undisturbed(fleet.orchestrator.address, fields)
    fast = list(requests(num_inference_steps=2, width=64, height=64))
    quick = fast, undisturbed(fleet.orchestrator.address, fast)
    say(f"{len(expected)} pictures undisturbed; two workers of each stage")
    # No fault of a worker's may reach a client.
    load = Load([fleet.orchestrator.address], fields, expected, may_retry=False)
    until("requests are served", lambda: load.count() >= ROUND)
    groups = [[stage] for stage in STAGES] if "--apart" in sys.argv else [list(STAGES)]
    for way in WAYS:
        for stages in groups:
            cut_off(fleet, load, quick, way, stages)
    load.stop()
    client_cut_off(fleet)


if __name__ == "__main__":
    if sys.argv[1] == "--client":
        client(sys.argv[2], json.loads(sys.argv[3]))
    else:
        play(main)
