"""Segments: a pure function of document, tokenizer and options."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rwkv_runtime
from pipeline.fields.stretches import Buffer
from pipeline.segments import Segment, Segmenter, SplitOptions, Streams
from pipeline.sentences import PASSAGE_CHARS
from pipeline.values import from_json, to_json
from rwkv_runtime.tokenizers import Tokenizer
from rwkv_runtime.tokenizers.bpe import BpeTokenizer
from rwkv_runtime.tokenizers.world import WorldTokenizer
from rwkv_runtime.words import REACH
from tests.pipeline.memory_document import MemoryDocument, StrideTokenizer, cut, paged

WINDOW = 8
OPTIONS = SplitOptions(window=WINDOW, max_chars=60)
WORDS = st.sampled_from(
    [
        *["The", "cat", "sat.", "Dr.", "Smith", "went!", "Why?", "3.50", "(see", "p.", "4)", "…", "naïve", "Straße."],
        *["今天天气很好。", "我们去公园吧！", "Это", "пример.", "🙂", "a" * 30, "\ufeff", "\x00", "e\u0301"],
        *[" ", "  ", "\n", "\n\n", "\r\n", "\r\n\r\n", " \n \n", "\t", "\u2028", "\n\n\n\n"],
    ]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=60).map(" ".join) | st.lists(WORDS, min_size=1, max_size=40).map("".join)
BYTES = StrideTokenizer(1)
CUTS = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def world() -> Tokenizer:
    return WorldTokenizer.shipped()


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return BpeTokenizer.from_file(Path(rwkv_runtime.__file__).parent / "default" / "tokenizer.json")


@pytest.fixture(params=["world", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    found: Tokenizer = request.getfixturevalue(request.param)
    return found


def segments_of(document: MemoryDocument, tokenizer: Streams, options: SplitOptions = OPTIONS) -> list[Segment]:
    return list(Segmenter(document, tokenizer, options))


class TestAnyText:
    @settings(deadline=None, max_examples=80)
    @given(text=TEXTS, lengths=CUTS)
    @example(text="a" * 5000 + ".\n\n" + "b. " * 400, lengths=[977])
    def test_the_tokens_are_the_encoding_of_the_whole_text_however_it_arrives(
        self, world: Tokenizer, bpe: Tokenizer, text: str, lengths: list[int]
    ) -> None:
        for tokenizer in (world, bpe):
            segments = segments_of(MemoryDocument(cut(text, lengths)), tokenizer)

            assert [token for segment in segments for token in segment.tokens] == tokenizer.encode(text)
            assert [len(segment.tokens) for segment in segments[:-1]] == [WINDOW] * (len(segments) - 1)

    @settings(deadline=None, max_examples=80)
    @given(text=TEXTS, lengths=CUTS)
    def test_segments_do_not_depend_on_how_the_text_arrives(
        self, world: Tokenizer, text: str, lengths: list[int]
    ) -> None:
        at_once = segments_of(MemoryDocument((text,)), world)

        assert segments_of(MemoryDocument(cut(text, lengths)), world) == at_once

    @settings(deadline=None, max_examples=60)
    @given(text=TEXTS, lengths=CUTS, stop=st.integers(0, 20))
    def test_a_snapshot_taken_between_any_two_segments_goes_on_there(
        self, world: Tokenizer, bpe: Tokenizer, text: str, lengths: list[int], stop: int
    ) -> None:
        document = MemoryDocument(cut(text, lengths))
        for tokenizer in (world, bpe):
            whole = segments_of(document, tokenizer)
            first = Segmenter(document, tokenizer, OPTIONS)
            read = [segment for segment in (first.next_segment() for _ in range(stop)) if segment is not None]
            stored = from_json(to_json(first.snapshot()))
            assert isinstance(stored, dict)

            again = Segmenter(document, tokenizer, OPTIONS, stored)

            assert read + list(again) == whole
            assert (again.chars, again.text_bytes) == (len(text), len(text.encode()))

    @settings(deadline=None, max_examples=80)
    @given(text=TEXTS, lengths=CUTS)
    def test_sentences_are_verbatim_and_share_out_the_text_between_them(
        self, world: Tokenizer, text: str, lengths: list[int]
    ) -> None:
        segments = segments_of(MemoryDocument(cut(text, lengths)), world)
        sentences = [sentence for segment in segments for sentence in segment.sentences]
        data = text.encode()

        assert [sentence.index for sentence in sentences] == list(range(len(sentences)))
        for sentence in sentences:
            assert text[sentence.char_start : sentence.char_end] == sentence.text
            assert data[sentence.byte_start : sentence.byte_end].decode() == sentence.text
            assert sentence.text == sentence.text.strip() != ""
        for earlier, later in pairwise(sentences):
            assert text[earlier.char_end : later.char_start].strip() == ""
        assert "".join(text.split()) == "".join("".join(sentence.text.split()) for sentence in sentences)

    @settings(deadline=None, max_examples=80)
    @given(text=TEXTS, lengths=CUTS)
    def test_every_token_is_in_the_sentence_that_holds_its_last_byte(
        self, world: Tokenizer, text: str, lengths: list[int]
    ) -> None:
        segments = segments_of(MemoryDocument(cut(text, lengths)), world)
        sentences = [sentence for segment in segments for sentence in segment.sentences]
        ends = list(accumulate(len(world.token_bytes(token)) for segment in segments for token in segment.tokens))

        assert [sentence.token_start for sentence in sentences] == [
            0,
            *(sentence.token_end for sentence in sentences[:-1]),
        ][: len(sentences)]
        for number, sentence in enumerate(sentences):
            assert sentence.token_start < sentence.token_end
            inside = sum(end <= sentence.byte_end for end in ends)
            only_straddled = inside <= sentence.token_start
            assert sentence.token_end == (sentence.token_start + 1 if only_straddled else inside), number
        for segment in segments:
            for sentence in segment.sentences:
                assert segment.token_start < sentence.token_end <= segment.token_end


@settings(deadline=None, max_examples=80)
@given(text=TEXTS, window=st.integers(1, 20), stop=st.integers(0, 12))
def test_before_a_segment_are_the_last_tokens_in_front_of_it_wherever_the_reading_stops(
    text: str, window: int, stop: int
) -> None:
    options, document = SplitOptions(window, 60), MemoryDocument(cut(text, [37]))
    tokens = BYTES.encode(text)
    first = Segmenter(document, BYTES, options)
    read = [segment for segment in (first.next_segment() for _ in range(stop)) if isinstance(segment, Segment)]
    stored = from_json(to_json(first.snapshot()))
    assert isinstance(stored, dict)

    segments = [*read, *Segmenter(document, BYTES, options, stored)]

    assert [one.token_start for one in segments] == list(range(0, len(tokens), window))
    for one in segments:
        assert one.before == tuple(tokens[max(one.token_start - REACH, 0) : one.token_start])


def test_a_snapshot_of_a_version_that_kept_no_tokens_in_front_is_gone_on_with() -> None:
    document = MemoryDocument(("The cat sat. It sat there.",))
    first = Segmenter(document, BYTES, OPTIONS)
    whole = segments_of(document, BYTES)
    for segment in whole[:-2]:
        assert first.next_segment() == segment
        old = first.snapshot()
        assert old.pop("recent") == list((*segment.before, *segment.tokens)[-REACH:])

    later, last = Segmenter(document, BYTES, OPTIONS, old)

    assert (later.before, last.before) == ((), whole[-2].tokens)
    assert [replace(later, before=whole[-2].before), last] == whole[-2:]


class TestTokensThatKnowNothingOfSentences:
    """Tokens of any number of bytes and windows of any number of tokens: most sentences end inside a token."""

    SHAPES = st.tuples(st.integers(1, 50), st.integers(1, 9))
    SHORT = st.lists(st.sampled_from(["The", "sat.", "Why?", "No.", "\n\n", "\n \n"]), min_size=10, max_size=60)
    TEXTS = SHORT.map(" ".join).map(str.lstrip).filter(bool) | TEXTS

    @settings(deadline=None, max_examples=400)
    @given(text=TEXTS, lengths=CUTS, shape=SHAPES)
    def test_sentences_are_verbatim_and_their_token_spans_meet(
        self, text: str, lengths: list[int], shape: tuple[int, int]
    ) -> None:
        stride, window = shape
        segments = list(
            Segmenter(MemoryDocument(cut(text, lengths)), StrideTokenizer(stride), SplitOptions(window, 60))
        )
        sentences = [sentence for segment in segments for sentence in segment.sentences]

        assert [token for segment in segments for token in segment.tokens] == StrideTokenizer(stride).encode(text)
        assert "".join("".join(sentence.text.split()) for sentence in sentences) == "".join(text.split())
        for sentence in sentences:
            assert text[sentence.char_start : sentence.char_end] == sentence.text
        for earlier, later in pairwise(sentences):
            assert earlier.token_end == later.token_start < later.token_end
        ends = [min(stride * (i + 1), len(text.encode())) for i in range(segments[-1].token_end)]
        for sentence in sentences:
            inside = sum(end <= sentence.byte_end for end in ends)
            assert sentence.token_end == max(inside, sentence.token_start + 1)

    @settings(deadline=None, max_examples=400)
    @given(text=TEXTS, lengths=CUTS, shape=SHAPES, stop=st.integers(0, 12))
    def test_a_snapshot_goes_on_with_the_same_segments(
        self, text: str, lengths: list[int], shape: tuple[int, int], stop: int
    ) -> None:
        document = MemoryDocument(cut(text, lengths))
        tokenizer, options = StrideTokenizer(shape[0]), SplitOptions(shape[1], 60)
        whole = list(Segmenter(MemoryDocument((text,)), tokenizer, options))
        first = Segmenter(document, tokenizer, options)
        read = [segment for segment in (first.next_segment() for _ in range(stop)) if segment is not None]
        stored = from_json(to_json(first.snapshot()))
        assert isinstance(stored, dict)

        assert read + list(Segmenter(document, tokenizer, options, stored)) == whole


class TestSentencesThatGoOnOverPages:
    """A page that ends with one line end goes on: its last sentence and the first one of the next page are one."""

    ENDS = st.sampled_from(["\n", "\n\n"])
    PAGES = st.lists(st.tuples(TEXTS.map(str.strip).filter(bool), ENDS), min_size=1, max_size=8)
    SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 9), st.sampled_from(["headings", "pages", "topics"]))

    @settings(deadline=None, max_examples=300)
    @given(pages=PAGES, lengths=CUTS, shape=SHAPES, stop=st.integers(0, 12))
    def test_segments_depend_on_the_pages_alone_wherever_the_reading_stops(
        self, pages: list[tuple[str, str]], lengths: list[int], shape: tuple[int, int, str], stop: int
    ) -> None:
        texts = [text + end for text, end in pages]
        tokenizer, options = StrideTokenizer(shape[0]), SplitOptions(shape[1], 60, sections=shape[2])
        whole = list(Segmenter(paged(texts, [10_000]), tokenizer, options))
        first = Segmenter(paged(texts, lengths), tokenizer, options)
        read = [segment for segment in (first.next_segment() for _ in range(stop)) if segment is not None]
        stored = from_json(to_json(first.snapshot()))
        assert isinstance(stored, dict)

        assert read + list(Segmenter(paged(texts, lengths), tokenizer, options, stored)) == whole

    @settings(deadline=None, max_examples=300)
    @given(pages=PAGES, lengths=CUTS)
    def test_sentences_are_verbatim_and_know_the_page_of_each_character(
        self, world: Tokenizer, pages: list[tuple[str, str]], lengths: list[int]
    ) -> None:
        texts = [text + end for text, end in pages]
        whole, numbers = "".join(texts), [number for number, text in enumerate(texts, start=1) for _ in text]
        sentences = [one for segment in segments_of(paged(texts, lengths), world) for one in segment.sentences]

        for one in sentences:
            assert whole[one.char_start : one.char_end] == one.text
            [piece] = Buffer().seen([one]).pieces
            pages_of_it = [piece.page_at(char) for char in range(one.char_start, one.char_end)]
            if len(one.text) <= OPTIONS.max_chars and len(set(numbers[one.char_start : one.char_end])) < 3:
                assert pages_of_it == numbers[one.char_start : one.char_end]

    @settings(deadline=None, max_examples=100)
    @given(pages=PAGES)
    def test_no_sentence_goes_on_over_a_blank_line(self, pages: list[tuple[str, str]]) -> None:
        parted = paged([text + "\n\n" for text, _ in pages], [10_000])

        assert all(one.turn is None for segment in segments_of(parted, BYTES) for one in segment.sentences)

    @pytest.mark.parametrize("sections", ["headings", "pages", "topics"])
    def test_what_stands_on_two_pages_is_one_sentence_unless_that_is_too_long(self, sections: str) -> None:
        pages = ["It rains. The contract ends on\n", "the last day. It rains.\n\n"]
        found = [
            [(one.text, one.page, one.turn) for segment in segments for one in segment.sentences]
            for most in (100, 30)
            for segments in [Segmenter(paged(pages, [7]), BYTES, SplitOptions(8, most, sections=sections))]
        ]

        rains = [("It rains.", 1, None), ("It rains.", 2, None)]
        assert found[0] == [rains[0], ("The contract ends on\nthe last day.", 1, 31), rains[1]]
        assert found[1] == [rains[0], ("The contract ends on", 1, None), ("the last day.", 2, None), rains[1]]


@settings(deadline=None, max_examples=40)
@given(text=TEXTS, repeated=st.integers(1, 12), stop=st.integers(0, 20))
def test_a_snapshot_of_a_version_that_encoded_every_passage_at_once_is_gone_on_with(
    text: str, repeated: int, stop: int
) -> None:
    tokenizer, document = StrideTokenizer(3), MemoryDocument(cut(text * repeated, [977]))
    first = Segmenter(document, tokenizer, OPTIONS)
    read = [segment for segment in (first.next_segment() for _ in range(stop)) if segment is not None]
    old = first.snapshot()
    stream = tokenizer.stream(old["stream"])  # type: ignore[arg-type]
    pushed = [list(piece) for piece in stream.push(str(old.pop("unpushed")))]
    old |= {"pending": [*old["pending"], *pushed], "stream": stream.snapshot()}  # type: ignore[misc,dict-item]

    assert read + list(Segmenter(document, tokenizer, OPTIONS, old)) == list(Segmenter(document, tokenizer, OPTIONS))


def test_sections_part_sentences_even_without_a_full_stop(world: Tokenizer) -> None:
    document = MemoryDocument(("# One\n", "no stop here\n", "# Two\n", "nor here"), ("One", "One", "Two", "Two"))

    sentences = [sentence for segment in segments_of(document, world) for sentence in segment.sentences]

    assert {sentence.section for sentence in sentences} == {"One", "Two"}
    assert [sentence.text for sentence in sentences] == ["# One\nno stop here", "# Two\nnor here"]


def test_only_what_more_text_could_change_is_not_final(world: Tokenizer) -> None:
    text = "First one. Second one.\n\nThe last passage. It may go on"
    segments = segments_of(MemoryDocument((text,)), world)
    grown = segments_of(MemoryDocument((text + " and so it does. Another.",)), world)
    final = [s for segment in segments for s in segment.sentences if s.is_final]

    assert [sentence.text for sentence in final] == ["First one.", "Second one."]
    assert final == [s for segment in grown for s in segment.sentences][: len(final)]
    settled = [segment.tokens for segment in segments if segment.settled]
    assert settled == [segment.tokens for segment in grown][: len(settled)]


def test_a_line_without_end_is_cut_into_passages_of_bounded_length(tokenizer: Tokenizer) -> None:
    text = "word " * (2 * PASSAGE_CHARS // 5) + "a" * (3 * PASSAGE_CHARS)
    segmenter = Segmenter(MemoryDocument(cut(text, [4096])), tokenizer, SplitOptions(512, 2000))

    sentences = [sentence for segment in segmenter for sentence in segment.sentences]

    assert max(len(sentence.text) for sentence in sentences) <= 2000
    assert segmenter.chars == len(text)


def test_a_snapshot_is_small_whatever_has_been_read(tokenizer: Tokenizer) -> None:
    document = MemoryDocument(cut("A sentence of some words follows. " * 20_000, [16_384]))
    segmenter = Segmenter(document, tokenizer, SplitOptions(512, 2000))
    sizes = [len(to_json(segmenter.snapshot())) for _ in segmenter]

    assert max(sizes) < 400_000
