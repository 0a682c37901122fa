"""Tiny models with random weights, as transformers saves them, and what they say.

Writes crates/models/tests/public/NAME/: config.json and model.safetensors as `save_pretrained` leaves them (f32; for the
name ending in -sharded several files with an index), and expected.safetensors:

    tokens [2, T]        two prompts
    logits [2, T, V]     of all positions, computed in f64 from the f32 weights
    greedy [32]          what greedy decoding writes after the first prompt (f64)
    batches [20, B, L]   token batches of a training; inputs are all but the last token of each row, targets all but the first
    losses [20]          the mean cross-entropy of each step (f64)

Encoders are written to crates/models/tests/encoders/NAME/ alike; their expected.safetensors has

    tokens, token_types [2, T]
    hidden [2, T, D]     of the last layer (f64)
    logits               [2, T, V] of hidden tokens or [2, C] of classes; of a bare model the pooled vectors [2, D]
    batches, batch_types [20, B, L], targets [20, B, L] of hidden tokens (-100 elsewhere) or [20, B] of classes, losses [20]
                         of a training, which a bare model does not have

Each step clips the gradients' global norm to 1 and takes AdamW (lr 1e-2, betas 0.9 0.99, eps 1e-8) with weight decay 0.1
on all parameters of more than one dimension. Families without a trainer's twin leave out batches and losses.

    .venv/bin/pip install -r requirements-models.txt
    .venv/bin/python models.py [NAME ...]
"""

import os
import shutil
import sys
import zlib

import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    DeepseekV2Config,
    GPT2Config,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    PhiConfig,
    Qwen2Config,
)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(ROOT, "crates", "models", "tests", "public")
ENCODERS_FOLDER = os.path.join(ROOT, "crates", "models", "tests", "encoders")
VOCABULARY, STEPS = 61, 20

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

COMMON = dict(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=None, pad_token_id=None)
SIZES = dict(hidden_size=32, num_hidden_layers=2, intermediate_size=48, num_attention_heads=4, max_position_embeddings=64)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
LATENT = dict(
    kv_lora_rank=12,
    qk_nope_head_dim=6,
    qk_rope_head_dim=4,
    v_head_dim=5,
    first_k_dense_replace=1,
    moe_intermediate_size=8,
    n_shared_experts=2,
    n_routed_experts=6,
)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16)

MODELS = {
    "gpt2": GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **COMMON
    ),
    "llama": LlamaConfig(num_key_value_heads=2, **SIZES, **COMMON),
    "llama-sharded": LlamaConfig(num_key_value_heads=4, tie_word_embeddings=True, attention_bias=True, **SIZES, **COMMON),
    "llama-llama3": LlamaConfig(num_key_value_heads=1, rope_parameters=LLAMA3, **SIZES, **COMMON),
    "llama-yarn": LlamaConfig(num_key_value_heads=4, rope_parameters=YARN, **SIZES, **COMMON),
    "mistral": MistralConfig(num_key_value_heads=2, head_dim=8, sliding_window=6, **SIZES, **COMMON),
    "mixtral": MixtralConfig(num_key_value_heads=2, num_local_experts=4, **(SIZES | dict(intermediate_size=24)), **COMMON),
    "deepseek_v2": DeepseekV2Config(q_lora_rank=None, num_experts_per_tok=2, **LATENT, **SIZES, **COMMON),
    "deepseek_v2-groups": DeepseekV2Config(
        q_lora_rank=10,
        num_experts_per_tok=3,
        topk_method="group_limited_greedy",
        n_group=3,
        topk_group=2,
        routed_scaling_factor=1.5,
        attention_bias=True,
        rope_parameters=YARN | dict(mscale=0.8, mscale_all_dim=0.6),
        **LATENT,
        **SIZES,
        **COMMON,
    ),
    "qwen2": Qwen2Config(num_key_value_heads=2, tie_word_embeddings=True, **SIZES, **COMMON),
    "mamba": MambaConfig(hidden_size=24, num_hidden_layers=2, state_size=5, tie_word_embeddings=True, **COMMON),
    "mamba-biases": MambaConfig(
        hidden_size=16, num_hidden_layers=2, state_size=4, conv_kernel=3, time_step_rank=3, use_bias=True, use_conv_bias=False,
        tie_word_embeddings=False, **COMMON
    ),
    "mamba2": Mamba2Config(
        hidden_size=24, num_hidden_layers=2, state_size=6, head_dim=8, num_heads=6, n_groups=1, chunk_size=8, **COMMON
    ),
    "mamba2-groups": Mamba2Config(
        hidden_size=16, num_hidden_layers=2, state_size=4, head_dim=8, num_heads=4, n_groups=2, chunk_size=8, use_bias=True,
        time_step_limit=(0.2, 1.5), tie_word_embeddings=True, **COMMON
    ),
    "phi": PhiConfig(
        num_key_value_heads=4, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5), **SIZES, **COMMON
    ),
}


BERT = dict(
    hidden_size=32,
    num_hidden_layers=2,
    intermediate_size=48,
    num_attention_heads=4,
    max_position_embeddings=32,
    hidden_dropout_prob=0,
    attention_probs_dropout_prob=0,
    **COMMON,
)
ENCODERS = {
    "bert": (transformers.BertModel, BertConfig(**BERT)),
    "bert-masked": (transformers.BertForMaskedLM, BertConfig(hidden_act="gelu_new", type_vocab_size=3, **BERT)),
    "bert-classes": (transformers.BertForSequenceClassification, BertConfig(num_labels=5, **BERT)),
}


def randomise(model, random):
    """Weights that all matter: norms near 1, biases and projections of a size that moves the logits."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=random)
        is_norm = parameter.dim() == 1 and name.endswith("weight")
        parameter.data = (1 + 0.2 * noise) if is_norm else 0.15 * noise


def greedy(model, prompt, count):
    tokens = prompt.clone()
    for _ in range(count):
        last = model(input_ids=tokens[None], use_cache=False).logits[0, -1]
        # A near tie would make the text a matter of rounding.
        best = last.topk(2).values
        assert best[0] - best[1] > 1e-3, "the two most probable tokens are too close"
        tokens = torch.cat([tokens, last.argmax()[None]])
    return tokens[len(prompt) :]


def next_tokens(model, batch):
    """The loss, and what a step of the training does besides."""
    out = model(input_ids=batch[:, :-1], use_cache=False)
    loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), batch[:, 1:].flatten())
    return loss, out


def train(model, batches, objective=next_tokens):
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [dict(params=decayed, weight_decay=0.1), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.99), eps=1e-8)
    losses = []
    for batch in batches:
        loss, out = objective(model, batch)
        optimizer.zero_grad()
        # Twins of ours say what the balance of their experts costs.
        (loss + getattr(out, "balance", 0.0)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if hasattr(out, "rebalance"):
            out.rebalance()
        losses.append(loss.detach())
    # Some models compute logits in f32 whatever their weights are.
    return torch.stack(losses).double()


def make(name, config, seed):
    random = torch.Generator().manual_seed(seed)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomise(model, random)
    model.tie_weights()
    folder = os.path.join(FOLDER, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size="40KB" if name.endswith("-sharded") else "1GB")
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
    model = model.double()
    tokens = torch.randint(VOCABULARY, (2, 19), generator=random)
    batches = torch.randint(VOCABULARY, (STEPS, 3, 13), generator=random)
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits
        text = greedy(model, tokens[0], 32)
    expected = dict(tokens=tokens, logits=logits.float(), greedy=text, batches=batches, losses=train(model, batches))
    save_file(expected, os.path.join(folder, "expected.safetensors"))


def make_encoder(name, kind, config):
    random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    config._attn_implementation = "eager"
    model = kind(config).eval()
    randomise(model, random)
    model.tie_weights()
    folder = os.path.join(ENCODERS_FOLDER, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    model = model.double()
    tokens = torch.randint(VOCABULARY, (2, 19), generator=random)
    types = torch.randint(config.type_vocab_size, (2, 19), generator=random)
    with torch.no_grad():
        out = model(input_ids=tokens, token_type_ids=types, output_hidden_states=True)
    logits = out.pooler_output if kind is transformers.BertModel else out.logits
    expected = dict(tokens=tokens, token_types=types, hidden=out.hidden_states[-1].float(), logits=logits.float())
    if kind is not transformers.BertModel:
        batches = torch.randint(VOCABULARY, (STEPS, 3, 13), generator=random)
        types = torch.randint(config.type_vocab_size, (STEPS, 3, 13), generator=random)
        if kind is transformers.BertForMaskedLM:
            hidden = torch.rand((STEPS, 3, 13), generator=random) < 0.3
            targets = torch.where(hidden, torch.randint(VOCABULARY, (STEPS, 3, 13), generator=random), -100)
        else:
            targets = torch.randint(config.num_labels, (STEPS, 3), generator=random)

        def objective(model, batch):
            tokens, types, targets = batch
            out = model(input_ids=tokens, token_type_ids=types)
            return torch.nn.functional.cross_entropy(out.logits.flatten(0, -2), targets.flatten()), out

        losses = train(model.train(), list(zip(batches, types, targets)), objective)
        expected |= dict(batches=batches, batch_types=types, targets=targets, losses=losses)
    save_file({key: value.contiguous() for key, value in expected.items()}, os.path.join(folder, "expected.safetensors"))
    print(f"{name}: written")


def main():
    wanted = sys.argv[1:] or list(MODELS) + list(ENCODERS)
    for name in wanted:
        if name in ENCODERS:
            make_encoder(name, *ENCODERS[name])
            continue
        # The first seed of the name's own whose text has no near ties.
        for attempt in range(100):
            try:
                make(name, MODELS[name], zlib.crc32(name.encode()) + attempt)
            except AssertionError as reason:
                print(f"{name}: {reason}, next seed")
                continue
            break
        size = sum(entry.stat().st_size for entry in os.scandir(os.path.join(FOLDER, name)))
        assert size < 1 << 20, f"{name}: {size} bytes"
        print(f"{name}: {size} bytes")


if __name__ == "__main__":
    main()
