"""Named families of classes: what `activation="relu"` resolves to, and what a saved model's metadata names.

One registry per family (layers, activations, losses, ...) is also what the tests walk through, so that a new
member is gradient-checked, compared and saved without anybody listing it again.

People bring names from other libraries. A string of theirs that means exactly a member is a synonym and taken for it;
other names, and arguments and methods that are called otherwise here, are answered by what to write.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np

from ._checks import suggest

T = TypeVar("T")
_Function = TypeVar("_Function", bound=Callable[..., Any])

OMITTED_IF_DEFAULT = {"omitted if default": True}
"""Metadata of a dataclass field that `config` leaves out where it has its default: older releases do not know it."""

ADDED_LATER = {"added later": True}
"""Metadata of a dataclass field that a folder of weights names where it has not its default: older ones know none."""

NOT_KEPT = {"not kept": True}
"""Metadata of a dataclass field in whose place `config` has None: too large for plain data, and not needed there."""

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "alpha": ("l2 (alpha/(2·batch_size): see the docstring)",),
    "beta_1": ("beta1",),
    "beta_2": ("beta2",),
    "betas": ("beta1 and beta2",),
    "bias_initializer": ("bias_init",),
    "clipnorm": ("clip_norm",),
    "clipvalue": ("clip_value",),
    "criterion": ("loss",),
    "decay_steps": ("epochs (a time in epochs, not in steps)",),
    "device": ("backend",),
    "dirpath": ("path",),
    "div_factor": ("initial_div",),
    "ema_decay": ("decay",),
    "embedding_dim": ("outputs",),
    "epsilon": ("eps",),
    "eta_min": ("final",),
    "experiment_name": ("experiment",),
    "features": ("n_out",),
    "filename": ("path",),
    "filepath": ("path",),
    "final_div_factor": ("final_div",),
    "gamma": ("factor",),
    "hidden_dim": ("hidden_layer_sizes",),
    "hidden_dims": ("hidden_layer_sizes",),
    "hidden_layers": ("hidden_layer_sizes",),
    "hidden_size": ("hidden_layer_sizes",),
    "hidden_sizes": ("hidden_layer_sizes",),
    "hidden_units": ("hidden_layer_sizes",),
    "in_features": ("n_in",),
    "initial_learning_rate": ("learning_rate",),
    "input_dim": ("n_in",),
    "input_shape": ("n_in (a number)",),
    "kernel_initializer": ("init",),
    "kernel_regularizer": ("l1 and l2",),
    "learning_rate": ("max_learning_rate", "optimizer (which has the rate: optimizer=fcnn.Adam(1e-3))"),
    "learning_rate_init": ("learning_rate",),
    "log_dir": ("folder",),
    "logdir": ("folder",),
    "lr": ("learning_rate", "max_learning_rate", "optimizer (which has the rate: optimizer=fcnn.Adam(1e-3))"),
    "max_epochs": ("epochs",),
    "max_iter": ("epochs",),
    "max_lr": ("max_learning_rate",),
    "max_norm": ("clip_norm",),
    "min_lr": ("minimum",),
    "mode": ("greater_is_better (True where more is better; None: as the metric knows)",),
    "monitor": ("column",),
    "n_epochs": ("epochs",),
    "n_features": ("n_in",),
    "n_hidden": ("hidden_layer_sizes",),
    "n_iter_no_change": ("patience",),
    "n_units": ("n_out", "units"),
    "negative_slope": ("alpha",),
    "nesterovs_momentum": ("nesterov",),
    "num_embeddings": ("n_categories",),
    "num_epochs": ("epochs",),
    "out_features": ("n_out", "units"),
    "output_dim": ("n_out", "outputs"),
    "pct_start": ("rise",),
    "random_state": ("seed",),
    "rate": ("p",),
    "restore_best_weights": ("restore_best",),
    "rho": ("alpha",),
    "save_best_only": ("monitor (whose best epochs alone are saved)",),
    "seed": ("random_state",),
    "smoothing": ("label_smoothing",),
    "solver": ("optimizer",),
    "step_size": ("every",),
    "swa_epoch_start": ("start",),
    "t_max": ("epochs",),
    "units": ("n_out",),
    "update_every": ("every_steps",),
    "use_bias": ("bias",),
    "validation_size": ("validation_fraction",),
    "verbose": ("progress (verbose=2 is progress='lines')",),
    "weight": ("class_weight",),
}
"""What other libraries call arguments, in lower case, and what they are called here: the first that is one of the
callee's. A remark stands in brackets."""

_QUOTE = "'"
_CAPITAL = re.compile(r"(?<!^)(?<![A-Z_])(?=[A-Z])")

_families: list[Registry[Any]] = []


class Registry(Generic[T]):
    """The members of one family by name.

    A member is a dataclass: its fields are its whole configuration, so `config()` and `build()` are inverse.

    Args:
        family: what a member is called.
        base: the class of all members.
        synonyms: other names by which members are known, spelled as their libraries spell them in strings.
        elsewhere: names of other libraries that are not taken, and how what they mean is called here, in quotes, with a
            remark on how it differs; or a sentence; None where there is nothing like it. Capitals and underscores do
            not count.
    """

    def __init__(
        self,
        family: str,
        base: type[T],
        synonyms: Mapping[str, str] | None = None,
        elsewhere: Mapping[str, str | None] | None = None,
    ) -> None:
        self.family = family
        self._base = base
        self._members: dict[str, type[T]] = {}
        self.synonyms = dict(synonyms or {})
        self._elsewhere = {_letters(name): called for name, called in (elsewhere or {}).items()}
        _families.append(self)

    def register(self, name: str) -> Any:
        """Class decorator: make the class known as `name` (and set its `name` attribute)."""

        def add(cls: type[T]) -> type[T]:
            if name in self._members:
                raise ValueError(f"There is already a {self.family} named {name!r}: {self._members[name]}.")
            self._members[name] = cls
            cls.name = name  # type: ignore[attr-defined]
            if "__init__" in vars(cls):
                cls.__init__ = answers_arguments(cls.__init__)  # type: ignore[method-assign]
            return cls

        return add

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __getitem__(self, name: str) -> type[T]:
        return self._members[self.named(f"Unknown {self.family} {name!r}.", name)]

    def named(self, who: str, name: str) -> str:
        """The name of the member that `name` stands for, which may be a synonym; `who` begins the error.

        ValueError for an unknown name, with what it is called here, or else with the nearest that is known.
        """
        if name in self._members:
            return name
        if name not in self.synonyms:
            raise ValueError(f"{who} {self.answer(name) or suggest(name, self._members, self.synonyms)}")
        return self.synonyms[name]

    def answer(self, name: object) -> str | None:
        """What a name of another library is called here, and the known names; None for a name that nobody has."""
        spelled = _letters(str(name))
        known = f"Known names: {', '.join(sorted(self._members))}."
        if spelled in self._elsewhere:
            called = self._elsewhere[spelled]
            called = f"There is no such {self.family} here" if called is None else called
            return f"{f'Here it is called {called}' if called.startswith(_QUOTE) else called}. {known}"
        if any(_letters(member) == spelled for member in self._members):
            return None  # the nearest is it
        for synonym, member in self.synonyms.items():
            if _letters(synonym) == spelled:
                return f"Here it is called {member!r}. {known}"
        return None

    def resolve(self, spec: str | T | type[T] | dict[str, Any]) -> T:
        """An instance: a name or a class gives its defaults, a `config` what it says, an instance is taken as it is."""
        if isinstance(spec, str):
            return self[spec]()
        if isinstance(spec, dict):
            return self.build(spec)
        if isinstance(spec, type) and issubclass(spec, self._base):
            return spec()
        if isinstance(spec, self._base):
            return spec
        family, base = _with_article(self.family), _with_article(self._base.__name__)
        raise TypeError(
            f"{family.capitalize()} is a name or {base}, got {spec!r} ({type(spec).__name__}). "
            f"Known names: {', '.join(sorted(self._members))}."
        )

    def config(self, member: T) -> dict[str, Any]:
        """A member as plain data (what JSON holds): its name and its dataclass fields, members of families included.

        Raises TypeError for an instance of a class that is not registered: no name would lead back to it.
        """
        if self._members.get(getattr(member, "name", "")) is not type(member):
            raise TypeError(
                f"{member!r} cannot be written as plain data: its class {type(member).__name__} is not registered. "
                f"{self._how_to_register(type(member))}"
            )
        fields = dataclasses.fields(member) if dataclasses.is_dataclass(member) else ()
        kept = {f.name: None if "not kept" in f.metadata else getattr(member, f.name) for f in fields if f.init}
        plain = {f.name: _plain(kept[f.name]) for f in fields if f.init and not _omitted(member, f)}
        return {"name": member.name} | plain  # type: ignore[attr-defined]

    def _how_to_register(self, cls: type[T]) -> str:
        """What to write above a class, and where the registry is imported from."""
        registry = f"{self.family.upper()}{'ES' if self.family.endswith('s') else 'S'}"
        room = self._base.__module__.partition("._")[0]
        name = _CAPITAL.sub("_", cls.__name__).lower()
        return (
            f'Write @{registry}.register("{name}") above the class (from {room} import {registry}), and import it '
            "before what was saved is loaded."
        )

    def build(self, config: dict[str, Any]) -> T:
        """The inverse of `config`."""
        arguments = dict(config)
        if "name" not in arguments:
            raise ValueError(f'The configuration of {_with_article(self.family)} needs a "name", got {config!r}.')
        return self[arguments.pop("name")](**arguments)


def nowhere(names: str) -> dict[str, None]:
    """For `elsewhere`: names, between spaces, of what is not here."""
    return dict.fromkeys(names.split())


def answers_arguments(function: _Function) -> _Function:
    """A method whose TypeError for arguments names the class that was called, and what a wrong one is called here."""

    @functools.wraps(function)
    def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            said, text, prefix = _called(function, args), str(error), f"{function.__qualname__}()"
            parameters = inspect.signature(function).parameters
            takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
            unknown = [name for name in kwargs if name not in parameters]
            if takes_any or not unknown:
                if text.startswith(prefix):
                    raise TypeError(f"{said}(){text.removeprefix(prefix)}") from None
                raise
            has = [name for name in list(parameters)[1:] if not name.startswith("_")]
            raise TypeError(f"{said} has no argument {unknown[0]!r}. {_answer_argument(unknown[0], has)}") from None

    return answering  # type: ignore[return-value]


def _called(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """A constructor by its class, another method by class and name."""
    owner = type(args[0]).__name__
    return owner if function.__name__ == "__init__" else f"{owner}.{function.__name__}"


def _answer_argument(name: str, has: list[str]) -> str:
    for called in ARGUMENTS.get(name.lower(), ()):
        if all(part in has for part in called.partition(" (")[0].split(" and ")):
            return f"Here it is called {called}."
    return suggest(name, has).replace("Known names", "Its arguments") if has else "It has none."


def answer_attribute(owner: object, name: str, elsewhere: Mapping[str, str]) -> NoReturn:
    """What a `__getattr__` does: the AttributeError of `owner`, with what to write here for other libraries' habits."""
    if hasattr(type(owner), name):  # a property, which raised an AttributeError of its own
        object.__getattribute__(owner, name)
    hint = f". {elsewhere[name]}" if name in elsewhere else ""
    who = type(owner).__name__
    raise AttributeError(f"{who!r} object has no attribute {name!r}{hint}", name=name, obj=owner)


def _letters(name: str) -> str:
    """A name without capitals and separators.

    >>> _letters("Leaky_ReLU")
    'leakyrelu'
    """
    return "".join(letter for letter in name.lower() if letter not in "_- .")


def _omitted(member: Any, field: dataclasses.Field[Any]) -> bool:
    return "omitted if default" in field.metadata and getattr(member, field.name) == field.default


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    for family in _families:
        if isinstance(value, family._base):
            return family.config(value)
    return value.item() if isinstance(value, np.generic) else value
