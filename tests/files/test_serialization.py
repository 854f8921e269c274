"""Model files: what is saved comes back, a write that fails leaves the old file, and no damage goes unnoticed."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import os
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.files import _blocks, _tensor_file
from fcnn_gpu.files import _model_file as serialization
from fcnn_gpu.files._blocks import BlockMatrix
from fcnn_gpu.files._tensor_file import checksum
from fcnn_gpu.layers import LAYERS, Parameter
from fcnn_gpu.model import _save_and_load as _saved
from fcnn_gpu.model._torch_names import torch_arrays, torch_shapes
from tests.support.limited import file_size_limit, needs_file_limits, needs_limits, run_limited
from tests.support.registry_cases import LAYER_CASES, LayerCase


def every_layer(**options: Any) -> fcnn.Sequential:
    layers: list[Any] = [
        fcnn.PBLD([2, 0], frequencies=3, outputs=2, sigma=0.5),
        fcnn.Embedding([4], 30, 2, init="fan_in_uniform"),
        fcnn.PeriodicEmbedding([1], 2, 2, lite=True),
        fcnn.PiecewiseLinearEmbedding([[-1, 0.5, 1]], [0], 2),
        fcnn.Dense(6, activation=fcnn.activations.LeakyReLU(0.2), init="orthogonal", l1=0.01, l2=0.02),
        fcnn.BatchNorm(momentum=0.3),
        fcnn.Residual([fcnn.Dense(5, bias=False), fcnn.LayerNorm(eps=0.1), fcnn.Residual(["gelu"])], init="he_uniform"),
        fcnn.Branches([[fcnn.Dense(3, "tanh"), fcnn.BatchNorm()], ["relu"], [fcnn.Dense(2)]]),
        fcnn.Dropout(0.25),
        fcnn.AlphaDropout(0.25),
        fcnn.GaussianNoise(0.25),
        fcnn.Activation("silu"),
        fcnn.Scale("he_normal"),
        fcnn.Dense(5, parametrization="ntk"),
        fcnn.ParametricActivation("gelu", alpha=0.5),
        fcnn.PReLU(),
        fcnn.RMSNorm(eps=0.01),
        fcnn.Dense(6),
        fcnn.GroupNorm(3),
        fcnn.Members(2),
        fcnn.BatchEnsemble(4, 2, "relu", scale_in="random_signs"),
        fcnn.DenseEnsemble(2, 2),
        fcnn.Dense(3),
    ]
    model = fcnn.Sequential(layers, n_in=4, seed=5, backend="numpy", **options)
    assert {layer.name for layer in model.walk()} == set(LAYERS)
    return model


def small() -> fcnn.Sequential:
    return fcnn.Sequential([fcnn.Dense(2)], n_in=2, seed=0, backend="numpy")


def samples(model: fcnn.Sequential, rng: np.random.Generator, n: int) -> HostArray:
    X = rng.normal(size=(n, model.n_in))
    if model.categories is not None:
        X[:, model.categories.columns] = rng.integers(0, model.categories.counts, (n, len(model.categories.counts)))
    return X


def trained(model: fcnn.Sequential) -> fcnn.Sequential:
    rng = np.random.default_rng(0)
    X, y = samples(model, rng, 30), rng.integers(0, model.n_out, 30)
    fcnn.Trainer(model, "cross_entropy").fit(X, y, epochs=2, batch_size=10, progress=False)
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_comes_back(tmp_path: Path, dtype: str) -> None:
    model = trained(every_layer(dtype=dtype))
    model.info = {"classes": ["σ", "b", "c"], "n": 3, "nested": {"list": [1.5, None, True]}}
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = fcnn.load(path, backend="numpy")
    assert again.config() == model.config()
    assert repr(again) == repr(model)
    assert again.info == model.info
    assert again.link == "softmax"
    assert again.dtype == np.dtype(dtype)
    for name, array in model.named_arrays().items():
        np.testing.assert_array_equal(again.named_arrays()[name], array)
    X = samples(model, np.random.default_rng(1), 9)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    trained(again)  # and can go on


def test_a_path_may_be_text_or_a_path_and_the_file_is_small(tmp_path: Path) -> None:
    path = str(tmp_path / "model of σ.safetensors")
    model = small()
    model.save(path)
    assert fcnn.load(path).n_parameters == 6
    assert os.path.getsize(path) < 1000
    assert os.listdir(tmp_path) == ["model of σ.safetensors"]


def test_an_untrained_model_has_no_link(tmp_path: Path) -> None:
    small().save(tmp_path / "m")
    assert fcnn.load(tmp_path / "m").link is None


def test_loading_warns_of_nothing(tmp_path: Path) -> None:
    """The initial weights of the file's architecture are replaced: that they would be symmetric does not matter."""
    with pytest.warns(fcnn.SymmetryWarning):
        model = fcnn.Sequential([fcnn.Dense(3, init="zeros"), fcnn.Dense(2)], n_in=2, backend="numpy")
    model.save(tmp_path / "m")
    fcnn.load(tmp_path / "m")  # pytest turns warnings into errors


def test_names_and_shapes_are_torchs(tmp_path: Path) -> None:
    layers = [fcnn.Dense(6, activation="relu"), fcnn.BatchNorm(), fcnn.Dense(3)]
    fcnn.Sequential(layers, n_in=4, backend="numpy").save(tmp_path / "m")
    shapes = {name: array.shape for name, array in safetensors.numpy.load_file(tmp_path / "m").items()}
    assert shapes == {
        "0.weight": (6, 4),
        "0.bias": (6,),
        "2.weight": (6,),
        "2.bias": (6,),
        "2.running_mean": (6,),
        "2.running_var": (6,),
        "3.weight": (3, 6),
        "3.bias": (3,),
    }


def test_a_model_without_parameters(tmp_path: Path) -> None:
    fcnn.Sequential(["tanh"], n_in=2, backend="numpy").save(tmp_path / "m")
    np.testing.assert_allclose(fcnn.load(tmp_path / "m")([[0.0, 1.0]]), np.tanh([[0.0, 1.0]]), rtol=1e-6)


class Blocks(BlockMatrix):
    """An array that is gone through in blocks of a few rows."""

    def __init__(self, array: HostArray, height: int) -> None:
        self._array, self._height = array, height
        self.shape, self.dtype = (array.shape[0], array.shape[1]), array.dtype

    def blocks(self) -> Iterator[tuple[slice, HostArray]]:
        for start in range(0, len(self._array), self._height):
            rows = slice(start, min(start + self._height, len(self._array)))
            yield rows, self._array[rows]


@given(data=st.data(), in_blocks=st.booleans())
def test_a_file_holds_tensors_of_any_shape_whether_they_are_in_memory_or_not(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, in_blocks: bool
) -> None:
    """What a file holds is written and read without a network; matrices larger than a block stay in the file."""
    shapes = data.draw(st.lists(hnp.array_shapes(max_dims=2, max_side=30), max_size=4))
    dtypes = st.sampled_from([np.float32, np.float64])
    arrays: dict[str, HostArray] = {
        f"{i}.σ": np.random.default_rng(i).normal(size=shape).astype(data.draw(dtypes))
        for i, shape in enumerate(shapes)
    }
    tensors: dict[str, Any] = {
        name: Blocks(array, data.draw(st.integers(1, 31))) if in_blocks and array.ndim == 2 else array
        for name, array in arrays.items()
    }
    config = {"n_in": 1, "layers": [], "dtype": "float32", "seed": 0, "link": None}
    path = tmp_path_factory.getbasetemp() / "tensors"
    with pytest.MonkeyPatch.context() as patch:
        for module in (_blocks, _tensor_file):
            patch.setattr(module, "BLOCK_BYTES", 500)
        serialization.write_model(path, serialization.ModelFile(config, tensors, {"a": 1}, {}))
        found = serialization.read_model(path)
        assert (found.config, found.info) == (config, {"a": 1})
        assert found.tensors.keys() == arrays.keys()
        for name, array in arrays.items():
            assert isinstance(found.tensors[name], BlockMatrix) == (array.ndim == 2 and array.nbytes > 500)
            assert found.tensors[name].dtype == array.dtype
            np.testing.assert_array_equal(np.asarray(found.tensors[name]), array)


# Writing


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"old")
    small().save(path)
    assert fcnn.load(path).n_in == 2


@needs_file_limits
@pytest.mark.parametrize("placement", ["device", "host"])
def test_a_disk_without_room_leaves_the_old_file(tmp_path: Path, placement: Any) -> None:
    path = tmp_path / "m"
    small().save(path)
    old = path.read_bytes()
    model = fcnn.Sequential([fcnn.Dense(50, placement=placement)], n_in=100, backend="numpy")
    with file_size_limit(20_000), pytest.raises(OSError, match=r"File too large.*/m'|/m cannot be written"):
        model.save(path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["m"]
    model.save(path)
    assert fcnn.load(path, backend="numpy").n_parameters == 5050


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(number: int) -> None:
        events.append("fsync")
        fsync(number)

    def spy_replace(source: Any, target: Any) -> None:
        assert Path(source).stat().st_size > 100
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    small().save(tmp_path / "m")
    assert events == ["fsync", "replace", "fsync"][: 3 if os.name == "posix" else 2]


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere to write m into. Create it first"):
        small().save(tmp_path / "nowhere" / "m")
    with pytest.raises(OSError, match="directory"):
        small().save(tmp_path)
    assert os.listdir(tmp_path) == []


INFO: Any = [({"x": {1, 2}}, "not JSON"), ({"x": float("nan")}, "Out of range"), ([1], "must be a dict, got list")]


@pytest.mark.parametrize(("info", "message"), INFO)
def test_an_info_that_is_not_plain_data_is_refused_and_nothing_written(tmp_path: Path, info: Any, message: str) -> None:
    model = small()
    model.info = info
    with pytest.raises(TypeError, match=f"model.info must be .*{message}|{message}"):
        model.save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


# Reading what is damaged or foreign


def assert_refused(path: Path, message: str = "damaged") -> None:
    with pytest.raises(fcnn.ModelFileError, match=message) as caught:
        fcnn.load(path, backend="numpy")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no model file"):
        fcnn.load(tmp_path / "m")
    with pytest.raises(FileNotFoundError, match=r"no model in the folder .* model.safetensors, which fcnn-gpu"):
        fcnn.load(tmp_path)


def test_the_folder_of_a_run_is_its_model(tmp_path: Path) -> None:
    model, X = small(), np.ones((3, 2))
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(fcnn.load(tmp_path, backend="numpy")(X), model(X))


FOREIGN = {
    "keras.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    "torch.pt": (b"PK\x03\x04" + bytes(100), "a zip archive, as models of PyTorch"),
    "pickle.pkl": (pickle.dumps({"weights": [1.0] * 20}), "a pickle"),
    "rows.csv": (b"area,rooms,price\n1,2,3\n", "text, as tables"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_program_is_called_what_it_is(tmp_path: Path, name: str) -> None:
    content, kind = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    assert_refused(tmp_path / name, f"no model of fcnn_gpu's: it is {kind}")


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "m.pt", "m.PTH", "m.pkl", "m.onnx", "m.npz"])
def test_a_name_that_promises_another_kind_of_file_is_not_taken_silently(tmp_path: Path, name: str) -> None:
    model, X = small(), np.ones((3, 2))
    with pytest.warns(UserWarning, match=rf"which {name} does not say: .* Write m.safetensors") as said:
        model.save(tmp_path / name)
    assert said[0].filename == __file__
    np.testing.assert_array_equal(fcnn.load(tmp_path / name, backend="numpy")(X), model(X))
    checkpoint = fcnn.callbacks.ModelCheckpoint(tmp_path / name)
    before = model(X)
    with pytest.raises(ValueError, match="ModelCheckpoint writes a safetensors file"):
        fcnn.Trainer(model, "mse").fit(X, np.zeros((len(X), model.n_out)), epochs=1, callbacks=[checkpoint])
    np.testing.assert_array_equal(model(X), before)


def test_a_checkpoint_that_could_not_be_saved_is_refused_before_training(tmp_path: Path) -> None:
    class Own(fcnn.Dense):
        pass

    model = fcnn.Sequential([Own(2)], n_in=2, seed=0, backend="numpy")
    unregistered = r"Write @LAYERS.register\(\"own\"\)"
    for network, info, message in ((model, {}, unregistered), (small(), {"a": {1}}, "model.info must be plain")):
        network.info = info
        x, before = np.ones((4, 2)), network(np.ones((4, 2)))
        checkpoint = fcnn.callbacks.ModelCheckpoint(tmp_path / "m")
        with pytest.raises(TypeError, match=message):
            fcnn.Trainer(network, "mse").fit(x, np.zeros((4, 2)), epochs=1, callbacks=[checkpoint])
        np.testing.assert_array_equal(network(x), before)
    with pytest.raises(TypeError, match=r"from fcnn_gpu.layers import LAYERS"):
        fcnn.Sequential([Own(2)], n_in=2, backend="numpy").save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_every_truncation(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    small().save(whole)
    content = whole.read_bytes()
    for length in range(len(content)):
        part.write_bytes(content[:length])
        assert_refused(part, "is damaged or no safetensors file")
    part.write_bytes(content + b"\0")
    assert_refused(part)


def test_a_flipped_bit_in_every_byte_of_a_file(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    model = small()
    model.info = {"classes": ["a", "b"]}
    model.save(whole)
    content = bytearray(whole.read_bytes())
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= (0x01, 0x20, 0x80)[position % 3]
        part.write_bytes(flipped)
        assert_refused(part, str(part))


def rewritten(path: Path, arrays: Any = None, metadata: Any = None) -> Path:
    """A file with the small model's arrays and metadata, changed as asked; None removes an entry."""
    model = small()
    tensors = {name: np.array(array, order="C") for name, array in _saved.torch_state(model).items()}
    entries = {"format": "fcnn_gpu", "format_version": "1", "architecture": json.dumps(model.config())}

    def changed(base: dict[str, Any], changes: Any) -> dict[str, Any]:
        return {name: value for name, value in (base | (changes or {})).items() if value is not None}

    tensors, entries = changed(tensors, arrays), changed(entries, metadata)
    entries["crc32"] = checksum(entries, tensors)
    safetensors.numpy.save_file(tensors, path, entries)
    return path


def architecture(**changes: Any) -> dict[str, str]:
    return {"architecture": json.dumps(small().config() | changes)}


def nested(depth: int) -> list[Any]:
    layers: list[Any] = [{"name": "activation", "activation": "tanh"}]
    for _ in range(depth):
        layers = [{"name": "residual", "block": layers}]
    return layers


def test_the_rewritten_file_is_good(tmp_path: Path) -> None:
    assert fcnn.load(rewritten(tmp_path / "m")).info == {}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": None}, "is a safetensors file, but not one of fcnn_gpu's"),
        ({"format": "pt"}, "not one of fcnn_gpu's"),
        ({"format_version": "9"}, "has format version '9'; this fcnn_gpu reads versions 1 to 4. Install"),
        ({"format_version": None}, "has format version None"),
        ({"architecture": None}, "no readable architecture"),
        ({"architecture": "{"}, "no readable architecture"),
        ({"architecture": "[" * 100_000}, "no readable architecture"),
        ({"architecture": "[]"}, "incomplete architecture"),
        ({"architecture": "{}"}, "incomplete architecture"),
        ({"info": "{"}, "unreadable info"),
        ({"info": "[]"}, "an info in its metadata that is no JSON object"),
        ({"signature": "[]"}, "a signature in its metadata that is no JSON object"),
        ({"signature": '{"colour": 1}'}, "a signature that does not fit its network: .* does not know 'colour'"),
        ({"signature": '{"feature_names": ["a"]}'}, "names 1 feature, and the network has"),
        ({"signature": '{"feature_names": 5}'}, "expects a list, got 5"),
        ({"signature": '{"class_names": [[]]}'}, "does not take"),
        ({"signature": '{"byte_scale": NaN}'}, "NaN is no JSON number"),
        ({"signature": '{"input_range": [0]}'}, "expects .smallest, largest."),
        (architecture(layers=5), "cannot be built"),
        (architecture(layers=[]), "cannot be built"),
        (architecture(layers=[[]]), "cannot be built"),
        (architecture(layers=["dense"]), "cannot be built"),
        (architecture(layers=[{"n_out": 2}]), "cannot be built"),
        (architecture(layers=[{"name": "dens", "n_out": 2}]), "cannot be built: layer 0: Unknown layer 'dens'"),
        (architecture(layers=[{"name": "dense", "n_out": 2, "colour": 1}]), "cannot be built.*colour"),
        (architecture(layers=[{"name": "dense", "n_out": -2}]), "cannot be built"),
        (architecture(layers=[{"name": "dense", "n_out": "2"}]), "cannot be built"),
        (architecture(layers=[{"name": "dense", "n_out": 2, "activation": {"name": "rleu"}}]), "Did you mean 'relu'"),
        (architecture(layers=[{"name": "dense", "n_out": 10**12}]), r"architecture says float32 \(1000000000000, 2\)"),
        (
            architecture(layers=[{"name": "residual", "block": [{"name": "dense", "n_out": 10**12}]}]),
            r"3 missing \(0.block.0.weight, ...\); 2 unknown \(0.bias",
        ),
        (architecture(n_in=10**12, layers=[{"name": "layer_norm"}]), r"architecture says float32 \(1000000000000,\)"),
        (architecture(n_in=10**12), r"architecture says float32 \(2, 1000000000000\)"),
        (architecture(n_in=True), "cannot be built: n_in expects an integer, got True"),
        (architecture(n_in=10**4000), r"architecture says float32 \(2, 10+"),
        (architecture(n_im=2), "cannot be built: .* does not know 'n_im'. Did you mean 'n_in'"),
        (architecture(seed=None), "cannot be built: seed expects an integer"),
        (architecture(dtype=["f4"]), "cannot be built: dtype is 'float32' or 'float64'"),
        (architecture(share_workspace=1), "cannot be built: share_workspace expects True or False"),
        (architecture(layers={"name": "dropout"}), "cannot be built: layers expects a list"),
        (architecture(layers=["tanh"]), "cannot be built: layer 0: it is no configuration of a layer"),
        (architecture(layers=[{"name": "dense", "n_out": "9" * 10**5}]), "cannot be built: layer 0: .*99...$"),
        ({"architecture": '{"n_in": 2, "n_in": 3}'}, "no readable architecture.* 'n_in' stands twice in one object"),
        ({"architecture": '{"n_in": NaN}'}, "no readable architecture.*NaN is no JSON number"),
        ({"architecture": '{"n_in": 1e999}'}, "no readable architecture.*'1e999' is beyond the range of float"),
        ({"architecture": '{"n_in": ' + "9" * 5000 + "}"}, "no readable architecture.*4300 digits"),
        ({"architecture": "[" * 400 + "]" * 400}, "incomplete architecture"),
        ({"info": '{"a": Infinity}'}, "unreadable info.*Infinity is no JSON number"),
        ({"info": '{"a": {"b": 1, "b": 1}}'}, "unreadable info.*'b' stands twice"),
        (
            {"architecture": json.dumps(small().config() | {"layers": nested(300)})},
            "cannot be built: layer 0: its blocks are nested too deeply",
        ),
        (architecture(n_in=1.5), "cannot be built"),
        (architecture(n_in=3, layers=[{"name": "dense", "n_out": 1}]), r"0.weight is float32 \(2, 2\)"),
        (architecture(dtype="float16"), "cannot be built: .*'float32' or 'float64'"),
        (architecture(dtype="float64"), "0.weight is float32 .*, its architecture says float64"),
        (architecture(seed="x"), "cannot be built"),
        (architecture(link="softmx"), "cannot be built: .*Did you mean 'softmax'"),
    ],
)
def test_metadata_that_is_refused(tmp_path: Path, metadata: dict[str, Any], message: str) -> None:
    assert_refused(rewritten(tmp_path / "m", metadata=metadata), message)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"0.bias": None}, r"1 missing \(0.bias, ...\)"),
        ({"1.bias": np.zeros(2, np.float32)}, r"1 unknown \(1.bias, ...\)"),
        ({"0.bias": None, "0.beta": np.zeros(2, np.float32)}, r"1 missing \(0.bias, ...\); 1 unknown \(0.beta, ...\)"),
        ({"0.bias": np.zeros(3, np.float32)}, r"0.bias is float32 \(3,\), its architecture says float32 \(2,\)"),
        ({"0.weight": np.zeros((2, 2), np.float64)}, "0.weight is float64"),
        ({"0.weight": np.zeros((2, 2), np.float16)}, "0.weight is float16"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, arrays: dict[str, HostArray], message: str) -> None:
    assert_refused(rewritten(tmp_path / "m", arrays=arrays), message)


def safetensors_file(path: Path, header: dict[str, Any], data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def tensor(**changes: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes}


OURS = {"__metadata__": {"format": "fcnn_gpu", "format_version": "1", "architecture": json.dumps(small().config())}}
HEADERS: Any = [
    ([], "its header is no JSON object"),
    ({"__metadata__": []}, "__metadata__ of its header are not texts by name"),
    ({"__metadata__": OURS["__metadata__"] | {"n": 1}}, "__metadata__ of its header are not texts by name"),
    ({"__metadata__": OURS["__metadata__"] | {"info": "\ud800"}}, "header holds text that is none: surrogates"),
    ({"\udfff": tensor()["w"]}, "header holds text that is none: surrogates"),
    ({"w": []}, "describes 'w' as no tensor: not dtype, shape and data_offsets"),
    (tensor(more=1), "describes 'w' as no tensor: not dtype, shape and data_offsets"),
    (tensor(dtype=["F32"]), r"describes 'w' as no tensor: its dtype is \['F32'\], and not one of F32"),
    (tensor(shape=[1] * 100), "describes 'w' as no tensor: its shape is .*, and not up to 8 sizes"),
    (tensor(shape=[0, 2**62], data_offsets=[0, 0]), "its shape is .*, and not up to 8 sizes of at least 1"),
    (tensor(shape=[2.0, 3.0]), "describes 'w' as no tensor: its shape is"),
    (tensor(shape=[True, 6]), "describes 'w' as no tensor: its shape is"),
    (tensor(shape=[-2, -3]), "describes 'w' as no tensor: its shape is"),
    (tensor(shape=6), "describes 'w' as no tensor: its shape is"),
    (tensor(shape=[2**62, 2**62]), "its shape .* takes [0-9,]+ bytes, and it has 24"),
    (tensor(data_offsets=[24, 0]), "its shape .* takes 24 bytes, and it has -24"),
    (tensor(data_offsets=[0, 24, 24]), "its data_offsets are .*, and not two positions"),
    (tensor(data_offsets=[1, 25]), "the bytes of 'w' begin at 1, those before end at 0"),
    (tensor() | {"v": tensor()["w"]}, "the bytes of 'w' begin at 0, those before end at 24"),
    (tensor(shape=[5], data_offsets=[0, 20]), "it has [0-9,]+ bytes, its header describes"),
]


@pytest.mark.parametrize(("header", "message"), HEADERS)
def test_a_header_that_contradicts_itself_or_its_file(tmp_path: Path, header: Any, message: str) -> None:
    whole = OURS | header if isinstance(header, dict) else header
    assert_refused(safetensors_file(tmp_path / "m", whole, bytes(24)), f"damaged or no safetensors file: .*{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"w": 1, "w": 1}', "its header cannot be read: the name 'w' stands twice in one object"),
        (b'{"\xff": 1}', "its header cannot be read: it is not UTF-8 text at byte 2"),
        (b'{"w": 1', "its header cannot be read: .*char 7"),
    ],
)
def test_a_header_that_is_no_plain_json(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "m").write_bytes(struct.pack("<Q", len(text)) + text)
    assert_refused(tmp_path / "m", message)


@needs_limits
@pytest.mark.parametrize("kind", ["projections", "layers"])
def test_what_an_architecture_takes_is_known_before_it_is_built(tmp_path: Path, kind: str) -> None:
    """In processor time as well, of which a test says nothing; 20,000 layers once were compared with each other."""
    n = 20_000
    widths = [{"name": "dense", "n_out": width, "bias": False} for width in (n, 1, n + 1)]
    layers: Any = [widths[0], {"name": "residual", "block": widths[1:]}]  # with a projection of n² weights
    arrays: Any = {"0.weight": (n, 1), "1.block.0.weight": (1, n), "1.block.1.weight": (n + 1, 1)}
    changes: dict[str, Any] = {"n_in": 1}
    if kind == "layers":
        layers, arrays = [{"name": "activation", "activation": "tanh"}] * n, {"0.weight": (n, 1)}
    held = {name: np.zeros(shape, np.float32) for name, shape in arrays.items()}
    path = rewritten(tmp_path / "m", held | {"0.bias": None}, architecture(layers=layers, **changes))
    used = run_limited(
        """
        import resource, sys
        import fcnn_gpu as fcnn, numpy as np
        def used():
            return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("VmHWM")) * 1024
        before = used()
        try:
            fcnn.load(sys.argv[2], backend="numpy")
        except fcnn.ModelFileError as error:
            result = [str(error), used() - before]
        """,
        path,
    ).result
    assert "does not hold the arrays of its architecture" in used[0]
    assert used[1] < 16 * path.stat().st_size + 2**26


def test_loading_draws_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """'orthogonal' ones take a factorization: far longer than reading them, which a small file could ask for."""
    model = fcnn.Sequential([fcnn.Dense(4, init="orthogonal"), fcnn.Dense(3)], n_in=3, backend="numpy")
    model.save(tmp_path / "m")
    config = model.config()

    def refuse(*_: object) -> None:
        raise AssertionError("drawn")

    monkeypatch.setattr(fcnn.initializers.Orthogonal, "__call__", refuse)
    for again in (fcnn.load(tmp_path / "m", backend="numpy"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.flat.values, model.flat.values)
        assert again.config() == config
    with pytest.raises(AssertionError, match="drawn"):
        fcnn.Sequential.from_config(config, "numpy")  # whose weights are fresh


class TwoScales(fcnn.Layer):
    """A layer of a user's with an array more than its `shapes` speaks of."""

    def _build(self, n_in: int, seed: np.random.SeedSequence) -> None:
        self.n_out = n_in
        self._scale = Parameter("gamma", np.ones((n_in, 1)))

    def parameters(self) -> list[Parameter]:
        return [self._scale]

    def forward(self, A0: Any, cache: Any, training: bool) -> Any:
        return A0 * self._scale.value


def test_a_layer_that_tells_its_arrays_only_once_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LAYERS, "_members", dict(LAYERS._members))
    LAYERS.register("two_scales")(dataclasses.dataclass(eq=False)(TwoScales))
    model = fcnn.Sequential([TwoScales(), fcnn.Dense(2)], n_in=2, backend="numpy")
    assert torch_shapes(model.layers, 2) is None
    model.flat.values[:] = np.arange(model.flat.values.size)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(fcnn.load(tmp_path / "m", backend="numpy").flat.values, model.flat.values)


@pytest.mark.parametrize(
    "case", [case for cases in LAYER_CASES.values() for case in cases], ids=lambda case: case.label
)
def test_layers_tell_their_arrays_before_they_are_built(case: LayerCase) -> None:
    told = torch_shapes([case.make()], case.n_in)
    model = fcnn.Sequential([case.make()], case.n_in, backend="numpy")
    assert told == (model.n_out, {name: shape for name, _, shape in torch_arrays(model.layers)})


def test_arguments_of_load_are_no_fault_of_the_file(tmp_path: Path) -> None:
    small().save(tmp_path / "m")
    wrong: list[dict[str, Any]] = [{"memory_limit": "x"}, {"storage": 5}, {"storage": tmp_path / "unused"}]
    for options in wrong:
        with pytest.raises((ValueError, TypeError)) as caught:
            fcnn.load(tmp_path / "m", backend="numpy", **options)
        assert not isinstance(caught.value, fcnn.ModelFileError)


def deep(n: int) -> Any:
    info: dict[str, Any] = {}
    for _ in range(n):
        info = {"a": info}
    return info


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({1: "a", "1": "b"}, "'1' stands twice"),
        (deep(5000), "model.info"),
    ],
)
def test_an_info_that_could_not_be_read_again_is_refused(tmp_path: Path, info: Any, message: str) -> None:
    model = small()
    model.info = info
    with pytest.raises(TypeError, match=message):
        model.save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_an_info_beyond_what_the_format_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "LONGEST_HEADER", 2000)
    model = small()
    model.info = {"text": "x" * 2000}
    with pytest.raises(ValueError, match="bytes in a file, which holds up to 2,000"):
        model.save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_a_file_of_the_safetensors_library_is_read_and_one_of_ours_by_it(tmp_path: Path) -> None:
    model = every_layer()
    model.save(tmp_path / "m")
    theirs = safetensors.numpy.load_file(tmp_path / "m")
    ours = serialization.read_model(tmp_path / "m").tensors
    assert theirs.keys() == ours.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3"])
def test_dtypes_that_numpy_does_not_have(tmp_path: Path, dtype: str) -> None:
    size = {"BF16": 2, "F8_E4M3": 1}[dtype]
    header: dict[str, Any] = {"w": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}
    assert_refused(safetensors_file(tmp_path / "foreign", header, bytes(size)), "not one of fcnn_gpu's")
    header["__metadata__"] = {
        "format": "fcnn_gpu",
        "format_version": "1",
        "architecture": json.dumps(small().config()),
    }
    assert_refused(safetensors_file(tmp_path / "ours", header, bytes(size)))


@pytest.mark.parametrize("content", [b"", bytes(64), b"\xff" * 64, b"{}"])
def test_files_of_other_kinds(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m"
    path.write_bytes(content)
    assert_refused(path, "is damaged or no safetensors file")


def test_a_header_that_claims_more_than_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    assert_refused(path)


def test_pickle_is_never_used() -> None:
    for module in (serialization, _tensor_file, _saved):
        source = inspect.getsource(module)
        assert "import pickle" not in source
        assert "np.load" not in source


def test_a_backend_that_cannot_be_had_is_no_fault_of_the_file(tmp_path: Path) -> None:
    small().save(tmp_path / "m")
    with pytest.raises(ValueError, match="backend does not know 'nunpy'") as caught:
        fcnn.load(tmp_path / "m", backend="nunpy")
    assert not isinstance(caught.value, fcnn.ModelFileError)


def test_a_saved_model_does_not_follow_the_live_one(tmp_path: Path) -> None:
    model = small()
    model.save(tmp_path / "m")
    kept = copy.deepcopy(model)
    model.flat.values += 1
    np.testing.assert_array_equal(fcnn.load(tmp_path / "m").flat.values, kept.flat.values)
