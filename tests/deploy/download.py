"""The script of the init container that fetches weights, run as it stands in a manifest against a server of this process's own."""

import hashlib
import http.server
import os
import subprocess
import tempfile
import threading
from pathlib import Path

CONTENT = os.urandom(1 << 20)


class Server(http.server.BaseHTTPRequestHandler):
    """One file, and how often it was asked for."""

    asked = 0

    def do_GET(self):
        Server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_):
        pass


def run(container, cache, url, digest):
    names = {one["name"] for one in container["env"]}
    assert names == {"CACHE", "URL", "SHA256", "FILE"}, names
    variables = {"PATH": os.environ["PATH"], "HOSTNAME": "pod", "CACHE": str(cache), "URL": url, "SHA256": digest, "FILE": "model.ckpt"}
    return subprocess.run(container["command"], env=variables, capture_output=True, text=True, timeout=60)


def check(container):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/model.ckpt"
    digest = hashlib.sha256(CONTENT).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for _ in range(2):
            done = run(container, cache, url, digest)
            assert done.returncode == 0, done.stderr
            assert (cache / digest / "model.ckpt").read_bytes() == CONTENT
        assert Server.asked == 1, f"what is there was fetched again: {Server.asked} times"
        wrong = "0" * 64
        assert run(container, cache, url, wrong).returncode != 0, "a file with another checksum was taken"
        assert not list((cache / wrong).iterdir()), "a file with another checksum was left"
        server.shutdown()
        server.server_close()
        assert run(container, cache, url, wrong).returncode != 0, "no server, and no complaint"
