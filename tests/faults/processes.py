"""The services as processes: started with a log each, asked for their metrics, told to leave, and ended with this program."""

import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PATIENCE_SECONDS = 60
POLL_SECONDS = 0.05
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


class Failed(Exception):
    """Something does not hold."""


def say(text):
    print(f"{time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


STARTED = time.monotonic()


def until(what, condition, seconds=PATIENCE_SECONDS):
    """Waits for the condition; the seconds that it took. An OSError is taken for a no."""
    start = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - start
        except OSError:
            pass
        if time.monotonic() - start > seconds:
            raise Failed(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_SECONDS)


class Service:
    """A process of a fleet. Its HTTP port is 1000 above its gRPC port."""

    def __init__(self, folder, program, name, host, port, *settings, before=()):
        self.name, self.address, self.http = name, f"{host}:{port}", f"{host}:{port + 1000}"
        self.log = Path(folder, f"{name}.log")
        command = [*before, str(program), "--grpc-addr", self.address, "--http-addr", self.http, *map(str, settings)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log.open("w"))

    def get(self, page):
        with urllib.request.urlopen(f"http://{self.http}/{page}", timeout=5) as answer:
            return answer.read().decode()

    def metric(self, name, **labels):
        """The sum of a metric's series that have these labels."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        found = (SAMPLE.match(line) for line in self.get("metrics").splitlines())
        return sum(float(one[3]) for one in found if one and one[1] == name and wanted <= set((one[2] or "").split(",")))

    def ready(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with {self.process.returncode} before it was ready")
        try:
            return self.get("readyz") == "ready\n"
        except OSError:
            return False

    def leave(self):
        """As an orchestrator of containers tells it to."""
        self.process.send_signal(signal.SIGTERM)

    def left(self, seconds=PATIENCE_SECONDS):
        """Waits until it has left, which must be by itself and with 0."""
        took = until(f"{self.name} leaves", lambda: self.process.poll() is not None, seconds)
        if self.process.returncode != 0:
            raise Failed(f"{self.name} left with {self.process.returncode}")
        return took

    def end(self):
        self.process.kill()
        self.process.wait()


def play(main):
    """Runs a play with the services' folder and a folder for logs, says how it ended, and shows what the services said if it failed."""
    programs, folder = Path(sys.argv[1]), Path(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main(programs, folder)
    except Failed as failure:
        for log in sorted(folder.glob("*.log")):
            print(f"== {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:]), file=sys.stderr)
        sys.exit(f"FAILED: {failure}")
    say("holds")
