from collections.abc import Collection, Iterable, Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__version__: str

class TokenizerError(ValueError):
    """A file, a pattern, a setting or a text that cannot be followed."""

def names() -> list[str]: ...

class CoreEncoding:
    def __new__(cls, pattern: str, ranks: dict[bytes, int], special: dict[str, int]) -> CoreEncoding: ...
    @staticmethod
    def named(name: str) -> CoreEncoding: ...
    def encode_ordinary(self, string: str) -> list[int]: ...
    def encode(self, string: str, special: Collection[str]) -> list[int]: ...
    def encode_to_numpy(self, string: str, special: Collection[str]) -> npt.NDArray[np.uint32]: ...
    def encode_batch(self, strings: Sequence[str], special: Collection[str], threads: int) -> list[list[int]]: ...
    def encode_batch_to_numpy(
        self, strings: Sequence[str], special: Collection[str], threads: int
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]: ...
    def encode_bytes(self, bytes: bytes) -> list[int]: ...
    def encode_single_piece(self, bytes: bytes) -> list[int]: ...
    def encode_single_token(self, token: bytes) -> int: ...
    def pieces(self, string: str) -> list[str]: ...
    def decode_bytes(self, ids: Sequence[int]) -> bytes: ...
    def decode_bytes_batch(self, batch: Sequence[Sequence[int]], threads: int) -> list[bytes]: ...
    def token_bytes(self, id: int) -> bytes: ...
    def ranks(self) -> list[tuple[bytes, int]]: ...
    def special_tokens(self) -> dict[str, int]: ...
    @property
    def vocab_size(self) -> int: ...

class Tokens:
    """Ids with everything that is known about them; all lists have one entry for each token."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def tokens(self) -> list[str]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Ranges of bytes of the text in UTF-8."""
    @property
    def type_ids(self) -> list[int]: ...
    @property
    def sequence_ids(self) -> list[int | None]: ...
    @property
    def special_tokens_mask(self) -> list[int]: ...
    @property
    def attention_mask(self) -> list[int]: ...
    @property
    def overflow(self) -> list[Tokens]:
        """What truncation has cut off."""
    def __len__(self) -> int: ...

class StreamDecoder:
    """Takes ids one by one and gives out whole characters."""

    def push(self, id: int) -> str: ...
    def push_all(self, ids: Sequence[int]) -> str: ...
    def finish(self) -> str: ...

class Tokenizer:
    """A tokenizer of any kind: it never changes, and may be used from many threads at once."""

    @staticmethod
    def named(name: str) -> Tokenizer: ...
    @staticmethod
    def from_file(path: str | PathLike[str]) -> Tokenizer:
        """A model directory, or a file: tokenizer.json, tekken.json, SentencePiece .model, GGUF."""
    @staticmethod
    def from_bytes(data: bytes) -> Tokenizer: ...
    @staticmethod
    def from_tiktoken(
        path: str | PathLike[str], pattern: str, special_tokens: dict[str, int] = ...
    ) -> Tokenizer: ...
    @staticmethod
    def train_bpe(
        texts: Iterable[str],
        *,
        vocab_size: int = 4096,
        min_frequency: int = 0,
        special_tokens: Sequence[str] = (),
        characters: bool = False,
        initial_alphabet: str = "",
        limit_alphabet: int | None = None,
        unknown_token: str | None = None,
        max_token_length: int | None = None,
        tie_break: Literal["hugging_face", "byte_value"] = "hugging_face",
        pattern: str | None = None,
        syllables: bool = False,
    ) -> Tokenizer: ...
    @staticmethod
    def train_unigram(
        texts: Iterable[str],
        *,
        vocab_size: int = 4096,
        min_frequency: int = 2,
        special_tokens: Sequence[str] = ("<unk>", "<s>", "</s>"),
        unknown_token: str = "<unk>",
        initial_alphabet: str = "",
        max_piece_length: int = 16,
        split_by_script: bool = True,
        pattern: str | None = None,
        syllables: bool = False,
    ) -> Tokenizer: ...
    @staticmethod
    def train_wordpiece(
        texts: Iterable[str],
        *,
        vocab_size: int = 4096,
        min_frequency: int = 0,
        special_tokens: Sequence[str] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        initial_alphabet: str = "",
        limit_alphabet: int | None = None,
        pattern: str | None = None,
        syllables: bool = False,
    ) -> Tokenizer: ...
    def encode(
        self, text: str, *, allowed_special: Literal["all"] | Collection[str] | None = None, template: bool = False
    ) -> list[int]: ...
    def tokenize(
        self,
        text: str,
        pair: str | None = None,
        *,
        allowed_special: Literal["all"] | Collection[str] | None = None,
        template: bool = False,
        max_length: int | None = None,
        stride: int = 0,
        truncation: Literal["longest_first", "only_first", "only_second"] = "longest_first",
        truncation_side: Literal["left", "right"] = "right",
        pad_to: int | None = None,
        pad_id: int = 0,
        pad_side: Literal["left", "right"] = "right",
        dropout: float = 0.0,
        sample_alpha: float | None = None,
        seed: int = 0,
    ) -> Tokens: ...
    def encode_batch(
        self,
        texts: Sequence[str],
        *,
        allowed_special: Literal["all"] | Collection[str] | None = None,
        template: bool = False,
        threads: int | None = None,
    ) -> list[list[int]]: ...
    def encode_batch_to_numpy(
        self,
        strings: Sequence[str],
        *,
        allowed_special: Literal["all"] | Collection[str] | None = None,
        template: bool = False,
        threads: int | None = None,
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """All ids after one another, and where each text begins: text `i` has `ids[at[i]:at[i + 1]]`."""
    def count(self, string: str) -> int: ...
    def count_batch(self, strings: Sequence[str], *, threads: int | None = None) -> list[int]: ...
    def cut(self, string: str, limit: int) -> tuple[list[int], str, bool]:
        """The ids that fit, the part of the text that they stand for, and whether that is all of it."""
    def pieces(self, string: str) -> list[str]: ...
    def decode(self, ids: Sequence[int], *, skip_special: bool = False, errors: str = "replace") -> str: ...
    def decode_bytes(self, ids: Sequence[int], *, skip_special: bool = False) -> bytes: ...
    def decode_batch(
        self, batch: Sequence[Sequence[int]], *, skip_special: bool = False, threads: int | None = None
    ) -> list[str]: ...
    def stream_decoder(self, *, skip_special: bool = False) -> StreamDecoder: ...
    def token_to_id(self, token: str) -> int | None: ...
    def id_to_token(self, id: int) -> str | None: ...
    def token_bytes(self, id: int) -> bytes | None: ...
    def is_special(self, id: int) -> bool: ...
    def special_tokens(self) -> dict[str, int]: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...
    def with_agent_tokens(self, base: int | None = None) -> Tokenizer: ...
    @staticmethod
    def agent_token_names() -> list[str]: ...
    def with_chat_template(self, template: str) -> Tokenizer: ...
    def chat_text(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        tools: Any = None,
        add_generation_prompt: bool = True,
        **extra: Any,
    ) -> str: ...
    def encode_chat(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        tools: Any = None,
        add_generation_prompt: bool = True,
        **extra: Any,
    ) -> list[int]: ...
    def to_json(self) -> str: ...
    def save(self, path: str | PathLike[str]) -> None:
        """A path that ends in .json becomes a tokenizer.json, any other a model directory."""
