"""How large, how long, how fast: one frozen record per kind of machine. Knows nothing of how it is used."""

from __future__ import annotations

from dataclasses import dataclass, field

from examples.train_default_model.corpus import Limits
from examples.train_default_model.targets import Taught


@dataclass(frozen=True)
class Everyday:
    """How many definitions, examples of use and composed scenes the teacher is asked for, where WordNet is there."""

    definitions: int = 50_000
    examples: int = 45_000
    scenes: int = 80_000


@dataclass(frozen=True)
class DataProfile:
    """What is prepared: at most `shards` of `shard_stretches`, each `passages_per_stretch` passages of one text.

    `text_shards` more are text alone: next tokens are learned from it, and no teacher is asked.
    `words`, `phrases` and `clauses` are how many of each the teacher is asked for besides sentences and texts of pair
    sets; of `varied` clauses also with a word or two replaced, twice each. `everyday` counts what comes of WordNet.
    """

    limits: Limits
    vocabulary: int
    passages_per_stretch: int
    shard_stretches: int
    shards: int
    words: int
    phrases: int
    taught: Taught = field(default_factory=Taught)
    text_shards: int = 0
    clauses: int = 0
    varied: int = 0
    everyday: Everyday = field(default_factory=Everyday)


@dataclass(frozen=True)
class ModelProfile:
    """The network: `ranks` are the low-rank sizes of decay, rate, value blend and gate.

    The head of sentence vectors has a perceptron with `mlp` hidden numbers, or none.
    """

    layers: int
    width: int
    ranks: tuple[int, int, int, int]
    head_size: int = 64
    vector_size: int = 384
    mlp: int = 0


@dataclass(frozen=True)
class TrainingProfile:
    """The run. `learning_rate` is that of hidden matrices; the schedule spans `steps`.

    `rows` are the streams read side by side: (documents in order, unrelated sentences without a reset, sentences
    alone), `tokens` what each reads per step. `static_steps` of `static_batch` texts fit the static table before the
    first step. Of the positions in document rows, `next_token_positions` are scored a step; the loss there weighs
    `first_next_token_weight` at the first step and `next_token_weight` from a quarter of the steps on, since a network
    that cannot yet tell what comes next adds little to a vector. `compiled` lets torch.compile fuse what stands between
    the matrix products: half a minute at the start, a fifth of every step. The loss of vectors weighs `vector_weight`.
    """

    kernel: str
    rows: tuple[int, int, int]
    tokens: int
    steps: int
    learning_rate: float
    static_steps: int
    static_batch: int
    warm_up_steps: int
    next_token_positions: int
    first_next_token_weight: float
    next_token_weight: float
    checkpoint_seconds: float
    device: str = "cpu"
    compiled: bool = False
    vector_weight: float = 1.0


@dataclass(frozen=True)
class Profile:
    """Everything that `--profile` chooses."""

    data: DataProfile
    model: ModelProfile
    training: TrainingProfile


PROFILES = {
    "hour": Profile(
        DataProfile(Limits(200_000, 3_600_000, 90_000_000), 16_384, 2, 250, 22, 15_000, 15_000),
        ModelProfile(3, 256, (32, 32, 32, 64)),
        TrainingProfile(
            kernel="native",
            rows=(3, 3, 2),
            tokens=256,
            steps=2_050,
            learning_rate=1.5e-3,
            static_steps=800,
            static_batch=1024,
            warm_up_steps=60,
            next_token_positions=384,
            first_next_token_weight=0.1,
            next_token_weight=0.1,
            checkpoint_seconds=120,
        ),
    ),
    "cpu": Profile(
        DataProfile(
            Limits(200_000, 3_600_000, 90_000_000),
            16_384,
            3,
            250,
            40,
            15_000,
            15_000,
            text_shards=40,
            clauses=30_000,
            varied=30_000,
        ),
        ModelProfile(6, 256, (32, 32, 32, 64)),
        TrainingProfile(
            kernel="native",
            rows=(4, 2, 2),
            tokens=512,
            steps=20_000,
            learning_rate=1.5e-3,
            static_steps=800,
            static_batch=1024,
            warm_up_steps=150,
            next_token_positions=1_536,
            first_next_token_weight=1.0,
            next_token_weight=0.2,
            checkpoint_seconds=120,
            compiled=True,
        ),
    ),
    "gpu": Profile(
        DataProfile(
            Limits(200_000, 4_000_000, 55_000_000), 16_384, 6, 1_000, 10, 15_000, 15_000, clauses=30_000, varied=30_000
        ),
        ModelProfile(8, 384, (64, 64, 32, 128), mlp=768),
        TrainingProfile(
            kernel="triton",
            rows=(24, 24, 16),
            tokens=1024,
            steps=4_000,
            learning_rate=1.5e-3,
            static_steps=1_500,
            static_batch=4096,
            warm_up_steps=200,
            next_token_positions=16_384,
            first_next_token_weight=1.0,
            next_token_weight=0.3,
            checkpoint_seconds=60,
            device="cuda",
            compiled=True,
        ),
    ),
    "tiny": Profile(
        DataProfile(Limits(4_000, 40_000, 60_000), 512, 2, 8, 2, 8, 8, text_shards=1, everyday=Everyday(8, 8, 8)),
        ModelProfile(2, 64, (8, 8, 8, 8), mlp=16),
        TrainingProfile(
            kernel="chunked",
            rows=(1, 1, 1),
            tokens=32,
            steps=8,
            learning_rate=1e-3,
            static_steps=4,
            static_batch=32,
            warm_up_steps=5,
            next_token_positions=32,
            first_next_token_weight=0.1,
            next_token_weight=0.1,
            checkpoint_seconds=1,
        ),
    ),
}


@dataclass(frozen=True)
class HeadProfile:
    """A head fitted anew on a network that stays as it is (`refit`).

    The static table gets rows for the `words` most frequent words that the tokenizer cuts, unless the model has words
    already, and is first fitted alone for `table_steps` batches. The network reads `parts` stretches of
    `part_steps` steps, of `rows` streams and `tokens` each; on that, `steps` batches of `batch` spans move the whole
    head: the table at `table_rate`, the maps at `map_rate`, the perceptron at `mlp_rate`. A head without a perceptron
    gets one with `mlp` hidden numbers. The model gets the gate times `gate_share`, which makes the means more even, and
    the maps and the perceptron times `network_share`.
    """

    data: DataProfile
    rows: tuple[int, int, int]
    tokens: int
    parts: int
    part_steps: int
    table_steps: int
    first_table_rate: float
    steps: int
    batch: int
    table_rate: float
    map_rate: float
    neighbour_weight: float
    words: int
    mlp: int
    mlp_rate: float
    gate_share: float
    network_share: float
    checkpoint_seconds: float = 60.0


HEAD_PROFILES = {
    "head": HeadProfile(
        DataProfile(
            Limits(200_000, 3_600_000, 90_000_000), 0, 3, 250, 7, 15_000, 15_000, clauses=60_000, varied=30_000
        ),
        rows=(3, 2, 5),
        tokens=512,
        parts=36,
        part_steps=50,
        table_steps=2_400,
        first_table_rate=3e-2,
        steps=2_500,
        batch=1_024,
        table_rate=5e-3,
        map_rate=4e-3,
        neighbour_weight=0.15,
        words=16_000,
        mlp=1_024,
        mlp_rate=1e-3,
        gate_share=0.75,
        network_share=0.9,
    ),
    "tiny": HeadProfile(
        DataProfile(Limits(4_000, 40_000, 60_000), 0, 2, 8, 2, 8, 8, clauses=8, varied=4, everyday=Everyday(8, 8, 8)),
        rows=(1, 1, 1),
        tokens=32,
        parts=2,
        part_steps=4,
        table_steps=4,
        first_table_rate=2e-2,
        steps=12,
        batch=32,
        table_rate=2e-2,
        map_rate=3e-3,
        neighbour_weight=0.6,
        words=6,
        mlp=8,
        mlp_rate=3e-3,
        gate_share=0.5,
        network_share=0.8,
        checkpoint_seconds=0.0,
    ),
}
