"""Stage `tokenizer`: CLIP's byte-pair encoding with merges for the words of the captions; any other text is split into smaller pieces."""

import collections
import json
from pathlib import Path

from world.captions import WORDS

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def byte_letters() -> list[str]:
    """The letter that stands for each byte, printable ones for themselves, in the order of CLIP's vocabulary
    (`bytes_to_unicode` in OpenAI's `simple_tokenizer.py`)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def learn(words: list[str]) -> list[tuple[str, str]]:
    """Merges the most frequent neighbours until each word is one piece."""
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    merges = []
    while pairs := collections.Counter(pair for split in pieces.values() for pair in zip(split, split[1:])):
        first, second = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append((first, second))
        for word, split in pieces.items():
            merged: list[str] = []
            for piece in split:
                if merged and (merged[-1], piece) == (first, second):
                    merged[-1] += piece
                else:
                    merged.append(piece)
            pieces[word] = merged
    return merges


def main(folder: Path) -> None:
    out = folder / "tokenizer"
    out.mkdir(parents=True, exist_ok=True)
    letters, merges = byte_letters(), learn(WORDS)
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), BEGIN, END]
    assert len(set(vocabulary)) == len(vocabulary)
    write = lambda name, value, **how: (out / name).write_text(json.dumps(value, **how), encoding="utf-8")
    write("vocab.json", {piece: number for number, piece in enumerate(vocabulary)}, ensure_ascii=False)
    (out / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    begin = {"content": BEGIN, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    end = {**begin, "content": END}
    write("special_tokens_map.json", {"bos_token": begin, "eos_token": end, "pad_token": END, "unk_token": end}, indent=1)
    tokens = {"bos_token": BEGIN, "eos_token": END, "pad_token": END, "unk_token": END}
    settings = {"do_lower_case": True, "errors": "replace", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    write("tokenizer_config.json", {"add_prefix_space": False, **tokens, **settings}, indent=1)
    print(f"{len(vocabulary)} tokens, {len(merges)} merges")
