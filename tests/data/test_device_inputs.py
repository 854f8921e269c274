"""Data that lies on the device already, in arrays of any library: used where it is, or refused with the reason."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend._interchange import library_of, on_cuda
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.data._input_checks import features

from ..conftest import cuda_ops, emulated_ops
from ..support.emulated import CURRENT_STREAM, DeviceArray, on_host
from ..support.foreign_arrays import DlpackTensor, InterfaceArray

N, N_IN, N_CLASSES = 50, 6, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, N_IN)).astype(np.float32)
Y = RNG.integers(0, N_CLASSES, N)
WEIGHTS = RNG.uniform(0.5, 2.0, N).astype(np.float32)

KINDS: dict[str, Callable[[HostArray], Any]] = {
    "dlpack": DlpackTensor,
    "old dlpack": lambda x: DlpackTensor(x, versioned=False),
    "managed memory": lambda x: DlpackTensor(x, kind=13),
    "interface": InterfaceArray,
    "interface without a stream": lambda x: InterfaceArray(x, stream=None),
    "the device's own": lambda x: x.view(DeviceArray),
}


def network(ops: Ops | str, **options: Any) -> fcnn.Sequential:
    layers = [fcnn.Dense(8, activation="relu"), fcnn.BatchNorm(), fcnn.Dropout(0.2), fcnn.Dense(N_CLASSES)]
    return fcnn.Sequential(layers, n_in=N_IN, seed=1, backend=ops, **options)


def run(ops: Ops, convert: Callable[[HostArray], Any], x: HostArray = X, **options: Any) -> dict[str, Any]:
    """All that can be done with X, y and weights, given as `convert` makes them."""
    model = network(ops, **options)
    trainer = fcnn.Trainer(model, metrics=["accuracy"])
    given: Any = [convert(array) for array in (x, Y, WEIGHTS)]
    history = trainer.fit(
        given[0], given[1], sample_weight=given[2], epochs=2, batch_size=16, validation_data=given, progress=False
    )
    split = trainer.fit(given[0], given[1], epochs=1, batch_size=16, validation_split=0.3, progress=False)
    Z = ops.to_numpy(model.forward(given[0], training=True)).copy()
    columns = {name: v for name, v in history.to_dict().items() if not name.startswith(("seconds", "samples_per"))}
    return columns | {
        "split": split["val_loss"],
        "forward": Z,
        "evaluate": list(trainer.evaluate(*given).values()),
        "model": model(given[0]),
        "predict": trainer.predict(given[0], batch_size=7),
        "classes": model.predict_classes(given[0]),
        "weights": ops.to_numpy(model.flat.values).copy(),
    }


def assert_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


@functools.cache
def from_the_host(dtype: str) -> tuple[HostArray, dict[str, Any]]:
    """Samples of a dtype, and what is done with them where they are given as host arrays."""
    x = (40 * X).astype(dtype) if dtype != "uint8" else RNG.integers(0, 256, X.shape).astype(np.uint8)
    return x, run(emulated_ops(), lambda array: array, x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "float16", "int16", "bool"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_device_arrays_of_any_kind_and_dtype_give_what_host_arrays_give(kind: str, dtype: str) -> None:
    ops = emulated_ops()
    x, expected = from_the_host(dtype)
    kept = x.copy()
    assert_equal(run(ops, KINDS[kind], x), expected)
    np.testing.assert_array_equal(x, kept, "X was written to")


@pytest.mark.parametrize("layout", ["F", "strided", "reversed"])
@pytest.mark.parametrize("kind", ["dlpack", "interface"])
def test_other_layouts_are_copied_on_the_device(kind: str, layout: str) -> None:
    wide = np.repeat(X, 2, axis=1)
    x = {"F": np.asfortranarray(X), "strided": wide[:, ::2], "reversed": X[::-1]}[layout]
    if kind == "interface" and layout == "reversed":
        return  # the interface gives the address of the first element; no library exports negative strides
    assert_equal(run(emulated_ops(), lambda a: KINDS[kind](x if a is X else a)), run(emulated_ops(), lambda a: a, x))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16"])
def test_what_the_device_can_use_is_used_where_it_is(kind: str, dtype: str) -> None:
    x = X.astype(dtype)
    taken = features(emulated_ops(), KINDS[kind](x), N_IN, np.float32, "fit")
    assert taken.on_device
    assert taken.dtype == dtype
    assert np.shares_memory(on_host(taken.whole()), x)
    assert np.shares_memory(on_host(taken.part(3, 8)), x[3:8])


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16"])
def test_memory_that_begins_anywhere_is_used_where_it_is(dtype: str) -> None:
    """A tensor cut out of another one: aligned to its elements and no further, so no vector of them."""
    memory = np.zeros(X.size + 1, dtype)
    x = memory[1:].reshape(X.shape)
    x[...] = np.abs(20 * X)
    assert x.ctypes.data % 16
    ops = emulated_ops()
    assert np.shares_memory(on_host(features(ops, DlpackTensor(x), N_IN, np.float32, "fit").whole()), memory)
    assert_equal(run(ops, lambda a: DlpackTensor(x if a is X else a)), run(ops, lambda a: a, x.copy()))


def test_a_loss_called_by_itself_takes_targets_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = emulated_ops()
    monkeypatch.setattr("fcnn_gpu.losses._base.ops_for", lambda array: ops)  # by the array it would be the host's
    outputs = RNG.normal(size=(N, N_CLASSES)).astype(np.float32).view(DeviceArray)
    loss = fcnn.CrossEntropy()
    expected = ops.to_numpy(loss.forward(outputs, Y, WEIGHTS))
    np.testing.assert_array_equal(
        ops.to_numpy(loss.forward(outputs, DlpackTensor(Y), InterfaceArray(WEIGHTS))), expected
    )


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "float16", "bfloat16"])
def test_every_precision_takes_every_dtype(precision: str, dtype: str) -> None:
    """What 16-bit activations are made from stays as it is: float32 is rounded once, as a batch is gathered."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.abs(X).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    ops = emulated_ops()
    if dtype != "bfloat16":  # DLPack of NumPy does not export it, as CuPy's and PyTorch's do
        expected = run(ops, lambda a: a, x, precision=precision)
        assert_equal(run(ops, lambda a: DlpackTensor(x if a is x else a), x, precision=precision), expected)
    else:
        expected = run(ops, lambda a: a, x, precision=precision)
        own = run(ops, lambda a: (x if a is x else a).view(DeviceArray), x, precision=precision)
        assert_equal(own, expected)
        wide = x.astype(np.float32)
        assert_equal(run(ops, lambda a: a, wide, precision=precision), expected)


def test_booleans_are_bytes_of_the_same_memory() -> None:
    x = X > 0
    taken = features(emulated_ops(), DlpackTensor(x), N_IN, np.float32, "fit")
    assert taken.dtype == np.uint8
    assert np.shares_memory(on_host(taken.whole()), x)


def test_dlpack_is_told_our_stream_and_goes_before_the_interface() -> None:
    tensor = DlpackTensor(X)
    emulated_ops().adopt(tensor, "X")
    assert tensor.asked == [{"stream": CURRENT_STREAM, "max_version": (1, 0), "copy": None}]
    old = DlpackTensor(X, versioned=False)
    emulated_ops().adopt(old, "X")
    assert old.asked == [{"stream": CURRENT_STREAM}]


def test_the_interfaces_stream_is_waited_for() -> None:
    ops: Any = emulated_ops()
    ops._runtime.streams_waited_for.clear()
    for stream in (7, None):
        ops.adopt(InterfaceArray(X, stream=stream), "X")
    assert ops._runtime.streams_waited_for == [7, None]


def test_the_owner_of_the_memory_lives_as_long_as_it_is_used() -> None:
    owner = InterfaceArray(X.copy())
    alive = weakref.ref(owner)
    array = emulated_ops().adopt(owner, "X")
    del owner
    gc.collect()
    assert alive() is not None
    del array
    gc.collect()
    assert alive() is None


def test_read_only_memory_is_taken() -> None:
    x = X.copy()
    x.flags.writeable = False
    array = emulated_ops().adopt(DlpackTensor(x), "X")
    np.testing.assert_array_equal(on_host(array), X)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["dlpack", "interface"])
def test_numbers_that_are_not_finite_are_counted_on_the_device(kind: str, bad: float) -> None:
    x = X.copy()
    x[3, 1] = x[7, 0] = bad
    model = network(emulated_ops())
    trainer = fcnn.Trainer(model)
    before = model.ops.to_numpy(model.flat.values).copy()
    message = r"{}: 2 of the 300 values of X, which lies on the device, are NaN or infinite\. Remove"
    for who, call in {
        "fit": lambda: trainer.fit(KINDS[kind](x), Y, progress=False),
        "validation_data": lambda: trainer.fit(X, Y, validation_data=(KINDS[kind](x), Y), progress=False),
        "evaluate": lambda: trainer.evaluate(KINDS[kind](x), Y),
        "model": lambda: model(KINDS[kind](x)),
        "predict": lambda: trainer.predict(KINDS[kind](x)),
        "model.forward": lambda: model.forward(KINDS[kind](x), training=True),
    }.items():
        with pytest.raises(ValueError, match=message.format(who)):
            call()
    np.testing.assert_array_equal(model.ops.to_numpy(model.flat.values), before)


def test_values_outside_the_models_range_are_named_as_such() -> None:
    x = X.astype(np.float64)
    x[0, 0] = 1e300
    with pytest.raises(ValueError, match=r"1 of the 300 values .* NaN or infinite, or outside the range of float32"):
        network(emulated_ops())(DlpackTensor(x))


@pytest.mark.parametrize("kind", ["dlpack", "interface"])
def test_shapes_and_dtypes_are_checked_as_on_the_host(kind: str) -> None:
    model = network(emulated_ops())
    for x, error, message in [
        (X[0], ValueError, r"expects X of shape \(n_samples, n_features\), got \(6,\)"),
        (X.reshape(N, 2, 3), ValueError, r"Flatten each sample"),
        (X[:, :5].copy(), ValueError, r"expects X of shape \(n_samples, 6\), got \(50, 5\)"),
        (np.ascontiguousarray(X.T), ValueError, "Did you pass X.T instead of X"),
        (X + 1j, TypeError, "complex numbers"),
    ]:
        with pytest.raises(error, match=message):
            model(KINDS[kind](x))


def test_another_device_is_refused() -> None:
    model = network(emulated_ops())
    message = r"model: X lies on CUDA device 1, the model on device 0\. Move it there, or .* backend='cupy:1'"
    with pytest.raises(ValueError, match=message):
        model(DlpackTensor(X, device=1))
    with pytest.raises(ValueError, match=r"fit: y lies on CUDA device 1"):
        fcnn.Trainer(model).fit(X, DlpackTensor(Y, device=1), progress=False)


def test_a_tensor_that_its_library_keeps_is_refused_with_its_reason() -> None:
    tensor = DlpackTensor(X, refuses="Can't export tensors that require gradient, use tensor.detach()")
    with pytest.raises(TypeError, match=r"a tests.DlpackTensor on a CUDA device, .*require gradient.*X.detach\(\)"):
        network(emulated_ops())(tensor)
    masked = InterfaceArray(X, mask=object())
    with pytest.raises(TypeError, match=r"cannot be used in place: CuPy currently does not support masked arrays"):
        network(emulated_ops())(masked)


@pytest.mark.parametrize("kind", ["dlpack", "interface"])
def test_a_model_on_the_cpu_refuses_device_arrays(kind: str) -> None:
    model = network("numpy")
    trainer = fcnn.Trainer(model)
    message = r"lies on a CUDA device, and this model computes on the CPU. Build .* backend='cupy', or .*X.cpu\(\)"
    for call in (
        lambda: trainer.fit(KINDS[kind](X), Y, progress=False),
        lambda: trainer.fit(X, KINDS[kind](Y), progress=False),
        lambda: trainer.fit(X, Y, sample_weight=KINDS[kind](WEIGHTS), progress=False),
        lambda: trainer.evaluate(KINDS[kind](X), Y),
        lambda: model(KINDS[kind](X)),
        lambda: model.forward(KINDS[kind](X)),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_a_tensor_that_refuses_even_to_describe_itself_is_known_to_be_on_a_device() -> None:
    class Interface:
        @property
        def __cuda_array_interface__(self) -> Any:
            raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")

    class Scattered:
        def __dlpack_device__(self) -> Any:
            raise ValueError("lies on several devices")

    assert on_cuda(Interface())
    assert not on_cuda(Scattered())
    assert not on_cuda(X)
    assert not on_cuda([1.0])
    assert not on_cuda(DlpackTensor(X, kind=1))
    assert not on_cuda(DlpackTensor(X, kind=3)), "pinned memory is the host's"
    assert library_of(Interface()) == "tests.Interface"


class TestTensorsOnTheHost:
    """CPU tensors of PyTorch and JAX are read as what they are: memory of the host."""

    @pytest.fixture(params=["numpy", "emulated"])
    def ops(self, request: pytest.FixtureRequest) -> Ops:
        return Ops() if request.param == "numpy" else emulated_ops()

    @pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "float16"])
    def test_pytorch(self, ops: Ops, dtype: str) -> None:
        torch = pytest.importorskip("torch")
        x = np.abs(X * 20).astype(dtype)
        assert_equal(run(ops, lambda a: torch.from_numpy(x if a is X else a), X), run(ops, lambda a: a, x))
        assert np.shares_memory(features(ops, torch.from_numpy(X), N_IN, np.float32, "fit").whole(), X)

    def test_jax(self, ops: Ops) -> None:
        jax = pytest.importorskip("jax.numpy")
        assert_equal(run(ops, jax.asarray), run(ops, lambda a: a))

    def test_jax_in_bfloat16(self, ops: Ops) -> None:
        jax = pytest.importorskip("jax.numpy")
        x = jax.asarray(X, jax.bfloat16)
        wide = np.asarray(x).astype(np.float32)
        assert features(ops, x, N_IN, np.float32, "fit").dtype.name == "bfloat16"
        assert_equal(run(ops, lambda a: x if a is X else a), run(ops, lambda a: a, wide))

    def test_tensors_that_numpy_cannot_read(self, ops: Ops) -> None:
        torch = pytest.importorskip("torch")
        model = network(ops)
        for x, message in [
            (torch.ones(4, N_IN, requires_grad=True), r"torch\.Tensor, cannot be read .*requires grad.*X\.detach\(\)"),
            (torch.ones(4, N_IN, dtype=torch.bfloat16), r"unsupported ScalarType BFloat16.*X\.float\(\)"),
            (torch.ones(4, N_IN, device="meta"), "meta"),
            (torch.ones(4, N_IN).to_sparse(), "Sparse layout"),
        ]:
            with pytest.raises(TypeError, match=message):
                model(x)


@pytest.mark.gpu
class TestOnCuda:
    """The same with real arrays of a GPU."""

    @pytest.fixture
    def ops(self) -> Ops:
        return cuda_ops()

    @pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "float16", "int32", "bool"])
    def test_cupy(self, ops: Ops, dtype: str) -> None:
        cupy = pytest.importorskip("cupy")
        x = np.abs(20 * X).astype(dtype)
        assert_equal(run(ops, cupy.asarray, x), run(ops, lambda a: a, x))
        on_device = cupy.asarray(x)
        taken = features(ops, on_device, N_IN, np.float32, "fit")
        if dtype in ("float32", "uint8", "float16"):
            assert taken.whole().data.ptr == on_device.data.ptr

    @pytest.mark.parametrize("dtype", ["float32", "uint8", "float16"])
    def test_pytorch(self, ops: Ops, dtype: str) -> None:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch has no CUDA device")
        x = np.abs(20 * X).astype(dtype)
        assert_equal(run(ops, lambda a: torch.from_numpy(a).cuda(), x), run(ops, lambda a: a, x))
        tensor = torch.from_numpy(x).cuda()
        taken = features(ops, tensor, N_IN, np.float32, "fit")
        assert taken.whole().data.ptr == tensor.data_ptr()
        with pytest.raises(TypeError, match="require"):
            network(ops)(torch.ones(4, N_IN, device="cuda", requires_grad=True))

    def test_what_pytorch_has_queued_comes_first(self, ops: Ops) -> None:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch has no CUDA device")
        model = network(ops)
        x = torch.zeros(4096, N_IN, device="cuda")
        slow = torch.rand(4096, 4096, device="cuda")
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                slow = slow @ slow / 4096
            x += 1.0 + 0.0 * slow[0, 0]
            outputs = model(x)
        np.testing.assert_array_equal(outputs, model(np.ones((4096, N_IN), np.float32)))

    def test_jax(self, ops: Ops) -> None:
        jax = pytest.importorskip("jax")
        if jax.default_backend() != "gpu":
            pytest.skip("JAX has no GPU")
        assert_equal(run(ops, jax.numpy.asarray), run(ops, lambda a: a))
