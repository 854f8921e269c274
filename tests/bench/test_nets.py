"""Names, sizes and work of the benchmark's nets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcnn_gpu import CrossEntropy
from fcnn_gpu.backend._ops import Ops
from fcnn_gpu.bench.nets import STANDARD_CASES, Net
from fcnn_gpu.layers import Activation, Dense

NETS = [case.net for case in STANDARD_CASES] + [Net((3, 2)), Net((5, 4, 3), dropout=0.25), Net((5, 4, 3), True)]


@pytest.mark.parametrize("net", NETS, ids=str)
def test_a_name_reads_back_as_its_net(net: Net) -> None:
    assert Net.parse(net.name) == net


@pytest.mark.parametrize(
    ("text", "net"),
    [
        ("784-10", Net((784, 10))),
        (" 7-6-5 , Batch Norm", Net((7, 6, 5), batch_norm=True)),
        ("4-3-2, Tanh, dropout .5", Net((4, 3, 2), dropout=0.5, activation="tanh")),
        ("4-3-2, relu", Net((4, 3, 2))),
        ("7-6-5,batch_norm,dropout=0.5", Net((7, 6, 5), batch_norm=True, dropout=0.5)),
        ("7-6-5, dropout .5", Net((7, 6, 5), dropout=0.5)),
    ],
)
def test_names_are_read_as_people_write_them(text: str, net: Net) -> None:
    assert Net.parse(text) == net


@pytest.mark.parametrize("text", ["", "784", "784-", "784x10", "a-b", "784 10"])
def test_what_is_no_net_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="widths joined by '-'"):
        Net.parse(text)


def test_an_unknown_extra_is_named() -> None:
    with pytest.raises(ValueError, match="has 'layer norm'"):
        Net.parse("7-6-5, layer norm")


@pytest.mark.parametrize(("widths", "match"), [((5,), "two widths"), ((5, 0), "at least 1")])
def test_impossible_widths(widths: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Net(widths)


def test_an_unknown_activation() -> None:
    with pytest.raises(ValueError, match=r"Net\(activation\) does not know 'tan'. Did you mean 'tanh'"):
        Net((5, 4, 3), activation="tan")


def test_the_model_has_the_activation() -> None:
    for batch_norm in (False, True):
        layers = Net((4, 3, 2), batch_norm=batch_norm, activation="tanh").model().layers
        names = [layer.activation.name for layer in layers if isinstance(layer, Dense | Activation)]
        assert names.count("tanh") == 1
        assert "relu" not in names


def test_dropout_is_a_probability() -> None:
    with pytest.raises(ValueError, match="dropout"):
        Net((5, 4, 3), dropout=1.0)


@pytest.mark.parametrize("net", NETS, ids=str)
def test_parameters_are_those_of_the_model(net: Net) -> None:
    if max(net.widths) > 1000:
        pytest.skip("builds a large model for nothing that the others do not show")
    assert net.model().n_parameters == net.n_parameters


class RecordingOps(Ops):
    """The NumPy backend, keeping the shape (m, n, k) of every matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[int, int, int]] = []

    def gemm(self, A: Any, B: Any, out: Any, alpha: float = 1.0, beta: float = 0.0) -> None:
        self.products.append((A.shape[0], B.shape[1], A.shape[1]))
        super().gemm(A, B, out, alpha, beta)


@pytest.mark.parametrize("net", [Net((7, 6, 5, 4)), Net((7, 6, 5, 4), batch_norm=True, dropout=0.5), Net((3, 2))])
def test_products_are_those_that_a_step_makes(net: Net) -> None:
    ops = RecordingOps()
    model, loss = net.model(ops), CrossEntropy()
    X = np.ones((8, net.n_in), np.float32)
    outputs = model.forward(X)
    assert ops.products == net.products(8, "infer")
    ops.products.clear()
    outputs = model.forward(X, training=True)
    loss.forward(outputs, np.arange(8) % net.n_out)
    model.backward(loss.backward())
    assert ops.products == net.products(8, "train")


def test_flops_and_bytes_by_hand() -> None:
    net = Net((4, 3, 2))  # 15 + 8 parameters
    assert net.flops(5, "infer") == 2 * 5 * (4 * 3 + 3 * 2)
    assert net.flops(5, "train") == 2 * 5 * (2 * 4 * 3 + 3 * 3 * 2)
    assert net.bytes(5, "infer") == 4 * (23 + 5 * (4 + 2))
    assert net.bytes(5, "train", itemsize=8) == 8 * (8 * 23 + 5 * (4 + 2 * 3))
    assert net.bytes(5, "infer", computed_itemsize=2) == 2 * (23 + 5 * (4 + 2))
    assert net.bytes(5, "train", computed_itemsize=2) == 4 * 8 * 23 + 2 * (5 * (4 + 2 * 3) + 2 * 23)


def test_a_hollow_net_has_the_same_layers() -> None:
    net = Net((784, 512, 512, 10), batch_norm=True, dropout=0.5)
    kinds = [type(layer) for layer in net.model().layers]
    assert [type(layer) for layer in net.hollow().model().layers] == kinds
    assert net.hollow().widths == (1, 1, 1, 2)
