"""Sentences: nothing of the text is lost, none is longer than asked for, and passages end where the text says so."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline import sentence_ends
from pipeline.sentences import PASSAGE_CHARS, passage_end, split_passage
from tests.pipeline.test_segments import TEXTS

LANGUAGES = ["en", "de", "fr", "ja", "zh", "ru", "ar", "hi", "th"]


def texts_of(text: str, language: str = "en", max_chars: int = 2000) -> list[str]:
    return [piece.text for piece in split_passage(text, language, max_chars)[0]]


@settings(deadline=None, max_examples=150)
@given(text=TEXTS | st.text(max_size=300), language=st.sampled_from(LANGUAGES), max_chars=st.integers(1, 80))
@example(text=" \ufeff \u2028 ", language="en", max_chars=10)
@example(text="a\x1c\x1db.\x85 c", language="en", max_chars=3)
def test_the_pieces_joined_are_the_passage(text: str, language: str, max_chars: int) -> None:
    pieces, tail = split_passage(text, language, max_chars)

    assert "".join(piece.lead + piece.text for piece in pieces) + tail == text
    assert all(not piece.lead.strip() for piece in pieces)
    assert not tail.strip()


@settings(deadline=None, max_examples=150)
@given(text=TEXTS | st.text(max_size=300), max_chars=st.integers(1, 80))
def test_sentences_are_bounded_and_begin_and_end_with_something(text: str, max_chars: int) -> None:
    for sentence in texts_of(text, max_chars=max_chars):
        assert 0 < len(sentence) <= max_chars
        assert sentence == sentence.strip()


def test_abbreviations_numbers_and_quotations_do_not_end_a_sentence() -> None:
    text = "Dr. Smith paid $3.50 (see p. 4) on Jan. 5. He left! “Why?” she asked. E.g. this."

    assert texts_of(text) == [
        "Dr. Smith paid $3.50 (see p. 4) on Jan. 5.",
        "He left!",
        "“Why?” she asked.",
        "E.g. this.",
    ]


def test_a_language_has_its_own_rules() -> None:
    text = "Am 3. Oktober kam Hr. Müller z. B. mit dem Zug. Er blieb."

    assert texts_of(text, "de") == ["Am 3. Oktober kam Hr. Müller z. B. mit dem Zug.", "Er blieb."]
    assert texts_of("今天天气很好。我们去公园吧！", "zh") == ["今天天气很好。", "我们去公园吧！"]


def test_a_long_sentence_is_cut_at_white_space_where_there_is_any() -> None:
    assert texts_of("one two three four five", max_chars=10) == ["one two", "three", "four five"]
    assert texts_of("a" * 25, max_chars=10) == ["a" * 10, "a" * 10, "a" * 5]


class TestPassages:
    @settings(deadline=None, max_examples=150)
    @given(text=TEXTS, more=TEXTS)
    def test_an_end_once_known_does_not_change_with_more_text(self, text: str, more: str) -> None:
        end = passage_end(text)
        if end is not None:
            assert passage_end(text + more) == end

    @pytest.mark.parametrize("blank", ["\n\n", "\n \n", "\n\t \n", "\r\n\r\n", "\n\n\n"])
    def test_a_passage_ends_behind_its_first_blank_line(self, blank: str) -> None:
        end = passage_end(f"one{blank}two\n\nthree")

        assert end is not None
        assert f"one{blank}".startswith("one" + blank[: end - 3])
        assert end - 3 <= len(blank)

    def test_without_a_blank_line_only_more_text_can_tell(self) -> None:
        assert passage_end("one\ntwo") is None
        assert passage_end("") is None
        assert passage_end("a" * (PASSAGE_CHARS - 1)) is None

    def test_a_passage_without_end_is_cut_at_the_last_white_space_or_at_the_limit(self) -> None:
        spaced = "a" * (PASSAGE_CHARS - 5) + " " + "b" * 20

        assert passage_end(spaced) == PASSAGE_CHARS - 4
        assert passage_end("a" * 3 * PASSAGE_CHARS) == PASSAGE_CHARS
        assert passage_end(" " + "a" * PASSAGE_CHARS) == PASSAGE_CHARS

    @pytest.mark.parametrize("arrived", range(PASSAGE_CHARS - 3, PASSAGE_CHARS + 4))
    def test_a_blank_line_at_the_limit_is_seen_alike_however_much_has_arrived(self, arrived: int) -> None:
        text = "ab " * (PASSAGE_CHARS // 3) + "\n\nmore text"
        whole = passage_end(text)
        early = passage_end(text[:arrived])

        assert early in (None, whole)


def test_white_space_that_the_rules_leave_out_at_the_end_is_not_lost() -> None:
    # Where a quotation seems to begin far in front, sentencex 1.0.32 gives boundaries that end before the text does.
    text = 'a ("b" `c? ' * 1300 + "end>\n\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sentence_ends.sentencex,
            "get_sentence_boundaries",
            lambda language, text: [{"start_index": 0, "end_index": len(text) - 2}],
        )
        pieces, tail = split_passage(text, "en", 2000)

    assert "".join(piece.lead + piece.text for piece in pieces) + tail == text


class TestEnds:
    """What the rules around `sentencex` are for. The bar is where a sentence ends."""

    @pytest.mark.parametrize(
        ("language", "text"),
        [
            ("en", 'The 6" nail held.| It rained.| He left.| She stayed.'),  # a stray mark spoils nothing behind it
            ("fr", "Il dit « oui.| Puis il partit.| M. Enzo et J. Chirac vinrent.| On rit."),
            ("en", "(Laughter.)| But if it rains, we stay."),
            ("en", '"Are you ready?" said the Duck.| "Found what?" said the Mouse.'),
            ("en", "“Stay here. Do not move!” she cried.| He stayed."),
            ("en", "I live in the U.S.| The U.S. Senate sat until 6 p.m. on Friday.| You and I.| Did you?"),
            ("en", "see http://a.example/b.html?c=d.e and R.E.M. or F.Cook, e.g. there.| And then?"),
            ("en", "Good food. :)| Great view.| max is looking for you.| call them, pls !!| thanks"),
            ("en", "See fig. 3, vol. 2 and approx. 30 more, etc. in it.| Next."),
            ("de", "Wir haben ihn genossen.| 7 Tage Ruhe im 6. Stock am 3. August.| 17.45 Uhr kam er."),
            ("es", "Hay plazas, calles, etc.| El municipio tiene 7,63 hab. / km².| Fin."),
            ("ru", "Опера (букв. труд) длится 30 мин. или 4 ч., т. е. долго.| Конец."),
            ("de", "Hauptstr. 12, Rechnungsnr. 4711 und Unterabs. 3 sind gemeint.| 7 Tage gingen um."),
            ("en", "See subsec. 4 and paras. 2 to 5 there.| 12 men came out of the labs.| 3 stayed."),
            ("en", "{{?RFC8200}} and {{!RFC2119}} say a!=b.| Stop!| (Why?)|(Because!)| “So?”|Yes."),
            ("zh", "他笑了。|1355年，他走了。|她說：「誰會想要聽到呢？」|他沒有回答。"),
            ("en", "1. The first item.| 2. The second item."),
        ],
    )
    def test_sentences_end_where_a_reader_would_say(self, language: str, text: str) -> None:
        assert texts_of(text.replace("|", ""), language) == [part.strip() for part in text.split("|")]

    @settings(deadline=None, max_examples=100)
    @given(
        text=TEXTS | st.text(alphabet="ab.A!? \n\"'()«»“”…。」:;1)", max_size=200), language=st.sampled_from(LANGUAGES)
    )
    def test_ends_ascend_and_lie_in_the_text_behind_something(self, text: str, language: str) -> None:
        ends = sentence_ends.sentence_ends(text, language)

        assert ends == sorted(set(ends))
        assert all(0 < end <= len(text) and not text[end - 1].isspace() for end in ends)


def test_what_is_too_long_is_cut_at_line_ends_where_there_are_any() -> None:
    line = "a line without an end " * 4
    text = "\n".join([line] * 400)
    assert text[: passage_end(text)].endswith("\n")
    assert all(piece.text.endswith(line.rstrip()) for piece in split_passage(text[:8000], "en", 2000)[0][:-1])
