"""Directories that Cupola writes, read by transformers: nothing missing, nothing left over, and the same likelihoods.

    python3 tools/golden/written.py SMALL_MODEL SCORE

SMALL_MODEL and SCORE are the built examples of those names (`cargo build -p cupola-serve --examples`). Needs what
requirements-models.txt lists. Prints a line for each family and ends with 1 if one differs."""

import json
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM

FAMILIES = ["gpt2", "llama", "mistral", "phi", "deepseek", "mamba", "mamba2"]
IDS = [5, 60, 7, 200, 9, 33, 120, 5, 5, 87, 64, 3, 250, 18, 99, 41, 7]
TOLERANCE = 1e-4

small_model, score = sys.argv[1:3]
failed = False
for family in FAMILIES:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([small_model, folder, f"{family}-nano"], check=True)
        asked = "".join(json.dumps({"ids": IDS, "from": start}) + "\n" for start in range(1, len(IDS)))
        ours = [json.loads(line) for line in subprocess.run([score, folder], input=asked, capture_output=True, text=True, check=True).stdout.splitlines()]
        model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        wrong = {key: sorted(map(str, names)) for key, names in report.items() if names and key != "error_msgs"}
        with torch.no_grad():
            logits = model(torch.tensor([IDS])).logits[0]
        each = logits.log_softmax(-1)[:-1].gather(1, torch.tensor(IDS[1:])[:, None])[:, 0]
        theirs = [each[start - 1:].sum().item() for start in range(1, len(IDS))]
        most = max(abs(own["sum"] - their) for own, their in zip(ours, theirs))
        good = most <= TOLERANCE and not wrong
        failed |= not good
        print(f"{family}: {sum(p.numel() for p in model.parameters())} parameters, likelihoods within {most:.1e}{'' if good else f', WRONG {wrong}'}")
sys.exit(failed)
