"""The next stretch to read: windows of tokens on a fixed grid, with the sentences that end in each.

A segment is a pure function of document, tokenizer and options, whatever the reader's block size and the
resume point: token i of the document is token i % window of segment i // window. The token stream equals the
tokenizer's encoding of the whole text. Knows nothing of models, tasks or rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any, Final, Protocol, cast

from pipeline.documents import Block, Cursor, Document
from pipeline.sectioning import HEADINGS, Region, sectioning
from pipeline.sentences import Piece, passage_end, split_passage
from pipeline.values import Value
from rwkv_runtime.words import REACH

PUSHED_CHARS: Final = 2_048
"""Passages are encoded together from so many characters on: each push costs what a longest token may still reach."""


class TokenStream(Protocol):
    """Incremental encoding: the part of `rwkv_runtime.tokenizers.TokenStream` that is needed here."""

    def push(self, text: str) -> list[tuple[int, int]]: ...
    def finish(self) -> list[tuple[int, int]]: ...
    def snapshot(self) -> bytes: ...


class Streams(Protocol):
    """Whatever makes token streams: a tokenizer."""

    def stream(self, snapshot: bytes = b"") -> TokenStream: ...


@dataclass(frozen=True)
class SplitOptions:
    """How a document is cut. `window` counts tokens, `max_chars` characters of one sentence.

    `sections` is a rule of `pipeline.sectioning`.
    """

    window: int
    max_chars: int
    language: str | None = None
    sections: str = HEADINGS


@dataclass(frozen=True)
class Sentence:
    """A sentence and its half-open spans in the document: UTF-8 bytes, code points and tokens.

    A token belongs to the sentence that holds its last byte, so the token spans of successive sentences meet
    without a gap; white space between two sentences is read with the later one, whose `lead` it is. `text` is verbatim.
    `is_final` says that no text appended to the document could change this sentence. `page` is that on which it begins;
    its characters from `turn` on, if that is not None, stand on the next one.
    """

    index: int
    text: str
    byte_start: int
    byte_end: int
    char_start: int
    char_end: int
    token_start: int
    token_end: int
    section: str | None
    page: int | None
    is_final: bool
    lead: str = ""
    turn: int | None = None


@dataclass(frozen=True)
class Segment:
    """One window of tokens. `byte_end` is the document byte behind its last token.

    `settled` says that no text appended to the document could change the tokens read so far. `follower` is the token
    behind the last, None at the end of the text. `opens` are the tokens at which another section begins. `before` are
    the last REACH tokens in front of the window, as many as there are.
    """

    index: int
    tokens: tuple[int, ...]
    token_start: int
    byte_end: int
    sentences: tuple[Sentence, ...]
    settled: bool
    is_last: bool
    follower: int | None = None
    opens: tuple[int, ...] = ()
    before: tuple[int, ...] = ()

    @property
    def token_end(self) -> int:
        return self.token_start + len(self.tokens)


@dataclass(frozen=True)
class NothingYet:
    """No segment for now: more text may come. Only of documents that are followed."""


class Segmenter:
    """Cuts one document into segments, one after another; `snapshot` between two of them restarts it there.

    Text waits in `_buffer` until a passage is complete and in `_unpushed` until there is enough to encode, sentences in
    `_sectioning` until their section is known and in `_regions` until their last token is, tokens in `_pending` until
    they fill a window. Each is bounded by the length of a passage, or by what the rule for sections holds back. A
    sentence that goes on over the end of a page waits in `_open`, and no segment is handed out until its rest is there.
    """

    def __init__(
        self,
        document: Document,
        tokenizer: Streams,
        options: SplitOptions,
        snapshot: Mapping[str, Value] | None = None,
    ) -> None:
        self._options = options
        self._document = document
        stand = dict(snapshot or {})
        self._buffer = cast(str, stand.get("buffer", ""))
        self._unpushed = cast(str, stand.get("unpushed", ""))
        self._gap = cast(str, stand.get("gap", ""))
        self._section = cast("str | None", stand.get("section"))
        self._page = cast("int | None", stand.get("page"))
        self._opened = cast("str | None", stand.get("opened", self._section))
        self._byte = cast(int, stand.get("byte", 0))
        self._char = cast(int, stand.get("char", 0))
        self._text_over = cast(bool, stand.get("text_over", False))
        self._settled = cast(bool, stand.get("settled", True))
        self._cursor = cast("Cursor | None", stand.get("cursor"))
        self._regions = deque(Region(*row) for row in cast("list[list[Any]]", stand.get("regions", [])))
        self._pending = [(token, size) for token, size in cast("list[list[int]]", stand.get("pending", []))]
        self._recent = tuple(cast("list[int]", stand.get("recent", [])))
        self._index = cast(int, stand.get("index", 0))
        self._tokens_out = cast(int, stand.get("tokens_out", 0))
        self._bytes_out = cast(int, stand.get("bytes_out", 0))
        self._sentences_out = cast(int, stand.get("sentences_out", 0))
        self._sentence_tokens_out = cast(int, stand.get("sentence_tokens_out", 0))
        known = cast("Mapping[str, Value]", stand.get("sectioning", {}))
        self._sectioning = sectioning(options.sections, self._language, known)
        self._stream = tokenizer.stream(cast(bytes, stand.get("stream", b"")))
        self._blocks = document.blocks(self._cursor)
        self._next: Block | None = None
        self._open: Region | None = None

    def snapshot(self) -> dict[str, Value]:
        """Everything that another Segmenter needs to go on here, as plain values of bounded size."""
        known = self._sectioning.snapshot()
        sections: dict[str, Value] = {"sectioning": known} if known else {}
        return sections | {
            "buffer": self._buffer,
            "unpushed": self._unpushed,
            "gap": self._gap,
            "section": self._section,
            "page": self._page,
            "opened": self._opened,
            "byte": self._byte,
            "char": self._char,
            "text_over": self._text_over,
            "settled": self._settled,
            "cursor": self._cursor,
            "regions": [region.as_row() for region in self._regions],
            "pending": list(self._pending),
            "recent": list(self._recent),
            "index": self._index,
            "tokens_out": self._tokens_out,
            "bytes_out": self._bytes_out,
            "sentences_out": self._sentences_out,
            "sentence_tokens_out": self._sentence_tokens_out,
            "stream": self._stream.snapshot(),
        }

    @property
    def chars(self) -> int:
        """Code points of the text cut so far; all of the document's once the last segment is out."""
        return self._char

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the text cut so far; all of the document's once the last segment is out."""
        return self._byte

    def __iter__(self) -> Iterator[Segment]:
        """All segments; of a document that is followed, waiting for each."""
        while (segment := self.next_segment()) is not None:
            if isinstance(segment, Segment):
                yield segment

    def next_segment(self) -> Segment | NothingYet | None:
        """The next window, or None behind the last. Raises DocumentError."""
        while not self._text_over and not self._window_is_known():
            if not self._more_text():
                return NothingYet()
        return self._take() if self._pending else None

    @property
    def _language(self) -> str:
        """The language whose rules hold; what is followed may tell its own only once it has been waited for."""
        return self._options.language or self._document.facts.language

    def _window_is_known(self) -> bool:
        """Whether the next window's tokens are there, and its sentences are known with their sections."""
        # One token more than the window: only then is it known that a sentence ends with the window's last.
        count = self._options.window + 1
        if len(self._pending) < count or self._open is not None:
            return False
        _, *ends, behind = accumulate((size for _, size in islice(self._pending, count)), initial=self._bytes_out)
        known = self._sectioning.held_behind
        return (known is None or behind <= known) and not self._last_is_open(ends)

    def _last_is_open(self, ends: Sequence[int]) -> bool:
        """Whether the last sentence so far ends in the window, and no token in it: it is joined with the one behind it.

        That one has to be known, or what is a sentence would depend on how the text arrives.
        """
        if not self._regions:
            return False
        before = self._sentence_tokens_out - self._tokens_out
        if len(self._regions) > 1:
            before = bisect_right(ends, self._regions[-2].byte_end)
        return bisect_right(ends, self._regions[-1].byte_end) == before < len(ends)

    def _more_text(self) -> bool:
        """Go on by a passage or a block; False if there is none yet."""
        end = passage_end(self._buffer)
        if end is not None:
            self._cut_passage(end, is_final=True)
            return True
        block = self._next = self._next or next(self._blocks, None)
        if self._unpushed and (block is None or not block.is_settled or not block.text):
            self._push()  # what is settled goes out before anything is known that is not, and before waiting
            return True
        self._next = None
        if block is None:
            self._text_over, self._settled = True, False
            self._cut_passage(len(self._buffer), is_final=False)
            self._regions.extend(self._sectioning.finish())
            self._push()
            self._pending.extend(self._stream.finish())
            return True
        if not block.text:
            return False
        self._settled = self._settled and block.is_settled
        if (block.section, block.page) != (self._section, self._page):
            goes_on = block.section == self._section and self._buffer.endswith("\n")
            self._cut_passage(len(self._buffer), is_final=True, goes_on=goes_on)
            self._section, self._page = block.section, block.page
        self._buffer += block.text
        self._cursor = block.after
        return True

    def _cut_passage(self, end: int, is_final: bool, goes_on: bool = False) -> None:
        """Turn the first `end` characters of the buffer into sentence regions and tokens.

        If the text `goes_on` on the next page, the last sentence waits.
        """
        text, self._buffer = self._buffer[:end], self._buffer[end:]
        pieces, tail = split_passage(text, self._language, self._options.max_chars)
        for piece in pieces:
            self._add_region(piece, is_final)
        if not goes_on:
            self._hand_on()
        self._pass_over(tail)
        self._gap += tail
        self._unpushed += text
        if len(self._unpushed) >= PUSHED_CHARS:
            self._push()

    def _push(self) -> None:
        self._pending.extend(self._stream.push(self._unpushed))
        self._unpushed = ""

    def _add_region(self, piece: Piece, is_final: bool) -> None:
        self._pass_over(piece.lead)
        byte_start, char_start = self._byte, self._char
        self._pass_over(piece.text)
        region = Region(
            self._gap + piece.lead,
            piece.text,
            byte_start,
            self._byte,
            char_start,
            self._char,
            self._section,
            self._page,
            is_final,
        )
        self._gap = ""
        if self._open is not None and self._is_rest_of(self._open, region):
            region = self._open.joined(region)
        else:
            self._hand_on()
        self._open = region

    def _is_rest_of(self, begun: Region, region: Region) -> bool:
        """Whether a sentence begun on one page goes on in what is the first of the next."""
        follows = begun.page is not None and region.page == begun.page + 1 and region.section == begun.section
        return follows and begun.turn is None and region.char_end - begun.char_start <= self._options.max_chars

    def _hand_on(self) -> None:
        if self._open is not None:
            self._regions.extend(self._sectioning.take(self._open))
            self._open = None

    def _pass_over(self, text: str) -> None:
        self._byte += len(text.encode("utf-8"))
        self._char += len(text)

    def _take(self) -> Segment:
        pieces = self._pending[: self._options.window]
        del self._pending[: self._options.window]
        tokens, sizes = zip(*pieces, strict=True)
        ends = list(accumulate(sizes, initial=self._bytes_out))[1:]
        sentences = tuple(self._sentences_ending_in(ends))
        segment = Segment(
            index=self._index,
            tokens=tokens,
            token_start=self._tokens_out,
            byte_end=ends[-1],
            sentences=sentences,
            settled=self._settled,
            is_last=self._text_over and not self._pending,
            follower=self._pending[0][0] if self._pending else None,
            opens=tuple(self._opening_in(sentences, len(tokens))),
            before=self._recent,
        )
        self._recent = (*self._recent, *tokens)[-REACH:]
        self._index += 1
        self._tokens_out += len(tokens)
        self._bytes_out = ends[-1]
        return segment

    def _sentences_ending_in(self, ends: list[int]) -> Iterator[Sentence]:
        """The sentences whose last token is in the window whose tokens end at the bytes `ends`."""
        next_end = ends[-1] + self._pending[0][1] if self._pending else None
        position = 0
        while self._regions:
            region = self._regions[0]
            position = bisect_right(ends, region.byte_end, lo=position)
            if position == len(ends) and next_end is not None and next_end <= region.byte_end:
                return  # its last token is in a later window
            if self._tokens_out + position == self._sentence_tokens_out:
                # No token ends inside it: the token across its end belongs to what follows.
                if position == len(ends):
                    return
                if len(self._regions) > 1:
                    self._regions.popleft()
                    self._regions[0] = region.joined(self._regions[0])
                    continue
                position += 1
            self._regions.popleft()
            yield self._sentence(region, self._tokens_out + position)

    def _opening_in(self, sentences: tuple[Sentence, ...], count: int) -> Iterator[int]:
        """The tokens of the window at which a sentence begins whose section is not that of the one before it."""
        begins = [(sentence.token_start, sentence.section) for sentence in sentences]
        begins += [(self._sentence_tokens_out, region.section) for region in list(self._regions)[:1]]
        for token, section in begins:
            if section != self._opened and token < self._tokens_out + count:
                self._opened = section
                yield max(token, self._tokens_out)

    def _sentence(self, region: Region, token_end: int) -> Sentence:
        sentence = Sentence(
            index=self._sentences_out,
            text=region.text,
            byte_start=region.byte_start,
            byte_end=region.byte_end,
            char_start=region.char_start,
            char_end=region.char_end,
            token_start=self._sentence_tokens_out,
            token_end=token_end,
            section=region.section,
            page=region.page,
            is_final=region.is_final,
            lead=region.lead,
            turn=region.turn,
        )
        self._sentences_out += 1
        self._sentence_tokens_out = token_end
        return sentence
