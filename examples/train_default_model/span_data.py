"""Questions on marked texts, and what a model says of the tokens of the sentences that may answer them, kept in files.

A text is read once, from its beginning, cut as the pipeline cuts it; a question is read by itself. Which sentences may
answer is what `ask` says, by words. Each text has a file, so a stopped pass goes on with those that are missing.
Knows nothing of how a reader of spans is fitted.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline import evals
from pipeline.answers import evidence
from pipeline.answers.ask import candidates, word_scores
from pipeline.answers.confidence import score
from pipeline.answers.lines import lines_of_document
from pipeline.answers.material import Material
from pipeline.answers.questions import Question
from pipeline.evals import read_jsonl
from pipeline.evals.cuad_passages import questions
from pipeline.in_memory import TextDocument, segments
from pipeline.metrics import asked as sets
from pipeline.segments import SplitOptions
from rwkv_runtime.engine import Engine, Feed

MAX_CHARS: Final = 2000
NOVEL_CHARS: Final = 1_500_000
PLAIN: Final = "cuad_plain.json"
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Read:
    """Tokens as a model has read them: `hidden` [n, D] float16 behind the embedding head's norm, `tokens` [n]."""

    hidden: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class Case:
    """A question on a text, with the sentences that may answer.

    `text` is what was read of the text, `places` [T, 2] the bytes that its tokens are of it. Of the sentences,
    `sentences` [n, 2] are half-open spans of tokens, `vectors` [n, E] unit vectors, `passages` [n] the numbers of
    their passages, `words` [n] what `ask` says of them by words. `spans` [g, 2] are the bytes that answer: none if the
    text has no answer. `asked` and `vector` [E] are the question's.
    """

    name: str
    document: int
    text: Read
    places: Tensor
    sentences: Tensor
    vectors: Tensor
    passages: Tensor
    words: Tensor
    asked: Read
    vector: Tensor
    spans: Tensor

    @property
    def bytes_of_sentences(self) -> Tensor:
        """[n, 2]"""
        return torch.stack([self.places[self.sentences[:, 0], 0], self.places[self.sentences[:, 1] - 1, 1]], 1)

    @property
    def right(self) -> Tensor:
        """Which sentences have a part of an answer [n]."""
        own, spans = self.bytes_of_sentences[:, None], self.spans[None]
        return ((own[..., 0] < spans[..., 1]) & (own[..., 1] > spans[..., 0])).any(1)


Items = Mapping[str, Iterator[sets.Item]]


def train_items(folder: Path, draw: random.Random) -> Items:
    """Texts with questions, by set, of permissive train splits in DIR/train."""
    medquad = [
        {"query": row["query"], "answer": row["positive"]} for row in read_jsonl(folder / "pairs/qa-medquad.jsonl.xz")
    ]
    contracts = list(read_jsonl(folder / "labelled/cuad.jsonl.xz"))
    described, named = _wordings()
    half = len(contracts) // 2
    return {
        "MedQuAD": sets.medical(medquad, draw),
        "CUAD": sets.contracts(contracts[:half], described, draw),
        "CUAD by name": sets.contracts(contracts[half:], named, draw),
        "definitions": sets.definitions(contracts[half:], draw),
        "facts": sets.facts(next(_texts(folder, "eltec-eng"))["text"][:NOVEL_CHARS], sets.FITTED_ON, draw),
        "QMSum": sets.meetings(list(read_jsonl(folder / "labelled/qmsum.jsonl.xz")), draw),
        "Factbook": sets.countries(_texts(folder, "factbook"), draw),
    }


def evaluation_items(folder: Path, draw: random.Random) -> Items:
    """Texts with questions, by set, of other splits of these: none of them in `train_items`.

    Nor are the plain words in which contracts are asked for clauses.
    """
    contracts = list(read_jsonl(folder / "labelled/cuad.jsonl.xz"))
    described, named = _wordings()
    plain: dict[str, str] = json.loads(Path(evals.__file__).with_name(PLAIN).read_text("utf-8"))
    return {
        "MedQuAD": sets.medical(list(read_jsonl(folder / "labelled/medquad-qa.jsonl.xz")), draw),
        "CUAD": sets.contracts(contracts, described, draw),
        "CUAD by name": sets.contracts(contracts, named, draw),
        "CUAD in plain words": sets.contracts(contracts, plain, draw),
        "definitions": sets.definitions(contracts, draw),
        "facts": sets.facts((folder / "labelled/wikitext2-valid.txt").read_text("utf-8"), sets.HELD_OUT, draw),
        "QMSum": sets.meetings(list(read_jsonl(folder / "labelled/qmsum.jsonl")), draw),
        "Factbook": sets.countries(read_jsonl(folder / "labelled/factbook-fields.jsonl"), draw),
    }


def write_cases(
    folder: Path,
    items: Items,
    texts: slice,
    engine: Engine,
    log: Callable[[str], None],
    max_chars: int,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Read those of the texts of each set whose files are missing; longer ones than `max_chars` do not count.

    Ends behind a text once `until` says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in items.items():
        fitting = (one for one in found if one[1] and len(one[0]) <= max_chars)
        for number, (text, asked) in enumerate(islice(fitting, texts.start, texts.stop)):
            path = folder / f"{name.replace(' ', '-')}-{number:03d}.safetensors"
            if until():
                return
            if path.exists():
                continue
            temporary = path.with_suffix(".tmp")
            save_file(_tensors(text, asked, engine), temporary, metadata={"set": name})
            temporary.replace(path)
        log(f"{folder.name}: {name} is read")


def read_cases(folder: Path) -> list[Case]:
    """All questions on the texts of a folder, in the order of the files."""
    paths = sorted(folder.glob("*.safetensors"))
    return [case for document, path in enumerate(paths) for case in _cases(path, document)]


def _cases(path: Path, document: int) -> Iterator[Case]:
    name, held = path.stem.rpartition("-")[0].replace("-", " "), load_file(path)
    text = Read(held["hidden"], held["tokens"])
    for number in range(len(held["questions"])):
        own = {part: held[f"{number}.{part}"] for part in ("hidden", "tokens", "vector", "chosen", "passages", "words")}
        yield Case(
            name,
            document,
            text,
            held["places"],
            held["sentences"][own["chosen"]],
            held["vectors"][own["chosen"]],
            own["passages"],
            own["words"],
            Read(own["hidden"], own["tokens"]),
            own["vector"],
            held[f"{number}.spans"].reshape(-1, 2),
        )


def _wordings() -> tuple[dict[str, str], dict[str, str]]:
    """Questions for the clauses of a contract: by their descriptions, and by their names."""
    described = {category: text.partition(". ")[2] for category, text in questions().items()}
    return described, {one: f"What does this agreement say about {one.lower()}?" for one in described}


def _texts(folder: Path, source: str) -> Iterator[Mapping[str, Any]]:
    for path in sorted((folder / "text").glob("*.jsonl.zst")):
        with pa.input_stream(path, compression="zstd") as packed:
            for line in io.TextIOWrapper(packed, "utf-8"):
                if f'"src": "{source}"' in line[:200]:
                    yield json.loads(line)


def _tensors(text: str, asked: Sequence[sets.Asked], engine: Engine) -> dict[str, Tensor]:
    """What is kept of a text and its questions."""
    document = TextDocument(text)
    material = Material.of(lines_of_document(document, engine.model.tokenizer, MAX_CHARS), {document.ref.doc_id: "en"})
    chosen = [_chosen(one.question, material) for one in asked]
    wanted = sorted({int(place) for own in chosen for place in own["chosen"]})
    rank = {place: at for at, place in enumerate(wanted)}
    found = _read_text(document, wanted, engine) | {"questions": torch.arange(len(asked))}
    for number, (one, own) in enumerate(zip(asked, chosen, strict=True)):
        own["chosen"] = torch.tensor([rank[int(place)] for place in own["chosen"]])
        spans = [[len(text[:at].encode()) for at in span] for span in one.spans or ()]
        parts = own | _read_question(one.question, engine) | {"spans": torch.tensor(spans, dtype=torch.int64)}
        found |= {f"{number}.{name}": part for name, part in parts.items()}
    return found


def _chosen(question: str, material: Material) -> dict[str, Tensor]:
    """The sentences that may answer, their passages, and what speaks for each by words."""
    asked = evidence.Asked.of(Question.of(question, material.find_terms), material)
    words, parts = word_scores(asked, material)
    passages = candidates(words, parts, asked, material)
    standing = evidence.Standing.of(passages, words, asked, material)
    pairs = [(place, passage) for passage in passages for place in material.sayings(passage)]
    scores = [score(evidence.of_sentence(place, passage, asked, material, standing)) for place, passage in pairs]
    places, numbers = torch.tensor(pairs).T
    return {"chosen": places, "passages": numbers.contiguous(), "words": torch.tensor(scores)}


def _read_text(document: TextDocument, wanted: Sequence[int], engine: Engine) -> dict[str, Tensor]:
    """What the model says of the tokens of some sentences, and where in the text they stand; and of the sentences."""
    tokens: list[int] = []
    spans: list[tuple[int, int]] = []
    features, state = [], engine.model.initial_state()
    for segment in segments(document, engine.model.tokenizer, SplitOptions(engine.window, MAX_CHARS)):
        fed = engine.feed([Feed(segment.tokens, state, features=True, before=segment.before)])[0]
        assert fed.features is not None  # they were asked for
        state = fed.state
        tokens += segment.tokens
        features.append(fed.features)
        spans += [(one.token_start, one.token_end) for one in segment.sentences]
    ends = np.cumsum([len(engine.model.tokenizer.token_bytes(token)) for token in tokens])
    kept = np.array([spans[place] for place in wanted], np.int64)
    inside = np.concatenate([np.arange(begin, end) for begin, end in kept])
    lengths = np.cumsum([0, *(kept[:, 1] - kept[:, 0])])
    read = np.concatenate(features)
    return {
        "hidden": _hidden(read[inside], engine),
        "tokens": torch.tensor(tokens)[inside],
        "places": torch.from_numpy(np.stack([np.concatenate([[0], ends[:-1]]), ends], 1)[inside]),
        "sentences": torch.from_numpy(np.stack([lengths[:-1], lengths[1:]], 1)),
        "vectors": _vectors(read, kept, engine),
    }


def _read_question(question: str, engine: Engine) -> dict[str, Tensor]:
    tokens = engine.model.tokenizer.encode(" " + question)[: engine.window]
    fed = engine.feed([Feed(tuple(tokens), engine.model.initial_state(), features=True)])[0]
    assert fed.features is not None  # they were asked for
    vector = _vectors(fed.features, np.array([[0, len(tokens)]]), engine)[0]
    return {"hidden": _hidden(fed.features, engine), "tokens": torch.tensor(tokens), "vector": vector}


def _hidden(features: NDArray[np.float32], engine: Engine) -> Tensor:
    """The last of what the embedding head takes from each token."""
    return torch.from_numpy(features[:, -engine.model.config.n_embd :]).half()


def _vectors(features: NDArray[np.float32], spans: Ints, engine: Engine) -> Tensor:
    sums = np.stack([features[begin:end].sum(0) for begin, end in spans])
    return torch.from_numpy(engine.pooler.finish(sums, features[spans[:, 1] - 1], spans[:, 1] - spans[:, 0])).half()
