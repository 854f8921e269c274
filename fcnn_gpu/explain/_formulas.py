"""The equations that stand beside the numbers, as text that `_mathml` typesets: those of the docstrings, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..layers import Layer
from ..losses import EnsembleLoss, Loss
from ..optimizers import SGD, Adam, Muon, Optimizer, RMSprop

ACTIVATIONS = {
    "identity": ("f(z) = z", "f′(z) = 1"),
    "sigmoid": ("f(z) = 1/(1 + e^(−z))", "f′(z) = a (1 − a)"),
    "tanh": ("f(z) = tanh z", "f′(z) = 1 − a²"),
    "relu": ("f(z) = max(z, 0)", "f′(z) = [z > 0]"),
    "leaky_relu": ("f(z) = max(z, α z)", "f′(z) = 1 for z > 0, else α"),
    "elu": ("f(z) = z for z > 0, else α (e^z − 1)", "f′(z) = 1 for z > 0, else α e^z"),
    "selu": ("f(z) = λ z for z > 0, else λ α (e^z − 1)", "f′(z) = λ for z > 0, else λ α e^z"),
    "gelu": ("f(z) = z Φ(z)", "f′(z) = Φ(z) + z φ(z)"),
    "gelu_tanh": ("f(z) = z (1 + t)/2, t = tanh(√(2/π) (z + 0.044715 z³))", "f′(z) = (1 + t + z t′)/2"),
    "silu": ("f(z) = z σ(z)", "f′(z) = σ(z) (1 + z (1 − σ(z)))"),
    "softplus": ("f(z) = log(1 + e^z)", "f′(z) = σ(z)"),
    "mish": ("f(z) = z tanh s, s = log(1 + e^z)", "f′(z) = tanh s + z (1 − tanh² s) σ(z)"),
    "hardswish": ("f(z) = z clip(z + 3, 0, 6)/6", "f′(z) = z/3 + ½ for |z| < 3, else [z > 0]"),
    "sin": ("f(z) = sin z", "f′(z) = cos z"),
    "exp": ("f(z) = e^z", "f′(z) = a"),
    "softmax": ("a_i = e^(z_i)/(Σ_k e^(z_k))", "dz_i = a_i (da_i − Σ_k a_k da_k)"),
}
"""f and f′ by the name of the activation."""

_MEAN = "L = (1/n) Σ_i ρ(z_i, y_i)"
LOSSES = {
    "cross_entropy": ("L = −Σ_c v_c y_c log p_c, p = softmax(z)", "∂L/∂z_c = p_c Σ_k v_k y_k − v_c y_c"),
    "kl_divergence": ("L = Σ_c y_c (log y_c − log p_c), p = softmax(z)", "∂L/∂z_c = p_c − y_c"),
    "focal": (
        "L = −α_y q^γ log p_y, p = softmax(z), q = 1 − p_y",
        "∂L/∂z_c = α_y (p_c − [c = y]) (q^γ − γ p_y q^(γ − 1) log p_y)",
    ),
    "mse": ("L = (1/n) Σ_i u_i (z_i − y_i)²", "∂L/∂z_i = (2/n) u_i (z_i − y_i)"),
    "mae": ("L = (1/n) Σ_i u_i |z_i − y_i|", "∂L/∂z_i = (u_i/n) sign(z_i − y_i)"),
    "huber": (
        "L = (1/n) Σ_i u_i ρ(z_i − y_i), ρ(e) = ½ e² for |e| ≤ δ, else δ (|e| − ½ δ)",
        "∂L/∂z_i = (u_i/n) clip(z_i − y_i, −δ, δ)",
    ),
    "log_cosh": ("L = (1/n) Σ_i u_i log cosh(z_i − y_i)", "∂L/∂z_i = (u_i/n) tanh(z_i − y_i)"),
    "quantile": (
        "L = (1/n) Σ_i u_i max(q_i e_i, (q_i − 1) e_i), e = y − z",
        "∂L/∂z_i = −(u_i/n) (q_i for e_i > 0, q_i − 1 for e_i < 0)",
    ),
    "poisson": ("L = (1/n) Σ_i u_i (e^(z_i) − y_i z_i)", "∂L/∂z_i = (u_i/n) (e^(z_i) − y_i)"),
    "binary_cross_entropy": (
        "L = −(1/n) Σ_i u_i (v_i y_i log p_i + (1 − y_i) log(1 − p_i)), p = σ(z)",
        "∂L/∂z_i = (u_i/n) (p_i (v_i y_i + 1 − y_i) − v_i y_i)",
    ),
    "hinge": ("L = (1/n) Σ_i u_i max(0, 1 − t_i z_i), t = ±1", "∂L/∂z_i = −(u_i/n) t_i for t_i z_i < 1, else 0"),
}
"""L and ∂L/∂z of one sample by the name of the loss. v, u: weights of classes and outputs, 1 unless given."""

_SQUARED_HINGE = (
    "L = (1/n) Σ_i u_i max(0, 1 − t_i z_i)², t = ±1",
    "∂L/∂z_i = −(2/n) u_i t_i max(0, 1 − t_i z_i)",
)

LAYERS: dict[str, tuple[list[str], list[str]]] = {
    "activation": (["A = f(A₀)"], ["dA₀ = dA ⊙ f′(A₀)"]),
    "dropout": (["A = A₀ ⊙ M/(1 − p)"], ["dA₀ = dA ⊙ M/(1 − p)"]),
    "alpha_dropout": (["A = a(A₀ ⊙ M + α′(1 − M)) + b"], ["dA₀ = a·dA ⊙ M"]),
    "gaussian_noise": (["A = A₀ + σE"], ["dA₀ = dA"]),
    "batch_norm": (
        ["A = γ ⊙ x̂ + β", "x̂ = (A₀ − μ)/√(σ² + ε)"],
        ["dβ = dA", "dγ = dA ⊙ x̂", "dA₀ = γ/√(σ² + ε) ⊙ dA"],
    ),
    "layer_norm": (
        ["A = γ ⊙ x̂ + β", "x̂ = (A₀ − μ)/√(σ² + ε), μ = mean(A₀), σ² = mean((A₀ − μ)²)"],
        [
            "dβ = dA",
            "dγ = dA ⊙ x̂",
            "dx̂ = γ ⊙ dA",
            "dA₀ = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂))/√(σ² + ε)",
        ],
    ),
    "group_norm": (
        ["A = γ ⊙ x̂ + β", "x̂ = (A₀ − μ)/√(σ² + ε), μ and σ² of each group"],
        [
            "dβ = dA",
            "dγ = dA ⊙ x̂",
            "dx̂ = γ ⊙ dA",
            "dA₀ = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂))/√(σ² + ε), the means over a group",
        ],
    ),
    "rms_norm": (
        ["A = γ ⊙ x̂", "x̂ = A₀/√(mean(A₀²) + ε)"],
        ["dγ = dA ⊙ x̂", "dx̂ = γ ⊙ dA", "dA₀ = (dx̂ − x̂ mean(dx̂ ⊙ x̂))/√(mean(A₀²) + ε)"],
    ),
    "scale": (["A = s ⊙ A₀"], ["ds = dA ⊙ A₀", "dA₀ = s ⊙ dA"]),
    "parametric_activation": (
        ["A = A₀ + α ⊙ (f(A₀) − A₀)"],
        ["dα = dA ⊙ (f(A₀) − A₀)", "dA₀ = dA ⊙ (1 + α ⊙ (f′(A₀) − 1))"],
    ),
    "prelu": (
        ["A = max(A₀, 0) + α ⊙ min(A₀, 0)"],
        ["dα = dA ⊙ min(A₀, 0)", "dA₀ = dA for A₀ > 0, else α ⊙ dA"],
    ),
    "embedding": (["a_f = row i of E_f, i = x_f"], ["dE_f = dA in row i, else 0"]),
    "pbld": (
        ["a_f = (W_f h + b_f, x_f)", "h_k = cos(2π w_fk x_f + φ_fk)"],
        ["dW_f = da_f hᵀ", "db_f = da_f", "dh = W_fᵀ da_f"],
    ),
    "periodic_embedding": (
        ["a_f = f(W_f h + b_f)", "h = (cos(2π w_f x_f), sin(2π w_f x_f))"],
        ["dz_f = da_f ⊙ f′(z_f)", "dW_f = dz_f hᵀ", "db_f = dz_f", "dh = W_fᵀ dz_f"],
    ),
    "piecewise_linear_embedding": (
        ["a_f = f(W_f h + b_f)", "h_t = (x_f − e_t)/(e_(t + 1) − e_t), between 0 and 1"],
        ["dz_f = da_f ⊙ f′(z_f)", "dW_f = dz_f hᵀ", "db_f = dz_f", "dh = W_fᵀ dz_f"],
    ),
    "members": (["A_g = A₀ for each member g"], ["dA₀ = Σ_g dA_g"]),
    "residual": (["A = F(A₀) + A₀"], ["dA₀ = (∂F)ᵀ dA + dA"]),
    "branches": (["A = (F_1(A₀), F_2(A₀), ...)"], ["dA₀ = Σ_i (∂F_i)ᵀ dA_i"]),
}
"""Forward and backward, by the name of the layer, of those whose settings do not change them."""


@dataclass(frozen=True)
class Equations:
    """Of a part of the network: forward, and backward."""

    forward: list[str]
    backward: list[str]


def of_layer(layer: Layer) -> Equations:
    """What the layer computes; of a class that is not of this package, that it does."""
    name = getattr(layer, "name", None)
    if name in ("dense", "dense_ensemble", "batch_ensemble"):
        equations = _of_sums(layer)
    elif name == "residual" and layer.projection is not None:  # type: ignore[attr-defined]
        equations = Equations(["A = F(A₀) + P·A₀"], ["dP = dA·A₀ᵀ", "dA₀ = (∂F)ᵀ dA + Pᵀ·dA"])
    elif name in LAYERS:
        equations = Equations(*map(list, LAYERS[name]))
    else:
        equations = Equations([f"A = F(A₀), F = {type(layer).__name__}"], ["dA₀ = (∂F)ᵀ dA"])
    f = getattr(getattr(layer, "activation", None), "name", None)
    if f == "identity" or f not in ACTIVATIONS:
        return equations
    forward, derivative = ACTIVATIONS[f]
    backward = equations.backward
    if f == "softmax":  # whose Jacobian has more than its diagonal
        backward = [derivative, *(line for line in backward if "f′" not in line)]
        return Equations([*equations.forward, forward], backward)
    return Equations([*equations.forward, forward], [*backward, derivative])


def _of_sums(layer: Any) -> Equations:
    """Those of a layer of weighted sums, without what it does not have."""
    g = "" if layer.name == "dense" else "_g"
    over = "" if layer.parametrization == "standard" else "/√n"
    linear = layer.activation.name == "identity"
    dZ = "dA" if linear else "dZ"
    out = "A" if linear else "Z"
    if layer.name == "batch_ensemble":
        inside = "(r_g ⊙ A₀_g)" if layer.scale_in is not None else "A₀_g"
        product = f"W·{inside}{over}"
        product = f"s_g ⊙ ({product})" if layer.scale_out is not None else product
        bias = {"member": " + b_g", "shared": " + b", "none": ""}[layer.bias]
        forward = [f"{out}_g = {product}{bias}"] + ([] if linear else ["A = f(Z)"])
        dY = "dY_g" if layer.scale_out is not None else f"{dZ}_g"
        backward = [] if linear else ["dZ = dA ⊙ f′(Z)"]
        backward += {"member": [f"db = {dZ}"], "shared": [f"db = Σ_g {dZ}_g"], "none": []}[layer.bias]
        backward += [f"dY = s ⊙ {dZ}", f"ds = {dZ} ⊙ Y, Y_g = W·{inside}{over}"] if layer.scale_out is not None else []
        backward += [f"dW = Σ_g {dY}·{inside}ᵀ{over}"]
        through = f"Wᵀ·{dY}{over}"
        if layer.scale_in is None:
            return Equations(forward, [*backward, f"dA₀_g = {through}"])
        return Equations(forward, [*backward, f"dR_g = {through}", "dr = dR ⊙ A₀", "dA₀ = r ⊙ dR"])
    forward = [f"{out}{g} = W{g}·A₀{g}{over}" + (f" + b{g}" if layer.bias else "")] + ([] if linear else ["A = f(Z)"])
    backward = [] if linear else ["dZ = dA ⊙ f′(Z)"]
    backward += [f"dW{g} = {dZ}{g}·A₀{g}ᵀ{over}"] + ([f"db = {dZ}"] if layer.bias else [])
    return Equations(forward, [*backward, f"dA₀{g} = W{g}ᵀ·{dZ}{g}{over}"])


def of_loss(loss: Loss) -> Equations:
    """L of one sample, and ∂L/∂z."""
    if isinstance(loss, EnsembleLoss):
        inner = of_loss(loss.loss)
        return Equations(["L = (1/k) Σ_g L_g", *inner.forward], ["∂L/∂z_g = (1/k) ∂L_g/∂z_g", *inner.backward])
    if loss.name not in LOSSES:
        return Equations([f"L = {type(loss).__name__}(z, y)"], ["dZ = ∂L/∂z"])
    value, slope = _SQUARED_HINGE if getattr(loss, "squared", False) else LOSSES[loss.name]
    smoothing, forward = getattr(loss, "label_smoothing", 0.0), [value]
    if smoothing:
        n = "2" if loss.name == "binary_cross_entropy" else "n"
        forward.append(f"y ← (1 − s) y + s/{n}, s = {smoothing:g}")
    if loss.name in ("cross_entropy", "binary_cross_entropy") and _unweighted(loss):
        forward[0] = forward[0].replace("v_c ", "").replace("v_i ", "").replace("u_i ", "")
        slope = "∂L/∂z_c = p_c − y_c" if loss.name == "cross_entropy" else "∂L/∂z_i = (1/n) (p_i − y_i)"
    if getattr(loss, "output_weight", None) is None:
        forward[0], slope = (text.replace("(u_i/n)", "(1/n)").replace("u_i ", "") for text in (forward[0], slope))
    return Equations(forward, [slope])


def _unweighted(loss: Loss) -> bool:
    return all(getattr(loss, setting, None) is None for setting in ("class_weight", "pos_weight", "output_weight"))


_MOMENTS = ["m ← β₁ m + (1 − β₁) g", "v ← β₂ v + (1 − β₂) g²"]
_RULES = {
    "adagrad": ["s ← s + g²", "θ ← θ − η/(1 + (t − 1) κ) · g/(√s + ε)"],
    "nadam": [
        *_MOMENTS,
        "v̂ = v/(1 − β₂^t)",
        "μ_t = β₁ (1 − ½ c^t), c = 0.96^ψ",
        "Π_t = μ_1 μ_2 ... μ_t",
        "θ ← θ − η ((1 − μ_t) g/(1 − Π_t) + μ_(t + 1) m/(1 − Π_(t + 1)))/(√v̂ + ε)",
    ],
    "radam": [
        *_MOMENTS,
        "m̂ = m/(1 − β₁^t)",
        "ρ_t = ρ − 2 t β₂^t/(1 − β₂^t), ρ = 2/(1 − β₂) − 1",
        "r_t = √((ρ_t − 4) (ρ_t − 2) ρ/((ρ − 4) (ρ − 2) ρ_t))",
        "θ ← θ − η u, u = r_t m̂ √(1 − β₂^t)/(√v + ε) for ρ_t > 5, else m̂",
    ],
    "adamax": [_MOMENTS[0], "s ← max(β₂ s, |g| + ε)", "θ ← θ − η m/((1 − β₁^t) s)"],
    "adadelta": [
        "v ← ρ v + (1 − ρ) g²",
        "u = √(d + ε)/√(v + ε) g",
        "d ← ρ d + (1 − ρ) u²",
        "θ ← θ − η u",
    ],
    "lion": ["u = sign(β₁ m + (1 − β₁) g)", "m ← β₂ m + (1 − β₂) g", "θ ← θ − η u"],
}
"""Updates by the name of the optimizer, of those whose settings do not change them."""


def of_optimizer(optimizer: Optimizer) -> list[str]:
    """Its update, of one parameter θ with the gradient g."""
    made: list[str]
    if isinstance(optimizer, SGD):
        if not optimizer.momentum:
            made = ["θ ← θ − η g"]
        else:
            made = ["v ← μ v + g", "θ ← θ − η (g + μ v)" if optimizer.nesterov else "θ ← θ − η v"]
    elif isinstance(optimizer, Adam):
        largest = ["s ← max(s, v)"] if optimizer.amsgrad else []
        v = "s" if optimizer.amsgrad else "v"
        made = [*_MOMENTS, *largest, "m̂ = m/(1 − β₁^t)", f"v̂ = {v}/(1 − β₂^t)", "θ ← θ − η m̂/(√v̂ + ε)"]
    elif isinstance(optimizer, RMSprop):
        made = ["v ← α v + (1 − α) g²"]
        made += ["w ← α w + (1 − α) g", "u = g/(√(v − w²) + ε)"] if optimizer.centered else ["u = g/(√v + ε)"]
        made += ["b ← μ b + u", "θ ← θ − η b"] if optimizer.momentum else ["θ ← θ − η u"]
    elif isinstance(optimizer, Muon):
        made = ["m ← μ m + (1 − μ) g"] + (["D = (1 − μ) g + μ m"] if optimizer.nesterov else ["D = m"])
        made += ["O ≈ (D Dᵀ)^(−½) D of hidden weights, of all else AdamW's m̂/(√v̂ + ε)", "θ ← θ − η s O"]
    elif optimizer.name in _RULES:
        made = list(_RULES[optimizer.name])
    else:
        made = [f"θ ← {type(optimizer).__name__}(θ, g)"]
    if getattr(optimizer, "weight_decay", 0.0):
        made[-1] = made[-1].replace("θ ← θ", "θ ← θ (1 − η λ)")
    if optimizer.clip_norm is not None:
        made.insert(0, "g ← g min(1, c/(‖g‖ + 10⁻⁶))")
    if optimizer.clip_value is not None:
        made.insert(0, "g ← clip(g, −c, c)")
    return made
