"""Workers: stopped anywhere and taken up again, alone or together, and with documents that fail beside others."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import tables
from pipeline.documents import DocumentRef
from pipeline.work import Assignment, WorkerSpec
from pipeline.worker import Worker
from rwkv_runtime.errors import ModelFileError
from tests.pipeline.readings import (
    CHECKPOINT_TOKENS,
    WINDOW,
    Lives,
    Rows,
    all_rows,
    assert_same_rows,
    bpe_tensors,
    document,
    prose,
    rows_of,
    save_model,
    worker_spec,
)

SENTENCES = {"long": 35, "middle": 14, "short": 3}
POISON = "☃"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("models") / "tiny", bpe_tensors())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[DocumentRef]:
    folder = tmp_path_factory.mktemp("corpus")
    return [document(folder / f"{name}.md", prose(count, seed)) for seed, (name, count) in enumerate(SENTENCES.items())]


@pytest.fixture(scope="module")
def uninterrupted(model: str, corpus: list[DocumentRef], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Lives]:
    """The same documents read at a stretch, by the number of lanes."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return {lanes: Lives(worker_spec(folder / str(lanes), model, lanes=lanes), corpus).to_the_end() for lanes in (1, 3)}


@pytest.fixture(scope="module")
def good(corpus: list[DocumentRef]) -> list[DocumentRef]:
    """All but the first, whose place is taken by a document that fails."""
    return corpus[1:]


@pytest.fixture(scope="module")
def expected(uninterrupted: dict[int, Lives]) -> dict[str, Rows]:
    """The rows of the same documents read in three lanes without one that fails beside them."""
    return all_rows(uninterrupted[3])


def test_what_a_worker_hands_over_is_small_and_holds_nothing_of_the_text(model: str, tmp_path: Path) -> None:
    ref = document(tmp_path / "a.md", "# Heading\n\nSecretword stands here. " + prose(150, 1))
    worker = Worker(worker_spec(tmp_path / "run", model))

    said = pickle.dumps(worker.advance([Assignment(ref, 1, 1)], 600.0))

    assert b"Secretword" in b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*.parquet"))
    assert b"Secretword" not in said
    assert len(said) < 8192


class TestStopAnywhere:
    @pytest.mark.parametrize("lanes", [1, 3])
    @pytest.mark.parametrize("end", ["crash", "drain"])
    def test_however_often_and_wherever_it_stops_the_rows_are_those_of_one_reading(
        self,
        model: str,
        corpus: list[DocumentRef],
        uninterrupted: dict[int, Lives],
        tmp_path: Path,
        lanes: int,
        end: str,
    ) -> None:
        whole = uninterrupted[lanes]
        rounds = [outcome.tokens // WINDOW + 2 for outcome in whole.outcomes.values()]
        for stop in range(max(rounds) if lanes > 1 else sum(rounds)):
            lives = Lives(worker_spec(tmp_path / str(stop), model, lanes=lanes), corpus)
            lives.begin()
            lives.step(stop)
            if end == "drain":
                lives.drain()
            open_then = lanes if end == "crash" else 0
            lives.to_the_end()

            assert_same_rows(all_rows(lives), all_rows(whole))
            assert whole.tokens_fed <= lives.tokens_fed <= whole.tokens_fed + open_then * (CHECKPOINT_TOKENS + WINDOW)
            assert not lives.warnings

    @pytest.mark.parametrize("lanes", [1, 3])
    def test_a_worker_that_dies_over_and_over_still_gets_to_the_same_rows(
        self, model: str, corpus: list[DocumentRef], uninterrupted: dict[int, Lives], tmp_path: Path, lanes: int
    ) -> None:
        lives = Lives(worker_spec(tmp_path / "run", model, lanes=lanes), corpus)
        crashes = 0
        while len(lives.outcomes) < len(corpus):
            lives.begin()
            lives.step(CHECKPOINT_TOKENS // WINDOW + 1 + crashes % 3)  # just enough for a checkpoint, and a little more
            crashes += 1

        assert crashes >= 3
        assert_same_rows(all_rows(lives), all_rows(uninterrupted[lanes]))
        assert lives.tokens_fed <= uninterrupted[lanes].tokens_fed + crashes * lanes * (CHECKPOINT_TOKENS + WINDOW)

    def test_a_worker_drained_after_every_window_reads_no_token_twice(
        self, model: str, corpus: list[DocumentRef], uninterrupted: dict[int, Lives], tmp_path: Path
    ) -> None:
        lives = Lives(worker_spec(tmp_path / "run", model), corpus)
        while len(lives.outcomes) < len(corpus):
            lives.begin()
            lives.step()
            lives.drain()

        assert lives.tokens_fed == uninterrupted[1].tokens_fed
        assert_same_rows(all_rows(lives), all_rows(uninterrupted[1]))

    def test_rows_already_in_parts_are_neither_lost_nor_doubled(
        self,
        model: str,
        corpus: list[DocumentRef],
        uninterrupted: dict[int, Lives],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("pipeline.lane.FLUSH_BYTES", 1)
        for stop in (5, 9, 13):
            lives = Lives(worker_spec(tmp_path / str(stop), model), corpus)
            lives.begin()
            lives.step(stop)
            lives.to_the_end()

            sentence_parts = [part for part in lives.outcomes["long"].parts if part.table == "sentences"]
            assert len(sentence_parts) > 2
            assert_same_rows(all_rows(lives), all_rows(uninterrupted[1]))

    def test_a_damaged_checkpoint_is_passed_over_with_a_warning_and_changes_no_row(
        self, model: str, corpus: list[DocumentRef], uninterrupted: dict[int, Lives], tmp_path: Path
    ) -> None:
        lives = Lives(worker_spec(tmp_path / "run", model), corpus)
        lives.begin()
        lives.step(7)
        newest = max((tmp_path / "run" / "checkpoints" / "long").iterdir())
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 1
        newest.write_bytes(data)
        lives.to_the_end()

        assert [newest.name in warning for warning in lives.warnings] == [True]
        assert_same_rows(all_rows(lives), all_rows(uninterrupted[1]))
        assert lives.tokens_fed > uninterrupted[1].tokens_fed + CHECKPOINT_TOKENS

    @pytest.mark.parametrize("change", [{"run_id": "another"}, {"spec_fingerprint": "other"}])
    def test_a_checkpoint_of_another_run_or_job_is_not_gone_on_from(
        self,
        model: str,
        corpus: list[DocumentRef],
        uninterrupted: dict[int, Lives],
        tmp_path: Path,
        change: dict[str, str],
    ) -> None:
        lives = Lives(worker_spec(tmp_path / "run", model), corpus)
        lives.begin()
        lives.step(10)
        lives.drain()
        lives.spec = replace(lives.spec, **change)
        lives.to_the_end()

        assert any("belongs to another" in warning for warning in lives.warnings)
        assert_same_rows(all_rows(lives), all_rows(uninterrupted[1]))

    def test_a_document_that_changed_since_its_checkpoint_is_read_from_the_start(
        self, model: str, tmp_path: Path
    ) -> None:
        ref = document(tmp_path / "d.md", prose(30))
        lives = Lives(worker_spec(tmp_path / "run", model), [ref])
        lives.begin()
        lives.step(6)
        lives.drain()
        lives.refs = [document(tmp_path / "d.md", prose(30, seed=5))]
        lives.to_the_end()
        anew = Lives(worker_spec(tmp_path / "anew", model), lives.refs).to_the_end()

        assert any("another source_sha256" in warning for warning in lives.warnings)
        assert_same_rows(all_rows(lives), all_rows(anew))


class TestTogether:
    @pytest.mark.parametrize("lanes", [1, 3])
    def test_a_document_alone_gives_the_rows_that_it_gives_among_others(
        self, model: str, corpus: list[DocumentRef], uninterrupted: dict[int, Lives], tmp_path: Path, lanes: int
    ) -> None:
        for ref in corpus:
            alone = Lives(worker_spec(tmp_path / ref.doc_id, model, lanes=lanes), [ref]).to_the_end()

            assert_same_rows(all_rows(alone), {ref.doc_id: all_rows(uninterrupted[lanes])[ref.doc_id]})

    def test_documents_that_come_and_go_in_another_order_give_the_same_rows(
        self, model: str, corpus: list[DocumentRef], uninterrupted: dict[int, Lives], tmp_path: Path
    ) -> None:
        spec = worker_spec(tmp_path / "run", model, lanes=3)
        lives = Lives(spec, list(reversed(corpus)))
        lives.begin()
        # Each begins while those before it are in their middle.
        answers = [lives.worker.advance([Assignment(ref, 1, 1)], 0.0) for ref in lives.refs]
        answers.append(lives.worker.advance([], 1e9))

        outcomes = [outcome for answer in answers for outcome in answer.outcomes]
        found = {outcome.doc_id: rows_of(spec.run, outcome) for outcome in outcomes}
        assert_same_rows(found, all_rows(uninterrupted[3]))

    def test_the_number_of_lanes_does_not_change_the_rows(self, uninterrupted: dict[int, Lives]) -> None:
        assert_same_rows(all_rows(uninterrupted[3]), all_rows(uninterrupted[1]))

    def test_every_byte_is_covered_and_sentences_are_verbatim(
        self, corpus: list[DocumentRef], uninterrupted: dict[int, Lives]
    ) -> None:
        for ref in corpus:
            data = Path(ref.path).read_bytes()
            rows = all_rows(uninterrupted[1])[ref.doc_id]
            row = rows["documents"].to_pylist()[0]

            assert (row["coverage"], row["status"], row["chars"]) == (1.0, "ok", len(data.decode()))
            assert row["tokens"] == row["tokens_read"] == uninterrupted[1].outcomes[ref.doc_id].tokens
            for sentence in rows["sentences"].to_pylist():
                assert data[sentence["byte_start"] : sentence["byte_end"]].decode() == sentence["text"]
                assert sum(x * x for x in sentence["embedding"]) == pytest.approx(1.0, abs=1e-4)
            for summary in rows["summaries"].to_pylist():
                cited = [data.decode()[c["char_start"] : c["char_end"]] for c in summary["citations"]]
                assert summary["text"] == "\n".join(cited)


class TestOneDocumentFails:
    """Beside others that are read at the same time and must not notice."""

    def read_beside(self, spec: WorkerSpec, refs: list[DocumentRef]) -> Lives:
        lives = Lives(spec, refs)
        lives.begin()
        lives.step(3)
        return lives

    def finish(self, lives: Lives) -> dict[str, Rows]:
        while len(lives.outcomes) < len(lives.refs):
            lives.step()
        return all_rows(lives)

    def assert_failed(self, lives: Lives, doc_id: str, error_type: str, **expected: object) -> None:
        rows = rows_of(lives.spec.run, lives.outcomes[doc_id])
        failure = rows["failures"].to_pylist()[0]
        row = rows["documents"].to_pylist()[0]

        assert rows.keys() == {"failures", "documents"}
        assert rows["failures"].schema.remove_metadata() == tables.FAILURES
        assert rows["documents"].schema.remove_metadata() == tables.DOCUMENTS
        assert failure["error_type"] == lives.outcomes[doc_id].error_type == error_type
        assert failure["message"] and "\n" not in failure["message"]
        assert {name: failure[name] for name in expected} == expected
        assert (row["doc_id"], row["status"], row["coverage"], row["tokens_read"]) == (doc_id, "failed", 0.0, 0)

    def test_a_file_that_changes_while_it_is_read(
        self, model: str, good: list[DocumentRef], expected: dict[str, Rows], tmp_path: Path
    ) -> None:
        path = tmp_path / "changing.md"
        bad = document(path, prose(700))  # more than one block of the file, so that there is more to be read
        lives = self.read_beside(worker_spec(tmp_path / "run", model, lanes=3), [bad, *good])
        with path.open("ab") as file:
            file.write(b"one line more")
        rows = self.finish(lives)

        self.assert_failed(lives, "changing", "changed_during_read", stage="read", retryable=True)
        for ref in good:
            assert_same_rows({ref.doc_id: rows[ref.doc_id]}, {ref.doc_id: expected[ref.doc_id]})

    def test_a_file_cut_short_while_it_is_read(self, model: str, tmp_path: Path) -> None:
        bad = document(tmp_path / "shrinking.md", prose(700))
        lives = self.read_beside(worker_spec(tmp_path / "run", model), [bad])
        os.truncate(bad.path, 20_000)
        self.finish(lives)

        self.assert_failed(lives, "shrinking", "changed_during_read", retryable=True)

    def test_a_state_that_is_not_finite(self, good: list[DocumentRef], tmp_path: Path) -> None:
        tensors = bpe_tensors()
        plain = save_model(tmp_path / "plain", tensors)
        poison = Worker(worker_spec(tmp_path / "unused", plain))._model.tokenizer.encode(POISON)
        tensors["emb.weight"][poison] = 3e38  # finite, but its variance is not
        poisoned = save_model(tmp_path / "poisoned", tensors)
        bad = document(tmp_path / "poison.md", prose(20) + POISON + prose(20))

        lives = Lives(worker_spec(tmp_path / "run", poisoned, lanes=3), [bad, *good]).to_the_end()
        without = Lives(worker_spec(tmp_path / "without", poisoned, lanes=3), good).to_the_end()

        self.assert_failed(lives, "poison", "nonfinite_state", stage="read", retryable=False)
        assert lives.outcomes["poison"].tokens_fed > 3 * WINDOW
        rows = all_rows(lives)
        del rows["poison"]
        assert_same_rows(rows, all_rows(without))

    def test_a_document_that_takes_too_long(
        self, model: str, corpus: list[DocumentRef], expected: dict[str, Rows], tmp_path: Path
    ) -> None:
        now = [0.0]
        slow, *others = corpus
        spec = worker_spec(tmp_path / "run", model, lanes=3, doc_timeout=60.0)
        lives = Lives(spec, [slow])
        lives.begin()
        lives.worker._tools = replace(lives.worker._tools, clock=lambda: now[0])
        lives.step(3)
        now[0] = 59.0
        lives.refs = corpus
        lives.step()
        now[0] = 61.0  # too long for the first, which began at 0, not for those that began at 59
        rows = self.finish(lives)

        self.assert_failed(lives, "long", "timeout", stage="read", retryable=True)
        for ref in others:
            assert_same_rows({ref.doc_id: rows[ref.doc_id]}, {ref.doc_id: expected[ref.doc_id]})

    @pytest.mark.parametrize(
        ("content", "error_type", "stage", "byte_offset"),
        [
            (None, "missing", "open", None),
            (b"", "empty", "open", None),
            (bytes(range(256)) * 9, "binary_not_text", "decode", None),
            (b"%PDF-1.7 ...", "unsupported_type", "open", None),
        ],
    )
    def test_a_file_that_cannot_be_read(
        self,
        model: str,
        good: list[DocumentRef],
        expected: dict[str, Rows],
        tmp_path: Path,
        content: bytes | None,
        error_type: str,
        stage: str,
        byte_offset: int | None,
    ) -> None:
        bad = document(tmp_path / "bad.md", content or b"")
        if content is None:
            os.unlink(bad.path)
        lives = Lives(worker_spec(tmp_path / "run", model, lanes=3), [bad, *good]).to_the_end()
        rows = all_rows(lives)

        self.assert_failed(lives, "bad", error_type, stage=stage, byte_offset=byte_offset)
        assert not lives.outcomes["bad"].traceback
        for ref in good:
            assert_same_rows({ref.doc_id: rows[ref.doc_id]}, {ref.doc_id: expected[ref.doc_id]})

    def test_a_bug_in_a_task_is_kept_with_its_traceback(
        self,
        model: str,
        corpus: list[DocumentRef],
        expected: dict[str, Rows],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from pipeline.tasks import summarize

        close = summarize.Summarize._close

        def broken(
            self: summarize.Summarize, doc_id: str, lens: summarize.Lens, stretch: summarize.Stretch | None
        ) -> object:
            if doc_id == "long":
                raise ZeroDivisionError("quoted from the text")
            return close(self, doc_id, lens, stretch)

        monkeypatch.setattr(summarize.Summarize, "_close", broken)
        lives = Lives(worker_spec(tmp_path / "run", model, lanes=3), corpus).to_the_end()

        self.assert_failed(lives, "long", "internal_error")
        outcome = lives.outcomes["long"]
        assert outcome.message.startswith("ZeroDivisionError at pipeline/test_worker.py:")
        assert "in broken" in outcome.traceback
        assert "quoted" in outcome.traceback and "quoted" not in outcome.message
        assert_same_rows(all_rows(lives), expected, but=["long"])


class TestTheDiskFails:
    @pytest.mark.parametrize("point", ["part.before_write", "checkpoint.before_write", "publish.before_rename"])
    def test_no_document_is_blamed(self, model: str, corpus: list[DocumentRef], tmp_path: Path, point: str) -> None:
        lives = Lives(worker_spec(tmp_path / "run", model, faults=f"{point}=raise:ENOSPC"), corpus)
        lives.begin()
        progress = lives.step()
        while not progress.fault:
            progress = lives.step()

        assert "No space left on device" in progress.fault
        assert not [outcome for outcome in lives.outcomes.values() if outcome.status == "failed"]

    def test_the_next_life_gives_the_same_rows(
        self, model: str, corpus: list[DocumentRef], uninterrupted: dict[int, Lives], tmp_path: Path
    ) -> None:
        lives = Lives(worker_spec(tmp_path / "run", model, faults="checkpoint.before_write=raise:EIO@2"), corpus)
        lives.begin()
        while not lives.step().fault:
            pass
        lives.spec = replace(lives.spec, faults="")
        lives.to_the_end()

        assert_same_rows(all_rows(lives), all_rows(uninterrupted[1]))

    def test_a_drain_that_cannot_write_says_so(self, model: str, corpus: list[DocumentRef], tmp_path: Path) -> None:
        lives = Lives(worker_spec(tmp_path / "run", model, faults="checkpoint.before_write=raise:ENOSPC"), corpus)
        lives.begin()
        lives.step()

        assert "No space left" in lives.drain().fault


def test_a_worker_refuses_weights_that_the_run_was_not_started_with(model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="put those back"):
        Worker(worker_spec(tmp_path / "run", model, model_fingerprint="0" * 64))


def test_a_worker_says_what_it_computes_with(model: str, tmp_path: Path) -> None:
    facts = Worker(worker_spec(tmp_path / "run", model)).facts()

    assert (facts.pid, facts.pooling, facts.dimensions, facts.generation) == (os.getpid(), "embed_head", 24, "7")
    assert facts.numeric == Worker(worker_spec(tmp_path / "run", model)).facts().numeric
    assert facts.numeric != Worker(worker_spec(tmp_path / "run", model, window=2 * WINDOW)).facts().numeric


def test_progress_says_how_far_each_document_is(model: str, corpus: list[DocumentRef], tmp_path: Path) -> None:
    lives = Lives(worker_spec(tmp_path / "run", model, lanes=3), corpus)
    lives.begin()
    progress = lives.step(4)
    report = next(lane for lane in progress.lanes if lane.doc_id == "long")

    assert report.tokens == 4 * WINDOW
    assert 0 < report.text_bytes < corpus[0].size
    assert progress.tokens_fed == sum(WINDOW for _ in progress.lanes)
    assert progress.peak_memory_bytes > 1 << 20


def test_a_document_is_read_once_however_many_tasks_are_made_of_it(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", bpe_tensors())
    ref = document(tmp_path / "a.md", prose(40))
    embed = {"name": "vectors", "type": "embed", "surprise": True}
    units = [{"name": unit, "type": "embed", "unit": unit} for unit in ("section", "window", "document")]
    others = [
        {"name": "gist", "type": "summarize", "seed": 0, "max_sentences": 3, "every": "section", "at_end": True},
        {"name": "keep", "type": "state", "at": ["end"], "boundary": True},
    ]
    fed = []
    for number, tasks in enumerate(([embed], [embed, *units, *others])):
        lives = Lives(worker_spec(tmp_path / f"run{number}", model, tasks=tuple(tasks)), [ref]).to_the_end()
        [row] = all_rows(lives)["a"]["documents"].to_pylist()
        fed.append(lives.tokens_fed)
        assert row["tokens"] == row["tokens_fed"] == lives.tokens_fed > 500

    assert fed[0] == fed[1]
