"""A reader of spans: fitted to marked answers on what a model says of texts, and measured on others."""

from __future__ import annotations

import json
import lzma
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

import rwkv_runtime
from examples.train_default_model import spans
from examples.train_default_model.span_data import Case, Read, read_cases, train_items, write_cases
from examples.train_default_model.span_fit import CHECKPOINT, LOG, SPAN_PROFILES, SpanFit
from examples.train_default_model.span_reader import (
    Marked,
    Scores,
    SpanReader,
    StaticVectors,
    best_span,
    loss_of,
    tokens_of,
)
from examples.train_default_model.span_report import (
    BOTH,
    READER,
    WORDS,
    limits,
    report,
    seen,
    weights_of_both,
    with_both,
)
from examples.train_default_model.spans import REPORT, main
from pipeline.evals.cuad_passages import questions
from pipeline.metrics.asked import Asked
from rwkv_runtime import spans as rwkv_spans
from rwkv_runtime.engine import Engine
from rwkv_runtime.spans import FILE
from rwkv_runtime.words import Words
from tests.examples.test_refit import start as start
from tests.examples.test_train_data import WORDS as MADE
from tests.examples.test_train_data import prose

TINY = SPAN_PROFILES["tiny"]
WIDTH, SIZE, VOCABULARY = 8, 16, 40


def packed(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as JSON lines, packed or not as the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".xz":
        path.write_bytes(lzma.compress(lines.encode()))
    else:
        path.write_text(lines, "utf-8")


def contract(seed: int) -> dict[str, Any]:
    """A text with a clause, and with a term and a party that it defines."""
    text = prose(seed, 8) + '"Made Thing" means a thing. It is signed by Ann (the "Lender").\n\n' + prose(seed + 500, 8)
    begin = text.index("means a thing")
    labels = [{"category": name, "spans": [{"start": begin, "end": begin + 13}]} for name in list(questions())[:6]]
    return {"text": text, "labels": labels}


def meeting(seed: int) -> dict[str, Any]:
    turns = [f"A: {one}" for one in prose(seed, 12).split(". ") if one.strip()]
    asked = [{"query": f"What was said of {word}?", "relevant_text_span": [[1, 2]]} for word in MADE[:3]]
    return {"text": "\n".join(turn.replace("\n", " ") for turn in turns), "specific": asked}


def splits(folder: Path, seed: int, medquad: str, suffix: str) -> None:
    """The files of one split."""
    answers = [
        (f"What are the {what} of {MADE[number]}itis ?", prose(seed + 10 * number + place, 3))
        for number in range(30)
        for place, what in enumerate(("symptoms", "treatments", "complications"))
    ]
    key = "positive" if medquad.startswith("pairs") else "answer"
    packed(folder / medquad, [{"query": query, key: answer} for query, answer in answers])
    packed(folder / "labelled/cuad.jsonl.xz", [contract(seed + number) for number in range(12)])
    packed(folder / f"labelled/qmsum.jsonl{suffix}", [meeting(seed + number) for number in range(5)])


def country(name: str) -> str:
    fields = ("Capital", "Population", "Area", "Languages", "Currency", "Climate", "Religions", "Legal system")
    return f"# {name}\n\n" + "".join(f"{field}: {field.lower()} of {name} 12\n\n" for field in fields)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a train split and another of each set."""
    folder = tmp_path_factory.mktemp("questions")
    splits(folder / "train", 0, "pairs/qa-medquad.jsonl.xz", ".xz")
    splits(folder, 5000, "labelled/medquad-qa.jsonl.xz", "")
    names = [f"{word.capitalize()}land" for word in MADE[:10]]
    texts = [{"src": "eltec-eng", "text": prose(7, 900)}]
    texts += [{"src": "factbook", "text": country(name)} for name in names[:5]]
    (folder / "train/text").mkdir()
    with pa.output_stream(folder / "train/text/perm-00.jsonl.zst", compression="zstd") as file:
        file.write("".join(json.dumps(row) + "\n" for row in texts).encode())
    packed(folder / "labelled/factbook-fields.jsonl", [{"text": country(name)} for name in names[5:]])
    (folder / "labelled/wikitext2-valid.txt").write_text(prose(8, 900), "utf-8")
    return folder


def case(seed: int, name: str = "made", answered: bool = True) -> Case:
    """Six sentences of five tokens; the right one has the question's two tokens, its second and its third."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(5, VOCABULARY, 30)
    asked = np.array([1 + seed % 4, 1 + (seed + 1) % 4])
    right = int(draw.integers(6))
    if answered:
        tokens[5 * right + 1 : 5 * right + 3] = asked
    spans = [[3 * (5 * right + 1), 3 * (5 * right + 3)]] if answered else []
    ends = 3 * torch.arange(31)
    return Case(
        name,
        seed,
        Read(torch.from_numpy(draw.standard_normal((30, WIDTH))).half(), torch.from_numpy(tokens)),
        torch.stack([ends[:-1], ends[1:]], 1),
        5 * torch.stack([torch.arange(6), torch.arange(1, 7)], 1),
        F.normalize(torch.from_numpy(draw.standard_normal((6, SIZE))), dim=1).half(),
        torch.tensor([0, 0, 1, 1, 2, 2]),
        torch.from_numpy(draw.standard_normal(6)),
        Read(torch.from_numpy(draw.standard_normal((2, WIDTH))).half(), torch.from_numpy(asked)),
        F.normalize(torch.from_numpy(draw.standard_normal(SIZE)), dim=0).half(),
        torch.tensor(spans, dtype=torch.int64).reshape(-1, 2),
    )


def static() -> StaticVectors:
    rows = F.normalize(torch.randn(VOCABULARY, SIZE, generator=torch.Generator().manual_seed(0)), dim=1)
    return lambda tokens: rows[tokens]


def reader() -> SpanReader:
    torch.manual_seed(0)
    return SpanReader(WIDTH, SIZE, rank=4)


def test_what_is_learned_on_some_texts_is_right_of_others():
    cases = [case(seed, answered=seed % 3 > 0) for seed in range(120)]
    profile = replace(TINY, steps=70, batch=4, rate=6e-2, drop=0.0, bounds_weight=1.0)
    fit = SpanFit(reader(), cases, static(), profile)
    for _ in range(profile.steps):
        fit.take_step()
    others = seen([case(seed, answered=seed % 3 > 0) for seed in range(1000, 1060)], fit.reader, static())
    there = [one for one in others if len(one.case.spans)]
    assert np.mean([bool(one.case.right[one.chosen(READER)]) for one in there]) > 0.9
    assert np.mean([(one.sure(READER) > 0) == bool(len(one.case.spans)) for one in others]) > 0.9
    exact = [one.spans[one.chosen(READER)].tolist() == one.case.spans[0].tolist() for one in there]
    assert np.mean(exact) > 0.75


def test_a_fit_that_was_stopped_goes_on_to_the_same_reader(tmp_path):
    cases = [case(seed, answered=seed % 3 > 0) for seed in range(20)]
    whole = SpanFit(reader(), cases, static(), TINY)
    whole.run(tmp_path)
    stopped = SpanFit(reader(), cases, static(), TINY)
    stopped.run(tmp_path, until=lambda: stopped.step == 5)
    resumed = SpanFit(reader(), cases, static(), TINY)
    resumed.restore(tmp_path / CHECKPOINT)
    assert resumed.step == 5
    resumed.run(tmp_path)
    for name, expected in whole.reader.state_dict().items():
        assert torch.equal(resumed.reader.state_dict()[name], expected), name
    assert json.loads((tmp_path / LOG).read_text().splitlines()[-1])["step"] == TINY.steps


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 2**16))
@settings(deadline=None)
def test_the_best_span_of_a_sentence_is_the_best_of_all_its_spans(lengths, seed):
    draw = np.random.default_rng(seed)
    starts, ends = torch.from_numpy(draw.integers(-9, 9, (2, sum(lengths))).astype(np.float64))
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    sentence = seed % len(lengths)
    begin, end = best_span(Scores(torch.zeros(len(lengths)), starts, ends, owner), sentence)
    own = torch.nonzero(owner == sentence)[:, 0].tolist()
    totals = [starts[own[a]] + ends[own[b]] for a in range(len(own)) for b in range(a, len(own))]
    assert 0 <= begin < end <= len(own)
    assert starts[own[begin]] + ends[own[end - 1]] == max(totals)


@given(seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=20)
def test_the_losses_are_those_of_softmaxes_over_sentences_and_over_each_right_sentence(seed):
    draw = np.random.default_rng(seed)
    first, last = sorted(draw.integers(0, 90, 2).tolist())
    one = replace(case(seed), spans=torch.tensor([[first, last + 1]]))
    marked, scores = Marked.of(one), reader()(one, static())
    assert marked is not None
    known = torch.softmax(torch.cat([torch.zeros(1), scores.sentences]), 0)
    right = [n for n in range(6) if 15 * n <= last and 15 * (n + 1) > first]
    wanted = []
    for n in right:
        inside = [t for t in range(5) if 15 * n + 3 * t <= last and 15 * n + 3 * t + 3 > first]
        for values, place in ((scores.starts, inside[0]), (scores.ends, inside[-1])):
            wanted.append(-torch.log_softmax(values[5 * n : 5 * n + 5], 0)[place])
    chosen, bounds = loss_of(marked, scores)
    torch.testing.assert_close(chosen, -known[1:][right].sum().log())
    torch.testing.assert_close(bounds, torch.stack(wanted).mean())


def test_an_answer_that_no_sentence_has_a_part_of_teaches_nothing():
    assert Marked.of(replace(case(0), spans=torch.tensor([[900, 950]]))) is None
    absent = Marked.of(case(0, answered=False))
    assert absent is not None and not absent.sentences.any()


def test_the_score_of_a_sentence_depends_on_its_own_passage_alone():
    one, made = case(3), reader()
    tokens = one.text.tokens.clone()
    tokens[10:] = tokens[10:].flip(0)
    other = replace(one, text=replace(one.text, tokens=tokens))
    before, after = (made(each, static()).sentences for each in (one, other))
    assert torch.equal(before[:2], after[:2]) and not torch.equal(before[2:], after[2:])


def test_what_is_kept_of_a_text_is_what_the_model_says_of_it_and_every_place_is_that_of_its_token(start, tmp_path):
    engine = Engine(rwkv_runtime.load(start), window=64, lanes=1)
    text = "Ümläute first. " + prose(3, 20)
    at = text.index(". ", 200) + 2
    asked = (Asked.marked(f"What about {text[at : at + 20]}?", [(at, at + 9)]), Asked.marked("Is there nothing?", ()))
    write_cases(tmp_path, {"made up": iter([(text, asked)])}, slice(0, 1), engine, print, 10_000)
    [first, second] = read_cases(tmp_path)
    assert (first.name, first.document, len(second.spans)) == ("made up", 0, 0)
    raw, tokenizer = text.encode(), engine.model.tokenizer
    for token, (begin, end) in zip(first.text.tokens.tolist(), first.places.tolist(), strict=True):
        assert raw[begin:end] == tokenizer.token_bytes(token)
    assert [raw[begin:end].decode() for begin, end in first.spans.tolist()] == [text[at : at + 9]]
    assert first.right.sum() == 1

    ids = tokenizer.encode(text)
    head, state, rows = engine.model.embedding_head, engine.model.initial_state(), []
    assert head is not None
    for begin in range(0, len(ids), 64):
        output = engine.model.forward(ids[begin : begin + 64], state)
        rows.append(head.features(output, ids[begin : begin + 64])[:, -engine.model.config.n_embd :])
        state = output.state
    ends = np.cumsum([len(tokenizer.token_bytes(token)) for token in ids]).tolist()
    kept = [ends.index(end) for end in first.places[:, 1].tolist()]
    np.testing.assert_allclose(first.text.hidden.float().numpy(), np.concatenate(rows)[kept], atol=2e-2)


def test_the_runtime_gives_the_scores_that_training_code_gives(start, tmp_path):
    text = prose(4, 25)
    model = rwkv_runtime.load(start)
    pairs = sorted(set(pairwise(model.tokenizer.encode(text))))[::3]
    head = model.embedding_head
    assert head is not None
    words = Words.of(torch.randn(len(pairs), head.dimensions), torch.tensor(pairs), model.config.vocab_size)
    engine = Engine(model, window=64, lanes=1, pooling=replace(head, words=words))
    asked = (Asked.marked(f"What about {text[300:330]}?", [(300, 320)]),)
    write_cases(tmp_path, {"made": iter([(text, asked)])}, slice(0, 1), engine, print, 10_000)
    [one] = read_cases(tmp_path)
    torch.manual_seed(3)
    made = spans.in_bfloat16(SpanReader(engine.model.config.n_embd, one.vectors.shape[1]))
    chosen = spans.Chosen(np.arange(5.0), {WORDS: 0.0, READER: 0.0, BOTH: 1.5}, -2.5)
    spans.save(made, chosen, engine.model.fingerprint, tmp_path / FILE)
    wanted = made(one, spans.static_vectors(engine)).sentences.detach().numpy()

    found = rwkv_spans.SpanReader.read(tmp_path / FILE)
    assert (found.mixture.tolist(), found.answered, found.unsure) == ([0.0, 1.0, 2.0, 3.0, 4.0], 1.5, -2.5)

    def features(read: Read) -> np.ndarray:
        hidden, static = read.hidden.float(), F.embedding(read.tokens, head.static).float()
        for place, pair in enumerate(pairwise(read.tokens.tolist()), 1):
            if pair in pairs:
                static[place] += words.weight[pairs.index(pair)]
        gate = torch.sigmoid(hidden @ head.gate_weight[0] + head.gate_bias)[:, None]
        return torch.cat([gate * hidden, gate * static, gate, hidden], 1).numpy()

    owner, at = tokens_of(one.sentences)
    said = rwkv_spans.Said(
        features(one.text)[at],
        owner.numpy(),
        one.passages.numpy(),
        one.vectors.float().numpy(),
    )
    scores = found.sentence_scores(rwkv_spans.Asked(features(one.asked), one.vector.float().numpy()), said)
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)


def test_one_command_fits_and_measures_a_reader_and_again_it_reads_nothing(start, data, tmp_path, monkeypatch, capsys):
    given_options = ["--start", str(start), "--data", str(data), "--out", str(tmp_path), "--profile", "tiny"]
    given_options += ["--threads", "1", "--dtype", "fp32"]
    monkeypatch.setattr("pipeline.metrics.bootstrap.RESAMPLES", 10)
    assert main(given_options) == 0
    made, told = (tmp_path / FILE).read_bytes(), capsys.readouterr().out
    found = json.loads((tmp_path / REPORT).read_text())
    contracts = {"CUAD", "CUAD by name", "CUAD in plain words", "definitions"}
    assert set(found) == {"all", "MedQuAD", "facts", "QMSum", "Factbook"} | contracts
    assert set(found["all"]) == {WORDS, READER, BOTH} and "words and reader" in told
    again = spans.load(tmp_path / FILE)
    assert sum(one.numel() for one in again.parameters()) < 150_000

    monkeypatch.setattr(Engine, "feed", None)
    assert main(given_options) == 0 and capsys.readouterr().out.endswith(told[-200:])
    assert (tmp_path / FILE).read_bytes() == made


def test_what_another_model_said_is_not_taken_for_this_ones(tmp_path):
    spans.claim(tmp_path / "out", "this one")
    spans.claim(tmp_path / "out", "this one")
    with pytest.raises(RuntimeError, match="choose another --out"):
        spans.claim(tmp_path / "out", "another")


def test_a_fit_needs_no_text_that_is_measured_on(data, tmp_path):
    (tmp_path / "train").symlink_to(data / "train")
    found = {name: next(items) for name, items in train_items(tmp_path / "train", random.Random(1)).items()}
    assert all(asked for _, asked in found.values())


def test_a_model_without_a_trained_head_is_refused(start):
    bare = Engine(rwkv_runtime.load(start), window=64, lanes=1, pooling="mean")
    with pytest.raises(RuntimeError, match="has no embed_head"):
        spans.static_vectors(bare)


def test_figures_are_of_texts_and_a_way_is_held_against_words_on_the_same():
    cases = [case(seed, answered=seed % 2 > 0) for seed in range(12)]
    known = seen(cases, reader(), static())
    known = with_both(known, weights_of_both(known))
    found = report(known, limits(known))
    right = [float(one.case.right[int(one.case.words.argmax())]) for one in known if len(one.case.spans)]
    assert found[WORDS]["right sentence"]["value"] == pytest.approx(100 * np.mean(right))
    more = found[READER]["right sentence"]["value"] - found[WORDS]["right sentence"]["value"]
    assert found[READER]["right sentence, over words"]["value"] == pytest.approx(more)
    assert found[WORDS]["F1 in a right sentence"]["value"] == pytest.approx(100 * 2 * 6 / (15 + 6))
    assert found[WORDS]["false"]["value"] <= 100 * 2 / 6
    there = [one for one in known if len(one.case.spans)]
    assert report(there, limits(known))[WORDS]["false"] is None


def test_a_stop_while_texts_are_read_leaves_whole_files_and_the_rest_for_the_next_time(start, tmp_path):
    engine = Engine(rwkv_runtime.load(start), window=64, lanes=1)
    texts = [(prose(seed, 5), (Asked.marked("What is said?", ()),)) for seed in range(3)]
    stops = iter((False, True))
    write_cases(tmp_path, {"made": iter(texts)}, slice(0, 3), engine, print, 10_000, lambda: next(stops))
    assert [path.name for path in tmp_path.iterdir()] == ["made-000.safetensors"]
    write_cases(tmp_path, {"made": iter(texts)}, slice(0, 3), engine, print, 10_000)
    assert len(read_cases(tmp_path)) == 3
