"""State values and their files."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from rwkv_runtime.errors import StateError, WeightsError
from rwkv_runtime.model import Model
from rwkv_runtime.state import State
from tests.rwkv_runtime.tiny import tiny_model, tiny_tensors, tokens_of

SMALL = {"vocabulary": 11, "width": 4, "head_size": 2, "layers": 1}


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model(**SMALL)


@pytest.fixture(scope="module")
def state(model: Model) -> State:
    return model.forward(tokens_of(7, vocabulary=11), model.initial_state()).state


def test_a_saved_state_is_the_state(model, state, tmp_path):
    state.to_arrow(tmp_path / "kept.arrow")
    back = State.from_arrow(tmp_path / "kept.arrow", model)
    assert (back.generation, back.model_fingerprint, back.tokens_seen) == ("7", "tiny", 7)
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in state.tensors.items())
    assert back.to_bytes() == state.to_bytes()
    assert State.from_bytes(state.to_bytes(), model).to_bytes() == state.to_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.arrow"]


def test_a_state_file_is_an_arrow_file_of_one_row(state, tmp_path):
    state.to_arrow(tmp_path / "kept.arrow")
    table = pa.ipc.open_file(tmp_path / "kept.arrow").read_all()
    assert table.num_rows == 1
    assert set(table.column_names) == {"att_shift", "wkv", "ffn_shift"}
    assert table.column("wkv")[0].as_py() == state.tensors["wkv"].numpy().tobytes()


def test_a_state_goes_through_pickle(model, state):
    assert pickle.loads(pickle.dumps(state)).to_bytes() == state.to_bytes()


def test_the_mapping_of_tensors_cannot_be_changed(state):
    with pytest.raises(TypeError):
        state.tensors["wkv"] = torch.zeros(1)
    with pytest.raises(AttributeError):
        state.tokens_seen = 3


def test_every_flipped_bit_of_a_file_is_noticed(model, state):
    data = state.to_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        with pytest.raises(StateError):
            State.from_bytes(bytes(flipped), model)


def test_every_shorter_file_is_refused(model, state):
    data = state.to_bytes()
    for length in range(0, len(data), 7):
        with pytest.raises(StateError):
            State.from_bytes(data[:length], model)


@given(data=st.binary(max_size=400))
@settings(deadline=None, max_examples=50)
def test_whatever_is_no_state_is_refused(model, data):
    for content in (data, b"ARROW1" + data):
        with pytest.raises(StateError):
            State.from_bytes(content, model)


def test_a_state_of_another_model_is_refused_with_both_names(state, tmp_path):
    state.to_arrow(tmp_path / "kept.arrow")
    with pytest.raises(StateError, match="tiny, but the model is RWKV-7 other"):
        State.from_arrow(tmp_path / "kept.arrow", tiny_model(**SMALL, fingerprint="other"))


def test_tensors_of_another_shape_are_refused(state):
    with pytest.raises(StateError, match="but the model's are"):
        State.from_bytes(state.to_bytes(), tiny_model(**SMALL | {"layers": 2}))


def test_a_missing_file_is_a_state_error_with_its_path(model, tmp_path):
    with pytest.raises(StateError, match=r"gone\.arrow: cannot be read"):
        State.from_arrow(tmp_path / "gone.arrow", model)


def test_a_folder_that_is_not_there_is_a_state_error_with_its_path(state, tmp_path):
    with pytest.raises(
        StateError, match=r"nope/x\.arrow: cannot be written to the folder .*nope \(No such file"
    ) as found:
        state.to_arrow(tmp_path / "nope" / "x.arrow")
    assert ".tmp" not in str(found.value)


def test_a_file_that_is_there_is_replaced_whole(model, state, tmp_path):
    (tmp_path / "kept.arrow").write_bytes(b"older")
    state.to_arrow(tmp_path / "kept.arrow")
    assert State.from_arrow(tmp_path / "kept.arrow", model).tokens_seen == 7


def test_a_state_knows_its_size_and_whether_it_is_finite(model, state):
    assert state.nbytes == 4 * (4 + 2 * 2 * 2 + 4)
    assert state.is_finite()
    broken = State("7", "tiny", 7, {**state.tensors, "wkv": torch.full((1, 2, 2, 2), float("nan"))})
    assert not broken.is_finite()


def tuned_tensors(model: Model) -> dict[str, Tensor]:
    """A tuned state as trainers write it: [H, V, K] for each layer."""
    generator = torch.Generator().manual_seed(3)
    layers, *shape = model.initial_state().tensors["wkv"].shape
    return {f"blocks.{n}.att.time_state": torch.randn(*shape, generator=generator).bfloat16() for n in range(layers)}


def test_a_tuned_state_is_where_reading_starts(tmp_path):
    model = tiny_model()
    tuned = tuned_tensors(model)
    torch.save(tuned, tmp_path / "state.pth")
    state = State.from_time_state(tmp_path / "state.pth", model)

    assert state.tokens_seen == 0
    for layer, matrices in enumerate(tuned.values()):
        assert torch.equal(state.tensors["wkv"][layer], matrices.float())
    assert not state.tensors["att_shift"].any() and not state.tensors["ffn_shift"].any()
    assert not torch.equal(model.forward([1], state).logits, model.forward([1], model.initial_state()).logits)
    assert State.from_bytes(state.to_bytes(), model).to_bytes() == state.to_bytes()


def test_a_tuned_state_of_web_rwkv_lies_the_other_way(tmp_path):
    model = tiny_model()
    tuned = tuned_tensors(model)
    torch.save(tuned, tmp_path / "state.pth")
    save_file({name: tensor.transpose(1, 2).contiguous() for name, tensor in tuned.items()}, tmp_path / "state.st")
    ours, theirs = (State.from_time_state(tmp_path / name, model) for name in ("state.pth", "state.st"))
    assert ours.to_bytes() == theirs.to_bytes()


def test_a_tuned_state_of_another_model_is_refused(tmp_path):
    model = tiny_model()
    tuned = tuned_tensors(model)
    for wrong in (
        dict(list(tuned.items())[:-1]),
        tuned | {"blocks.9.att.time_state": tuned["blocks.0.att.time_state"]},
        {name: tensor[:, :3] for name, tensor in tuned.items()},
        tiny_tensors(),
    ):
        torch.save(wrong, tmp_path / "state.pth")
        with pytest.raises(WeightsError):
            State.from_time_state(tmp_path / "state.pth", model)
