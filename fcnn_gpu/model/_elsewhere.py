"""What people call on the models of other libraries, and what to write here."""

from __future__ import annotations

_TRAINER = 'fcnn.Trainer(model, loss="cross_entropy", optimizer=fcnn.Adam(1e-3), metrics=["accuracy"])'
_FIT = f"A Trainer trains a network: {_TRAINER}.fit(X, y, epochs=10)"
_MODES = "A network has no modes: Trainer.fit trains, and predict computes without dropout and batch statistics"
_PLACE = 'The backend is chosen when a network is made: Sequential(..., backend="cupy"), or fcnn.set_backend("cupy")'
_DTYPE = "The dtype is chosen when a network is made: Sequential(..., dtype=..., precision=...)"
_WEIGHTS = "Weights are arrays of the layers: model.layers[0].W and .b; all of them by name: model.named_parameters()"
_STATE = "model.save(path) writes the network to a file, and fcnn_gpu.load(path) reads it"
_LAYERS = "A network is made of all its layers at once: Sequential([...], n_in=...)"
_GRADIENT = "Trainer.fit clears, computes and applies gradients; they are arrays of the layers: model.layers[0].dW"

MODEL = {
    "add": _LAYERS,
    "append": _LAYERS,
    "bfloat16": _DTYPE,
    "build": "A network is built when it is made: Sequential([...], n_in=...)",
    "coefs_": _WEIGHTS,
    "compile": f"Loss, optimizer and metrics belong to a Trainer: {_TRAINER}",
    "count_params": "It is model.n_parameters",
    "cpu": _PLACE,
    "cuda": _PLACE,
    "double": _DTYPE,
    "eval": _MODES,
    "evaluate": f"A Trainer evaluates: trainer = {_TRAINER}; trainer.evaluate(X, y)",
    "fit": _FIT,
    "float": _DTYPE,
    "get_config": "It is model.config()",
    "get_weights": _WEIGHTS,
    "half": _DTYPE,
    "intercepts_": _WEIGHTS,
    "load_state_dict": _STATE,
    "load_weights": _STATE,
    "modules": "It is model.walk()",
    "named_modules": "It is model.walk()",
    "partial_fit": _FIT,
    "predict_log_proba": "Take numpy.log of model.predict(X), or FCNNClassifier, which has it",
    "predict_proba": "It is model.predict(X)",
    "requires_grad_": "model.freeze holds parameters still, and model.unfreeze lets them learn again",
    "save_weights": _STATE,
    "score": f"A Trainer evaluates: trainer = {_TRAINER}; trainer.evaluate(X, y)",
    "set_weights": "Weights are set in place: model.layers[0].W[...] = values",
    "state_dict": _STATE,
    "to": _PLACE,
    "train": f"{_MODES}. {_FIT}",
    "train_on_batch": _FIT,
    "trainable_weights": _WEIGHTS,
    "weights": _WEIGHTS,
    "zero_grad": _GRADIENT,
}
