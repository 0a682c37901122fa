#!/usr/bin/env python3
"""Writes the golden files of crates/tokenizer/tests/golden: what the reference implementations give.

    python3 -m venv VENV && VENV/bin/pip install -r tools/golden/requirements-tokenizer.txt
    VENV/bin/python tools/golden/tokenizer.py [--ranks FOLDER] [--program cupola]

FOLDER holds cl100k_base.tiktoken, o200k_base.tiktoken, r50k_base.tiktoken and p50k_base.tiktoken; without it the
file for tiktoken is left as it is. All texts are written here; nothing comes from anywhere else. The trainers of
Hugging Face for characters, WordPiece and Unigram break ties at random, so their files differ from run to run.
"""

import argparse
import base64
import io
import json
import os
import pathlib
import random
import subprocess
import tempfile

import numpy as np
import sentencepiece
import tiktoken
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = pathlib.Path(__file__).resolve().parents[2] / "crates/tokenizer/tests/golden"

TEXTS = [
    "",
    " ",
    "   ",
    "\n",
    "\n\n\n",
    "\t \t",
    "\r\n\r\n  x",
    "a",
    "hello world",
    " hello  world ",
    "Hello, World! It's a furnace; isn't it? They'll say WE'VE melted IT'S ore.",
    "I'M SURE they'd've 'd 's'S'll'LL",
    "\u017f'S I'\u017f '\u017f",
    "the furnace is lit before the first of the men had come to the yard",
    "UPPER lower CamelCaseWords mixedUPPERtail snake_case kebab-case-words",
    "1 12 123 1234 12345 1234567890 3.14159 -2e10 0x1F ½ ⅷ ٣٤٥ १२३",
    "!!! ??? ... --- ,,, ;;; ((())) [[]] {{}} <<>> && || == != <= >= => -> :: ///",
    "def melt(ore):\n    \"\"\"Melts.\"\"\"\n    return [o for o in ore if o.weight > 3]\n\n\nmelt([])\n",
    "fn main() {\n\tlet x: u32 = 0xff_u32;\r\n\tprintln!(\"{x:?}\");\r\n}\r\n",
    "tabs\tand\nnewlines\r\nand\u00a0no-break\u2003em space\u3000wide",
    "trailing spaces   ",
    "   leading spaces",
    "many          spaces          between",
    "line one  \n  line two \n\n   line three\n   ",
    "é e\u0301 ñ n\u0303 Å \u212b ﬁ ﬀ ﬃ ① ⑩ ㎏ ｆｕｌｌｗｉｄｔｈ",
    "Füße naïve café coöperate Ångström Œuvre straße GROẞ ı İ ſ",
    "Привет, мир! Печь растоплена до рассвета. ЁЖИК",
    "Γειά σου Κόσμε, Οδυσσεύς ὈΔΥΣΣΕΎΣ",
    "你好，世界！熔炉在黎明前点燃。",
    "こんにちは世界。溶鉱炉は夜明け前に点火された。ｶﾀｶﾅ ガギグ",
    "안녕하세요 세계 \u1112\u1161\u11ab 각",
    "مرحبا بالعالم، הכבשן דולק ١٢٣",
    "नमस्ते दुनिया क्षत्रिय ज़िंदगी",
    "สวัสดีชาวโลก เตาหลอม",
    "🔥 👩‍👩‍👧‍👦 👍🏽 🇨🇿🇯🇵 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 😶‍🌫️ 🤷🏽‍♀️",
    "a\u200db\u200cc\ufeffd\u00ade\u2060f",
    "\u0301combining first \u0300\u0301\u0302 z\u0351\u036b\u0343",
    "\u0378\u0379 unassigned \U000e0fff \U0002ffff private \ue000 \U000f0000",
    "control \x00\x01\x07\x1b\x7f\x80\x9f end",
    "\ufffd replacement \ufffd\ufffd",
    "<|endoftext|> <s> </s> <unk> [CLS] [SEP] [MASK] <0x41> <|im_start|>",
    "▁marker▁in▁text ▁ ▁▁",
    "#### ## ##suffix un##der",
    "https://example.org/a/b?c=d&e=f#g user@example.org C:\\path\\file.txt",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababababababababababababababababababababababababababababababababababababababababab" * 3,
    "0" * 200,
    " " * 150 + "x" + " " * 70,
    "\n" * 40 + "y" + "\n " * 20,
    "=" * 130 + "-" * 130,
    "theirtheretheythenthemthesethosethusthanthatthankthickthinthing",
    "supercalifragilisticexpialidocious antidisestablishmentarianism floccinaucinihilipilification",
    "中" * 70,
    "é" * 60,
    "🔥" * 40,
    "one\u2028two\u2029three\x0bfour\x0cfive\x85six",
    "$5.00 €10 £20 ¥30 10% 5° ±3 ×4 ÷2 √9 ∞ ∑ ∫ ≠",
    "“quoted” ‘single’ «guillemets» „low“ — dash – en … ellipsis • bullet",
    "Mr. O'Neill's cat-o'-nine-tails; rock 'n' roll, '90s, dogs' o'clock",
    "A.B.C. U.S.A. e.g. i.e. etc. 10:30 12/31/1999 v1.2.3-rc.4+build",
]

# Invalid UTF-8, in hex.
BYTES = [
    "ff",
    "68656c6c6fff",
    "68656c6c6f20776f726c64e4b8",
    "20202080",
    "610a20200a20fe62",
    "f09f94",
    "74686520667572f09f94a5c3",
    "c328e28228f0288cbc",
    "00ff00ff",
    "eda080",
]


def corpus():
    """A few kilobytes of made-up prose, code and other scripts; the same every time."""
    rng = random.Random(7)
    nouns = "furnace dome metal smith fire hall stone river engine letter winter market garden window table".split()
    verbs = "melts crowns carries warms holds opens follows finds leaves builds turns reads answers covers".split()
    adjectives = "old bright heavy quiet northern golden broken little hidden patient reddish unlikely".split()
    lines = []
    for i in range(420):
        a, b, c = rng.choice(adjectives), rng.choice(nouns), rng.choice(verbs)
        d, e = rng.choice(adjectives), rng.choice(nouns)
        form = rng.randrange(8)
        if form == 0:
            lines.append(f"The {a} {b} {c} the {d} {e}, and nobody's there.")
        elif form == 1:
            lines.append(f"  if {b}_{e} > {rng.randrange(1000)}: return {a}({b}, {e})  # {c}")
        elif form == 2:
            lines.append(f"\"Don't you see?\" said the {b}; \"it's {a}er than {e}s.\"")
        elif form == 3:
            lines.append(f"{b.upper()} {i}: {a}-{d} {e} ({rng.randrange(10**6)})")
        elif form == 4:
            lines.append(f"Un{a}ly {e}ing, re{c}, mis{b}ed.\t{e}{b}")
        elif form == 5:
            lines.append(rng.choice(["Печь горит ночью и днём.", "熔炉在黎明前点燃了。", "炉は夜明け前に点火された。",
                                     "Der Ofen glüht früh, über dem Dach.", "Le fourneau brûle déjà.", "🔥🔥 ok 👍🏽"]))
        elif form == 6:
            lines.append("")
        else:
            lines.append(f"{a}{b} {a}{e} {d}{b} {d}{e}")
    return "\n".join(lines) + "\n"


def dump(name, value):
    text = json.dumps(value, ensure_ascii=False, indent=None, separators=(",", ":"))
    (OUT / name).write_text(text + "\n", encoding="utf-8")
    size = (OUT / name).stat().st_size
    assert size < 64 * 1024, f"{name} has {size} bytes"
    print(f"{name}: {size} bytes")


# Variants of a setting are tried on these, which keeps the files small.
SHORT = [t for t in TEXTS if len(t) <= 120]


def results(tokenizer, texts, offsets=False):
    rows = []
    for text in texts:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        rows.append([encoding.ids, [list(o) for o in encoding.offsets]] if offsets else encoding.ids)
    return rows


def hugging_face(lines):
    bases = {}
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"],
        show_progress=False))
    bases["hf_bpe"] = t

    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=500, limit_alphabet=60, min_frequency=3, special_tokens=["<unk>"], show_progress=False))
    bases["hf_bpe_chars"] = t

    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator(sorted(lines), trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    bases["hf_wordpiece"] = t

    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(lines, trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False))
    bases["hf_unigram"] = t
    for name, t in bases.items():
        dump(f"{name}.json", json.loads(t.to_str()))

    ws = {"type": "Metaspace", "replacement": "▁", "split": True}
    split = lambda pattern, behavior, invert=False: {
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}
    seq = lambda key, *steps: {"type": "Sequence", key: list(steps)}
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": True}
    llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    variants = [
        ("hf_bpe", {}),
        ("hf_bpe", {"pre_tokenizer": dict(level, add_prefix_space=True, use_regex=True)}),
        ("hf_bpe", {"pre_tokenizer": seq("pretokenizers", split(llama3, "Isolated"), level)}),
        ("hf_bpe", {"pre_tokenizer": seq("pretokenizers", {"type": "Digits", "individual_digits": True}, dict(level, use_regex=True))}),
        ("hf_bpe", {"pre_tokenizer": seq("pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"}, level)}),
        ("hf_bpe", {"model": {"ignore_merges": True}}),
        ("hf_bpe", {"normalizer": {"type": "NFC"}}),
        ("hf_bpe", {"normalizer": seq("normalizers", {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"})}),
        ("hf_bpe", {"normalizer": {"type": "NFKD"}}),
        ("hf_bpe", {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": False}}),
        ("hf_bpe", {"normalizer": {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}}),
        ("hf_bpe_chars", {}),
        ("hf_bpe_chars", {"model": {"fuse_unk": True}}),
        ("hf_bpe_chars", {"model": {"unk_token": None}}),
        ("hf_bpe_chars", {"pre_tokenizer": {"type": "WhitespaceSplit"}}),
        ("hf_bpe_chars", {"pre_tokenizer": {"type": "CharDelimiterSplit", "delimiter": "e"}}),
        ("hf_bpe_chars", {"pre_tokenizer": split("[aeiou]+", "Removed")}),
        ("hf_bpe_chars", {"pre_tokenizer": split("[aeiou]+", "Removed", True)}),
        ("hf_bpe_chars", {"pre_tokenizer": split("[aeiou]", "MergedWithPrevious")}),
        ("hf_bpe_chars", {"pre_tokenizer": split("[aeiou]", "MergedWithNext")}),
        ("hf_bpe_chars", {"pre_tokenizer": split("[aeiou]", "Contiguous")}),
        ("hf_bpe_chars", {"pre_tokenizer": {"type": "Punctuation", "behavior": "MergedWithNext"}}),
        ("hf_bpe_chars", {"normalizer": {"type": "Nmt"}}),
        ("hf_wordpiece", {}),
        ("hf_wordpiece", {"normalizer": dict(bert, lowercase=False)}),
        ("hf_wordpiece", {"normalizer": dict(bert, strip_accents=False, handle_chinese_chars=False)}),
        ("hf_wordpiece", {"normalizer": dict(bert, clean_text=False)}),
        ("hf_wordpiece", {"pre_tokenizer": {"type": "Whitespace"}}),
        ("hf_unigram", {}),
        ("hf_unigram", {"pre_tokenizer": dict(ws, prepend_scheme="first")}),
        ("hf_unigram", {"pre_tokenizer": dict(ws, prepend_scheme="never", split=False)}),
        ("hf_unigram", {"pre_tokenizer": seq("pretokenizers", {"type": "WhitespaceSplit"}, dict(ws, prepend_scheme="always"))}),
        ("hf_unigram", {"normalizer": seq("normalizers", {"type": "Prepend", "prepend": "▁"},
                                          {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
                        "pre_tokenizer": None}),
    ]
    rows = []
    for base, patch in variants:
        value = json.loads(bases[base].to_str())
        for key, part in patch.items():
            value[key] = dict(value[key], **part) if key == "model" else part
        # Special tokens in the text are ordinary text in the tests: the reference must not know them.
        value["added_tokens"] = []
        value["post_processor"] = None
        t = Tokenizer.from_str(json.dumps(value))
        rows.append({"base": base, "patch": patch, "ids": results(t, TEXTS if not patch else SHORT)})
    for part in range(0, len(rows), 5):
        dump(f"hf_ids_{part // 5}.json", rows[part:part + 5])
    plain = []
    for base in ["hf_bpe", "hf_wordpiece", "hf_unigram"]:
        value = json.loads(bases[base].to_str())
        value["added_tokens"] = []
        value["post_processor"] = None
        t = Tokenizer.from_str(json.dumps(value))
        decoded = [t.decode(t.encode(text, add_special_tokens=False).ids) for text in TEXTS]
        offsets = [o for _, o in results(t, TEXTS, offsets=True)] if base != "hf_bpe" else None
        plain.append({"base": base, "decoded": decoded, "offsets": offsets})
    dump("hf_decoded.json", plain)

    t = bases["hf_wordpiece"]
    t.enable_truncation(max_length=9, stride=2)
    t.enable_padding(length=9, pad_id=0, pad_token="[PAD]")
    pairs = [("the old furnace", "a bright dome crowns the hall"), ("fire", "x"),
             ("the patient smith reads the letter and answers", "winter"), ("fire fire fire fire fire", "the hall is old and cold")]
    rows = []
    for a, b in pairs:
        for pair in [None, b]:
            e = t.encode(a, pair) if pair else t.encode(a)
            rows.append({"first": a, "second": pair, "ids": e.ids, "type_ids": e.type_ids,
                         "attention": e.attention_mask, "special": e.special_tokens_mask,
                         "overflow": [o.ids for o in e.overflowing]})
    dump("hf_pairs.json", rows)


def padding_and_truncation():
    """Every strategy and side, on batches of pairs."""
    pairs = [("the old furnace", "a bright dome crowns the hall"), ("fire", "x"), ("fire fire fire fire fire fire fire", "the hall"),
             ("old", "the patient smith reads the letter and answers in the winter"), ("the hall is old and cold", None)]
    truncations = [dict(max_length=12, stride=2, strategy=strategy, direction=direction)
                   for strategy in ["longest_first", "only_first", "only_second"] for direction in ["right", "left"]]
    paddings = [dict(length=16), dict(length=16, direction="left"), dict(), dict(direction="left", pad_to_multiple_of=8),
                dict(pad_to_multiple_of=5, pad_type_id=1)]
    settings = [(t, None) for t in truncations] + [(None, p) for p in paddings] + [(truncations[1], paddings[3]), (truncations[4], paddings[2])]
    rows = []
    for truncation, padding in settings:
        t = Tokenizer.from_file(str(OUT / "hf_wordpiece.json"))
        if truncation:
            t.enable_truncation(**truncation)
        if padding is not None:
            t.enable_padding(pad_id=0, pad_token="[PAD]", **padding)
        file = json.loads(t.to_str())
        row = {"truncation": file["truncation"], "padding": file["padding"], "batches": []}
        for batch in [pairs, pairs[1:3], pairs[4:]]:
            try:
                encodings = t.encode_batch([p if p[1] else p[0] for p in batch])
            except BaseException as error:
                row["batches"].append({"pairs": batch, "error": str(error)})
                continue
            row["batches"].append({"pairs": batch, "encodings": [
                {"ids": e.ids, "type_ids": e.type_ids, "attention": e.attention_mask, "special": e.special_tokens_mask,
                 "overflow": [o.ids for o in e.overflowing]} for e in encodings]})
        rows.append(row)
    dump("hf_padding.json", rows)


def sentence_piece(lines):
    # The model files keep the name of the rules; a relative one says nothing about the machine.
    os.chdir(OUT)
    rules = pathlib.Path("rules.tsv")
    # Code points in hex, source then target.
    entries = [("ﬁ", "fi"), ("①", "1"), ("\t", " "), ("\n", " "), ("\u00a0", " "), ("\u3000", " "), ("Å", "A"),
               ("e\u0301", "é"), ("\u200d", ""), ("…", "...")]
    hexes = lambda s: " ".join(f"{ord(c):X}" for c in s)
    rules.write_text("".join(f"{hexes(a)}\t{hexes(b)}\n" for a, b in entries))
    settings = {
        "spm_unigram": dict(model_type="unigram", vocab_size=420, normalization_rule_tsv=str(rules),
                            user_defined_symbols=["<sep>", "foo bar"]),
        "spm_bpe": dict(model_type="bpe", vocab_size=700, normalization_rule_name="identity", byte_fallback=True,
                        remove_extra_whitespaces=False, user_defined_symbols=["<sep>"]),
        "spm_suffix": dict(model_type="bpe", vocab_size=420, normalization_rule_tsv=str(rules),
                           treat_whitespace_as_suffix=True, character_coverage=0.98),
    }
    extra = ["a<sep>b", "x foo bar y", "  <sep>  "]
    rows = {"texts": TEXTS + extra}
    for name, options in settings.items():
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([l for l in lines if l.strip()]), model_writer=model, minloglevel=2,
            hard_vocab_limit=False, num_threads=1, **options)
        (OUT / f"{name}.model").write_bytes(model.getvalue())
        assert len(model.getvalue()) < 64 * 1024
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        ids = [processor.encode(text) for text in rows["texts"]]
        rows[name] = {"ids": ids, "decoded": [processor.decode(i) for i in ids]}
    rules.unlink()
    dump("spm_ids.json", rows)
    sentence_piece_as_json(rows["texts"])


def sentence_piece_as_json(texts):
    """The Unigram model as a tokenizer.json, and the ids that Hugging Face gives with it."""
    model = (OUT / "spm_unigram.model").read_bytes()
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    kinds = [p.type for p in proto.pieces]
    normal = [p.score for p in proto.pieces if p.type == p.NORMAL]
    best = np.float32(max(normal))
    vocab = []
    for piece in proto.pieces:
        # A user-defined symbol beats every way to split it, as in SentencePiece.
        length = np.float32(len(piece.piece.encode()))
        user = float(np.float32(length * best) - np.float32(0.1))
        score = {piece.NORMAL: piece.score, piece.USER_DEFINED: user}.get(piece.type, 0.0)
        vocab.append([piece.piece, score])
    replace = lambda pattern, content: {"type": "Replace", "pattern": pattern, "content": content}
    blob = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    assert proto.normalizer_spec.remove_extra_whitespaces and proto.normalizer_spec.add_dummy_prefix
    file = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": blob},
            replace({"Regex": "^ +|[ ▁]+$"}, ""), replace({"Regex": " {2,}"}, " "),
            {"type": "Prepend", "prepend": "▁"}, replace({"String": " "}, "▁")]},
        "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": {"type": "Unigram", "unk_id": kinds.index(2), "vocab": vocab, "byte_fallback": False},
    }
    # Control tokens in the text are text: without them in the vocabulary the reference cannot find them.
    plain = json.loads(json.dumps(file))
    plain["model"]["vocab"] = [
        [f"\0{i}", 0.0] if kind in (2, 3) else entry for i, (entry, kind) in enumerate(zip(vocab, kinds))]
    t = Tokenizer.from_str(json.dumps(plain))
    dump("spm_as_json.json", {"file": file, "texts": texts, "ids": results(t, texts)})


PATTERNS = {
    "r50k_base": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    "p50k_base": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    "cl100k_base": r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s""",
    "o200k_base": "|".join([
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""", r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""", r"""\s*[\r\n]+""", r"""\s+(?!\S)""", r"""\s+"""]),
}


def openai(folder):
    rows = {"texts": TEXTS, "bytes": BYTES}
    for name, pattern in PATTERNS.items():
        lines = (folder / f"{name}.tiktoken").read_bytes().split(b"\n")
        ranks = {base64.b64decode(l.split()[0]): int(l.split()[1]) for l in lines if l}
        encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        rows[name] = {"ids": [encoding.encode_ordinary(t) for t in TEXTS],
                      "bytes_ids": [encoding._encode_bytes(bytes.fromhex(h)) for h in BYTES]}
    dump("tiktoken_ids.json", rows)


def named(program):
    """The other open vocabularies: Hugging Face's ids with the ranks, patterns and normal forms that our program writes."""
    rows = {"texts": TEXTS}
    with tempfile.TemporaryDirectory() as folder:
        for name in ["deepseek_v3", "qwen2", "mistral_tekken"]:
            path = pathlib.Path(folder) / f"{name}.json"
            subprocess.run([program, "tokenizer", "convert", name, path], check=True, stdout=subprocess.DEVNULL)
            file = json.loads(path.read_text(encoding="utf-8"))
            file["added_tokens"] = []
            file["post_processor"] = None
            rows[name] = results(Tokenizer.from_str(json.dumps(file)), TEXTS)
    dump("named_ids.json", rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=pathlib.Path)
    parser.add_argument("--program", help="the built program, for the other vocabularies that it carries")
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    text = corpus()
    (OUT / "corpus.txt").write_text(text, encoding="utf-8")
    dump("texts.json", TEXTS)
    lines = text.splitlines(keepends=True)
    hugging_face(lines)
    padding_and_truncation()
    sentence_piece(lines)
    if args.ranks:
        openai(args.ranks)
    if args.program:
        named(args.program)


main()
