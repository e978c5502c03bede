"""What every task has in common, run over every module of the folder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from inspect import isgenerator
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

import pipeline.tasks
from jobs.spec import load_resolved
from pipeline import tables
from pipeline.folder import entries
from pipeline.tasks import Emit, Ending, Keep, Task, make_tasks
from pipeline.values import to_json
from tests.pipeline.memory_document import MemoryDocument
from tests.pipeline.moments import DIMENSIONS, Rehearsal, carry_out, state_of
from tests.pipeline.readings import bits, prose

MODULES = entries(pipeline.tasks.__name__)
SCHEMAS: Mapping[str, pa.Schema] = {
    "sentences": tables.sentences(DIMENSIONS),
    "summaries": tables.SUMMARIES,
    "extractions": tables.EXTRACTIONS,
}
SIGNED = "It was signed on 3 March 2020 for $5,000, by a@b.org. "
DOCUMENT = MemoryDocument((prose(25) + SIGNED, prose(8, seed=1), prose(9, seed=2)), ("One", "Two", None))


def default_options(kind: str) -> dict[str, Any]:
    """What a job file that names only the type hands to `make`."""
    job = {
        "version": 1,
        "name": "job",
        "inputs": [{"path": "a.txt"}],
        "tasks": [{"name": "t", "type": kind}],
        "output": {"path": "out"},
    }
    spec = load_resolved(job, "test")
    return {**spec.tasks[0].model_dump(mode="json"), "seed": spec.run.seed}


@pytest.fixture(params=list(MODULES.values()), ids=list(MODULES))
def module(request: pytest.FixtureRequest) -> ModuleType:
    found: ModuleType = request.param
    return found


@pytest.fixture
def task(module: ModuleType) -> Task:
    made: Task = module.make(default_options(module.TYPE))
    return made


def described(asked: list[Emit | Keep]) -> list[tuple[str, bytes]]:
    return [
        (request.table, bits(request.rows)) if isinstance(request, Emit) else (request.name, request.state.to_bytes())
        for request in asked
    ]


def test_types_are_single_words_and_belong_to_one_module() -> None:
    types = [module.TYPE for module in MODULES.values()]

    assert len(set(types)) == len(types)
    assert all(kind.isidentifier() and kind == kind.lower() for kind in types)


def test_what_a_job_file_says_is_all_that_make_needs(module: ModuleType) -> None:
    (made,) = make_tasks([default_options(module.TYPE)])

    assert made == module.make(default_options(module.TYPE))
    assert made.name == "t"


def test_a_task_is_a_frozen_value_that_keeps_no_memory(task: Task) -> None:
    assert is_dataclass(task) and task.__dataclass_params__.frozen  # type: ignore[attr-defined]
    before = {field.name: copy.deepcopy(getattr(task, field.name)) for field in fields(task)}
    Rehearsal(DOCUMENT).play(task)

    assert {field.name: getattr(task, field.name) for field in fields(task)} == before
    assert isinstance(hash(task), int)


def test_visit_and_finish_are_generators(task: Task) -> None:
    rehearsal = Rehearsal(DOCUMENT)
    moment = next(rehearsal.moments(task))
    steps = [
        task.visit(moment),
        task.finish(Ending(moment.ref, moment.facts, 0, 0, state_of(1), state_of(2), moment.memory)),
    ]

    assert all(isgenerator(each) for each in steps)


def test_what_it_asks_for_is_known_and_well_formed(task: Task) -> None:
    asked = Rehearsal(DOCUMENT).play(task)

    assert asked
    for request in asked:
        if isinstance(request, Emit):
            assert request.rows.schema == SCHEMAS[request.table]
            assert request.rows.num_rows > 0
            assert set(request.rows.column("doc_id").to_pylist()) == {"d0"}
            request.rows.validate(full=True)
        else:
            assert request.name.isidentifier()


def test_ids_are_unique_and_rows_in_the_order_of_the_text(task: Task) -> None:
    by_table: dict[str, list[str]] = {}
    for request in Rehearsal(DOCUMENT).play(task):
        if isinstance(request, Emit):
            by_table.setdefault(request.table, []).extend(request.rows.column("id").to_pylist())

    assert all(len(set(ids)) == len(ids) for ids in by_table.values())


def test_it_gives_the_same_twice(task: Task) -> None:
    assert described(Rehearsal(DOCUMENT).play(task)) == described(Rehearsal(DOCUMENT).play(task))


def test_a_memory_that_went_through_a_checkpoint_is_as_good_as_the_one_handed_back(task: Task) -> None:
    rehearsal = Rehearsal(DOCUMENT)
    straight = described(rehearsal.play(task))
    segments = len(rehearsal.segments())

    assert described(rehearsal.play(task, stops=range(segments))) == straight
    for stop in range(segments):
        assert described(rehearsal.play(task, stops=[stop])) == straight


def test_the_memory_handed_in_is_left_as_it_was(task: Task) -> None:
    memory: Mapping[str, Any] = {}
    for moment in Rehearsal(DOCUMENT).moments(task):
        before = to_json(memory)
        after = carry_out(task.visit(replace(moment, memory=memory)), [])

        assert to_json(memory) == before
        memory = after


def test_the_memory_does_not_grow_with_the_document(task: Task) -> None:
    sizes = []
    for sentences in (1000, 2000):
        memory: Mapping[str, Any] = {}
        largest = 0
        for moment in Rehearsal(MemoryDocument((prose(sentences),)), window=1024).moments(task):
            memory = carry_out(task.visit(replace(moment, memory=memory)), [])
            largest = max(largest, len(to_json(memory)))
        sizes.append(largest)

    assert sizes[1] < 1.2 * sizes[0] + 8192  # a passage of text may be waiting
    assert sizes[1] < 256 * 1024


def test_a_segment_without_sentences_asks_for_nothing_and_forgets_nothing(task: Task) -> None:
    moments = list(Rehearsal(DOCUMENT).moments(task))
    memory = carry_out(task.visit(moments[0]), [])
    bare = replace(moments[1].segment, sentences=())
    vectors = None if moments[1].vectors is None else moments[1].vectors[:0]
    asked: list[Emit | Keep] = []
    after = carry_out(task.visit(replace(moments[1], segment=bare, vectors=vectors, memory=memory)), asked)

    assert not asked
    assert to_json(after) == to_json(memory)


def test_a_document_without_sentences_ends_well(task: Task) -> None:
    moment = next(Rehearsal(DOCUMENT).moments(task))
    asked: list[Emit | Keep] = []
    carry_out(task.finish(Ending(moment.ref, moment.facts, 3, 1, state_of(1), state_of(2), {})), asked)

    assert all(isinstance(request, Keep) for request in asked)


class TestState:
    @pytest.mark.parametrize(
        ("at", "boundary", "kept"),
        [
            (["end"], False, [("end", 98)]),
            (["end"], True, [("end", 98), ("boundary", 99)]),
            ([], True, [("boundary", 99)]),
            ([], False, []),
        ],
    )
    def test_keeps_the_states_that_were_asked_for(
        self, at: list[str], boundary: bool, kept: list[tuple[str, int]]
    ) -> None:
        (made,) = make_tasks([{"name": "keep", "type": "state", "at": at, "boundary": boundary}])
        asked = Rehearsal(DOCUMENT).play(made)

        assert [(one.name, one.state.tokens_seen) for one in asked if isinstance(one, Keep)] == kept
        assert len(asked) == len(kept)
