"""The optimisers of the trainings, Muon among them, of which torch has the form for plain matrices only."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

FOR_ALL = {"adam": Adam, "adamw": AdamW}
"""Those that move all parameters alike."""
OPTIMIZERS = (*FOR_ALL, "muon")
MOMENTUM, EPSILON = 0.95, 1e-7
COEFFICIENTS = ((3.4445, -4.775, 2.0315),) * 5
"""Of the polynomials that, one after the other, bring all singular values near 1; those of the reference."""
RMS = 0.2
"""Of the entries of an update, about that of Adam's, so that both take one learning rate (Liu et al., arXiv 2502.16982)."""
LAYERS = (nn.Linear, nn.Conv2d, nn.Conv3d)


class Muon(Optimizer):
    """Moves weights along their momentum made orthogonal: a weight of three dimensions as a stack of matrices, each by itself, any other as one
    matrix with a row for each output.

    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, with Nesterov's momentum and decoupled weight decay, for
    matrices as `torch.optim.Muon` with ``adjust_lr_fn="match_rms_adamw"``, in single precision; and for convolutions and stacks of matrices.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight not in self.state:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
                momentum = self.state[weight]["momentum"]
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                step = weight.grad.lerp(momentum, MOMENTUM)
                matrices = step if step.ndim == 3 else step.flatten(1)
                update = _orthogonal(matrices).mul_(RMS * max(matrices.shape[-2:]) ** 0.5).view_as(weight)
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"])


def _orthogonal(matrices: Tensor) -> Tensor:
    """Matrices with the singular vectors of `matrices`, (..., M, N), and singular values of about 1."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + EPSILON)
    for a, b, c in COEFFICIENTS:
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT


def optimizers(model: nn.Module, name: str, learning_rate: float, weight_decay: float) -> list[Optimizer]:
    """The optimisers that together move all parameters of a network; for ``"muon"`` that of the weights of linear layers, of
    convolutions that are not grouped and of stacks of matrices, such as MTSNN++'s dictionaries of the bands, and AdamW for the rest."""
    options = {"lr": learning_rate, "weight_decay": weight_decay}
    if name != "muon":
        return [FOR_ALL[name](model.parameters(), **options)]
    moved = {layer.weight for layer in model.modules() if isinstance(layer, LAYERS) and getattr(layer, "groups", 1) == 1}
    moved |= {p for p in model.parameters() if p.ndim == 3 and min(p.shape[1:]) > 1}
    matrices, others = ([p for p in model.parameters() if (p in moved) == chosen] for chosen in (True, False))
    return [kind(part, **options) for kind, part in ((Muon, matrices), (AdamW, others)) if part]
