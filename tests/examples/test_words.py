"""Words that the tokenizer cuts get a vector of their own: which words, where they count, what the files hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import rwkv_runtime
from examples.train_default_model.export import CONFIG, WEIGHTS
from examples.train_default_model.refit import Folders, refit
from examples.train_default_model.smaller_model import main, write_smaller
from examples.train_default_model.static_table import Bags, bag
from examples.train_default_model.vocabulary import train_tokenizer
from examples.train_default_model.words import WORD_TOKENS, WORD_VECTORS, frequent_words, with_words
from rwkv_runtime.tokenizers.bpe import BpeTokenizer
from rwkv_runtime.weights.row_scaled import SUFFIX
from rwkv_runtime.words import Words
from tests.examples.test_refit import TINY, data, fitted, start  # noqa: F401
from tests.examples.test_train_data import fake_teacher, prose


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BpeTokenizer:
    return train_tokenizer([prose(seed) for seed in range(20)], 285, tmp_path_factory.mktemp("t") / "tokenizer.json")


def test_the_words_are_the_most_frequent_ones_that_have_several_tokens(tokenizer):
    texts = [" " + " ".join(prose(seed).split()) for seed in range(6)]
    met = Counter(word for text in texts for word in text.replace(".", " ").split() if word.isalpha())
    cut = {word: times for word, times in met.items() if 1 < len(tokenizer.encode(" " + word)) <= 8}
    table = frequent_words((np.array(tokenizer.encode(text), np.uint16) for text in texts), tokenizer, 10)
    words = [tokenizer.decode([token for token in row if token >= 0]).strip() for row in table.tolist()]
    assert len(set(words)) == 10 and set(words) <= cut.keys()
    left_out = max(times for word, times in cut.items() if word not in words)
    assert [cut[word] for word in words] == sorted((cut[word] for word in words), reverse=True)
    assert min(cut[word] for word in words) >= left_out


def test_figures_stops_and_words_of_one_token_are_no_such_words(tokenizer):
    with pytest.raises(RuntimeError, match="no word of the texts has two tokens or more"):
        frequent_words([np.array(tokenizer.encode(" 12 1999. ... 7")), np.array(tokenizer.encode(" a"))], tokenizer, 5)


def test_a_text_with_its_words_is_the_sum_of_all_rows_over_the_number_of_its_tokens():
    words = Words.of(torch.zeros(2, 3), torch.tensor([[1, 2, -1], [4, 5, 6]]), 8)
    texts = Bags([np.array([1, 2, 3]), np.array([0, 4, 5, 6]), np.array([7])], np.array([3, 4, 1]), *_no_targets())
    found = with_words(texts, words, 8)
    table = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    wanted = [
        (table[1] + table[2] + table[3] + table[8]) / 3,
        (table[0] + table[4] + table[5] + table[6] + table[9]) / 4,
        table[7],
    ]
    torch.testing.assert_close(bag(table, found, [0, 1, 2]), torch.stack(wanted))
    torch.testing.assert_close(bag(table, found, [2, 0]), torch.stack([wanted[2], wanted[0]]))


def test_a_refit_teaches_the_words_and_another_one_keeps_them(data, fitted, tmp_path):  # noqa: F811
    first = load_file(fitted / "model" / WEIGHTS)
    assert first[WORD_TOKENS].shape[0] == TINY.words and first[WORD_VECTORS].float().norm(dim=1).min() > 0
    refit(str(fitted / "model"), Folders(data, tmp_path), TINY, fake_teacher)
    second = load_file(tmp_path / "model" / WEIGHTS)
    assert torch.equal(second[WORD_TOKENS], first[WORD_TOKENS])
    assert not torch.equal(second[WORD_VECTORS], first[WORD_VECTORS])


def test_a_model_in_int8_says_nearly_the_same_and_is_not_made_smaller_twice(fitted, tmp_path):  # noqa: F811
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert main([str(fitted / "model"), str(once)]) == 0
    write_smaller(str(once), twice)
    tensors = load_file(once / WEIGHTS)
    assert {"blocks.0.ffn.key.weight", "emb.weight", WORD_VECTORS} <= {
        name for name in tensors if name + SUFFIX in tensors
    }
    assert (once / WEIGHTS).read_bytes() == (twice / WEIGHTS).read_bytes()
    assert (once / WEIGHTS).stat().st_size < 0.85 * (fitted / "model" / WEIGHTS).stat().st_size
    tokens = list(range(40))
    outputs = [model.forward(tokens, model.initial_state()) for model in map(_loaded, (fitted / "model", once))]
    first, second = (one.hidden for one in outputs)
    assert (first - second).norm() < 0.03 * first.norm()


def test_a_model_that_is_not_there_is_said_in_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "none"), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: ") and not (tmp_path / "out" / CONFIG).exists()


def _loaded(folder: Path) -> rwkv_runtime.Model:
    return rwkv_runtime.load(folder)


def _no_targets() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((0, 3), np.float16), np.zeros(0, np.int64)
