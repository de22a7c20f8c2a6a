# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright the rendezvous.wireguard authors
"""One end of a slow TCP stream; at its end it prints what it counted, as JSON.

usage: stream.py send ADDRESS PORT                  about 100 kB/s until SIGTERM, an hour at most
       stream.py receive ADDRESS PORT PROGRESS_FILE
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import socket
import sys
import time

CHUNK_BYTES = 5000
INTERVAL_S = 0.05
LONGEST_S = 3600.0


def send(address: str, port: str) -> None:
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    digest = hashlib.sha256()
    generator = random.Random(1)
    start = time.monotonic()
    with socket.create_connection((address, int(port)), timeout=30) as connection:
        while not stopped and time.monotonic() - start < LONGEST_S:
            chunk = generator.randbytes(CHUNK_BYTES)
            connection.sendall(chunk)
            digest.update(chunk)
            time.sleep(INTERVAL_S)
    print(json.dumps({"sha256": digest.hexdigest()}))


def receive(address: str, port: str, progress_file: str) -> None:
    digest = hashlib.sha256()
    count = 0
    longest_pause_s = 0.0
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, int(port)), family=family) as server:
        print("listening", flush=True)
        server.settimeout(30)
        connection, _ = server.accept()
        with connection, open(progress_file, "w") as progress:
            connection.settimeout(60)
            last = time.monotonic()
            while chunk := connection.recv(65536):
                longest_pause_s = max(longest_pause_s, time.monotonic() - last)
                last = time.monotonic()
                count += len(chunk)
                digest.update(chunk)
                progress.seek(0)
                progress.write(str(count))
                progress.flush()
    print(json.dumps({"bytes": count, "longest_pause_s": longest_pause_s, "sha256": digest.hexdigest()}))


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(*sys.argv[2:])
    else:
        receive(*sys.argv[2:])
