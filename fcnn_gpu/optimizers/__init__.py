"""Optimizers: rules that turn the gradient g of the objective (data loss + penalties) into a change of the parameters.

Each is one pass over the network's flat parameter buffer (backend/_ops/_optimizer.py). Definitions and defaults are
those of PyTorch where the two share a name. `learning_rate` is a number or a `Schedule`. `clip_norm` c scales g by
min(1, c/(‖g‖ + 10⁻⁶)), over all parameters together; `clip_value` c clips each element of g to [−c, c].

`rate_factors` multiply the learning rate of some parameters, by their names: `{"*.b": 0.1, "0.*": 6}` gives biases a
tenth of it and the first layer, its biases included, six times as much; 0 is none at all. The names are those of
`model.named_arrays()`, "0.W", "1.block.0.b"; * stands for any characters, and of several patterns that match, the last
one counts. In PyTorch these are parameter groups. Of a parameter in which each member of an ensemble has a part of its
own (`DenseEnsemble`'s W and b, `BatchEnsemble`'s r, s and b, and what works unit by unit behind `Members`), a list of
factors gives each member its own: `{"*": [0.5, 1, 2]}` trains three networks with three learning rates as one.

`weight_decay` λ lets weights decay by themselves, θ ← θ(1 − ηλ), beside whatever the step is (`WeightDecay`). That is
AdamW's meaning, in every optimizer; `Dense(l2=)` is a penalty, which the gradient knows of.

In the explicit training loop::

    optimizer = fcnn.Adam(1e-3).bind(model)
    ...
    optimizer.step()

There the rate stays what the schedule says at time 0 until `optimizer.set_learning_rate(value)` changes it: only
`Trainer` knows how long the run is. Once bound, an optimizer's other settings are fixed.
"""

from ._base import OPTIMIZERS as OPTIMIZERS
from ._base import Course as Course
from ._base import HasParameters as HasParameters
from ._base import Optimizer as Optimizer
from ._base import StoredUpdates as StoredUpdates
from ._weight_decay import WeightDecay as WeightDecay
from .adadelta import Adadelta as Adadelta
from .adagrad import Adagrad as Adagrad
from .adam import Adam as Adam
from .adamax import Adamax as Adamax
from .adamw import AdamW as AdamW
from .lion import Lion as Lion
from .muon import Muon as Muon
from .nadam import NAdam as NAdam
from .radam import RAdam as RAdam
from .rmsprop import RMSprop as RMSprop
from .sgd import SGD as SGD
