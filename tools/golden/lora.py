"""Low-rank additions with random values to the models of models.py, as peft saves them, and what the two say together.

Writes crates/models/tests/adapters/FAMILY-NAME/: adapter_config.json and adapter_model.safetensors as `save_pretrained` leaves
them (f32), and expected.safetensors:

    tokens [T]           a prompt
    logits [T, V]        of all positions, computed in f64 from the f32 weights

    .venv/bin/pip install -r requirements-models.txt
    .venv/bin/python lora.py
"""

import json
import os
import shutil

import peft
import torch
import transformers
from safetensors.torch import save_file

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODELS = os.path.join(ROOT, "crates", "models", "tests", "public")
FOLDER = os.path.join(ROOT, "crates", "models", "tests", "adapters")

CASES = {
    # One matrix for queries, keys and values, stored transposed.
    "gpt2-all": dict(r=2, lora_alpha=6, target_modules=["c_attn", "c_proj", "c_fc"]),
    "llama-patterns": dict(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"v_proj": 2},
        alpha_pattern={"layers.1.mlp.down_proj": 20},
    ),
    "mistral-root": dict(r=4, lora_alpha=4, use_rslora=True, target_modules="all-linear"),
    # peft refuses out_proj, whose fast kernel passes by the addition.
    "mamba-scan": dict(r=3, lora_alpha=3, target_modules=["in_proj", "x_proj"]),
}


def write(name, options):
    family = name.split("-")[0]
    torch.manual_seed(len(name))
    base = transformers.AutoModelForCausalLM.from_pretrained(os.path.join(MODELS, family), dtype=torch.float32)
    config = peft.LoraConfig(task_type="CAUSAL_LM", **options)
    model = peft.get_peft_model(base, config).eval()
    for path, value in model.named_parameters():
        if "lora_B" in path:
            torch.nn.init.normal_(value, std=0.2)
    place = os.path.join(FOLDER, name)
    shutil.rmtree(place, ignore_errors=True)
    model.save_pretrained(place)
    os.remove(os.path.join(place, "README.md"))
    # The place of this checkout is nobody's business.
    path = os.path.join(place, "adapter_config.json")
    with open(path) as file:
        saved = json.load(file)
    saved["base_model_name_or_path"] = family
    saved["target_modules"] = sorted(saved["target_modules"])
    with open(path, "w") as file:
        json.dump(saved, file, indent=2, sort_keys=True)
        file.write("\n")
    tokens = torch.randint(0, base.config.vocab_size, (12,))
    with torch.no_grad():
        logits = model.double()(tokens[None]).logits[0].float()
    save_file({"tokens": tokens, "logits": logits.contiguous()}, os.path.join(place, "expected.safetensors"))


def main():
    torch.set_num_threads(1)
    for name, options in CASES.items():
        write(name, options)


if __name__ == "__main__":
    main()
