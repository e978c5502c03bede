"""A head fitted anew: on the network as it was, towards the teacher, and exactly again after a stop."""

from __future__ import annotations

import json
import lzma
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

import rwkv_runtime
from examples.train_default_model.alone import PAIR_SETS, clauses, pair_texts, phrases, split_words
from examples.train_default_model.documents import is_permissive
from examples.train_default_model.export import CONFIG, REFERENCE, ROTATION_NAME, WEIGHTS, stored_form
from examples.train_default_model.head_fit import CHECKPOINT, LOG, HeadFit, vectors_of
from examples.train_default_model.heads import SentenceHead
from examples.train_default_model.hidden import Readings, frozen_network, read_parts
from examples.train_default_model.model import Student
from examples.train_default_model.overlap import EvaluationText, WordHasher
from examples.train_default_model.prepare import TOKENIZER
from examples.train_default_model.profiles import HEAD_PROFILES, PROFILES
from examples.train_default_model.refit import Folders, evened_start, main, read_all, refit, shrunk, with_perceptron
from examples.train_default_model.refit import export as refit_export
from examples.train_default_model.shards import Sentence, write_shard
from examples.train_default_model.static_table import bag, bags_of
from examples.train_default_model.variants import replacements, variants
from examples.train_default_model.vocabulary import train_tokenizer
from examples.train_default_model.wkv import kernel
from examples.train_default_model.words import WORD_TOKENS, WORD_VECTORS
from rwkv_runtime.tokenizers.bpe import BpeTokenizer
from rwkv_runtime.weights.row_scaled import SUFFIX
from tests.examples.test_train_data import WORDS, fake_teacher, prose

TINY = HEAD_PROFILES["tiny"]
VOCABULARY = 290
NO_WORDS = torch.full((9,), -1)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model whose parameters are random, those of its head too."""
    folder = tmp_path_factory.mktemp("start")
    tokenizer = train_tokenizer([prose(seed) for seed in range(20)], VOCABULARY, folder / TOKENIZER)
    torch.manual_seed(0)
    network = Student(PROFILES["tiny"].model, tokenizer.vocab_size, kernel("chunked"))
    tensors = {name: (one + 0.1 * torch.randn(one.shape)).bfloat16() for name, one in network.state_dict().items()}
    rotation, _ = torch.linalg.qr(torch.randn(384, 384))
    save_file(tensors | {ROTATION_NAME: rotation.contiguous()}, folder / WEIGHTS)
    (folder / CONFIG).write_text('{"name": "small"}', "utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, and pairs one of which quotes an evaluation text."""
    folder = tmp_path_factory.mktemp("collection")
    for name in ("train/text", "train/pairs", "books"):
        (folder / name).mkdir(parents=True)
    (folder / "books" / "evaluated.txt").write_text(prose(1000), "utf-8")
    sources = ("made", "invented")
    rows = [{"id": f"d{n}", "src": sources[n % 2], "licence": "CC0 1.0", "text": prose(n)} for n in range(70)]
    with pa.output_stream(folder / "train" / "text" / "perm-00.jsonl.zst", compression="zstd") as packed:
        packed.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    pairs = [{"query": f"What is {word}?", "positive": f"A {word} is a made word."} for word in WORDS[:20]]
    pairs.append({"query": "What does it say?", "positive": prose(1000, 3)})
    with lzma.open(folder / "train" / "pairs" / "glossary-openstax.jsonl.xz", "wt") as file:
        file.writelines(json.dumps(pair) + "\n" for pair in pairs)
    return folder


@pytest.fixture(scope="module")
def fitted(start: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fitted")
    refit(str(start), Folders(data, out), TINY, fake_teacher)
    return out


def test_the_network_is_the_one_it_started_from_and_the_head_another(start, fitted):
    before, after = load_file(start / WEIGHTS), load_file(fitted / "model" / WEIGHTS)
    assert after.keys() - before.keys() == {WORD_TOKENS, WORD_VECTORS} and not before.keys() - after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    parts = ("static.weight", "w_mean.weight", "w_last.weight", "mlp.up.weight", "mlp.down.weight")
    shrunk = {"embed_head.gate.weight", "embed_head.gate.bias"}
    assert changed - {"embed_head.mlp.up.bias"} == {f"embed_head.{part}" for part in parts} | shrunk
    for name in shrunk:
        torch.testing.assert_close(after[name].float(), 0.5 * before[name].float(), rtol=1e-2, atol=0)
    assert (start / TOKENIZER).read_bytes() == (fitted / "model" / TOKENIZER).read_bytes()


def test_the_runtime_gives_the_vectors_that_training_code_gives_in_float64(fitted):
    model, wanted = rwkv_runtime.load(fitted / "model"), load_file(fitted / "model" / REFERENCE)
    tokens, spans = wanted["doc_ids"].tolist(), wanted["doc_spans"].tolist()
    head = model.embedding_head
    assert head is not None
    features = head.features(model.forward(tokens, model.initial_state()), tokens)
    sums, last = np.stack([features[a:b].sum(0) for a, b in spans]), np.stack([features[b - 1] for _, b in spans])
    found = head.finish(sums, last, np.array([b - a for a, b in spans]))
    np.testing.assert_allclose(found, wanted["stream"].numpy(), atol=1e-5)


@pytest.mark.parametrize("form", [dict, stored_form])
def test_a_head_is_stored_in_the_form_that_the_weights_have(start, tmp_path, form):
    tensors = load_file(start / WEIGHTS)
    rotation = tensors.pop(ROTATION_NAME)
    for name in (TOKENIZER, CONFIG):
        (tmp_path / name).write_bytes((start / name).read_bytes())
    save_file(form(tensors) | {ROTATION_NAME: rotation}, tmp_path / WEIGHTS)
    head = {name: 1.1 * one for name, one in frozen_network(load_file(start / WEIGHTS)).embed_head.state_dict().items()}
    head["words.weight"] = torch.randn(1, 384)
    refit_export(tmp_path / WEIGHTS, head, torch.tensor([[5, 6]], dtype=torch.int32), tmp_path / "model", 1, 1.0)
    before, after = (load_file(folder / WEIGHTS) for folder in (tmp_path, tmp_path / "model"))
    types = {name: one.dtype for name, one in after.items()}
    assert types.pop(WORD_TOKENS) == torch.int32
    assert types.pop(WORD_VECTORS) == types["embed_head.static.weight"]
    assert types.pop(WORD_VECTORS + SUFFIX, None) == types.get("embed_head.static.weight" + SUFFIX)
    assert types == {name: one.dtype for name, one in before.items()}
    found = rwkv_runtime.load(tmp_path / "model").embedding_head
    assert found is not None
    spread = head["static.weight"].abs().amax(1, keepdim=True)
    assert ((found.static.float() - head["static.weight"]).abs() <= 0.01 * spread).all()
    assert set(load_file(tmp_path / "model" / REFERENCE)) >= {"stream", "isolated", "prompt_logits"}


def test_what_is_kept_of_a_span_read_alone_is_what_the_runtime_reads(start, fitted):
    model, readings = rwkv_runtime.load(start), read_parts(fitted / "hidden")
    head, alone = model.embedding_head, np.flatnonzero(readings.rows == 2)
    assert head is not None and len(alone) > 5
    for begin, end in readings.spans[alone[:5]]:
        tokens = readings.tokens[begin:end].tolist()
        features = head.features(model.forward(tokens, model.initial_state()), tokens)
        np.testing.assert_allclose(readings.hidden[begin:end].numpy(), features[:, -64:], atol=0.1)


def test_the_same_command_again_asks_nobody_and_makes_the_same_model(start, data, fitted):
    made = (fitted / "model" / WEIGHTS).read_bytes()

    def nobody(texts: object) -> np.ndarray:
        raise AssertionError(texts)

    refit(str(start), Folders(data, fitted), TINY, nobody)
    assert (fitted / "model" / WEIGHTS).read_bytes() == made


def test_shards_of_an_earlier_preparation_are_read_with_the_tokens_of_this_model(start, data, fitted, tmp_path):
    other = train_tokenizer([prose(seed) for seed in range(30, 40)], 330, tmp_path / TOKENIZER)
    mine = BpeTokenizer.from_file(start / TOKENIZER)
    sentences = ["Ran a mor. ", "Tele vise. "]
    target = fake_teacher(sentences)
    pieces = [
        Sentence(np.array(other.encode(one), np.uint16), target=row) for one, row in zip(sentences, target, strict=True)
    ]
    write_shard(tmp_path / "shard-000.parquet", [pieces])

    alone, both = read_all(fitted / "data"), read_all(fitted / "data", [tmp_path])
    assert [mine.decode(piece.tokens.tolist()) for piece in both.documents[-1]] == sentences
    rotation = load_file(start / WEIGHTS)[ROTATION_NAME].numpy()
    for piece, row in zip(both.documents[-1], target, strict=True):
        assert piece.target >= len(alone.targets)
        np.testing.assert_allclose(both.targets[piece.target], row @ rotation, atol=0.01)
    assert len(both.alone) == len(alone.alone) + 2


def test_an_evened_head_has_the_directions_of_the_one_before_and_a_table_of_one_length(start, fitted):
    network, bags = frozen_network(load_file(start / WEIGHTS)), bags_of(read_all(fitted / "data"))
    head = network.embed_head
    scaled = SentenceHead(len(head.static.weight), 64, 384, 16)
    scaled.load_state_dict(evened_start(head, bags))
    hidden, tokens = torch.randn(9, 64), torch.arange(9)
    first, second = (vectors_of(one, hidden, tokens, NO_WORDS, np.array([4, 5])) for one in (head, scaled))
    torch.testing.assert_close(*(torch.nn.functional.normalize(one, dim=-1) for one in (first, second)))
    sample = bag(scaled.static.weight, bags, range(len(bags.rows)))
    assert sample.norm(dim=-1).mean().item() == pytest.approx(8, rel=1e-3)


def test_a_head_without_a_perceptron_gets_one_that_changes_nothing_yet_and_another_keeps_its_own():
    torch.manual_seed(2)
    head = SentenceHead(50, 16, 384)
    wider = with_perceptron(head, 8)
    assert wider.mlp is not None and len(wider.mlp.up.bias) == 8
    hidden, tokens, lengths = torch.randn(9, 16), torch.arange(9), np.array([4, 5])
    assert torch.equal(*(vectors_of(one, hidden, tokens, NO_WORDS, lengths) for one in (head, wider)))
    assert with_perceptron(wider, 4) is wider


def test_of_a_fitted_head_the_model_gets_a_part_of_the_gate_and_of_what_comes_from_the_network():
    torch.manual_seed(3)
    head = SentenceHead(50, 16, 384, 8).state_dict()
    shares = {name: (after / head[name]).nanmean().item() for name, after in shrunk(head, TINY).items()}
    halved = {"gate.weight", "gate.bias"}  # zeros here: a mean of nothing
    assert {name for name, share in shares.items() if share != share} == halved | {"mlp.down.weight", "ln.bias"}
    assert shares["w_mean.weight"] == shares["w_last.weight"] == pytest.approx(TINY.network_share)
    assert all(shares[name] == 1 for name in ("static.weight", "mlp.up.weight", "mlp.up.bias", "ln.weight"))


def test_a_head_that_is_fitted_a_second_time_keeps_as_much_of_its_gate_as_after_the_first(fitted, data, tmp_path):
    refit(str(fitted / "model"), Folders(data, tmp_path), TINY, fake_teacher)
    first, second = (load_file(folder / "model" / WEIGHTS) for folder in (fitted, tmp_path))
    torch.testing.assert_close(second["embed_head.gate.weight"], first["embed_head.gate.weight"], rtol=1e-2, atol=0)


def test_a_model_whose_head_has_no_perceptron_is_exported_with_the_one_that_was_fitted(start, data, tmp_path):
    tensors = {name: one for name, one in load_file(start / WEIGHTS).items() if ".mlp." not in name}
    (tmp_path / "plain").mkdir()
    for name in (TOKENIZER, CONFIG):
        (tmp_path / "plain" / name).write_bytes((start / name).read_bytes())
    save_file(tensors, tmp_path / "plain" / WEIGHTS)
    begun = rwkv_runtime.load(tmp_path / "plain").embedding_head
    assert begun is not None and begun.perceptron is None
    refit(str(tmp_path / "plain"), Folders(data, tmp_path / "out"), TINY, fake_teacher)
    found = rwkv_runtime.load(tmp_path / "out" / "model").embedding_head
    assert found is not None and found.perceptron is not None
    assert found.perceptron.up.weight.shape == (TINY.mlp, 64 + 384)
    assert found.perceptron.down.weight.abs().max() > 0


def test_a_model_without_a_head_is_refused_in_one_line(start, data, tmp_path, capsys):
    tensors = load_file(start / WEIGHTS)
    (tmp_path / "headless").mkdir()
    save_file({name: one for name, one in tensors.items() if "static" not in name}, tmp_path / "headless" / WEIGHTS)
    (tmp_path / "headless" / TOKENIZER).write_bytes((start / TOKENIZER).read_bytes())
    assert main(["--start", str(tmp_path / "headless"), "--data", str(data), "--out", str(tmp_path / "out")]) == 1
    assert "has no tensor 'embed_head.static.weight'" in capsys.readouterr().err


@pytest.fixture
def made_up() -> tuple[SentenceHead, Readings, np.ndarray]:
    """A head, readings of 40 spans, and targets that a head can learn: a linear function of the first token's."""
    torch.manual_seed(1)
    head = SentenceHead(50, 16, 384, 8)
    torch.nn.init.normal_(head.static.weight, std=0.1)
    torch.nn.init.normal_(head.gate.weight)
    generator = np.random.default_rng(0)
    ends = np.cumsum(generator.integers(1, 9, 40))
    spans = np.stack([np.concatenate([[0], ends[:-1]]), ends], 1)
    tokens = torch.from_numpy(generator.integers(0, 50, ends[-1]))
    words = torch.where(torch.arange(len(tokens)) % 3 == 0, torch.from_numpy(generator.integers(0, 50, ends[-1])), -1)
    hidden = torch.randn(len(tokens), 16).half()
    readings = Readings(hidden, tokens, spans, np.arange(40), np.zeros(40, np.int64), words)
    targets = generator.standard_normal((40, 384))
    return head, readings, (targets / np.linalg.norm(targets, axis=1, keepdims=True)).astype(np.float16)


def test_vectors_are_those_of_the_head_that_trains_with_the_network(made_up):
    head, readings, _ = made_up
    head.double()  # the other way takes differences of sums over all tokens
    residual = torch.randn(1, len(readings.tokens), 16).double()
    hidden = torch.nn.functional.layer_norm(residual[0], (16,), head.ln.weight, head.ln.bias)
    rows = torch.cat([torch.zeros(40, 1, dtype=torch.long), torch.from_numpy(readings.spans)], 1)
    static = head.static(readings.tokens) + (readings.words >= 0)[:, None] * head.static(readings.words.clamp(min=0))
    wanted = head.with_static(residual, static[None], rows)
    found = vectors_of(head, hidden, readings.tokens, readings.words, readings.spans[:, 1] - readings.spans[:, 0])
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_a_fit_comes_nearer_to_the_teacher_and_after_a_stop_goes_on_to_the_same_head(tmp_path, made_up):
    head, readings, targets = made_up
    begun = {name: one.clone() for name, one in head.state_dict().items()}

    def fit() -> HeadFit:
        head = SentenceHead(50, 16, 384, 8)
        head.load_state_dict(begun)
        return HeadFit(head, readings, targets, TINY)

    whole = fit()
    first = whole.take_step()["cosine"]
    whole.run(tmp_path)
    assert json.loads((tmp_path / LOG).read_text().splitlines()[-1])["step"] == TINY.steps
    assert whole.take_step()["cosine"] > first + 0.1

    stopped = fit()
    (tmp_path / "stopped").mkdir()
    stopped.run(tmp_path / "stopped", until=lambda: stopped.step == 5)
    resumed = fit()
    resumed.restore(tmp_path / "stopped" / CHECKPOINT)
    assert resumed.step == 5
    resumed.run(tmp_path / "stopped")
    whole.restore(tmp_path / CHECKPOINT)
    for name, expected in whole.head.state_dict().items():
        assert torch.equal(resumed.head.state_dict()[name], expected), name


def test_a_network_that_is_read_for_a_head_is_not_trained(start):
    network = frozen_network(load_file(start / WEIGHTS), "chunked")
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_pairs_are_of_permissive_sets_and_hold_no_evaluation_text(data):
    assert all(is_permissive(one.licence) for one in PAIR_SETS)
    found = list(pair_texts(data, EvaluationText(WordHasher(), [prose(1000)])))
    assert f"What is {WORDS[0]}?" in found and "What does it say?" in found
    assert len(found) == len(set(found)) == 41


def test_words_that_have_a_token_of_their_own_are_not_asked_for():
    text = "seldom " * 9 + "often " * 20 + "once "
    assert split_words([text], lambda word: [1] if word == " often" else [1, 2], 5) == ["seldom"]


def test_phrases_are_runs_of_words_of_the_text():
    text = prose(3)
    found = phrases([text], 6)
    assert len(found) == 6 == len(set(found))
    assert all(phrase in " ".join(text.split()) and 2 <= len(phrase.split()) <= 6 for phrase in found)


def test_clauses_are_short_parts_of_sentences_and_half_of_them_are_written_as_sentences():
    text = "The old harbour was quiet, but two fishermen mended a net. Nobody came. He left when it began to rain."
    parts = {"The old harbour was quiet", "but two fishermen mended a net", "when it began to rain"}
    found = clauses([text] * 40, 99, one_in=1)
    assert set(found) == parts | {part[0].upper() + part[1:] + "." for part in parts}
    many = clauses([text] * 50, 2, one_in=3)
    assert len(many) == len(set(many)) == 2


COMMON = [
    f"{start}{end}" for start in "bdfgklmnprstv" for end in ("a", "e", "i", "o", "u", "aa", "ee", "ii", "oo", "uu")
]
"""As many words as are taken for those that hold sentences together."""


def common_and(rare: str) -> str:
    return " ".join(word for word in COMMON for _ in range(20)) + " " + rare


def test_a_variant_has_a_word_or_two_replaced_by_others_of_the_text():
    instead = replacements([common_and("red kite, old boat, tall house, " * 9)])
    assert sorted(instead.known) == ["boat", "house", "kite", "old", "red", "tall"]
    originals = ["Ba red kite de old boat.", "bo tall house", "Du de boat, mi."]
    found = list(variants(originals * 20, instead))
    assert len(found) == 2 * 60 and found == list(variants(originals * 20, instead)) and len(set(found)) > 30
    for place, text in enumerate(found):
        before, after = originals[place // 2 % 3].split(), text.split()
        changed = [word.strip(".,").lower() for old, word in zip(before, after, strict=True) if old != word]
        assert len(changed) <= 2 and set(changed) <= set(instead.known)
        assert text[0].isupper() == before[0][0].isupper() and text.endswith(".") == before[-1].endswith(".")


def test_common_and_unknown_words_are_left_so_a_text_of_these_alone_has_no_variants():
    instead = replacements([common_and("red kite " * 9)])
    assert list(variants(["Ba de, 17 zebras.", "bo"], instead)) == []
    assert all(
        text.startswith("Ba de, 17 zebras ") for text in variants(["Ba de, 17 zebras kite"], instead, per_text=9)
    )


def test_what_stands_behind_a_word_elsewhere_is_chosen_more_often_than_any_other():
    instead = replacements([common_and("red kite old boat " * 9 + "tall house " * 40)])
    behind_red = Counter(instead.one("red", random.Random(seed)) for seed in range(300))
    assert behind_red["kite"] > 0.6 * 300 and len(behind_red) == 6
    assert len({instead.one("never read", random.Random(seed)) for seed in range(300)}) == 6
