"""Texts under a grammar are of the grammar, whole, whatever the budget."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rwkv_runtime
from rwkv_runtime import tokenizers
from rwkv_runtime.decoding import Completion, Request, decode
from rwkv_runtime.errors import RwkvError
from rwkv_runtime.grammar import Grammar
from rwkv_runtime.model import Model
from rwkv_runtime.sampling import SamplingOptions
from tests.rwkv_runtime.tiny import tiny_model

SHIPPED = Path(rwkv_runtime.__file__).parent / "default" / "tokenizer.json"
TEXT = (Path(__file__).parents[2] / "examples" / "documents" / "moby-dick.txt").read_text("utf-8")[20_000:24_000]
PERSON = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "year", "kind"],
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "year": {"type": "integer", "minimum": 1000, "maximum": 2100},
        "kind": {"enum": ["person", "place", "organisation"]},
        "quotes": {"type": "array", "maxItems": 3, "items": {"type": "string"}},
    },
}


def with_tokenizer(tokenizer: tokenizers.Tokenizer, rows: int) -> Model:
    tiny = tiny_model(vocabulary=rows, layers=1, width=32)
    return Model(tiny._network, tokenizer, "tiny")


MODELS = {
    "bytes": tiny_model(),
    "world": with_tokenizer(tokenizers.load(None), 65536),
    "bpe": with_tokenizer(tokenizers.load(SHIPPED), 16384),
}


@pytest.fixture(params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]


def written(model: Model, grammar: Grammar, budget: int, seed: int) -> Completion:
    options = SamplingOptions(temperature=1.5 if seed % 4 else 0.0)
    found = decode(model, [Request("go on:", None, budget, options, seed=seed, grammar=grammar)], lanes=1)[0]
    assert len(found.tokens) <= budget
    assert model.tokenizer.decode(found.tokens) == found.text
    return found


def _object(properties: dict[str, Any], optional: set[str]) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


NAMES = st.sampled_from(["a", "name", "date of birth", "größe", "x_1", 'quo"te'])
STRINGS = st.builds(
    lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
    st.integers(0, 30),
    st.integers(0, 9),
)
INTEGERS = st.builds(
    lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
    st.integers(-200, 3000),
    st.integers(0, 900),
)
LEAVES = st.one_of(
    STRINGS,
    INTEGERS,
    st.sampled_from([{"type": name} for name in ("string", "number", "integer", "boolean", "null")]),
    st.lists(st.one_of(st.none(), st.integers(-9, 9), st.text("ab水\n", max_size=5)), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    st.just({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,5}$"}),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(_object, st.dictionaries(NAMES, inner, max_size=4), st.sets(NAMES, max_size=2)),
        st.builds(
            lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
            inner,
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=SCHEMAS, more=st.one_of(st.integers(0, 6), st.integers(0, 60)), seed=st.integers(0, 999))
def test_json_is_complete_and_valid_with_any_budget_that_can_suffice(
    schema: dict[str, Any], more: int, seed: int, model: Model
) -> None:
    grammar = Grammar.json_schema(schema)
    minimum = grammar.minimum_tokens(model)

    jsonschema.validate(json.loads(written(model, grammar, minimum + more, seed).text), schema)
    with pytest.raises(RwkvError, match=f"needs at least {minimum} tokens .* max_tokens is {minimum - 1}"):
        written(model, grammar, minimum - 1, seed)


def test_generate_keeps_to_a_schema(model: Model) -> None:
    for seed in range(3):
        text = model.generate("Who?", max_tokens=120, temperature=1.0, seed=seed, schema=PERSON)
        jsonschema.validate(json.loads(text), PERSON)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 150, "maxLength": 200},
        {"type": "string", "pattern": "^[a-z]{60}[a-z]*Z9$"},
        {"type": "array", "minItems": 9, "items": _object({"x": {"type": "number"}, "y": {"type": "string"}}, set())},
        {"type": "string", "format": "date-time"},
    ],
    ids=["long string", "long pattern", "long array", "time"],
)
def test_an_ending_is_found_for_what_is_long(schema: dict[str, Any], model: Model) -> None:
    grammar = Grammar.json_schema(schema)
    minimum = grammar.minimum_tokens(model)

    jsonschema.validate(json.loads(written(model, grammar, minimum + 3, 1).text), schema)


def test_the_minimum_is_the_shortest_text() -> None:
    cases = [
        (Grammar.regex("(organisation|place|person)[0-9]{2}"), len("place00")),
        (Grammar.regex("a*"), 0),
        (Grammar.json_schema(PERSON), len('{"name":"","year":1000,"kind":"place"}')),
        (Grammar.json_schema({"type": "array", "minItems": 2, "items": {"type": "string"}}), len('["",""]')),
        (Grammar.lark('start: "a" tail\ntail: /[0-9]+/ "x" | "bcdef"'), len("a0x")),
    ]
    for grammar, minimum in cases:
        assert grammar.minimum_tokens(MODELS["bytes"]) == minimum


@pytest.mark.parametrize("seed", range(4))
def test_a_regular_expression_matches_the_whole_text(seed: int, model: Model) -> None:
    found = written(model, Grammar.regex("(foo|bar)+[0-9]{2,}[.]"), 9 + seed, seed)

    assert re.fullmatch("(foo|bar)+[0-9]{2,}[.]", found.text)
    assert found.finish_reason in ("complete", "length")


@pytest.mark.parametrize("seed", range(4))
def test_a_lark_grammar_derives_the_text(seed: int, model: Model) -> None:
    found = written(model, Grammar.lark('start: "(" start ")" | NUMBER\nNUMBER: /[0-9]{1,3}/'), 12 + seed, seed)
    inner = found.text.strip("()")

    assert inner.isdecimal()
    assert found.text.count("(") == found.text.count(")") == (len(found.text) - len(inner)) // 2


@pytest.mark.parametrize("unit", ["words", "chars"])
@pytest.mark.parametrize("seed", range(3))
def test_a_quote_stands_in_its_text(unit: Any, seed: int, model: Model) -> None:
    found = written(model, Grammar.verbatim(TEXT, unit), 20, seed)

    assert found.text in TEXT


def test_texts_under_grammars_are_written_together_as_alone(model: Model) -> None:
    grammars = [None, Grammar.json_schema(PERSON), Grammar.regex("[ab]{3,9}"), Grammar.verbatim(TEXT)]
    requests = [
        Request("go", None, 60, SamplingOptions(1.0), seed=seed, grammar=grammars[seed % 4]) for seed in range(6)
    ]

    assert decode(model, requests) == [decode(model, [request])[0] for request in requests]


def test_a_text_says_whether_the_budget_ended_it() -> None:
    forced, free = (
        Grammar.json_schema({"const": {"a": [1, 2]}}),
        Grammar.json_schema({"type": "string", "minLength": 9}),
    )
    model = MODELS["bytes"]

    assert written(model, forced, 40, 1).finish_reason == "complete"
    assert written(model, free, free.minimum_tokens(model), 1).finish_reason == "length"
    assert written(model, Grammar.regex("[a-z]*"), 5, 1).finish_reason in ("length", "end")


def test_no_unused_or_special_token_is_ever_allowed(model: Model) -> None:
    vocabulary = model.grammar_vocabulary
    empty = [token for token, data in enumerate(vocabulary.tokens) if not data]
    matcher = Grammar.regex("(?s:.*)").guide(model, 9)._matcher
    mask = matcher.compute_bitmask()

    assert [token for token in empty if mask[token // 8] >> token % 8 & 1] == []
    assert (
        b"".join(vocabulary.tokens[token] for token in vocabulary.encode("\ufffd水x".encode()[1:]))
        == "\ufffd水x".encode()[1:]
    )


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Grammar.regex("(a"), "the grammar cannot be used"),
        (lambda: Grammar.lark("start: missing"), "the grammar cannot be used"),
        (lambda: Grammar.json_schema({"type": "no such type"}), "the grammar cannot be used"),
        (lambda: Grammar.json_schema({"type": "integer", "minimum": 5, "maximum": 4}), "the grammar cannot be used"),
    ],
)
def test_a_grammar_that_is_none_is_refused_in_one_line(make: Any, reason: str) -> None:
    with pytest.raises(RwkvError, match=reason) as raised:
        make().minimum_tokens(MODELS["bytes"])
    assert "\n" not in str(raised.value)


def test_what_contradicts_itself_is_refused() -> None:
    model = MODELS["bytes"]
    with pytest.raises(RwkvError, match="give one of them"):
        model.generate("a", schema={}, grammar=Grammar.regex("a"))
    with pytest.raises(RwkvError, match="stop strings"):
        model.generate("a", schema={}, stop=["x"])


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(RwkvError, match=r"pip install unspool\[grammar\]"):
        MODELS["bytes"].generate("a", schema={"type": "object"})
