"""Long training runs on every backend beside the same run on NumPy, and the ways in which a device is shared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._types import HostArray
from fcnn_gpu.backend import resolve_backend
from fcnn_gpu.backend._ops import Ops
from tests.conftest import cuda_ops
from tests.support.tolerances import LONG_TRAJECTORY

OPTIMIZERS = {
    "adam": lambda: fcnn.Adam(fcnn.schedules.Cosine(3e-3), clip_norm=1.0),
    "sgd": lambda: fcnn.SGD(0.05, momentum=0.9, nesterov=True),
}
N_SAMPLES, BATCH = 630, 16
"""39 whole batches and a smaller one: 40 steps an epoch."""


def network(backend: Any, dtype: str) -> fcnn.Sequential:
    """Dropout, both normalizations, penalties. No bias feeds the batch norm, which takes its effect out again."""
    layers = [
        fcnn.Dense(24, activation="relu", l2=1e-3),
        fcnn.Dropout(0.25),
        fcnn.Dense(16, bias=False),
        fcnn.BatchNorm(),
        fcnn.Activation("silu"),
        fcnn.Residual([fcnn.Dense(16, activation="gelu", l1=1e-4), fcnn.LayerNorm()]),
        fcnn.Dense(5),
    ]
    return fcnn.Sequential(layers, n_in=12, seed=3, dtype=dtype, backend=backend)


def data() -> tuple[HostArray, HostArray]:
    """Five classes that can be told apart, with noise."""
    rng = np.random.default_rng(8)
    y = rng.integers(0, 5, N_SAMPLES)
    centres = rng.normal(size=(5, 12))
    return centres[y] + 0.7 * rng.normal(size=(N_SAMPLES, 12)), y


def trained(backend: Any, optimizer: str, dtype: str, epochs: int, n_samples: int = N_SAMPLES) -> dict[str, HostArray]:
    """Losses, outputs, and everything learned, on the host."""
    X, y = (array[:n_samples] for array in data())
    model = network(backend, dtype)
    trainer = fcnn.Trainer(model, optimizer=OPTIMIZERS[optimizer]())
    history = trainer.fit(X, y, epochs=epochs, batch_size=BATCH, progress=False)
    found = {f"learned {name}": model.ops.to_numpy(array).copy() for name, array in model.named_arrays().items()}
    return found | {"losses": np.array(history["loss"]), "outputs": model(X)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_hundred_steps(other_ops: Ops, optimizer: str, dtype: str) -> None:
    expected, actual = trained("numpy", optimizer, dtype, 5), trained(other_ops, optimizer, dtype, 5)
    assert actual.keys() == expected.keys()
    assert actual["losses"][-1] < actual["losses"][0]
    for name, value in expected.items():
        apart = float(np.max(np.abs(actual[name].astype(np.float64) - value)))
        scale = float(np.max(np.abs(value)))
        assert apart <= LONG_TRAJECTORY[dtype] * scale, f"{name}: {apart / scale:.1e} of its largest value apart"


def test_the_same_run_twice_gives_the_same_bits(other_ops: Ops) -> None:
    first, second = (trained(other_ops, "adam", "float32", 2, 5 * BATCH + 6) for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)


def test_threads_train_at_the_same_time(device_ops: Ops) -> None:
    """Each its own network on one device: what they leave is what each leaves alone."""
    names = ["adam", "sgd", "adam"]
    alone = {name: trained(device_ops, name, "float32", 3, 70) for name in set(names)}
    together: dict[int, Any] = {}

    def work(k: int) -> None:
        try:
            together[k] = trained(device_ops, names[k], "float32", 3, 70)
        except BaseException as error:
            together[k] = error

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, name in enumerate(names):
        if isinstance(together[k], BaseException):
            raise together[k]
        for key, value in alone[name].items():
            np.testing.assert_array_equal(together[k][key], value, err_msg=f"thread {k}: {key}")


@pytest.mark.gpu
@pytest.mark.parametrize("non_blocking", [False, True], ids=["blocking", "non-blocking"])
def test_a_stream_of_the_users(non_blocking: bool) -> None:
    """Training and inference on the stream that is current, whichever it is, give the same bits."""
    ops = cuda_ops()
    expected = trained(ops, "adam", "float32", 3, 100)
    stream = ops.xp.cuda.Stream(non_blocking=non_blocking)
    with stream:
        actual = trained(ops, "adam", "float32", 3, 100)
    stream.synchronize()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


@pytest.fixture
def devices() -> Iterator[tuple[Ops, Ops]]:
    """The primitives of devices 0 and 1; skips where there is one."""
    first = cuda_ops()
    if first.xp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("this machine has one CUDA device")
    yield first, resolve_backend("cupy:1")
    first.xp.cuda.Device(0).use()


@pytest.mark.gpu
def test_two_devices(devices: tuple[Ops, Ops]) -> None:
    """A network lives where it was made, whichever device is current; two devices train at the same time."""
    cuda = devices[0].xp.cuda
    expected = trained("numpy", "adam", "float64", 3, 100)
    for number, ops in enumerate(devices):
        for current in (0, 1):
            with cuda.Device(current):
                actual = trained(ops, "adam", "float64", 3, 100)
                assert cuda.runtime.getDevice() == current
            assert ops.zeros(1, np.float32).device.id == number
            for name, value in expected.items():
                scale = float(np.max(np.abs(value)))
                np.testing.assert_allclose(actual[name], value, rtol=0, atol=1e-9 * scale, err_msg=name)
