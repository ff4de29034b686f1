"""Clients of a fleet under faults: each request has a name and a seed, each picture is held against the bytes of an undisturbed run.

What a client does is what deploy/UPGRADING.md asks of one: on UNAVAILABLE it sends the same request under the same name again, to
whichever orchestrator is there, and nothing else.
"""

import hashlib
import itertools
import random
import threading
import time
import uuid
from typing import NamedTuple

import grpc
from darkroom.v1 import image_generation_pb2 as pb
from darkroom.v1 import image_generation_pb2_grpc as rpc
from processes import Failed, say

COLOURS = ["red", "blue", "green", "yellow", "purple", "orange"]
CLIENTS = 6
# For all tries of a request.
GIVE_UP_SECONDS = 60
RETRY_PAUSE_SECONDS = 0.2
# A connection of its own for each client, which notices by itself when nobody is at the other end.
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.keepalive_time_ms", 2000), ("grpc.keepalive_timeout_ms", 2000)]


def requests(**fields):
    """One of each colour."""
    for seed, colour in enumerate(COLOURS):
        yield dict(prompt=f"a {colour} circle on a white background", seed=seed, **fields)


class Client:
    """`addresses` may change while it runs, as what a load balancer knows does: each try goes to the next of them."""

    def __init__(self, addresses):
        self.addresses, self.stubs, self.retries = addresses, {}, 0
        self.turn = random.randrange(100)

    def stub(self):
        self.turn += 1
        address = self.addresses[self.turn % len(self.addresses)]
        if address not in self.stubs:
            self.stubs[address] = rpc.ImageGenerationStub(grpc.insecure_channel(address, options=OPTIONS))
        return self.stubs[address]

    def draw(self, fields, on_event=lambda event: None, may_retry=True):
        """A hash of the pictures' bytes, in their order."""
        request = pb.GenerateRequest(request_id=str(uuid.uuid4()), **fields)
        end = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                return self.once(request, end, on_event)
            except grpc.RpcError as error:
                again = may_retry and error.code() == grpc.StatusCode.UNAVAILABLE and time.monotonic() < end
                if not again:
                    raise Failed(f"a request failed: {error.code().name}: {error.details()}") from error
                self.retries += 1
                time.sleep(RETRY_PAUSE_SECONDS * random.uniform(0.5, 1.5))

    def once(self, request, end, on_event):
        images, completed = {}, None
        for event in self.stub().Generate(request, timeout=end - time.monotonic()):
            on_event(event)
            kind = event.WhichOneof("event")
            if kind == "image":
                images[event.image.image_index] = event.image.data
            elif kind == "image_failed":
                raise Failed(f"a picture failed: {event.image_failed.message}")
            elif kind == "completed":
                completed = event.completed
        if completed is None or len(images) != max(request.num_images, 1):
            raise Failed(f"a stream ended with {len(images)} pictures and {completed}")
        return hashlib.sha256(b"".join(images[index] for index in sorted(images))).hexdigest()


class Done(NamedTuple):
    begun: float
    ended: float
    index: int
    drawn: str


class Load:
    """Clients that ask all the time, until they are told to stop. `accepted`: for each request the hash that is right; none where that
    is judged later, by what is `done`."""

    def __init__(self, addresses, fields, accepted=(), may_retry=True):
        self.fields, self.accepted, self.may_retry = list(fields), list(accepted), may_retry
        self.usual = range(len(self.fields))
        self.done, self.failures, self.running, self.lock = [], [], {}, threading.Lock()
        self.stopped = threading.Event()
        self.clients = [Client(addresses) for _ in range(CLIENTS)]
        self.threads = [threading.Thread(target=self.ask, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def ask(self, number):
        for index in itertools.cycle(self.usual):
            if self.stopped.is_set() or not self.draw(number, self.clients[number], (index + number) % len(self.usual)):
                return

    def draw(self, number, client, index):
        """One request; whether all is well."""
        begun = self.running[number] = time.monotonic()
        try:
            drawn = client.draw(self.fields[index], may_retry=self.may_retry)
            if self.accepted and drawn != self.accepted[index]:
                raise Failed(f"picture {index} has other bytes than undisturbed")
        except Failed as failure:
            with self.lock:
                self.failures.append(failure)
            return False
        finally:
            self.running.pop(number, None)
        with self.lock:
            self.done.append(Done(begun, time.monotonic(), index, drawn))
        return True

    def more(self, fields, accepted):
        """Further requests, all at once."""
        for number, one in enumerate(fields):
            self.fields.append(one)
            self.accepted.append(accepted[number])
            arguments = ((number, time.monotonic()), self.clients[number % CLIENTS], len(self.fields) - 1)
            self.threads.append(threading.Thread(target=self.draw, args=arguments, daemon=True))
            self.threads[-1].start()

    def check(self):
        with self.lock:
            if self.failures:
                raise self.failures[0]

    def count(self, since=0.0):
        """Requests that began after that moment and are done."""
        self.check()
        with self.lock:
            return sum(done.begun >= since for done in self.done)

    def all_done_of(self, at):
        """Whether every request that began before that moment is done."""
        self.check()
        return all(begun > at for begun in list(self.running.values()))

    def retries(self):
        return sum(client.retries for client in self.clients)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(GIVE_UP_SECONDS + 10)
            if thread.is_alive():
                raise Failed("a request does not end")
        self.check()
        say(f"{len(self.done)} requests, none failed, {self.retries()} sent again")


def undisturbed(address, fields):
    """The hash of each request's pictures, by nobody disturbed."""
    client = Client([address])
    return [client.draw(one, may_retry=False) for one in fields]
