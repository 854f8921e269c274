"""A training run as one page: what was trained, how it went, how good it is, where it fails, and how to load it.

The page is one HTML file that loads nothing: charts are SVG within it.
"""

from __future__ import annotations

import shlex
from html import escape

from .._on_demand import own_names
from ..losses import Loss
from ..pages import number, page
from ._classes import class_table, confusions, scores
from ._page import code, facts, section, text
from ._parameters import gradients_of, layers, parameters
from ._reported import Columns, Measured, ReportedRun
from ._speed import flops_per_sample, speed
from ._training import curves
from ._values import values
from ._worst import worst
from .watch import Watch

__dir__ = own_names(__name__)
__all__ = [
    "Columns",
    "Measured",
    "ReportedRun",
    "Watch",
    "flops_per_sample",
    "gradients_of",
    "report_page",
]


def report_page(
    run: ReportedRun,
    loss: Loss | None = None,
    scored: list[dict[str, object]] | None = None,
    peak: float | None = None,
    script: str = "",
) -> str:
    """The page of a run. `scored`: precision, recall and F1 of its classes; `peak`: FLOP/s of a large product.

    `loss` is what gradients are of; without it, or without samples, there are none.
    """
    measured, model = run.measured, run.model
    is_classification = run.class_names is not None
    numbers = [] if measured is None else [(name.replace("_", " "), number(v)) for name, v in measured.results.items()]
    head = [*numbers, ("parameters", f"{model.n_parameters:,}"), *run.facts]
    body = f"<h1>{escape(run.title)}</h1>\n" + facts(head)
    if measured is not None:
        body += text(f"Measured on {measured.what}.")
    body += section("Training", curves(run), speed(run, peak, model.ops.describe()))
    if measured is not None and is_classification:
        body += section("Classes", confusions(run, measured), class_table(scored) if scored else "")
        body += section("Probabilities", scores(run, measured))
    if measured is not None and not is_classification:
        body += section("Values", values(run, measured))
    if measured is not None:
        body += section("The worst samples", worst(run, measured))
    body += section("The network", layers(model), parameters(model, loss, measured))
    if run.options:
        body += section("Settings", code("\n".join(f"{name} = {value!r}" for name, value in run.options.items())))
    if run.path is not None:
        body += section("Use it", _use(run, run.path))
    return page(run.title, body, script)


def _use(run: ReportedRun, path: str) -> str:
    program = ["import fcnn_gpu as fcnn", "", f"model = fcnn.load({path!r})"]
    if run.class_names is not None and not run.multilabel:
        program.append("model.predict_labels(X)     # the classes, by their names")
    program.append(f"model.predict(X)            # {'probabilities' if run.class_names is not None else 'values'}")
    quoted = shlex.quote(path)
    commands = [f"fcnn-gpu predict {quoted} NEW.csv", f"fcnn-gpu evaluate {quoted} --data NEW.csv"]
    return code("\n".join(program)) + code("\n".join(commands))
