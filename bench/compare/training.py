"""Training side by side: CPU seconds of the whole process, one thread each, vocabularies of 32,768 tokens."""

import os
import sys
import tempfile
import time

import cupola


def cpu(work):
    begin = time.process_time()
    result = work()
    return result, time.process_time() - begin


def main():
    texts = [open(path, encoding="utf-8").read() for path in sys.argv[1:]]
    text = "".join(texts)
    # About ten megabytes, whatever was given.
    text = (text * (10_000_000 // max(len(text), 1) + 1))[:10_000_000] if len(text) < 10_000_000 else text
    lines = text.splitlines(keepends=True)
    size = 32_768
    print(f"\n{len(text.encode()) / 1e6:.1f} MB, {size} tokens: CPU seconds")
    import rustbpe

    pattern = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
    for _ in range(3):
        ours, seconds = cpu(lambda: cupola.Tokenizer.train_bpe(lines, vocab_size=size, pattern=pattern, tie_break="byte_value"))
        theirs = rustbpe.Tokenizer()
        _, others = cpu(lambda: theirs.train_from_iterator(iter(lines), size, pattern=pattern))
        print(f"BPE      cupola {seconds:.2f} ({ours.vocab_size} ids)   rustbpe {others:.2f}")
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "text.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        arguments = {
            "input": path,
            "model_prefix": os.path.join(folder, "model"),
            "vocab_size": size,
            "num_threads": 1,
            "minloglevel": 2,
            "hard_vocab_limit": False,
            "input_sentence_size": 0,
        }
        for _ in range(2):
            plain = [line.rstrip("\n") for line in lines]
            ours, seconds = cpu(lambda: cupola.Tokenizer.train_unigram(plain, vocab_size=size))
            _, others = cpu(lambda: sentencepiece.SentencePieceTrainer.train(model_type="unigram", **arguments))
            print(f"Unigram  cupola {seconds:.2f} ({ours.vocab_size} ids)   SentencePiece {others:.2f}")


if __name__ == "__main__":
    main()
