"""What a question asks for, what speaks for an answer, and that people's questions to real documents are answered."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rwkv_runtime
from pipeline.answers import confidence, evidence
from pipeline.answers.ask import Reading, answered, likeliest, word_scores
from pipeline.answers.lines import Line, lines_of_document
from pipeline.answers.material import Material
from pipeline.answers.questions import ABOUT, DEFINITION, REASON, ROLE, YES_NO, Question
from pipeline.in_memory import TextDocument
from pipeline.metrics import asked as sets
from pipeline.retrieval.terms import terms_of
from rwkv_runtime import tokenizers
from rwkv_runtime.engine import Engine
from tests.bench import fit_answers
from tests.jobs.project import REPOSITORY

DOCUMENTS = REPOSITORY / "examples" / "documents"


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("When was it signed?", "when", "date"),
        ("What is the due date?", "when", "date"),
        ("What is the total?", "how much", "money"),
        ("How much did they pay?", "how much", "money"),
        ("How many people live there?", "how many", "number"),
        ("How long does the warranty last?", "how long", "duration"),
        ("Who signed the register?", "who", "party"),
        ("Who is the seller?", ROLE, "party"),
        ("What is the invoice number?", "identifier", "identifier"),
        ("Where is it kept?", "where", "name"),
        ("What is a whale?", DEFINITION, None),
        ('What does "Business Day" mean?', DEFINITION, None),
        ("Who is Ishmael?", DEFINITION, None),
        ("Why did they leave?", REASON, None),
        ("May we assign it?", YES_NO, None),
        ("What is this document about?", ABOUT, None),
        ("Summarize the text.", ABOUT, None),
        ("What does this agreement say about termination?", "other", None),
    ],
)
def test_the_wording_of_a_question_tells_what_it_asks_for(text: str, kind: str, wanted: str | None) -> None:
    question = Question.of(text, terms_of("en"))

    assert (question.kind, question.types[:1]) == (kind, (wanted,) if wanted else ())


def test_words_that_only_ask_are_not_looked_for() -> None:
    assert Question.of("What does this agreement say about termination?", terms_of("en")).terms == ("termin",)
    assert Question.of("What is the capital of Chad?", terms_of("en")).head == ("capit",)


def material(*texts: str) -> Material:
    lines, at = [], 0
    for number, text in enumerate(texts):
        lines.append(Line(f"d#s{number}", "d", text, at, at + len(text), None, None))
        at += len(text) + 1
    return Material.of(lines, {"d": "en"})


def answer(text: Material, question: str) -> tuple[str, float]:
    """The sentence that answers likeliest, and how sure that is."""
    quote, sure, _ = likeliest(text, question)
    return quote.text, sure


INVOICE = material(
    "Northwind Traders Ltd.", "Invoice No.: 2024-118", "Invoice date: 3 May 2024", "Due date: 2 June 2024",
    "Sold to: Harbour Books", "Subtotal: $180.00", "VAT 20 %: $36.00", "Total:", "$216.00",
)  # fmt: skip


@pytest.mark.parametrize(
    ("question", "right"),
    [
        ("What is the total?", "$216.00"),
        ("What is the due date?", "Due date: 2 June 2024"),
        ("What is the invoice number?", "Invoice No.: 2024-118"),
        ("Who is the buyer?", "Sold to: Harbour Books"),
    ],
)
def test_a_form_is_read_by_its_keys_and_by_what_forms_call_things(question: str, right: str) -> None:
    assert answer(INVOICE, question)[0] == right


def test_a_value_behind_its_key_is_quoted_and_never_the_key_alone() -> None:
    form = material("# Chad", "Capital:", "name: N'Djamena", "Government type: presidential republic")

    assert answer(form, "What is the capital of Chad?")[0] == "name: N'Djamena"


def test_the_value_that_was_asked_for_is_the_one_behind_its_words() -> None:
    line = "Of $500 in all, the deposit is $120, due on 3 May 2024."
    text = material(line)
    for question, right in (("How much is the deposit?", "$120"), ("When is the deposit due?", "3 May 2024")):
        asked = evidence.Asked.of(Question.of(question, text.find_terms), text)
        span = evidence.nearest_value(line, asked)
        assert span is not None and line[slice(*span)] == right


@given(st.text(alphabet=st.sampled_from("aT$£ 1.,-9:\n%‘”é今"), max_size=40))
@settings(deadline=None, max_examples=80)
def test_whatever_a_sentence_is_its_evidence_is_finite_and_its_value_lies_in_it(line: str) -> None:
    text = material(line or " ", "The total is $5.")
    asked = evidence.Asked.of(Question.of("How much is the total of T?", text.find_terms), text)
    words, _ = word_scores(asked, text)
    found = evidence.of_sentence(0, 0, asked, text, evidence.Standing.of([0], words, asked, text))

    assert found.shape == (len(evidence.FEATURES),) and np.isfinite(found).all()
    span = evidence.nearest_value(line, asked)
    assert span is None or 0 <= span[0] < span[1] <= len(line)


@pytest.mark.parametrize("question", ["What is the total?", "Who is the landlord?"])
def test_reading_passages_again_to_show_them_changes_nothing_of_what_is_said(question: str) -> None:
    engine = Engine(rwkv_runtime.load("default"), window=512, lanes=1)
    engine.model.span_reader = None
    said = answered(INVOICE, question, Reading(engine, {}))
    quote, sure, outcome = likeliest(INVOICE, question)

    assert (said.outcome, said.passages[0].quote, said.confidence) == (outcome, quote, sure)
    assert said.tokens_read > 0


def test_who_asks_for_a_value_is_not_answered_by_a_sentence_without_one() -> None:
    text = material("The council appointed the harbour master in secret.", *["Rain fell on the roofs all day."] * 20)

    assert likeliest(text, "Was the harbour master appointed in secret by the council?")[2] == "answered"
    assert likeliest(text, "When was the harbour master appointed in secret by the council?")[2] == "unsure"


def test_words_that_stand_nowhere_make_an_answer_unlikely() -> None:
    text = material("The brass key of Ines is kept in locker 376.", *["Rain fell on the harbour all day."] * 20)

    assert answer(text, "In which locker is the brass key of Ines kept?")[1] > confidence.thresholds().answered
    assert answer(text, "How many crowns was Quentin Tremaine paid?")[1] < confidence.thresholds().unsure


def test_weights_of_other_features_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = json.loads(confidence.FILE.read_text("utf-8"))
    (tmp_path / "other.json").write_text(json.dumps(kept | {"weights": {"told": 1.0}}), "utf-8")
    monkeypatch.setattr(confidence, "FILE", tmp_path / "other.json")

    with pytest.raises(ValueError, match="fit_answers"):
        confidence._fitted.__wrapped__()


def test_what_is_fitted_tells_right_from_wrong_and_is_as_sure_as_it_is_right() -> None:
    draw = np.random.RandomState(0)
    cases = []
    for _ in range(400):
        features = np.concatenate([np.ones((5, 1)), draw.randn(5, 2)], axis=1)
        right = draw.rand(5) < 1 / (1 + np.exp(1 - 3 * features[:, 1]))
        cases.append(fit_answers.Case("one", bool(right.any()), features, right))
    weights = fit_answers.fitted(cases)
    sure = fit_answers.sureness(cases, weights)
    right = [bool(case.right is not None and case.right[np.argmax(case.features @ weights)]) for case in cases]

    assert weights[1] > 4 * abs(weights[2])
    assert abs(float(sure.mean()) - float(np.mean(right))) < 0.03


def test_a_field_that_was_taken_out_of_a_form_is_gone_and_one_that_is_asked_for_is_marked() -> None:
    row = {
        "text": "# Chad\n\nCapital:\nname: N'Djamena\nSuffrage: 18 years\nIndependence: 11 August 1960\nClimate: dry\n"
    }
    [(text, asked)] = sets.countries([row], random.Random(0))

    marked = {text[slice(*one.spans[0])].strip() for one in asked if one.spans}
    assert len(marked) == 2 and all(value in row["text"] for value in marked)
    for one in asked:
        if not one.answerable:
            key = {"capital": "N'Djamena", "suffrage": "18 years", "independence": "1960", "climate": "dry"}
            assert all(value not in text for word, value in key.items() if word in one.question.lower())


@cache
def lines_of(name: str) -> Material:
    """A document of the examples, made ready to be asked; no model reads it."""
    tokenizer = tokenizers.load(Path(rwkv_runtime.__file__).parent / "default" / "tokenizer.json")
    text = (DOCUMENTS / name).read_text("utf-8")
    return Material.of(lines_of_document(TextDocument(text), tokenizer), {})


@pytest.mark.parametrize(
    ("name", "question", "right", "least"),
    [
        ("credit-agreement.txt", "What law governs this agreement?", "laws of the State of Texas", "answered"),
        (
            "credit-agreement.txt",
            'What does "Business Day" mean?',
            '"Business Day" means a day of the year',
            "answered",
        ),
        ("credit-agreement.txt", "What is an Event of Default?", '("Events of Default")', "answered"),
        ("credit-agreement.txt", "Who is the agent?", '"Agent" means NationsBank of Texas, N.A.', "unsure"),
        (
            "credit-agreement.txt",
            "What does this agreement say about indemnification?",
            "INDEMNIFICATION SHALL BE MADE",
            "unsure",
        ),
        ("rfc9001.md", "What is the confidentiality limit of AEAD_AES_128_GCM packets?", "2<sup>23</sup>", "answered"),
        ("rfc9001.md", "What is the initial salt?", "initial_salt", "unsure"),
        ("rfc9001.md", "When are packet protection keys discarded?", "are not discarded immediately", "unsure"),
        ("rfc9001.md", "What is 0-RTT?", "0-RTT", "unsure"),
        ("de-grundgesetz.md", "Was ist unantastbar?", "Die Würde des Menschen ist unantastbar.", "unsure"),
    ],
)
def test_what_people_ask_of_real_documents_is_answered(name: str, question: str, right: str, least: str) -> None:
    quote, sure = answer(lines_of(name), question)

    assert right in " ".join(quote.split())
    assert sure >= getattr(confidence.thresholds(), least)


@pytest.mark.parametrize(
    ("name", "question"),
    [("credit-agreement.txt", "Who is Captain Ahab?"), ("rfc9001.md", "How high is the rent?")],
)
def test_what_is_not_in_a_real_document_is_not_answered(name: str, question: str) -> None:
    assert answer(lines_of(name), question)[1] < confidence.thresholds().answered


@pytest.mark.parametrize(
    ("question", "right"),
    [
        ("When is the review meeting?", "The review meeting is on Monday at 10:30 in room 4."),
        ("When does the train to Fennwick leave?", "The train to Fennwick leaves at 7:45 p.m. from the old platform."),
        ("When does the lease of the boathouse start?", "The lease of the boathouse starts on May 15."),
    ],
)
def test_a_day_of_the_week_a_time_and_a_day_without_a_year_answer_to_when(question: str, right: str) -> None:
    said = (
        "The review meeting is on Monday at 10:30 in room 4.",
        "The train to Fennwick leaves at 7:45 p.m. from the old platform.",
        "The lease of the boathouse starts on May 15.",
    )
    quote, _, outcome = likeliest(material(*said, *["Rain fell on the roofs all day."] * 20), question)
    assert (quote.text, outcome) == (right, "answered")


def test_who_asks_for_an_address_is_not_answered_without_one() -> None:
    question = Question.of("What is the email address for notices?", terms_of("en"))
    assert evidence.lacks_value("Either party may terminate by giving notices to the other.", question)
    assert not evidence.lacks_value("Notices go to legal@harbour.example.", question)


def test_a_figure_within_a_name_is_no_number() -> None:
    question = Question.of("What is the minimum datagram size?", terms_of("en"))
    text = "An IPv6 datagram has at least 1,280 bytes."
    assert next(text[begin:end] for begin, end in evidence.values_in(text, question)) == "1,280"


def test_documents_of_several_languages_are_each_asked_in_their_own() -> None:
    lines, languages = [], {"a": "de", "b": "en"}
    german = ("Der Mieter zahlt die Miete monatlich.", "Die Kaution beträgt drei Monatsmieten.", "Das Haus ist alt.")
    english = ("The term of this agreement is three years.", "It is governed by the laws of Ireland.", "Rain fell.")
    for doc_id, texts in (("a", german), ("b", english)):
        lines += [Line(f"{doc_id}#s{at}", doc_id, text, at, at + 1, None, None) for at, text in enumerate(texts)]
    both = Material.of(lines, languages)
    alone = Material.of(lines[3:], languages)

    for question in ("How long is the term of the agreement?", "Which laws is it governed by?"):
        assert both.asked(question).language == "en"
        assert likeliest(both, question)[0] == likeliest(alone, question)[0]
    assert both.asked("Wie hoch ist die Kaution?").language == "de"
    assert likeliest(both, "Wie viele Monatsmieten beträgt die Kaution?")[0].text == german[1]
