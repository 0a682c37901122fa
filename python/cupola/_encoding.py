"""`Encoding`: the methods and exceptions of tiktoken's class of that name."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal, NoReturn

from ._cupola import CoreEncoding, names

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_NONE: frozenset[str] = frozenset()


class Encoding:
    """A byte-level encoding.

    Everything is as in tiktoken but for one default: text from a user is text. What looks like a special token is encoded
    as any other text unless `allowed_special` names it, and raises `ValueError` only where `disallowed_special` names it
    (tiktoken's default is `disallowed_special="all"`).
    """

    def __init__(
        self,
        name: str,
        *,
        pat_str: str,
        mergeable_ranks: dict[bytes, int],
        special_tokens: dict[str, int],
        explicit_n_vocab: int | None = None,
    ) -> None:
        if explicit_n_vocab is not None:
            found = len(mergeable_ranks) + len(special_tokens)
            largest = max([*mergeable_ranks.values(), *special_tokens.values()])
            if found != explicit_n_vocab or largest != explicit_n_vocab - 1:
                raise ValueError(
                    f"explicit_n_vocab = {explicit_n_vocab}, but there are {found} tokens and the largest id is {largest}"
                )
        self._set(name, CoreEncoding(pat_str, mergeable_ranks, special_tokens), (pat_str, mergeable_ranks))

    def _set(self, name: str, core: CoreEncoding, source: tuple[str, dict[bytes, int]] | None) -> None:
        self.name = name
        self._core = core
        self._source = source
        self._special_tokens = core.special_tokens()
        self._special_ids = frozenset(self._special_tokens.values())
        self._special_set = frozenset(self._special_tokens)

    @classmethod
    def _named(cls, name: str) -> Encoding:
        encoding = cls.__new__(cls)
        encoding._set(name, CoreEncoding.named(name), None)
        return encoding

    def __repr__(self) -> str:
        return f"<Encoding {self.name!r}>"

    def __reduce__(self) -> tuple[object, ...]:
        if self._source is None:
            return (get_encoding, (self.name,))
        return (_rebuild, (self.name, *self._source, self._special_tokens))

    # Encoding

    def _allowed(
        self,
        texts: Sequence[str],
        allowed: Literal["all"] | Collection[str],
        disallowed: Literal["all"] | Collection[str],
    ) -> Collection[str]:
        """The special tokens that are recognised; raises when a text holds one that is not to be there."""
        allow = self._special_set if allowed == "all" else self._special_set.intersection(allowed)
        refuse = self._special_set - allow if disallowed == "all" else disallowed
        for text in texts if refuse else ():
            found = [token for token in refuse if token in text]
            if found:
                _raise_disallowed(min(found, key=text.index))
        return allow

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text in which no special token is recognised."""
        return self._core.encode_ordinary(text)

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | Collection[str] = _NONE,
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[int]:
        """The ids of a text. Raises `ValueError` when it holds a token of `disallowed_special`."""
        if not allowed_special and not disallowed_special:
            return self._core.encode_ordinary(text)
        return self._core.encode(text, self._allowed([text], allowed_special, disallowed_special))

    def encode_to_numpy(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | Collection[str] = _NONE,
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> npt.NDArray[np.uint32]:
        """`encode` into a NumPy array, without a Python object for each id."""
        return self._core.encode_to_numpy(text, self._allowed([text], allowed_special, disallowed_special))

    def encode_ordinary_batch(self, text: list[str], *, num_threads: int = 8) -> list[list[int]]:
        """`encode_ordinary` of many texts on several threads."""
        return self._core.encode_batch(text, _NONE, num_threads)

    def encode_batch(
        self,
        text: list[str],
        *,
        num_threads: int = 8,
        allowed_special: Literal["all"] | Collection[str] = _NONE,
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[list[int]]:
        """`encode` of many texts on several threads."""
        return self._core.encode_batch(text, self._allowed(text, allowed_special, disallowed_special), num_threads)

    def encode_batch_to_numpy(
        self,
        text: list[str],
        *,
        num_threads: int = 8,
        allowed_special: Literal["all"] | Collection[str] = _NONE,
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """All ids of many texts after one another, and where each text begins: text `i` has `ids[at[i]:at[i + 1]]`."""
        allowed = self._allowed(text, allowed_special, disallowed_special)
        return self._core.encode_batch_to_numpy(text, allowed, num_threads)

    def encode_with_unstable(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | Collection[str] = _NONE,
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> tuple[list[int], list[list[int]]]:
        """The ids that no continuation of the text changes, and the possible ids of what is left over."""
        allowed = self._allowed([text], allowed_special, disallowed_special)
        ids = self._core.encode(text, allowed)
        tail = text
        for token in allowed:
            tail = tail.rpartition(token)[2]
        pieces = self._core.pieces(tail)
        if not pieces:
            return ids, []
        loose = len(self._core.encode_single_piece(pieces[-1].encode()))
        # White space at the end may be cut otherwise once something follows.
        if self._is_blank(ids[-loose]):
            while loose < len(ids) and self._is_blank(ids[-loose - 1]):
                loose += 1
        stable, left = ids[:-loose], self.decode_bytes(ids[-loose:])
        return stable, [list(ids) for ids in sorted(self._completions(left))]

    def _is_blank(self, token: int) -> bool:
        return all(byte in b" \n\t" for byte in self._core.token_bytes(token))

    def _completions(self, left: bytes) -> set[tuple[int, ...]]:
        tokens = self._sorted_tokens
        found: set[tuple[int, ...]] = set()

        def beginning_with(prefix: bytes) -> Sequence[bytes]:
            start = bisect.bisect_left(tokens, prefix)
            end = start
            while end < len(tokens) and tokens[end].startswith(prefix):
                end += 1
            return tokens[start:end]

        for token in beginning_with(left):
            found.add((self._core.encode_single_token(token),))
        # A token that begins inside what is left over and goes beyond its end.
        for cut in range(1, len(left)):
            for token in beginning_with(left[cut:]):
                whole = left[:cut] + token
                try:
                    ids = self._core.encode_ordinary(whole.decode())
                except UnicodeDecodeError:
                    ids = self._core.encode_single_piece(whole)
                taken, length = [], 0
                for token_id in ids:
                    taken.append(token_id)
                    length += len(self._core.token_bytes(token_id))
                    if length >= len(left):
                        break
                found.add(tuple(taken))
        # `\s+(?!\S)`: the last white-space character leaves its run when something follows.
        last = left.decode(errors="ignore")[-1:]
        if last.isspace() and len(left) > len(last.encode()) and left.endswith(last.encode()):
            split = len(left) - len(last.encode())
            first, second = self._core.encode_single_piece(left[:split]), self._core.encode_single_piece(left[split:])
            found.add((*first, *second))
        return found

    def encode_single_token(self, text_or_bytes: str | bytes) -> int:
        """The id of one token, special ones included. Raises `KeyError` when it is not in the vocabulary."""
        if isinstance(text_or_bytes, str):
            text_or_bytes = text_or_bytes.encode()
        return self._core.encode_single_token(text_or_bytes)

    # Decoding

    def decode_bytes(self, tokens: Sequence[int]) -> bytes:
        """The bytes of ids. Raises `KeyError` for an id that is not in the vocabulary."""
        return self._core.decode_bytes(_ids(tokens))

    def decode(self, tokens: Sequence[int], errors: str = "replace") -> str:
        """The text of ids; what is not UTF-8 is treated as `errors` says."""
        return self._core.decode_bytes(_ids(tokens)).decode("utf-8", errors=errors)

    def decode_single_token_bytes(self, token: int) -> bytes:
        """The bytes of one token, special ones included. Raises `KeyError` when it is not in the vocabulary."""
        return self._core.token_bytes(token)

    def decode_tokens_bytes(self, tokens: Sequence[int]) -> list[bytes]:
        """The bytes of each token."""
        return [self._core.token_bytes(token) for token in tokens]

    def decode_with_offsets(self, tokens: Sequence[int]) -> tuple[str, list[int]]:
        """The text, and for each token the place of its first character; a token that begins inside a character has the
        place of that character. Raises `UnicodeDecodeError` when the bytes are not UTF-8."""
        parts = self.decode_tokens_bytes(tokens)
        offsets, characters = [], 0
        for part in parts:
            inside = bool(part) and part[0] & 0xC0 == 0x80
            offsets.append(max(0, characters - inside))
            characters += sum(byte & 0xC0 != 0x80 for byte in part)
        return b"".join(parts).decode("utf-8", errors="strict"), offsets

    def decode_batch(
        self, batch: Sequence[Sequence[int]], *, errors: str = "replace", num_threads: int = 8
    ) -> list[str]:
        """`decode` of many sequences on several threads."""
        return [text.decode("utf-8", errors=errors) for text in self.decode_bytes_batch(batch, num_threads=num_threads)]

    def decode_bytes_batch(self, batch: Sequence[Sequence[int]], *, num_threads: int = 8) -> list[bytes]:
        """`decode_bytes` of many sequences on several threads."""
        return self._core.decode_bytes_batch([_ids(tokens) for tokens in batch], num_threads)

    # The vocabulary

    @functools.cached_property
    def _sorted_tokens(self) -> list[bytes]:
        return sorted(token for token, _ in self._core.ranks())

    def token_byte_values(self) -> list[bytes]:
        """The bytes of all tokens but the special ones, sorted."""
        return list(self._sorted_tokens)

    @property
    def eot_token(self) -> int:
        """The id of `<|endoftext|>`."""
        return self._special_tokens["<|endoftext|>"]

    @property
    def special_tokens_set(self) -> set[str]:
        """The texts of the special tokens."""
        return set(self._special_set)

    def is_special_token(self, token: int) -> bool:
        """Whether the id is that of a special token."""
        return token in self._special_ids

    @property
    def max_token_value(self) -> int:
        """The largest id."""
        return self._core.vocab_size - 1

    @property
    def n_vocab(self) -> int:
        """One more than the largest id."""
        return self._core.vocab_size

    # What tiktoken keeps for itself and others use all the same

    def _encode_single_piece(self, text_or_bytes: str | bytes) -> list[int]:
        if isinstance(text_or_bytes, str):
            text_or_bytes = text_or_bytes.encode()
        return self._core.encode_single_piece(text_or_bytes)

    def _encode_only_native_bpe(self, text: str) -> list[int]:
        return [token for piece in self._core.pieces(text) for token in self._core.encode_single_piece(piece.encode())]

    def _encode_bytes(self, text: bytes) -> list[int]:
        return self._core.encode_bytes(text)


def _ids(tokens: Sequence[int]) -> list[int]:
    """A list as it is; a NumPy array as a list, which is read much faster than its items are asked for."""
    to_list = getattr(tokens, "tolist", None)
    return to_list() if to_list is not None else list(tokens)


def _rebuild(name: str, pattern: str, ranks: dict[bytes, int], special: dict[str, int]) -> Encoding:
    return Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)


def _raise_disallowed(token: str) -> NoReturn:
    raise ValueError(
        f"the text contains {token!r}, which disallowed_special names: pass it in allowed_special to encode it as a special "
        "token, or leave it out of disallowed_special to encode it as text"
    )


def list_encoding_names() -> list[str]:
    """The names that `get_encoding` knows."""
    return names()


@functools.cache
def get_encoding(encoding_name: str) -> Encoding:
    """A named vocabulary. Raises `ValueError` when there is none of that name."""
    if not isinstance(encoding_name, str):
        raise ValueError(f"the name of an encoding is a string, not {type(encoding_name).__name__}")
    return Encoding._named(encoding_name)


# The beginnings of the names of OpenAI's models, the longest that fits counts.
_MODELS = {
    "o1": "o200k_base",
    "o3": "o200k_base",
    "o4-mini": "o200k_base",
    "gpt-5": "o200k_base",
    "gpt-4.5": "o200k_base",
    "gpt-4.1": "o200k_base",
    "gpt-4o": "o200k_base",
    "gpt-oss": "o200k_harmony",
    "chatgpt-4o": "o200k_base",
    "gpt-4": "cl100k_base",
    "gpt-3.5": "cl100k_base",
    "gpt-35-turbo": "cl100k_base",
    "text-embedding-ada-002": "cl100k_base",
    "text-embedding-3": "cl100k_base",
    "davinci-002": "cl100k_base",
    "babbage-002": "cl100k_base",
    "text-davinci-003": "p50k_base",
    "text-davinci-002": "p50k_base",
    "code-": "p50k_base",
    "code-search-": "r50k_base",
    "cushman-codex": "p50k_base",
    "davinci-codex": "p50k_base",
    "text-": "r50k_base",
    "davinci": "r50k_base",
    "curie": "r50k_base",
    "babbage": "r50k_base",
    "ada": "r50k_base",
    "gpt2": "r50k_base",
    "gpt-2": "r50k_base",
}


def encoding_name_for_model(model_name: str) -> str:
    """The name of the encoding of one of OpenAI's models. Raises `KeyError` for a model that is not known."""
    model = model_name.removeprefix("ft:")
    known = [prefix for prefix in _MODELS if model.startswith(prefix)]
    if not known:
        raise KeyError(f"no encoding is known for the model {model_name!r}; use get_encoding")
    return _MODELS[max(known, key=len)]


def encoding_for_model(model_name: str) -> Encoding:
    """The encoding of one of OpenAI's models. Raises `KeyError` for a model that is not known."""
    return get_encoding(encoding_name_for_model(model_name))
