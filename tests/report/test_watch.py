"""The page of a run that is under way, asked for over HTTP as a browser does."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.report import Watch, watch
from tests.support.cli_cases import Command, assert_mistake

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = (X[:, 0] > 0).astype(int)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setattr(watch, "_SHORTEST", 0.0)
    made = Watch(title="run <1>")
    yield made
    made.close()


def asked(url: str, host: str | None = None) -> str:
    request = urllib.request.Request(url, headers={} if host is None else {"Host": host})
    with urllib.request.urlopen(request, timeout=5) as response:
        return str(response.read().decode())


def trainer() -> fcnn.Trainer:
    model = fcnn.Sequential([fcnn.Dense(4, activation="relu"), fcnn.Dense(2)], n_in=3, seed=0, backend="numpy")
    return fcnn.Trainer(model, metrics=["accuracy"])


def test_the_page_follows_the_run(served: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    pages: list[str] = []

    class Reader(fcnn.callbacks.Callback):
        def on_epoch_end(self, trainer: Any, record: dict[str, float]) -> None:
            assert served.url is not None
            pages.append(asked(served.url))

    trainer().fit(X, Y, epochs=3, validation_split=0.2, progress=False, callbacks=[served, Reader()])
    assert capsys.readouterr().out == f"Watch: {served.url}\n"
    assert "run &lt;1&gt;" in pages[0]
    assert ["epoch 1/3" in pages[0], "epoch 2/3" in pages[1]] == [True, True]
    assert pages[2].count("<polyline") > 2
    assert served.url is not None
    assert "3 epochs, ended by: epochs" in asked(served.url)


def test_it_answers_this_machine_alone_and_nothing_else(served: Watch) -> None:
    trainer().fit(X, Y, epochs=1, progress=False, callbacks=[served])
    assert served.url is not None
    for url, host in ((served.url + "etc/passwd", None), (served.url, "example.com"), (served.url, "example.com:80")):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            asked(url, host)


def test_it_can_be_closed(served: Watch) -> None:
    trainer().fit(X, Y, epochs=1, progress=False, callbacks=[served])
    url = served.url
    assert url is not None
    served.close()
    assert served.url is None
    with pytest.raises(urllib.error.URLError):
        asked(url)


def test_a_port_that_is_taken_is_named_before_anything_is_trained() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        t = trainer()
        with pytest.raises(OSError, match=f"port {port} cannot be served"):
            t.fit(X, Y, epochs=1, progress=False, callbacks=[Watch(port)])
        assert t.epochs_trained == 0


@pytest.mark.parametrize("port", [-1, 65536, 1.5])
def test_ports_that_are_none(port: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"Watch\(port\)"):
        Watch(port)


def test_the_command(command: Command, tmp_path: Path) -> None:
    code, out, err = command("train", "--data", "digits", "--epochs", 1, "--watch")
    assert (code, err) == (0, "")
    assert "Watch: http://127.0.0.1:" in out


def test_the_command_with_folds(command: Command, tmp_path: Path) -> None:
    lines = ["a,b,y", *(f"{i},{i % 7},{'yes' if i % 3 else 'no'}" for i in range(60))]
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    assert_mistake(
        command("train", "--data", tmp_path / "table.csv", "--folds", 2, "--watch"), "--watch shows one network"
    )
