"""What many short requests leave behind: the memory of a server after each tenth of them.

    python3 tools/requests.py PROGRAM MODEL [REQUESTS] [CLIENTS]

Prompts have at most seven words out of a thousand: they are shorter than what is kept for others that begin alike, and their words are soon
known to the tokenizer. Both memories are bounded, and would grow up to their bounds. Some answers are streamed, some connections are left, all are
read to their end. Prints the resident memory, what of it is not from files, and the growth since the first thousand."""

import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time

program, model = sys.argv[1:3]
total = int(sys.argv[3]) if len(sys.argv) > 3 else 100_000
clients = int(sys.argv[4]) if len(sys.argv) > 4 else 8

server = subprocess.Popen([program, "serve", model, "--port", "0", "--name", "m", "--cache-size", "64M"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
port = next(int(found[1]) for line in server.stdout if (found := re.search(r"http://[^:]+:(\d+)", line)))


def memory():
    with open(f"/proc/{server.pid}/status") as file:
        text = file.read()
    return [int(re.search(rf"{name}:\s+(\d+)", text)[1]) for name in ("VmRSS", "RssAnon")]


some = random.Random(0)
words = ["".join(chr(some.randrange(97, 123)) for _ in range(some.randrange(2, 8))) for _ in range(1000)]
done, marks, lock, begin = 0, {}, threading.Lock(), time.monotonic()


def work(seed):
    try:
        ask(seed)
    except BaseException as error:
        # Nothing else is worth knowing then.
        print(error, file=sys.stderr, flush=True)
        server.kill()
        os._exit(1)


def ask(seed):
    global done
    rng = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while True:
        with lock:
            if done >= total:
                return
            done += 1
            mine = done
        prompt = " ".join(rng.choice(words) for _ in range(rng.randrange(1, 8)))
        body = {"model": "m", "prompt": prompt, "max_tokens": rng.randrange(1, 9), "temperature": rng.choice([0, 1]), "stream": rng.random() < 0.3}
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        reply = connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{reply.status}: {text[:500]}")
        if rng.random() < 0.02:
            connection.close()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        if mine == 1000 or mine * 10 % total == 0:
            with lock:
                marks[mine] = memory()
                print(f"{mine:7} requests: {marks[mine][0]} kB resident, {marks[mine][1]} kB not from files, {time.monotonic() - begin:.0f} s", flush=True)


threads = [threading.Thread(target=work, args=(seed,)) for seed in range(clients)]
for one in threads:
    one.start()
for one in threads:
    one.join()
resident, own = (100 * (last / first - 1) for first, last in zip(marks[1000], memory()))
print(f"growth since 1,000: {resident:+.2f} % resident, {own:+.2f} % not from files")
server.terminate()
