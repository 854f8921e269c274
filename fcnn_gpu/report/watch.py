"""A run's page while it trains, on a local port."""

from __future__ import annotations

import threading
import time
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .._checks import check_port
from ..callbacks import Callback, History, Trainer
from ..pages import number, page
from ._page import facts, section
from ._parameters import layers, parameters
from ._reported import Columns, ReportedRun
from ._speed import speed
from ._training import curves

_SHORTEST = 1.0
"""Seconds between two pages: each takes some milliseconds of the training."""
_NOT_SHOWN = ("epoch", "penalty", "seconds", "samples_per_second")
_HOSTS = ("127.0.0.1", "localhost")

_FOLLOW = """<script>
const main = document.querySelector("main")
async function follow() {
  try {
    const parts = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html")
    main.innerHTML = parts.querySelector("main").innerHTML
    setTimeout(follow, 1500)
  } catch {
    main.querySelector("h1").append(" (the program has ended)")
  }
}
setTimeout(follow, 1500)
</script>
"""
"""Puts a newer page in the place of the older one, as long as there is a program that serves it."""


class Watch(Callback):
    """Serve the curves, weights and speed of a run on http://127.0.0.1:`port` while it trains, for this machine alone.

    `port` 0 takes a free one. The address is printed when training begins, and is `url`. The page follows the run by
    itself, and says when the program has ended.

    >>> import fcnn_gpu as fcnn
    >>> watch = fcnn.report.Watch(port=0)
    """

    def __init__(self, port: int = 0, title: str = "training") -> None:
        self.port = check_port("Watch(port)", port)
        self.url: str | None = None
        self._title, self._page, self._made_at = title, "", -_SHORTEST
        self._server: ThreadingHTTPServer | None = None

    def on_train_begin(self, trainer: Trainer) -> None:
        self._records: list[dict[str, float]] = []
        self._began = time.perf_counter()
        self._make(trainer, "begins")
        if self._server is None:
            self._start()

    def on_tick(self, trainer: Trainer, step: int, n_steps: int, loss: float) -> None:
        epoch = len(self._records) + 1
        self._make_if_due(trainer, f"epoch {epoch}/{trainer.n_epochs}, step {step:,}/{n_steps:,}")

    def on_epoch_end(self, trainer: Trainer, record: dict[str, float]) -> None:
        self._records.append(dict(record))
        self._make_if_due(trainer, f"epoch {len(self._records)}/{trainer.n_epochs}")

    def on_train_end(self, trainer: Trainer, history: History) -> None:
        self._make(trainer, f"{len(history):,} epochs, ended by: {history.stopped_by}", history.best_epoch)

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = self.url = None

    def _start(self) -> None:
        try:
            self._server = server = ThreadingHTTPServer((_HOSTS[0], self.port), _handler(self))
        except OSError as error:
            advice = f"port {self.port} cannot be served ({error.strerror}). Take another, or 0 for a free one."
            raise OSError(error.errno, f"Watch: {advice}") from error
        server.daemon_threads = True
        self.url = f"http://{_HOSTS[0]}:{server.server_address[1]}/"
        threading.Thread(target=server.serve_forever, name="fcnn_gpu watch", daemon=True).start()
        print(f"Watch: {self.url}", flush=True)

    def _make_if_due(self, trainer: Trainer, state: str) -> None:
        if time.perf_counter() - self._made_at >= _SHORTEST:
            self._make(trainer, state)

    def _make(self, trainer: Trainer, state: str, best_epoch: int | None = None) -> None:
        records = self._records
        columns: list[Columns] = (
            [{name: [record[name] for record in records] for name in records[0]}] if records else []
        )
        run = ReportedRun(self._title, trainer.model, columns, best_epoch=best_epoch)
        last = records[-1] if records else {}
        shown = [(name.replace("_", " "), number(value)) for name, value in last.items() if name not in _NOT_SHOWN]
        head = facts([("state", state), ("time", f"{time.perf_counter() - self._began:.1f} s"), *shown])
        body = f"<h1>{escape(self._title)}</h1>\n" + head + section("Training", curves(run), speed(run, None, ""))
        body += section("The network", layers(trainer.model), parameters(trainer.model, None, None))
        self._page = page(self._title, body, _FOLLOW)
        self._made_at = time.perf_counter()


def _handler(watch: Watch) -> type[BaseHTTPRequestHandler]:
    """Answers with the newest page, to programs that call this machine by its own name: others might be lured pages."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            if host not in _HOSTS or self.path != "/":
                self.send_error(404)
                return
            page = watch._page.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the terminal belongs to the run."""

    return Handler
