"""What EleutherAI's harness makes of the server, through its own `local-completions` client, unmodified: its log-likelihoods are those of the
library, which the example `score` gives without a server. Run by `tools/clients/run`, with the model's directory and that program."""

import json
import os
import subprocess
import sys
import urllib.request

from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI

base, folder, score = os.environ["OPENAI_BASE_URL"], sys.argv[1], sys.argv[2]


def ask(path, body=None):
    headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(base + path, data, headers)) as reply:
        return json.load(reply)


model = ask("/models")["data"][0]["id"]
client = LocalCompletionsAPI(base_url=base + "/completions", model=model, tokenizer=folder, num_concurrent=3, max_length=1024)
pairs = [("The furnace is", " lit in the morning"), ("One two three", " four"), ("A dome", " crowns a house. " * 20), ("", "The furnace")]
pairs += [(f"{i} two", " three") for i in range(20)]


def instances(kind, arguments):
    return [Instance(request_type=kind, doc={}, arguments=one, idx=i) for i, one in enumerate(arguments)]


scores = client.loglikelihood(instances("loglikelihood", pairs))
assert len(scores) == len(pairs)


def library(sequences):
    """The sum of the log-probabilities from a place on, and whether each token there was the likeliest."""
    lines = "".join(json.dumps({"ids": ids, "from": max(cut, 1)}) + "\n" for ids, cut in sequences)
    told = subprocess.run([score, folder], input=lines, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in told.splitlines()]


# The harness encodes both together and cuts at the context's length; an empty context is its end token.
sequences = []
for context, rest in pairs:
    if context:
        ids, cut = client.tok_encode(context + rest), len(client.tok_encode(context))
    else:
        ids, cut = [client.eot_token_id] + client.tok_encode(rest), 1
    sequences.append((ids, cut))
for pair, (found, greedy), expected in zip(pairs, scores, library(sequences)):
    assert abs(found - expected["sum"]) < 1e-4 * abs(expected["sum"]), (pair, found, expected)
    assert greedy == expected["greedy"], (pair, greedy, expected)
whole = client.loglikelihood_rolling(instances("loglikelihood_rolling", [("The furnace is lit in the morning.",)]))
assert len(whole) == 1 and whole[0] < 0
written = client.generate_until(instances("generate_until", [("The furnace", {"until": ["."], "max_gen_toks": 12})] * 3))
assert len(written) == 3 and "." not in "".join(written)
print("lm-eval's local-completions: passed")
