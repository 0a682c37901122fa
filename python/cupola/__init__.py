"""Tokenizers in Rust: tiktoken's interface, every common file format, training and chat templates.

>>> import cupola
>>> enc = cupola.get_encoding("cl100k_base")
>>> enc.encode("hello world")
[15339, 1917]
"""

from ._cupola import StreamDecoder, Tokenizer, TokenizerError, Tokens, __version__
from ._encoding import Encoding, encoding_for_model, encoding_name_for_model, get_encoding, list_encoding_names

__all__ = [
    "Encoding",
    "StreamDecoder",
    "Tokenizer",
    "TokenizerError",
    "Tokens",
    "__version__",
    "encoding_for_model",
    "encoding_name_for_model",
    "get_encoding",
    "list_encoding_names",
]
