"""What EleutherAI's harness makes of the server, through its own `local-completions` client, unmodified. Run by `tools/clients/run`, with
the model's directory; the scores are compared with those that the server gives to a plain request."""

import json
import os
import sys
import urllib.request

from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI

base, folder = os.environ["OPENAI_BASE_URL"], sys.argv[1]


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
for (context, rest), (score, greedy) in list(zip(pairs, scores))[:3]:
    # The harness encodes both together and cuts at the context's length.
    ids, cut = client.tok_encode(context + rest), len(client.tok_encode(context))
    body = {"model": model, "prompt": [ids], "max_tokens": 0, "echo": True, "logprobs": 1}
    told = ask("/completions", body)["choices"][0]["logprobs"]
    expected = sum(told["token_logprobs"][cut:])
    likeliest = all(own >= max(top.values()) for own, top in zip(told["token_logprobs"][cut:], told["top_logprobs"][cut:]))
    assert abs(score - expected) < 1e-4 * abs(expected), (context, score, expected)
    assert greedy == likeliest, (context, greedy)
whole = client.loglikelihood_rolling(instances("loglikelihood_rolling", [("The furnace is lit in the morning.",)]))
assert len(whole) == 1 and whole[0] < 0
written = client.generate_until(instances("generate_until", [("The furnace", {"until": ["."], "max_gen_toks": 12})] * 3))
assert len(written) == 3 and "." not in "".join(written)
print("lm-eval's local-completions: passed")
