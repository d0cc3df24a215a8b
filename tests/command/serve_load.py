#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks `nibble serve` for many ranges from many clients at once, and compares every byte. Loopback only.

usage: serve_load.py NIBBLE [REQUESTS [CLIENTS]]      (10000 requests of 16 clients where not given)
Prints what was asked, what was wrong, how long it took and the server's memory, idle before and after; exits with 1 if anything was wrong.
"""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

MAX_REQUESTS = 100000
MAX_CLIENTS = 64
FILES = {"params_shard_0.bin": 4 << 20, "params_shard_1.bin": (1 << 20) + 7, "tensor-cache.json": 999, "small.bin": 1}
ATTACKS = ["/../secret", "/%2e%2e/secret", "/%2e%2e%2fsecret", "/..%2fsecret", "/%252e%252e/secret", "/..\\secret", "/..%5csecret", "//etc/passwd", "/%2fetc/passwd",
           "/etc/passwd", "/link-out", "/folder-out/secret", "/me/model/resolve/main/../../../secret", "/me/model/resolve/main/link-out", "/resolve/../../secret",
           "/small.bin/../../secret", "/./small.bin/..", "/.hidden", "/.git/config", "/C:/secret", "/small.bin%00.json", "/%c0%ae%c0%ae/secret", "http://x/secret",
           "/....//secret", "/..;/secret", "/~/secret", "/fifo", "/folder-out/../secret", "/\u2025/secret"]
SECRET = b"this must not be read"


def default_signals():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Server:
    """`nibble serve` of a folder on a free port, for a with statement."""

    def __init__(self, nibble, folder, *arguments):
        self.process = subprocess.Popen([nibble, "serve", folder, "--port", "0", "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        preexec_fn=default_signals)

    def __enter__(self):
        text = ""
        while not text.rstrip().endswith("}"):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("the server did not start: " + self.process.stderr.read())
            text += line
        self.url = json.loads(text)["url"]
        self.port = int(self.url.rsplit(":", 1)[1])
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, how=signal.SIGINT):
        """Returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))

    def raw(self, data, patience=10):
        """All that comes back for these bytes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience) as s:
            s.sendall(data)
            got = b""
            while piece := s.recv(1 << 16):
                got += piece
            return got


def make_folder(root):
    """A folder to serve, with ways out of it that must not be taken."""
    folder = os.path.join(root, "site")
    os.makedirs(os.path.join(folder, ".git"))
    contents = {}
    for seed, (name, size) in enumerate(FILES.items()):
        contents[name] = random.Random(seed).randbytes(size)
        with open(os.path.join(folder, name), "wb") as f:
            f.write(contents[name])
    for path in (os.path.join(root, "secret"), os.path.join(folder, ".hidden"), os.path.join(folder, ".git", "config")):
        with open(path, "wb") as f:
            f.write(SECRET)
    os.symlink("../secret", os.path.join(folder, "link-out"))
    os.symlink("..", os.path.join(folder, "folder-out"))
    os.mkfifo(os.path.join(folder, "fifo"))
    return folder, contents


def client(port, contents, n_requests, seed, wrong, done):
    choose = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        for _ in range(n_requests):
            name = choose.choice(list(contents))
            data = contents[name]
            first = choose.randrange(len(data))
            last = min(len(data) - 1, first + choose.randrange(1 << choose.randrange(1, 20)))
            path = choose.choice(["/", "/me/model/resolve/main/", "/resolve/main/"]) + name
            connection.request("GET", path, headers={"Range": f"bytes={first}-{last}", "Origin": "http://page"})
            answer = connection.getresponse()
            body = answer.read()
            good = (answer.status == 206 and body == data[first:last + 1] and answer.getheader("Access-Control-Allow-Origin") == "*" and
                    answer.getheader("Content-Range") == f"bytes {first}-{last}/{len(data)}")
            done[seed] += 1
            if not good:
                wrong.append(f"{path} {first}-{last}: status {answer.status}, {len(body)} bytes")
            if choose.randrange(50) == 0:  # now and then a new connection, and one that is left in the middle
                connection.close()
                with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
                    s.sendall(b"GET /params_shard_0.bin HTTP/1.1\r\nHost: x\r\n\r\n")
                    s.recv(100)
    except OSError as e:
        wrong.append(f"client {seed}: {e}")
    except http.client.HTTPException as e:
        wrong.append(f"client {seed}: {e!r}")
    finally:
        connection.close()


def attacks_that_work(server):
    """Targets that were answered by anything but a refusal."""
    bad = []
    for target in ATTACKS:
        got = server.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        status = got.split(b" ", 2)[1] if got.startswith(b"HTTP/1.1 ") else b"none"
        if status not in (b"400", b"403", b"404") or SECRET in got or b"root:" in got:
            bad.append(f"{target}: {status.decode()}")
    return bad


def load(nibble, n_requests, n_clients):
    """Returns what was wrong, and what was measured."""
    with tempfile.TemporaryDirectory(prefix="nibble-serve-") as root:
        folder, contents = make_folder(root)
        with Server(nibble, folder) as server:
            time.sleep(0.3)
            before = server.memory()
            wrong = []
            done = [0] * n_clients
            begin = time.monotonic()
            shares = [n_requests // n_clients + (i < n_requests % n_clients) for i in range(n_clients)]
            threads = [threading.Thread(target=client, args=(server.port, contents, share, seed, wrong, done)) for seed, share in enumerate(shares)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            seconds = time.monotonic() - begin
            if sum(done) != n_requests:
                wrong.append(f"{sum(done)} requests were answered, {n_requests} were to be made")
            wrong += ["served: " + bad for bad in attacks_that_work(server)]
            time.sleep(0.3)
            after = server.memory()
            code = server.stop()
            if code != 0:
                wrong.append(f"the server ended with {code}")
    return wrong, {"seconds": seconds, "idle_before": before, "idle_after": after}


def main():
    nibble = sys.argv[1]
    n_requests = min(MAX_REQUESTS, int(sys.argv[2])) if len(sys.argv) > 2 else 10000
    n_clients = min(MAX_CLIENTS, int(sys.argv[3])) if len(sys.argv) > 3 else 16
    wrong, measured = load(nibble, n_requests, n_clients)
    for line in wrong[:20]:
        print(line)
    print(f"{n_requests} ranged requests of {n_clients} clients and {len(ATTACKS)} attacks: {len(wrong)} wrong, {measured['seconds']:.1f} s; "
          f"idle memory {measured['idle_before'] / 1e6:.1f} MB before, {measured['idle_after'] / 1e6:.1f} MB after")
    return 1 if wrong or max(measured["idle_before"], measured["idle_after"]) >= 20e6 else 0


if __name__ == "__main__":
    sys.exit(main())
