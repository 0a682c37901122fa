"""Tokenizers side by side: MB of text for each second of CPU time of one thread.

`bench/compare/tokenizers` makes the environment and runs this. Texts: the files named on the command line, this workspace's
Rust files, whatever Chinese, Japanese and Russian this machine's message catalogues hold, emoji, and adversarial texts made on
the spot. Cold is the first pass of a fresh instance, warm the best of several later ones; the programs take turns.
"""

import argparse
import base64
import gettext
import pathlib
import random
import statistics
import sys
import time

import cupola
import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHORT = "The quick brown fox jumps over the lazy dog, said the cat."


def cpu(work):
    begin = time.process_time()
    work()
    return max(time.process_time() - begin, 1e-9)


def catalogues(languages):
    """Translated messages, which many Debian packages bring."""
    parts = []
    for language in languages:
        for folder in pathlib.Path("/usr/share/locale").glob(f"{language}*/LC_MESSAGES"):
            for path in sorted(folder.glob("*.mo")):
                try:
                    with open(path, "rb") as file:
                        parts += gettext.GNUTranslations(file)._catalog.values()
                except (OSError, UnicodeDecodeError, ValueError):
                    continue
    text = "\n".join(part for part in parts if isinstance(part, str))
    return text[: 1_000_000 // 2]


def texts(paths):
    found = {path.stem: path.read_text(encoding="utf-8") for path in paths}
    found["code"] = "".join(path.read_text() for path in sorted((ROOT / "crates").rglob("*.rs")))[:2_000_000]
    rng = random.Random(1)
    multi = catalogues(["zh", "ja", "ru", "ko"])
    if len(multi) < 100_000:
        ranges = [(0x4E00, 0x2000), (0x3041, 80), (0x430, 32), (0xAC00, 0x2000)]
        words = []
        while sum(map(len, words)) < 400_000:
            low, count = rng.choice(ranges)
            words.append("".join(chr(low + rng.randrange(count)) for _ in range(1 + rng.randrange(7))))
            words.append(rng.choice(["", " ", "。", ", ", "\n"]))
        multi = "".join(words)
        found["multilingual, made up"] = multi
    else:
        found["multilingual"] = multi
    found["emoji"] = "".join(
        "".join(chr(0x1F600 + rng.randrange(80)) for _ in range(1 + rng.randrange(8)))
        + rng.choice(["\u200d", " ", " ok ", "\ufe0f", "\n"])
        for _ in range(40_000)
    )
    found["one letter"] = "a" * 1_000_000
    found["spaces"] = " " * 1_000_000
    found["digits"] = "".join(rng.choice("0123456789") for _ in range(1_000_000))
    found["punctuation"] = "".join(rng.choice("!?.,;:-()[]{}") for _ in range(1_000_000))
    found["random letters"] = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(1_000_000))
    return found


def programs(name, folder):
    """Each: what makes a fresh instance, and how it encodes a text in the cheapest form that it has."""
    ours = cupola.get_encoding(name)
    ranks, special = dict(ours._core.ranks()), ours._core.special_tokens()
    path = folder / f"{name}.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()))
    made = {"cupola": (lambda: cupola.Encoding._named(name), lambda e, text: e.encode_to_numpy(text))}
    import gigatoken
    import tiktoken

    kind = {"cl100k_base": "cl100k", "o200k_base": "o200k"}[name]
    made["gigatoken"] = (
        lambda: gigatoken.Tokenizer.from_tiktoken(path, pretokenizer=kind, special_tokens={}),
        lambda e, text: e.encode(text),
    )
    import splintr

    made["splintr"] = (lambda: splintr.Tokenizer.from_pretrained(name), lambda e, text: e.encode(text))
    import tiktoken_ext.openai_public as public

    saved = public.load_tiktoken_bpe
    public.load_tiktoken_bpe = lambda *args, **kwargs: ranks
    pattern = getattr(public, name)()["pat_str"]
    public.load_tiktoken_bpe = saved
    made["tiktoken"] = (
        lambda: tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special),
        lambda e, text: e.encode_to_numpy(text, disallowed_special=()),
    )
    return made


def rates(make, encode, text):
    """Cold and warm, in MB for each second."""
    size = len(text.encode()) / 1e6
    instance = make()
    cold = cpu(lambda: encode(instance, text))
    warm = cold
    until = time.process_time() + 0.8
    while time.process_time() < until:
        warm = min(warm, cpu(lambda: encode(instance, text)))
    return size / cold, size / warm


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    all_texts = texts(arguments.files)
    for name in ["cl100k_base", "o200k_base"]:
        made = programs(name, arguments.folder)
        print(f"\n{name}: MB/s of CPU time, cold / warm, medians of {arguments.rounds} rounds")
        print(f"{'':24}" + "".join(f"{program:>18}" for program in made))
        for title, text in all_texts.items():
            if arguments.only not in title:
                continue
            found = {program: [] for program in made}
            for _ in range(arguments.rounds):
                for program, (make, encode) in made.items():
                    try:
                        found[program].append(rates(make, encode, text))
                    except BaseException as error:  # A panic of a Rust program is not an Exception.
                        if isinstance(error, KeyboardInterrupt):
                            raise
                        found[program].append((float("nan"), float("nan")))
            cells = [
                f"{statistics.median(c for c, _ in pairs):.0f} / {statistics.median(w for _, w in pairs):.0f}"
                for pairs in found.values()
            ]
            print(f"{title:24}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
        cells = []
        for program, (make, encode) in made.items():
            instance = make()
            encode(instance, SHORT)
            best = min(cpu(lambda: [encode(instance, SHORT) for _ in range(2000)]) for _ in range(10))
            cells.append(f"{best / 2000 * 1e6:.2f} µs")
        print(f"{'58 bytes':24}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
