import random

import pytest

import cupola

# Texts that meet most branches of the patterns.
TEXTS = [
    "",
    " ",
    "hello world",
    "  two  spaces \t\n\n end  ",
    "It's we'll I'M naïve ſ'S fiancé",
    "1234567 3.14 0x1F ½",
    "中文字符 日本語テスト 한국어 русский עברית العربية",
    "👩‍👩‍👧‍👦 🔥🔥 e\u0301 a\u200db",
    "a\r\nb\r\n\r\n\u2028c\u0085",
    "def f(x):\n    return x ** 2  # comment\n\n\n",
    "<|endoftext|> and <|fim_prefix|>",
    "a" * 500,
    " " * 300,
    "\U000e0001\u0378\ufffe",
]


@pytest.fixture(scope="session")
def texts():
    rng = random.Random(5)
    alphabet = "aB ''1\n\r\té中🔥.!_-/<|>" + "etaoin  "
    made = ["".join(rng.choice(alphabet) for _ in range(rng.randrange(120))) for _ in range(150)]
    return TEXTS + made


@pytest.fixture(scope="session", params=["cl100k_base", "o200k_base", "r50k_base"])
def pair(request):
    """An encoding and tiktoken's own with the same ranks, so that no network is needed."""
    tiktoken = pytest.importorskip("tiktoken")
    ours = cupola.get_encoding(request.param)
    theirs = tiktoken.Encoding(
        request.param,
        pat_str=PATTERNS[request.param],
        mergeable_ranks=dict(ours._core.ranks()),
        special_tokens=ours._core.special_tokens(),
    )
    return ours, theirs


def _patterns():
    module = pytest.importorskip("tiktoken_ext.openai_public")
    return {name: _pattern(module, name) for name in ("cl100k_base", "o200k_base", "r50k_base")}


def _pattern(module, name):
    """The pattern that tiktoken would use, found by building the encoding without its data."""
    saved = module.load_tiktoken_bpe, module.data_gym_to_mergeable_bpe_ranks
    module.load_tiktoken_bpe = lambda *args, **kwargs: {}
    module.data_gym_to_mergeable_bpe_ranks = lambda *args, **kwargs: {}
    try:
        return getattr(module, name)()["pat_str"]
    finally:
        module.load_tiktoken_bpe, module.data_gym_to_mergeable_bpe_ranks = saved


PATTERNS = _patterns()
