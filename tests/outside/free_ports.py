"""Finds ports that are free on loopback. As a program: the --port-base for `darkroom up` with one denoiser."""

import random
import socket

# darkroom up's HTTP ports are this far above its gRPC ports.
HTTP_OFFSET = 1000
SERVICES = 4


def is_free(port):
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def find_free(*offsets):
    """A port to which each of the offsets can be added."""
    while True:
        # Below the ports that systems hand out by themselves.
        base = random.randrange(10_000, 30_000)
        if all(is_free(base + offset) for offset in offsets):
            return base


if __name__ == "__main__":
    print(find_free(*(number + http for number in range(SERVICES) for http in (0, HTTP_OFFSET))))
