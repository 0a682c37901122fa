"""What watching costs a run: trains with the dashboard beside it, and attaches 500 readers of live messages for every other ten seconds.

    python3 tools/watchers.py PROGRAM TEXT [SECONDS] [READERS]

One reader takes what comes, the others take nothing, so that the cost is that of the run's own process. Prints the time of a step with and
without readers in every stretch, whose spread is the measurement's own, and the medians."""

import json
import os
import re
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

program, text = sys.argv[1:3]
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 120
readers = int(sys.argv[4]) if len(sys.argv) > 4 else 500
STRETCH = 10

with tempfile.TemporaryDirectory() as folder:
    out = os.path.join(folder, "run")
    run = subprocess.Popen(
        [program, "train", text, "--out", out, "--time", f"{seconds:.0f}s", "--dash=0", "--set", "eval.every=0", "--set", "sample.every=0",
         "--set", "checkpoint.every=1000000"], stderr=subprocess.PIPE, text=True)
    address = None
    for line in run.stderr:
        found = re.search(r"http://([\d.]+):(\d+)/", line)
        if found:
            address = (found[1], int(found[2]))
            break
    metrics = os.path.join(out, "metrics.jsonl")
    while not os.path.exists(metrics) or os.path.getsize(metrics) < 2000:
        time.sleep(0.2)
    threading.Thread(target=run.stderr.read, daemon=True).start()

    def attach():
        one = socket.create_connection(address)
        one.sendall(b"GET /runs/api/live?run=run HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return one

    def stretch(watched):
        crowd = [attach() for _ in range(readers)] if watched else []
        time.sleep(1)
        began = os.path.getsize(metrics)
        end = time.monotonic() + STRETCH
        heard = 0
        while time.monotonic() < end and run.poll() is None:
            ready = select.select(crowd[:1], [], [], 0.5)[0]
            heard += sum(len(one.recv(1 << 16)) for one in ready)
        with open(metrics) as file:
            file.seek(began)
            file.readline()
            lines = [json.loads(line) for line in file if line.endswith("\n")]
        times = [line["time"] for line in lines if line["kind"] == "step"]
        for one in crowd:
            one.close()
        assert not watched or heard > 0 or run.poll() is not None
        return 1000 * (times[-1] - times[0]) / (len(times) - 1)

    found = {False: [], True: []}
    stretch(False)
    watched = True
    while True:
        try:
            taken = stretch(watched)
        except (OSError, IndexError, ZeroDivisionError):
            break
        if run.poll() is not None:
            break
        found[watched].append(taken)
        watched = not watched
    run.kill()
    run.wait()

alone, crowd = statistics.median(found[False]), statistics.median(found[True])
print("ms a step alone:         ", " ".join(f"{x:.2f}" for x in found[False]))
print(f"ms a step with {readers} readers:", " ".join(f"{x:.2f}" for x in found[True]))
print(f"median {alone:.2f} and {crowd:.2f}: {100 * (crowd / alone - 1):+.2f} %")
