"""`Encoding` against tiktoken: values, and which exception where."""

import pickle
import threading
import time

import numpy as np
import pytest

import cupola


def test_ids_are_tiktokens(pair, texts):
    ours, theirs = pair
    for text in texts:
        ids = theirs.encode_ordinary(text)
        assert ours.encode_ordinary(text) == ids
        assert ours.encode(text) == ids
        assert ours.encode(text, disallowed_special=()) == ids
        assert ours.encode(text, allowed_special="all") == theirs.encode(text, allowed_special="all")
        assert ours._encode_only_native_bpe(text) == theirs._encode_only_native_bpe(text)
        assert ours.decode(ids) == text
        assert ours.decode_bytes(ids) == text.encode()
        assert ours.decode_tokens_bytes(ids) == theirs.decode_tokens_bytes(ids)
        assert ours.decode_with_offsets(ids) == theirs.decode_with_offsets(ids)
    assert ours.encode_ordinary_batch(texts) == theirs.encode_ordinary_batch(texts)
    assert ours.encode_batch(texts, num_threads=3) == theirs.encode_batch(texts, disallowed_special=())


def test_bytes_that_are_no_text_are_encoded_as_tiktoken_does(pair):
    ours, theirs = pair
    for data in [b"\xff", b"abc \xf0\x9f", b"hello\xff world", b"  \n\xfe", "né".encode()[:2], b"", b"plain"]:
        assert ours._encode_bytes(data) == theirs._encode_bytes(data)
        assert ours.decode_bytes(ours._encode_bytes(data)) == data


def test_special_tokens_follow_the_caller(pair):
    ours, theirs = pair
    text = "a <|endoftext|> b"
    end = ours.eot_token
    assert end == theirs.eot_token
    assert end not in ours.encode(text)
    allowed = {"<|endoftext|>"}
    assert ours.encode(text, allowed_special=allowed) == theirs.encode(text, allowed_special=allowed)
    assert ours.encode(text, allowed_special={"<|no such token|>"}) == ours.encode_ordinary(text)
    for disallowed in ["all", ["<|endoftext|>"], {"b"}]:
        with pytest.raises(ValueError):
            theirs.encode(text, disallowed_special=disallowed)
        with pytest.raises(ValueError):
            ours.encode(text, disallowed_special=disallowed)
    with pytest.raises(ValueError, match="endoftext"):
        ours.encode_batch(["x", text], disallowed_special="all")
    assert ours.encode(text, allowed_special="all", disallowed_special="all") == theirs.encode(text, allowed_special="all")


def test_the_vocabulary_is_tiktokens(pair):
    ours, theirs = pair
    assert ours.n_vocab == theirs.n_vocab
    assert ours.max_token_value == theirs.max_token_value
    assert ours.special_tokens_set == theirs.special_tokens_set
    assert ours.token_byte_values() == theirs.token_byte_values()
    for token in [0, 255, 256, 5000, ours.eot_token]:
        assert ours.is_special_token(token) == theirs.is_special_token(token)
        assert ours.decode_single_token_bytes(token) == theirs.decode_single_token_bytes(token)
    for token in [" the", b"\xff", "<|endoftext|>", b"a"]:
        assert ours.encode_single_token(token) == theirs.encode_single_token(token)
    assert ours._encode_single_piece("hello world") == theirs._encode_single_piece("hello world")


def test_exceptions_are_tiktokens(pair):
    both = pair
    for encoding in both:
        with pytest.raises(KeyError):
            encoding.encode_single_token("no single token, this")
        with pytest.raises(KeyError):
            encoding.decode_single_token_bytes(encoding.n_vocab + 5)
        with pytest.raises(KeyError):
            encoding.decode([encoding.n_vocab + 5])
        with pytest.raises(OverflowError):
            encoding.decode([-1])
        with pytest.raises(OverflowError):
            encoding.decode_single_token_bytes(1 << 40)
        with pytest.raises(TypeError):
            encoding.encode_ordinary(7)
        with pytest.raises(UnicodeDecodeError):
            encoding.decode_with_offsets(encoding._encode_single_piece(b"\xff"))
        with pytest.raises(UnicodeDecodeError):
            encoding.decode(encoding._encode_single_piece(b"\xff"), errors="strict")
    with pytest.raises(ValueError):
        cupola.get_encoding("gpt9")
    with pytest.raises(ValueError):
        cupola.get_encoding(7)


def test_unstable_ends_are_tiktokens(pair):
    ours, theirs = pair
    for text in ["", "hello fanta", "we're not the s", "  ", "a \n ", "!!", "naï", "x<|endoftext|>", "<|endoftext|>ab"]:
        stable, completions = ours.encode_with_unstable(text, allowed_special="all")
        expected, others = theirs.encode_with_unstable(text, allowed_special="all")
        assert stable == expected, text
        assert sorted(completions) == sorted(others), text


def test_lone_surrogates_are_tiktokens(pair):
    ours, theirs = pair
    for text in ["\ud83d\udc4d", "a\ud800b", "\udfff"]:
        assert ours.encode(text) == theirs.encode(text)
        assert ours.encode_batch([text, "x"]) == theirs.encode_batch([text, "x"])


def test_numpy_arrays_have_the_ids(pair, texts):
    ours, theirs = pair
    text = "".join(texts)
    array = ours.encode_to_numpy(text)
    assert array.dtype == np.uint32
    np.testing.assert_array_equal(array, theirs.encode_to_numpy(text, disallowed_special=()))
    assert ours.decode(array) == text
    ids, at = ours.encode_batch_to_numpy(texts)
    assert (ids.dtype, at.dtype, len(at)) == (np.uint32, np.int64, len(texts) + 1)
    for i, part in enumerate(texts):
        assert ids[at[i] : at[i + 1]].tolist() == ours.encode(part)
    ids[:] = 0  # The array belongs to the caller.


def test_batches_decode_to_the_texts(pair, texts):
    ours, _ = pair
    batch = ours.encode_batch(texts)
    assert ours.decode_batch(batch) == texts
    assert ours.decode_bytes_batch([np.array(ids, dtype=np.uint32) for ids in batch]) == [t.encode() for t in texts]


def test_an_encoding_can_be_made_and_pickled(pair):
    named, _ = pair
    assert pickle.loads(pickle.dumps(named)) is cupola.get_encoding(named.name)
    ranks = {bytes([b]): b for b in range(256)} | {b"ab": 256}
    arguments = {"pat_str": r"\w+|\W+", "mergeable_ranks": ranks, "special_tokens": {"<end>": 257}}
    made = cupola.Encoding("own", **arguments, explicit_n_vocab=258)
    again = pickle.loads(pickle.dumps(made))
    assert again.encode("abab ab<end>", allowed_special="all") == [256, 256, 32, 256, 257]
    assert again.name == "own"
    with pytest.raises(ValueError, match="explicit_n_vocab"):
        cupola.Encoding("own", **arguments, explicit_n_vocab=300)
    with pytest.raises(cupola.TokenizerError, match="syntax"):
        cupola.Encoding("own", pat_str="(", mergeable_ranks=ranks, special_tokens={})


def test_models_have_encodings():
    tiktoken = pytest.importorskip("tiktoken.model")
    known = set(cupola.list_encoding_names())
    checked = 0
    for model, name in [*tiktoken.MODEL_TO_ENCODING.items(), *tiktoken.MODEL_PREFIX_TO_ENCODING.items()]:
        if name in known:
            assert cupola.encoding_name_for_model(model) == name, model
            checked += 1
    assert checked > 30
    assert cupola.encoding_for_model("gpt-4o") is cupola.get_encoding("o200k_base")
    with pytest.raises(KeyError):
        cupola.encoding_for_model("llama")


def test_a_batch_lets_other_threads_run():
    encoding = cupola.get_encoding("cl100k_base")
    batch = ["The furnace is lit before dawn. " * 2000] * 40
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    other = threading.Thread(target=tick)
    other.start()
    begin = time.perf_counter()
    encoding.encode_batch_to_numpy(batch, num_threads=1)
    end = time.perf_counter()
    done.set()
    other.join()
    # With the lock held, the other thread could not have ticked in the middle half of the call.
    middle = [t for t in ticks if begin + (end - begin) / 4 < t < begin + 3 * (end - begin) / 4]
    assert middle
