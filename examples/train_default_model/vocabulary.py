"""The tokenizer of the trained model: byte-level BPE whose tokens, joined, are the bytes of the text.

Digits stand alone, and white space never ends up behind other characters in one piece, so a text can be encoded in
parts (`rwkv_runtime.tokenizers.bpe` accepts the splitting pattern for that). Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from rwkv_runtime.tokenizers.bpe import SINGLE_DIGITS_PATTERN, BpeTokenizer

END_OF_TEXT = "<|endoftext|>"
LONGEST_TOKEN = 20


def train_tokenizer(texts: Iterable[str], size: int, path: Path) -> BpeTokenizer:
    """Train a vocabulary of at most `size` tokens on texts, save it as tokenizer.json and load it as users will."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SINGLE_DIGITS_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path))
    return BpeTokenizer.from_file(path)
