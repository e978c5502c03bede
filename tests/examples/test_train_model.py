"""The network that is trained is the one that is run, and training goes on exactly where it stopped."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file

import rwkv_runtime
from examples.train_default_model.export import HEADS, REFERENCE, as_loaded, export, stored_form
from examples.train_default_model.losses import vector_loss
from examples.train_default_model.model import Student
from examples.train_default_model.pool import NO_TARGET, Piece, Pool
from examples.train_default_model.prepare import ROTATION, TOKENIZER
from examples.train_default_model.profiles import PROFILES
from examples.train_default_model.static_table import bag, bags_of, initial_table, train_table
from examples.train_default_model.streams import KINDS, UNKNOWN, Stream, make_streams, next_batch
from examples.train_default_model.train import (
    CHECKPOINT,
    LOG,
    Trainer,
    learning_rate_share,
    next_token_weight,
    parameter_groups,
)
from examples.train_default_model.vocabulary import train_tokenizer
from examples.train_default_model.wkv import kernel

TINY = PROFILES["tiny"]
VOCABULARY = 300


@pytest.fixture
def pool() -> Pool:
    """Six documents of eight sentences, a heading in the middle of each, and the sentences alone."""
    generator = np.random.default_rng(0)
    targets = F.normalize(torch.randn(64, 384, generator=torch.Generator().manual_seed(0)), dim=-1).numpy()
    documents = []
    for document in range(6):
        pieces = []
        for place in range(8):
            tokens = generator.integers(1, VOCABULARY, generator.integers(3, 9)).astype(np.uint16)
            heading = place == 4
            target = NO_TARGET if heading else document * 8 + place
            group = (3, 50 + document) if place == 0 else (0, NO_TARGET)
            pieces.append(Piece(tokens, target, heading, float(place % 3 - 1), *group))
        documents.append(tuple(pieces))
    alone = [(piece.tokens, piece.target) for document in documents for piece in document if piece.target >= 0]
    return Pool(tuple(documents), tuple(alone), targets.astype(np.float16))


def student(vocabulary: int = VOCABULARY) -> Student:
    """A small network whose parameters are not those it starts from: those hide half of the arithmetic."""
    torch.manual_seed(0)
    made = Student(TINY.model, vocabulary, kernel("chunked"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return made


def test_what_is_exported_gives_the_runtime_the_values_of_the_network_in_float64(tmp_path, pool):
    (tmp_path / "data").mkdir()
    tokenizer = train_tokenizer(["some words of a text, and more words"], VOCABULARY, tmp_path / "data" / TOKENIZER)
    np.save(tmp_path / "data" / ROTATION, np.eye(384, dtype=np.float32))
    Trainer(student(tokenizer.vocab_size), pool, TINY.training, 10).save(tmp_path / CHECKPOINT)
    export(tmp_path, TINY)

    model, wanted = rwkv_runtime.load(tmp_path / "model"), load_file(tmp_path / "model" / REFERENCE)
    tokens = wanted["doc_ids"].tolist()
    output = model.forward(tokens, model.initial_state())
    torch.testing.assert_close(output.residual, wanted["final_hidden_doc"], rtol=1e-4, atol=1e-4)
    head = model.embedding_head
    assert head is not None
    features, spans = head.features(output, tokens), wanted["doc_spans"].tolist()
    sums, last = np.stack([features[a:b].sum(0) for a, b in spans]), np.stack([features[b - 1] for _, b in spans])
    found = head.finish(sums, last, np.array([b - a for a, b in spans]))
    np.testing.assert_allclose(found, wanted["stream"].numpy(), atol=1e-5)
    prompt = model.forward(wanted["prompt_ids"].tolist(), model.initial_state(), logits="all")
    torch.testing.assert_close(prompt.logits, wanted["prompt_logits"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(prompt.state.tensors["wkv"], wanted["state_wkv_after_prompt"], rtol=1e-4, atol=1e-4)
    heads = load_file(tmp_path / "model" / HEADS).keys()
    assert {"boundary_head.out.weight", "salience_head.out.weight"} <= heads


def test_tables_in_int8_are_near_what_was_trained():
    parameters = student().state_dict()
    loaded = as_loaded(stored_form(parameters))
    assert loaded.keys() == parameters.keys()
    for name, expected in parameters.items():
        spread = expected.abs().amax(-1, keepdim=True)
        assert ((loaded[name].float() - expected).abs() <= 0.01 * spread).all(), name


def test_a_stream_read_in_two_parts_is_the_stream_read_at_once():
    network = student()
    tokens = torch.randint(VOCABULARY, (2, 24), generator=torch.Generator().manual_seed(2))
    keep = torch.ones(2, 24)
    keep[0, 9] = 0
    whole, _ = network(tokens, keep, network.initial_state(2))
    first, state = network(tokens[:, :13], keep[:, :13], network.initial_state(2))
    second, _ = network(tokens[:, 13:], keep[:, 13:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-3, atol=1e-2)


def test_what_stands_before_a_reset_changes_nothing_behind_it():
    network = student()
    tokens = torch.randint(VOCABULARY, (1, 20), generator=torch.Generator().manual_seed(3))
    keep = torch.ones(1, 20)
    keep[0, 11] = 0
    other = tokens.clone()
    other[0, :11] = other[0, :11].flip(0)
    dirty = [tuple(part + 1 for part in layer) for layer in network.initial_state(1)]
    clean, _ = network(tokens, keep, network.initial_state(1))
    changed, _ = network(other, keep, dirty)
    torch.testing.assert_close(clean[0, 11:], changed[0, 11:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(clean[0, :11], changed[0, :11], atol=0.1)


def test_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path, pool):
    def trainer() -> Trainer:
        torch.manual_seed(0)
        return Trainer(Student(TINY.model, VOCABULARY, kernel("chunked")), pool, TINY.training, 6)

    whole = trainer()
    whole.run(tmp_path)
    (tmp_path / "stopped").mkdir()
    stopped = trainer()
    stopped.run(tmp_path / "stopped", until=lambda: stopped.step == 3)
    resumed = trainer()
    resumed.restore(tmp_path / "stopped" / CHECKPOINT)
    assert resumed.step == 3
    resumed.run(tmp_path / "stopped")
    for (name, expected), found in zip(
        whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(found, expected), name
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines[-1]["step"] == 6 and {"cosine", "nats_per_token", "tokens_per_s"} <= lines[-1].keys()


def test_a_few_steps_bring_the_vectors_nearer_to_the_teacher(pool):
    torch.manual_seed(0)
    trainer = Trainer(
        Student(TINY.model, VOCABULARY, kernel("chunked")), pool, replace(TINY.training, rows=(1, 1, 4)), 200
    )
    reports = [trainer.take_step() for _ in range(25)]
    early, late = (np.mean([one["cosine"] for one in part]) for part in (reports[:5], reports[-5:]))
    assert late > early + 0.08


def test_every_parameter_is_in_one_group_and_only_hidden_matrices_decay():
    network = student()
    groups = parameter_groups(network)
    assert sorted(id(one) for group in groups for one in group["params"]) == sorted(map(id, network.parameters()))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed = {names[id(one)] for group in groups if group["weight_decay"] for one in group["params"]}
    assert decayed == {
        f"blocks.{layer}.{part}.weight"
        for layer in range(TINY.model.layers)
        for part in ("att.receptance", "att.key", "att.value", "att.output", "ffn.key", "ffn.value")
    } | {"head.weight"}


def test_the_learning_rate_rises_stays_and_falls():
    shares = [learning_rate_share(step, 1000, 50) for step in range(1000)]
    assert shares[49] == shares[749] == 1.0
    assert shares[:50] == sorted(shares[:50]) and shares[50:] == sorted(shares[50:], reverse=True)
    assert shares[-1] == 0.02


def test_the_constant_part_of_the_schedule_does_not_depend_on_where_it_ends():
    assert [learning_rate_share(step, 1000, 50) for step in range(750)] == [
        learning_rate_share(step, 8000, 50) for step in range(750)
    ]


def test_next_tokens_weigh_most_at_first():
    weights = [next_token_weight(step, 1000, 1.0, 0.2) for step in range(1000)]
    assert weights[0] == 1.0 and weights[125] == pytest.approx(0.6)
    assert weights == sorted(weights, reverse=True)
    assert set(weights[250:]) == {0.2}


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_a_span_are_those_of_its_sentence_and_contexts_start_where_they_should(pool, kind):
    sentences = {piece.target: piece.tokens.tolist() for document in pool.documents for piece in document}
    stream = Stream(pool, kind, random.Random(1))
    seen, resets = 0, 0
    for _ in range(30):
        tokens, keep, spans = stream.take(40)
        assert len(tokens) == len(keep) == 41
        resets += keep[:40].count(0)
        for span in spans:
            if span.target < 50:
                assert tokens[span.begin : span.end] == sentences[span.target]
                assert keep[span.begin] == 0 or kind != "alone"
                seen += 1
    assert seen > 40 and (resets > 0 or kind != "alone")
    assert resets < 60 or kind == "alone"


def test_a_batch_predicts_the_token_that_comes_next(pool):
    streams = make_streams(pool, (1, 1, 1), seed=0)
    first, second = next_batch(streams, 16), next_batch(streams, 16)
    assert (first.following[:, :-1] == first.tokens[:, 1:]).all()
    assert (first.following[:, -1] == second.tokens[:, 0]).all()
    assert (first.predictable[:, -1] == (second.keep[:, 0] > 0)).all()


def test_a_hidden_heading_marks_the_sentence_behind_it(pool):
    stream = Stream(pool, "documents", random.Random(0))
    opening, labelled = set(), 0
    for _ in range(40):
        for span in stream.take(50)[2]:
            if span.opens != UNKNOWN and span.target < 50:
                labelled += 1
                if span.opens:
                    opening.add(span.target % 8)
    assert opening == {5} and labelled > 50


def test_the_static_table_learns_the_mean_of_its_rows(pool):
    noise = 0.02 * np.random.default_rng(0).standard_normal((VOCABULARY, 384)).astype(np.float32)
    start = initial_table(noise, np.zeros(VOCABULARY))
    bags = bags_of(pool)
    trained = train_table(start, bags, 12, batch=128)
    targets = torch.from_numpy(pool.targets[[target for _, target in pool.alone]]).float()

    def cosine(table: np.ndarray) -> float:
        vectors = bag(torch.from_numpy(table), bags, range(len(pool.alone)))
        return F.cosine_similarity(vectors, targets).mean().item()

    assert cosine(trained) > cosine(start) + 0.3
    mean = bag(torch.from_numpy(trained), bags, [0])[0]
    torch.testing.assert_close(mean, torch.from_numpy(trained[pool.alone[0][0]]).mean(0))


def test_the_loss_of_the_teachers_own_vectors_is_nothing():
    targets = F.normalize(torch.randn(9, 384, generator=torch.Generator().manual_seed(0)), dim=-1)
    perfect, wrong = vector_loss(3 * targets, targets), vector_loss(targets.roll(1, 0), targets)
    assert perfect.total().abs() < 1e-4
    assert wrong.cosine > 0.8 and wrong.neighbours > 0.5


def test_the_profiles_fit_what_the_project_ships(tmp_path: Path):
    for name in ("hour", "cpu", "gpu"):
        torch.manual_seed(0)
        profile = PROFILES[name]
        count = sum(p.numel() for p in Student(profile.model, profile.data.vocabulary, kernel("native")).parameters())
        assert 5e6 < count - profile.data.vocabulary * 384 < 30e6, name
