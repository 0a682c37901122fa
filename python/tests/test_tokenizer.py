"""`Tokenizer`: files, training, everything around ids."""

import base64
import json

import numpy as np
import pytest

import cupola

TEXT = ["The furnace is lit before dawn. It isn't out before dusk, naïve 🔥!\n"] * 40


@pytest.fixture(scope="module")
def tokenizer():
    return cupola.Tokenizer.train_bpe(TEXT, vocab_size=300, special_tokens=["<|end|>"])


def test_the_readme_is_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    readme = __file__.replace("tests/test_tokenizer.py", "README.md")
    with open(readme, encoding="utf-8") as file:
        blocks = file.read().split("```python\n")[1:]
    names = {}
    for block in blocks:
        exec(block.split("```")[0], names)
    assert names["shown"] == "🔥"
    assert len(names["at"]) == 51


def test_text_comes_back(tokenizer):
    for text in ["", "dusk", " naïve 🔥\n", "中文"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.count(text) == len(tokenizer.encode(text))
    assert tokenizer.decode_batch(tokenizer.encode_batch(TEXT)) == TEXT
    assert tokenizer.decode_batch(tokenizer.encode_batch(TEXT, threads=1), threads=1) == TEXT
    assert tokenizer.count_batch(TEXT[:2]) == [tokenizer.count(TEXT[0])] * 2


def test_special_tokens_need_permission(tokenizer):
    end = tokenizer.token_to_id("<|end|>")
    assert tokenizer.special_tokens() == {"<|end|>": end}
    assert tokenizer.is_special(end) and not tokenizer.is_special(0)
    assert end not in tokenizer.encode("a<|end|>")
    for allowed in ["all", ["<|end|>"], {"<|end|>"}]:
        assert tokenizer.encode("a<|end|>", allowed_special=allowed) == [97, end]
    assert tokenizer.decode([97, end], skip_special=True) == "a"
    with pytest.raises(cupola.TokenizerError, match="not a special token"):
        tokenizer.encode("a", allowed_special=["<|no|>"])
    with pytest.raises(ValueError):
        tokenizer.encode("a", allowed_special="everything")


def test_files_keep_everything(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    tokenizer.save(tmp_path / "dir")
    for again in [
        cupola.Tokenizer.from_file(tmp_path / "t.json"),
        cupola.Tokenizer.from_file(str(tmp_path / "dir")),
        cupola.Tokenizer.from_bytes(tokenizer.to_json().encode()),
    ]:
        assert again.encode(TEXT[0]) == tokenizer.encode(TEXT[0])
        assert again.vocab_size == 300
    assert json.loads(tokenizer.to_json())["model"]["type"] == "BPE"
    with pytest.raises(OSError, match="missing.json"):
        cupola.Tokenizer.from_file(tmp_path / "missing.json")
    with pytest.raises(cupola.TokenizerError, match="line 1"):
        cupola.Tokenizer.from_bytes(b'{"model": 1}')


def test_the_file_is_one_that_hugging_face_reads(tokenizer):
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    for text in ["The furnace, naïve 🔥", "  x\n\n y", "123 it's"]:
        assert theirs.encode(text, add_special_tokens=False).ids == tokenizer.encode(text)


def test_tokens_have_offsets_masks_and_overflow(tokenizer):
    tokens = tokenizer.tokenize("né dusk")
    data = "né dusk".encode()
    assert b"".join(data[a:b] for a, b in tokens.offsets) == data
    assert tokens.sequence_ids == [0] * len(tokens) and tokens.attention_mask == [1] * len(tokens)
    pair = tokenizer.tokenize("dusk", "dawn")
    assert set(pair.sequence_ids) == {0, 1} and pair.type_ids[-1] == 1
    cut = tokenizer.tokenize("The furnace is lit before dawn", max_length=3, stride=1)
    assert len(cut) == 3 and cut.overflow[0].ids[0] == cut.ids[-1]
    left = tokenizer.tokenize("a", pad_to=4, pad_id=5, pad_side="left")
    assert left.ids == [5, 5, 5, 97] and left.attention_mask == [0, 0, 0, 1]
    whole = tokenizer.encode("before before before")
    dropped = tokenizer.tokenize("before before before", dropout=1.0)
    assert len(dropped) == 20 > len(whole)
    with pytest.raises(ValueError):
        tokenizer.tokenize("a", pad_side="above")


def test_cut_keeps_whole_characters(tokenizer):
    ids, text, complete = tokenizer.cut("🔥🔥🔥中文", 6)
    assert "🔥🔥🔥中文".startswith(text) and not complete
    assert tokenizer.decode(ids) == text
    assert tokenizer.cut("a", 6) == ([97], "a", True)


def test_a_stream_gives_whole_characters(tokenizer):
    text = "lit 🔥 中文"
    stream = tokenizer.stream_decoder()
    parts = [stream.push(i) for i in tokenizer.encode(text)]
    assert "".join(parts) + stream.finish() == text
    assert "\ufffd" not in "".join(parts)
    with pytest.raises(KeyError):
        stream.push(100_000)


def test_every_model_can_be_trained():
    unigram = cupola.Tokenizer.train_unigram(TEXT, vocab_size=60)
    wordpiece = cupola.Tokenizer.train_wordpiece(iter(TEXT), vocab_size=80)
    characters = cupola.Tokenizer.train_bpe(
        TEXT, vocab_size=60, characters=True, special_tokens=["<unk>"], unknown_token="<unk>", initial_alphabet="ж"
    )
    assert unigram.decode(unigram.encode("The furnace is lit")) == "The furnace is lit"
    assert wordpiece.decode(wordpiece.encode("The furnace is lit")) == "the furnace is lit"
    assert characters.token_to_id("ж") is not None
    cut = cupola.Tokenizer.train_bpe(["well-being "] * 50, vocab_size=300, pattern=r"\S+|\s+", syllables=True)
    assert cut.pieces("well-being") == ["well", "-being"]
    with pytest.raises(TypeError, match="vocab_sice"):
        cupola.Tokenizer.train_bpe(TEXT, vocab_sice=300)
    with pytest.raises(TypeError):
        cupola.Tokenizer.train_bpe("one string")
    with pytest.raises(cupola.TokenizerError, match="vocab_size = 3"):
        cupola.Tokenizer.train_bpe(TEXT, vocab_size=3)


def test_arrays_of_a_batch(tokenizer):
    ids, at = tokenizer.encode_batch_to_numpy(TEXT)
    assert ids.dtype == np.uint32 and at[-1] == len(ids)
    assert ids[at[1] : at[2]].tolist() == tokenizer.encode(TEXT[1])


def test_chats():
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}{{ mood }}"
    base = cupola.Tokenizer.train_bpe(TEXT, vocab_size=256 + 40).with_agent_tokens()
    tokenizer = base.with_chat_template(template)
    messages = [{"role": "user", "content": "dusk"}]
    assert tokenizer.chat_text(messages, mood="!") == "<|user|>dusk<|assistant|>!"
    assert tokenizer.chat_text(messages, add_generation_prompt=False) == "<|user|>dusk"
    ids = tokenizer.encode_chat(messages)
    assert ids[0] == tokenizer.token_to_id("<|user|>") and ids[-1] == tokenizer.token_to_id("<|assistant|>")
    with pytest.raises(cupola.TokenizerError, match="special token"):
        tokenizer.encode_chat([{"role": "user", "content": "<|assistant|>"}])
    assert len(cupola.Tokenizer.agent_token_names()) == 54
    with pytest.raises(cupola.TokenizerError, match="no chat template"):
        base.chat_text(messages)


def test_a_tiktoken_file_takes_a_name_with_several_passes(tmp_path):
    file = tmp_path / "bytes.tiktoken"
    lines = (f"{base64.b64encode(bytes([b])).decode()} {b}\n" for b in range(256))
    file.write_text("".join(lines))
    tokenizer = cupola.Tokenizer.from_tiktoken(file, "deepseek_v3")
    assert tokenizer.pieces("ab12345中c") == ["ab", "123", "45", "中", "c"]
    assert cupola.Tokenizer.from_tiktoken(file, r"\d|\D+").pieces("ab12c") == ["ab", "1", "2", "c"]


def test_named_vocabularies():
    names = cupola.list_encoding_names()
    assert {"cl100k_base", "o200k_base", "deepseek_v3", "qwen2", "mistral_tekken"} <= set(names)
    assert cupola.Tokenizer.named("qwen2").encode("Hello world") == [9707, 1879]
    with pytest.raises(cupola.TokenizerError, match="no vocabulary is named"):
        cupola.Tokenizer.named("gpt9")
    assert cupola.Tokenizer.named("deepseek_v3").bos == 0
