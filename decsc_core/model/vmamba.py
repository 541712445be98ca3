"""The VMamba prior on the shared codes: four blocks of 2-D selective scans (Liu et al., VMamba, NeurIPS 2024) and MLPs.

The released code also applies stochastic depth here during training, which changes the map between two evaluations of
one solve; it is left out, so that f is a function.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from decsc_core.model.swin import MLP_RATIO, Mlp

CHUNK = 8
"""Positions that are scanned at a time: few enough that their states stay in a CPU's cache."""


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
    r"""Linear recurrence with input-dependent coefficients (Gu and Dao, Mamba, 2023), along the last axis.

    .. math:: h_l = e^{\Delta_l A} h_{l-1} + \Delta_l B_l u_l, \qquad y_l = C_l h_l + D u_l,
              \qquad \Delta = \mathrm{softplus}(\delta + \text{bias})

    Parameters
    ----------
    u, delta : Tensor, shape (N, G * E, L)
        Input and raw step size of G directions with E channels each.
    A : Tensor, shape (G * E, states)
    B, C : Tensor, shape (N, G, states, L)
        Shared by the channels of one direction.
    D, delta_bias : Tensor, shape (G * E,)

    Returns
    -------
    Tensor, shape (N, G * E, L)
    """
    groups = B.shape[1]
    step = rearrange(F.softplus(delta + delta_bias[:, None]), "n (g e) l -> l n g 1 e", g=groups).contiguous()
    driven = step * rearrange(u, "n (g e) l -> l n g 1 e", g=groups)
    rate = rearrange(A, "(g e) s -> g s e", g=groups).contiguous()  # channels last, for they are many
    B, C = rearrange(B, "n g s l -> l n g s 1"), rearrange(C, "n g s l -> l n g 1 s")
    before, parts = torch.zeros_like(driven[:1] * B[:1]), []
    for some_step, some_driven, some_B, some_C in zip(*(each.split(CHUNK) for each in (step, driven, B, C))):
        states = _Recurrence.apply(torch.exp(some_step * rate), torch.cat([before, some_driven * some_B]), False)
        before = states[-1:]
        parts.append(some_C @ states[1:])
    return rearrange(torch.cat(parts), "l n g 1 e -> n (g e) l") + D[:, None] * u


class _Recurrence(torch.autograd.Function):
    """h_l = decay_l h_(l-1) + drive_l along the first axis from h_0 = drive_0 on, or h_(l-1) = decay_l h_l + drive_(l-1) from the last one back.

    Each of the two is the other's gradient; `decay`, of the steps from one position to the next, is one shorter than `drive`.
    """

    @staticmethod
    def forward(ctx, decay: Tensor, drive: Tensor, backwards: bool) -> Tensor:
        states = drive.clone()
        steps = list(zip(states[:-1].unbind(), states[1:].unbind(), decay.unbind()))
        for first, second, factor in reversed(steps) if backwards else steps:
            if backwards:
                first.addcmul_(factor, second)
            else:
                second.addcmul_(factor, first)
        ctx.save_for_backward(decay, states)
        ctx.backwards = backwards
        return states

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        decay, states = ctx.saved_tensors
        other = _Recurrence.apply(decay, gradient, not ctx.backwards)
        forth, back = (other, states) if ctx.backwards else (states, other)
        return forth[:-1] * back[1:], other, None


class SS2D(nn.Module):
    """Gated 2-D scan: the map is read along rows and columns, forwards and backwards, and the four results are summed."""

    directions = 4

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        inner, rank = 2 * width, math.ceil(width / 16)
        self.rank, self.states = rank, states
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj_weight = nn.Parameter(torch.empty(self.directions, rank + 2 * states, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(self.directions, inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(self.directions, inner))
        self.A_logs = nn.Parameter(torch.empty(self.directions * inner, states))
        self.Ds = nn.Parameter(torch.ones(self.directions * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Mamba's own start: states decay at rates 1, 2, ..., steps are log-uniform in [1e-3, 1e-1]."""
        bound = self.rank**-0.5
        with torch.no_grad():
            nn.init.uniform_(self.x_proj_weight, -(self.x_proj_weight.shape[-1] ** -0.5),
                             self.x_proj_weight.shape[-1] ** -0.5, generator=generator)
            nn.init.uniform_(self.dt_projs_weight, -bound, bound, generator=generator)
            low, high = math.log(1e-3), math.log(1e-1)
            step = torch.exp(torch.rand(self.dt_projs_bias.shape, generator=generator) * (high - low) + low)
            self.dt_projs_bias.copy_(step + torch.log(-torch.expm1(-step)))
            self.A_logs.copy_(torch.log(torch.arange(1.0, self.states + 1)).expand_as(self.A_logs))
            self.Ds.fill_(1.0)

    def forward(self, grid: Tensor) -> Tensor:
        """(N, h, w, C) -> the same shape."""
        height, width = grid.shape[1:3]
        u, gate = self.in_proj(grid).chunk(2, dim=-1)
        u = F.silu(self.conv2d(rearrange(u, "n y x e -> n e y x")))
        rows, columns = rearrange(u, "n e y x -> n e (y x)"), rearrange(u, "n e y x -> n e (x y)")
        paths = torch.stack([rows, columns, rows.flip(-1), columns.flip(-1)], dim=1)
        raw = torch.einsum("ngel,gre->ngrl", paths, self.x_proj_weight)
        step, B, C = raw.split([self.rank, self.states, self.states], dim=2)
        delta = torch.einsum("ngrl,ger->ngel", step, self.dt_projs_weight)
        y = selective_scan(
            rearrange(paths, "n g e l -> n (g e) l"), rearrange(delta, "n g e l -> n (g e) l"),
            -torch.exp(self.A_logs), B, C, self.Ds, self.dt_projs_bias.flatten(),
        )
        y = rearrange(y, "n (g e) l -> g n e l", g=self.directions)
        rows, columns = y[0] + y[2].flip(-1), y[1] + y[3].flip(-1)
        merged = rearrange(rows, "n e (y x) -> n y x e", y=height) + rearrange(columns, "n e (x y) -> n y x e", x=width)
        return self.out_proj(self.out_norm(merged) * F.silu(gate))


class VMambaBlock(nn.Module):
    """x + SS2D(norm x), then x + MLP(norm x)."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.op = SS2D(width, states)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, MLP_RATIO * width)

    def forward(self, grid: Tensor) -> Tensor:
        grid = grid + self.op(self.norm(grid))
        return grid + self.mlp(self.norm2(grid))


class VMambaPrior(nn.Module):
    """P_S, VMamba variant: (N, M, h, w) -> the same shape, any h and w.

    Parameters
    ----------
    width, depth, states : int
        M, number of blocks, states of a scan.
    """

    def __init__(self, width: int, depth: int, states: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(VMambaBlock(width, states) for _ in range(depth))

    def forward(self, codes: Tensor) -> Tensor:
        grid = rearrange(codes, "n c y x -> n y x c")
        for block in self.blocks:
            grid = block(grid)
        return rearrange(grid, "n y x c -> n c y x")
