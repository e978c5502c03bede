"""What the shipped model is trained on: permissive text, each document once, nothing that is evaluated on."""

from __future__ import annotations

import json
import lzma
import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rwkv_runtime
from examples.train_default_model.__main__ import main
from examples.train_default_model.alone import PAIR_SETS
from examples.train_default_model.alone_shards import ALONE_TEXTS
from examples.train_default_model.corpus import Limits, excerpts, read_excerpts
from examples.train_default_model.documents import PASSAGE_CHARS, is_permissive, passages, read_documents
from examples.train_default_model.evaluation_text import evaluation_files, evaluation_texts
from examples.train_default_model.overlap import EvaluationText, NearDuplicates, WordHasher
from examples.train_default_model.prepare import (
    EXCERPTS,
    HELD_OUT,
    MANIFEST,
    ROTATION,
    Embed,
    is_prepared,
    prepare_targets,
    prepare_text,
    prepared_pool,
    shard_paths,
)
from examples.train_default_model.profiles import PROFILES, DataProfile
from examples.train_default_model.sentences import sentences
from examples.train_default_model.shards import Sentence, read_shard, write_shard
from examples.train_default_model.vocabulary import train_tokenizer
from rwkv_runtime.tokenizers.bpe import BpeTokenizer

WORDS = [f"{stem}{ending}" for stem in ("ran", "mor", "tel", "vis", "kub", "sol", "pen") for ending in "aeiouy"]
UNLIMITED = Limits(10**6, 10**9, 10**9)


def prose(seed: int, sentence_count: int = 40) -> str:
    """Sentences of invented words, a blank line after every fifth."""
    chooser = random.Random(seed)
    made = []
    for number in range(sentence_count):
        words = chooser.choices(WORDS, k=chooser.randint(6, 14))
        made.append(" ".join(words).capitalize() + (".\n\n" if number % 5 == 4 else ". "))
    return "".join(made)


def fake_teacher(texts: list[str]) -> np.ndarray:
    """Unit vectors that depend on a text's letters."""
    rows = [np.random.default_rng(sum(text.encode())).standard_normal(384) for text in texts]
    return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder: 80 documents, one under another licence, one copied, one that quotes an evaluation text.

    Pairs have the beginning of every document as an answer.
    """
    folder = tmp_path / "collection"
    (folder / "train" / "text").mkdir(parents=True)
    (folder / "books").mkdir()
    (folder / "books" / "evaluated.txt").write_text(prose(1000), "utf-8")
    texts = {f"document-{number}": prose(number, 40 + 90 * (number == 1)) for number in range(80)}
    texts["copy"] = "An added opening line of this copy. " + texts["document-0"]
    texts["quotation"] = prose(1000, 20)
    rows = [{"id": name, "src": "made", "licence": "CC0 1.0", "text": text} for name, text in texts.items()]
    rows.append({"id": "share-alike", "src": "made", "licence": "CC BY-SA 4.0", "text": prose(99)})
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with pa.output_stream(folder / "train" / "text" / "perm-00.jsonl.zst", compression="zstd") as packed:
        packed.write(lines)
    pairs = [{"query": f"What is {name}?", "positive": text[:200]} for name, text in texts.items()]
    (folder / "train" / "pairs").mkdir()
    with lzma.open(folder / "train" / "pairs" / PAIR_SETS[1].file, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(pair) + "\n" for pair in pairs)
    return folder


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("CC BY 4.0 (OpenStax, Astronomy 2e)", True),
        ("Public domain / CC0 1.0 (US Government)", True),
        ("MIT OR Apache-2.0", True),
        ("Public domain (US; Project Gutenberg text)", True),
        ("CC BY-SA 4.0 (Changelog Media)", False),
        ("CC BY-NC 4.0", False),
        ("Public domain in the US only", False),
        ("", False),
    ],
)
def test_only_text_that_anybody_may_use_is_read(licence, allowed):
    assert is_permissive(licence) is allowed


def test_share_alike_documents_in_a_shard_are_passed_over(data):
    assert {"share-alike"} == {"share-alike"} - {document.id for document in read_documents(data)}


@given(st.text(alphabet="ab .\n", max_size=400), st.integers(5, 60))
def test_passages_joined_are_the_text(text, size):
    assert "".join(passages(text, size)) == text
    assert all(len(part) <= 2 * size for part in passages(text, size))


def test_a_copy_with_a_line_added_is_a_near_duplicate_and_another_text_is_not():
    known = NearDuplicates(WordHasher())
    assert known.accept(prose(1, 400))
    assert not known.accept("A line that was added. " + prose(1, 400))
    assert known.accept(prose(2, 400))


@given(start=st.integers(0, 100), length=st.integers(1, 40))
def test_thirteen_words_in_a_row_are_found_wherever_they_stand_and_twelve_are_not(start, length):
    hasher = WordHasher()
    unique = [f"word{number}" for number in range(140)]
    evaluated = EvaluationText(hasher, [" ".join(unique)])
    quoted = "Before it, " + "  ".join(unique[start : start + length]).upper() + ", behind it."
    assert evaluated.touches(quoted) is (length >= 13)


def test_evaluation_texts_are_all_files_but_the_training_folder(data):
    (data / "labelled").mkdir()
    (data / "labelled" / "rows.jsonl").write_text(json.dumps({"a": "one text", "tokens": ["two", "words"]}) + "\n")
    texts = list(evaluation_texts(data))
    assert "one text\n\ntwo words" in texts and prose(1000) in texts
    assert not any(path.is_relative_to(data / "train") for path in evaluation_files(data))


def test_no_source_gives_more_than_its_share(data):
    hasher = WordHasher()
    limits = Limits(document_chars=1_000, source_chars=5_000, chars=10**9)
    found = list(excerpts(read_documents(data), NearDuplicates(hasher), EvaluationText(hasher, []), limits))
    assert sum(len(part) for one in found for part in one.passages) <= limits.source_chars + 2 * PASSAGE_CHARS


@given(st.lists(st.sampled_from(["A b c. ", "Is it?\n\n", "# Head\n\n", "No end ", "\n"]), max_size=12))
def test_sentences_joined_are_the_text(parts):
    text = "".join(parts)
    assert "".join(sentences(text)) == (text if text.strip() else "")


def test_a_shard_gives_back_what_was_written(tmp_path):
    vector = fake_teacher(["a text"])[0]
    document = [
        Sentence(np.array([1, 2, 3], np.uint16), True, None),
        Sentence(np.array([4, 60_000], np.uint16), False, vector, 0.5, 3, -vector),
    ]
    write_shard(tmp_path / "one.parquet", [document, document[:1]])
    read = list(read_shard(tmp_path / "one.parquet"))
    assert [[sentence.tokens.tolist() for sentence in one] for one in read] == [[[1, 2, 3], [4, 60_000]], [[1, 2, 3]]]
    found = read[0][1]
    assert found.target is not None and found.group_target is not None
    assert (found.salience, found.group_length, read[0][0].is_heading) == (0.5, 3, True)
    assert found.target @ vector > 0.999 and found.group_target @ vector < -0.999


@given(st.text(max_size=60))
def test_the_vocabulary_gives_back_every_text_to_the_byte(text):
    tokenizer = trained_tokenizer()
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()


@cache
def trained_tokenizer() -> BpeTokenizer:
    with TemporaryDirectory() as folder:
        return train_tokenizer([prose(1), prose(2)], 400, Path(folder) / "tokenizer.json")


def test_training_and_held_out_documents_and_evaluation_text_never_overlap(data, tmp_path):
    folder = tmp_path / "prepared"
    profile = DataProfile(
        UNLIMITED, vocabulary=400, passages_per_stretch=5, shard_stretches=30, shards=9, words=5, phrases=5
    )
    prepare(data, folder, profile)
    assert is_prepared(folder)

    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    documents = {row["id"]: row for row in manifest["documents"]}
    apart = {name for name, row in documents.items() if row["held_out"]}
    assert apart and not {"share-alike", "copy"} & documents.keys()
    assert all(is_permissive(row["licence"]) for row in documents.values())
    assert not any(name.startswith("train/") for name in manifest["evaluation_files"])

    tokenizer = BpeTokenizer.from_file(folder / "tokenizer.json")
    trained = [text(document, tokenizer) for path in shard_paths(folder) for document in read_shard(path)]
    held_out = [text(document, tokenizer) for document in read_shard(folder / HELD_OUT)]
    assert (len(trained), len(held_out)) == (len(documents) - len(apart), len(apart))
    alone = json.loads((folder / ALONE_TEXTS).read_text("utf-8"))["texts"]
    assert f"What is {min(apart)}?" in alone and len(alone) > len(documents)
    for kept_out in (held_out, [prose(1000)]):
        evaluated = EvaluationText(WordHasher(), kept_out)
        assert not any(evaluated.touches(one) for one in (*trained, *alone))


def test_text_without_targets_costs_no_teacher_and_is_not_text_that_has_them(data, tmp_path):
    profile = DataProfile(UNLIMITED, 400, 2, 30, shards=1, words=5, phrases=5, text_shards=2)
    prepare(data, tmp_path, profile)
    tokenizer = BpeTokenizer.from_file(tmp_path / "tokenizer.json")
    [taught], untaught = (
        [list(read_shard(path)) for path in sorted(tmp_path.glob(f"{name}-*.parquet"))] for name in ("shard", "text")
    )
    assert len(untaught) == 2
    rest = [document for shard in untaught for document in shard]
    assert all(one.target is None and one.group_target is None for document in rest for one in document)
    assert any(one.target is not None for document in taught for one in document)
    assert not {text(one, tokenizer) for one in taught} & {text(one, tokenizer) for one in rest}


def test_more_shards_leave_every_target_where_it_was(data, tmp_path):
    prepare(data, tmp_path, DataProfile(UNLIMITED, 400, 1, 50, shards=9, words=5, phrases=5))
    tokenizer, axes = BpeTokenizer.from_file(tmp_path / "tokenizer.json"), np.load(tmp_path / ROTATION)
    one, all_of_them = (prepared_pool(tmp_path, tokenizer, axes, shards) for shards in (1, None))
    assert len(one.targets) < len(all_of_them.targets)
    assert (one.targets == all_of_them.targets[: len(one.targets)]).all()
    for some, every in ((one.documents, all_of_them.documents), (one.alone, all_of_them.alone)):
        assert repr(some) == repr(every[: len(some)])


def test_every_passage_of_a_document_ends_up_in_one_shard(data, tmp_path):
    prepare(
        data,
        tmp_path,
        DataProfile(
            UNLIMITED, vocabulary=400, passages_per_stretch=1, shard_stretches=50, shards=9, words=5, phrases=5
        ),
    )
    tokenizer = BpeTokenizer.from_file(tmp_path / "tokenizer.json")
    trained = [text(document, tokenizer) for path in shard_paths(tmp_path) for document in read_shard(path)]
    kept = [one.passages for one in read_excerpts(tmp_path / EXCERPTS) if not one.held_out]
    assert max(map(len, kept)) > 1
    assert sorted(trained) == sorted(passage for passages_of_one in kept for passage in passages_of_one)


def test_the_first_shard_is_a_sample_of_long_and_short_documents(data, tmp_path):
    prepare(
        data,
        tmp_path,
        DataProfile(
            UNLIMITED, vocabulary=400, passages_per_stretch=1, shard_stretches=40, shards=1, words=5, phrases=5
        ),
    )
    tokenizer = BpeTokenizer.from_file(tmp_path / "tokenizer.json")
    [long] = [one for one in read_excerpts(tmp_path / EXCERPTS) if one.id == "document-1"]
    first = {text(document, tokenizer) for document in read_shard(shard_paths(tmp_path)[0])}
    assert len(first) == 40 and 0 < len(first & set(long.passages)) < len(long.passages)


def test_one_command_trains_and_exports_a_model_and_will_not_overwrite_its_checkpoint(data, tmp_path, capsys):
    prepare(data, tmp_path / "data", PROFILES["tiny"].data)
    command = ["--profile", "tiny", "--out", str(tmp_path), "--threads", "1"]
    assert main(command) == 0
    model = rwkv_runtime.load(tmp_path / "model")
    assert model.config.n_layer == PROFILES["tiny"].model.layers and model.embedding_head is not None
    capsys.readouterr()
    assert main(command) == 1
    assert "add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0


def test_training_data_is_asked_for_when_there_is_none(tmp_path, capsys):
    assert main(["--profile", "tiny", "--out", str(tmp_path)]) == 1
    assert "give --data" in capsys.readouterr().err


def test_a_preparation_that_stopped_goes_on_and_ends_the_same(data, tmp_path):
    profile = DataProfile(
        UNLIMITED, vocabulary=400, passages_per_stretch=2, shard_stretches=30, shards=9, words=5, phrases=5
    )

    def stopping(texts: list[str]) -> np.ndarray:
        if len(list((tmp_path / "two").glob("shard-*.parquet"))) == 1:
            raise KeyboardInterrupt
        return fake_teacher(texts)

    prepare(data, tmp_path / "one", profile)
    with pytest.raises(KeyboardInterrupt):
        prepare(data, tmp_path / "two", profile, stopping)
    prepare(data, tmp_path / "two", profile)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {path.name for path in (tmp_path / "two").iterdir()}
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


def prepare(data: Path, folder: Path, profile: DataProfile, teacher: Embed = fake_teacher) -> None:
    prepare_text(data, folder, profile, lambda line: None)
    prepare_targets(folder, profile, teacher, lambda line: None)


def text(document: list[Sentence], tokenizer: BpeTokenizer) -> str:
    return "".join(tokenizer.decode(sentence.tokens.tolist()) for sentence in document)
