"""Strategies place layers as the `rwkv` package does, and layers in several places compute what they do in one."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import rwkv_runtime
from rwkv_runtime import generations
from rwkv_runtime.errors import StrategyError
from rwkv_runtime.matrices import PRECISIONS
from rwkv_runtime.model import Model
from rwkv_runtime.placement import CPU, Part, Placement, Plan, Streamed
from rwkv_runtime.strategy import device, parse
from rwkv_runtime.weights import Weights
from tests.rwkv_runtime.tiny import GENERATIONS, KERNELS, ByteTokenizer, plan_of, tiny_tensors, tokens_of

META = torch.device("meta")
TOKENS = tokens_of(100)
WITHIN = {"bf16": 0.05, "int8": 0.15}
"""How far logits may be apart that are computed in another order, of matrices in this precision."""


class OneDevice(TorchDispatchMode):
    """Refuses what a real device would: to compute with tensors of two devices. Copying between them is allowed."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.dim()]
        devices = {x.device for x in tensors}
        if function not in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            assert len(devices) <= 1, f"{function} with tensors on {devices}"
        return function(*args, **(kwargs or {}))


def model_on(plan: Plan, generation: str = "7", **sizes: int) -> Model:
    network = generations.read(Weights("tiny", tiny_tensors(generation=generation, **sizes)), plan)
    return Model(network, ByteTokenizer(), "tiny", dtype=plan.name)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def placed(text: str, layers: int) -> list[str]:
    """Where a strategy puts each layer and the head: its precision, with a + if it is streamed."""
    return [place.precision.name + "+" * place.streamed for place in parse(text).placements(layers)]


@pytest.mark.parametrize(
    ("text", "layers", "expected"),
    [
        ("cpu fp32", 3, ["fp32"] * 4),
        ("cpu bf16 *2 -> cpu fp32", 3, ["bf16", "bf16", "fp32", "fp32"]),
        ("cpu fp16i8 *1 -> cpu fp16 *2", 3, ["int8", "fp16", "fp16", "fp16"]),
        ("cpu fp32 -> cpu bf16", 4, ["fp32", "fp32", "bf16", "bf16", "bf16"]),
        ("cpu fp32 -> cpu bf16 *1 -> cpu fp16", 3, ["fp32", "bf16", "fp16", "fp16"]),
        ("cpu fp32 *9 -> cpu bf16", 3, ["fp32"] * 4),
        ("cpu bf16 *1+ -> cpu fp32 *1", 3, ["bf16", "bf16+", "bf16+", "fp32"]),
        ("cpu bf16 *0+", 2, ["bf16+"] * 3),
        ("cpu fp32i8 *1 -> cpu bf16 *1+", 3, ["int8", "bf16", "bf16+", "bf16+"]),
        ("  cpu   bf16  *2->cpu fp32 ", 3, ["bf16", "bf16", "fp32", "fp32"]),
    ],
)
def test_layers_and_the_head_are_placed_as_in_the_rwkv_package(text, layers, expected):
    assert placed(text, layers) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not DEVICE DTYPE"),
        ("fp32", "'fp32' is not DEVICE DTYPE"),
        ("cpu fp32 ->", "'' is not DEVICE DTYPE"),
        ("cpu fp32 * 3", "is not DEVICE DTYPE or DEVICE DTYPE"),
        ("cpu fp32 *-1", "is not DEVICE DTYPE"),
        ("cpu fp32 *2++", "is not DEVICE DTYPE"),
        ("cpu fp8", "dtype 'fp8' is not supported; use fp32, fp16, bf16, fp32i8"),
        ("cpu fp16i4", "dtype 'fp16i4' is not supported"),
        ("dml fp16", "device 'dml' is not known; use cpu, cuda, cuda:1, … or mps"),
        ("cpu fp32 *1+ -> cpu bf16 *1+", "only one part can stream"),
        ("cuda:99 fp16", "device 'cuda:99' is not there: this machine has"),
    ],
)
def test_what_is_no_strategy_is_refused_in_one_line(text, message):
    with pytest.raises(StrategyError) as refused:
        parse(text)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_devices_are_known_by_name_and_missing_ones_refused():
    assert device("auto") == device("cpu") == CPU
    with pytest.raises(StrategyError, match=r"device 'cuda:7' is not there: this machine has \d of its kind"):
        rwkv_runtime.load(device="cuda:7")
    with pytest.raises(StrategyError, match="device 'gpu' is not known"):
        rwkv_runtime.load(device="gpu")


def test_a_strategy_says_device_and_dtype_alone():
    with pytest.raises(StrategyError, match="beside a strategy; the strategy says both"):
        rwkv_runtime.load(strategy="cpu fp32", dtype="bf16")


@pytest.mark.parametrize("generation", GENERATIONS)
def test_layers_in_two_precisions_are_each_what_they_are_alone(generation):
    mixed, plain = model_on(parse("cpu int8 *0 -> cpu fp32".replace("int8", "fp32i8")), generation), model_on(Plan())
    plain = model_on(Plan(), generation)
    found, expected = (one.forward(TOKENS, one.initial_state(), "all") for one in (mixed, plain))
    assert torch.equal(found.logits, expected.logits)
    half = model_on(parse("cpu bf16 *2 -> cpu fp32"), generation)
    bf16 = model_on(Plan.uniform(CPU, PRECISIONS["bf16"]), generation)
    states = [one.forward(TOKENS, one.initial_state()).state.tensors for one in (half, bf16, plain)]
    assert torch.equal(states[0]["ffn_shift"][:2], states[1]["ffn_shift"][:2])
    assert not torch.equal(states[0]["ffn_shift"][2], states[1]["ffn_shift"][2])
    assert not torch.equal(states[0]["ffn_shift"][0], states[2]["ffn_shift"][0])


@pytest.mark.parametrize("first", KERNELS)
@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_layers_of_two_kinds_of_operations_compute_what_either_kind_does(generation, dtype, first):
    """What one kind hands on in bfloat16, as the first values of RWKV-7, the other takes."""
    places = [plan_of(kernels, dtype).parts[0].placement for kernels in sorted(KERNELS, key=lambda one: one != first)]
    mixed = model_on(Plan((Part(places[0], 2), Part(places[1]))), generation)
    alone = [model_on(Plan((Part(place),)), generation) for place in places]
    for length in (1, 70):
        found, *expected = (one.forward(TOKENS[:length], one.initial_state(), "all") for one in (mixed, *alone))
        for one in expected:
            assert relative(found.logits, one.logits) < WITHIN[dtype]
            assert relative(found.state.tensors["ffn_shift"], one.state.tensors["ffn_shift"]) < WITHIN[dtype]


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "fp32i8"])
def test_streamed_layers_give_the_same_bits(dtype):
    kept, streamed = model_on(parse(f"cpu {dtype}")), model_on(parse(f"cpu {dtype} *1+"))
    assert isinstance(streamed._network.layers[2].time_mix.key, Streamed)
    assert not isinstance(streamed._network.layers[0].time_mix.key, Streamed)
    found, expected = (one.forward(TOKENS, one.initial_state(), "all") for one in (streamed, kept))
    assert torch.equal(found.logits, expected.logits)


def test_the_shipped_model_is_loaded_by_a_strategy():
    model = rwkv_runtime.load(strategy="cpu bf16 *2 ->  cpu fp32")
    assert model.dtype == "cpu bf16 *2 -> cpu fp32"
    assert model.forward([1, 2, 3], model.initial_state()).logits.isfinite().all()


@pytest.mark.parametrize(
    ("generation", "name"), [*((one, "bf16") for one in GENERATIONS), ("7", "fp32"), ("6", "int8")]
)
def test_every_tensor_is_made_on_the_device_of_its_layer(generation, name, monkeypatch):
    """A device without numbers stands in for one that is not there."""
    monkeypatch.setattr("rwkv_runtime.model.is_finite", lambda _: True)
    meta = Placement(META, PRECISIONS[name])
    model = model_on(Plan((Part(meta),)), generation, layers=2)
    for length in (1, 70):
        with OneDevice():
            output = model.forward(TOKENS[:length], model.initial_state(), "all")
        assert {one.device for one in (output.hidden, output.logits, *output.state.tensors.values())} == {META}
    assert model.device == META
    assert model.advance_padded([(TOKENS[:5], model.initial_state())], 1, 64)[0].tensors["att_shift"].device == META


@pytest.mark.parametrize("generation", ["4", "6", "7", "7a"])
def test_what_layers_hand_on_follows_them_to_another_device(generation, monkeypatch):
    monkeypatch.setattr("rwkv_runtime.model.is_finite", lambda _: True)
    plan = Plan((Part(Placement(), 1), Part(Placement(META), 2), Part(Placement(META))))
    network = model_on(plan, generation)._network
    assert [layer.device for layer in network.layers] == [CPU, META, META]
    start = model_on(Plan(), generation)._lane(network.start)
    with OneDevice():
        residual = network._below_last(torch.tensor([TOKENS[:70]]), start, [70])
    assert residual[0].summed().device == META


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("generation", ["4", "6", "7", "7a"])
def test_a_head_on_another_device_is_given_the_stream_there_however_it_was_computed(generation, kernels):
    below = plan_of(kernels).parts[0].placement
    network = model_on(Plan((Part(below, 3), Part(Placement(META)))), generation)._network
    start = model_on(Plan(), generation)._lane(network.start)
    for length in (1, 70):
        residual, after = network.window(torch.tensor([TOKENS[:length]]), start, [length])
        ends, _ = network.ending(torch.tensor([TOKENS[:length]]), start, [length])
        assert residual.device == ends.device == network.output_device == META
        assert {one.device for one in after.values()} == {CPU}
