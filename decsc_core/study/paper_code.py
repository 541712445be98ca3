"""The paper beside its code: which function computes which numbered equation, and what Table I's symbols are called here.

Notebook 00 shows these functions and checks them; the README's table is `markdown_table`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from torch import Tensor

import decsc_core
from decsc_core.model.decsc import Layer


class Equation(NamedTuple):
    """A numbered equation: what it says, the dotted path of what computes it, and the test that holds it to the paper."""

    number: int
    what: str
    code: str
    test: str


class Notation(NamedTuple):
    """A row of Table I: symbol, the paper's description, its name and shape here, and where to find it."""

    symbol: str
    description: str
    name: str
    shape: str
    code: str


_DECSC, _DICTIONARY = "decsc_core.model.decsc", "decsc_core.model.dictionary"
_LAYER = f"{_DECSC}.Layer"
_T_DICTIONARY, _T_DECSC, _T_DEQ = "tests/model/test_dictionary.py", "tests/model/test_decsc.py", "tests/test_deq.py"
_T_LAYER = f"{_T_DECSC}::test_one_evaluation_is_equations_9_and_20_literally"
_T_HERE = "tests/study/test_paper_code.py"

EQUATIONS: tuple[Equation, ...] = (
    Equation(1, "observation: noisy = clean + noise", "decsc_core.noise.add_noise",
             "tests/test_noise.py::test_recorded_sigmas_are_those_of_the_noise"),
    Equation(2, "clean = shared part + unshared part", f"{_LAYER}.reconstruct",
             f"{_T_HERE}::test_reconstruction_is_the_sum_of_both_parts_literally"),
    Equation(3, "shared part: the same codes for all bands", f"{_DICTIONARY}.SharedDictionary.synthesise",
             f"{_T_DICTIONARY}::test_shared_synthesis_is_equation_3_literally"),
    Equation(4, "unshared part: 3-D convolutional codes", f"{_DICTIONARY}.UnsharedDictionary.synthesise",
             f"{_T_DICTIONARY}::test_unshared_synthesis_is_equation_4_literally"),
    Equation(5, "sparse coding objective", "decsc_core.study.paper_code.objective",
             f"{_T_HERE}::test_objective_is_equation_5_literally"),
    Equation(6, "the same with learned priors, known by their proximal maps", f"{_LAYER}.shrink_shared",
             f"{_T_DECSC}::test_shrinking_is_the_proximal_map_of_theta_l1_and_half_kappa_l2"),
    Equation(7, "its part in S, lowered by one proximal step", f"{_LAYER}.shrink_shared",
             f"{_T_HERE}::test_each_half_step_lowers_the_objective"),
    Equation(8, "its part in H, likewise", f"{_LAYER}.shrink_unshared",
             f"{_T_HERE}::test_each_half_step_lowers_the_objective"),
    Equation(9, "alternating proximal gradient steps", f"{_LAYER}.__call__", _T_LAYER),
    Equation(10, "soft threshold", f"{_DICTIONARY}.soft_threshold", f"{_T_DICTIONARY}::test_soft_threshold_is_equation_10"),
    Equation(11, "reconstruction from codes", f"{_LAYER}.reconstruct",
             f"{_T_HERE}::test_reconstruction_is_the_sum_of_both_parts_literally"),
    Equation(12, "both steps in one form", f"{_LAYER}.__call__", _T_LAYER),
    Equation(13, "the same as a network layer", f"{_LAYER}.__call__", _T_LAYER),
    Equation(14, "equilibrium", "decsc_core.deq.solve", f"{_T_DEQ}::test_known_fixed_point"),
    Equation(15, "Anderson acceleration", "decsc_core.deq._Anderson.__call__",
             f"{_T_DEQ}::test_anderson_takes_the_points_of_equations_15_and_16"),
    Equation(16, "its mixing weights", "decsc_core.deq._mixing_weights",
             f"{_T_DEQ}::test_anderson_takes_the_points_of_equations_15_and_16"),
    Equation(17, "exact gradient of the equilibrium", "decsc_core.deq.implicit",
             f"{_T_DEQ}::test_implicit_gradient_passes_gradcheck_and_phantom_does_not"),
    Equation(18, "Neumann series of its inverse", "decsc_core.deq.phantom",
             f"{_T_DEQ}::test_a_long_phantom_approaches_the_implicit_gradient"),
    Equation(19, "phantom gradient: the series cut after L terms", "decsc_core.deq.phantom",
             f"{_T_DEQ}::test_phantom_is_the_truncated_neumann_series_of_equation_19"),
    Equation(20, "shared and unshared layer, analysis learned", f"{_LAYER}.__call__", _T_LAYER),
    Equation(21, "reconstruction from the equilibrium", f"{_LAYER}.reconstruct",
             f"{_T_DECSC}::test_forward_is_split_solve_reconstruct_crop"),
    Equation(22, "attention of one head in a window", "decsc_core.model.windows.WindowAttention.forward",
             "tests/model/test_swin.py::test_window_attention_is_equations_22_and_23_literally"),
    Equation(23, "heads joined and projected", "decsc_core.model.windows.WindowAttention.forward",
             "tests/model/test_swin.py::test_window_attention_is_equations_22_and_23_literally"),
    Equation(24, "detail enhancement, as printed and as released", "decsc_core.model.detail.DetailEnhancement.forward",
             "tests/model/test_detail.py::test_the_papers_form_is_equation_24"),
    Equation(25, "training loss", "decsc_core.study.train._step", f"{_T_HERE}::test_the_training_loss_is_equation_25"),
    Equation(26, "noise level over the bands, case corr", "decsc_core.noise.correlated",
             "tests/test_noise.py::test_corr_gives_the_level_of_table_2"),
)

NOTATION: tuple[Notation, ...] = (
    Notation("X", "the clean HSI", "clean", "(H, W, B), in torch (N, B, H, W)", "decsc_core.scenes.Scene"),
    Notation("Y", "the noisy HSI", "noisy", "as X", "decsc_core.noise.add_noise"),
    Notation("N", "the additive noise", "noisy - clean", "as X", "decsc_core.noise.Degradation"),
    Notation("C", "the GIC structures", "shared part", "(N, B, H, W)", f"{_LAYER}.reconstruct"),
    Notation("U", "the LSU structures", "unshared part", "(N, B, H, W)", f"{_LAYER}.reconstruct"),
    Notation("K_b", "the 2D convolutional dictionary for the b-th band of the HSI",
             "model.shared, kernel(...)[:, b]", "(M, k, k)", f"{_DICTIONARY}.SharedDictionary"),
    Notation("S", "the corresponding sparse coefficients of C", "S", "(N, M, h, w)", f"{_LAYER}.unpack"),
    Notation("D", "the 3D convolutional dictionary of U", "model.unshared", "(J, 3, k, k)",
             f"{_DICTIONARY}.UnsharedDictionary"),
    Notation("H", "the corresponding sparse coefficients of U", "H", "(N, J, B - 2, h, w)", f"{_LAYER}.unpack"),
    Notation("alpha^t", "the result of the t-th iteration of the DEQ", "z, solution.iterates[t]",
             "(N, d), S and H packed", f"{_LAYER}.pack"),
    Notation("alpha^*", "the equilibrium point of DEQ", "solution.z", "(N, d)", "decsc_core.deq.Solution"),
    Notation("z", "the noisy image injected into each layer of DEQ", "layer.noisy", "(N, B, H, W)", _LAYER),
)


def resolve(path: str) -> Any:
    """The object at a dotted path, such as ``decsc_core.model.decsc.Layer.pack``.

    Raises
    ------
    LookupError
        If there is no such module or attribute.
    """
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and name.startswith(error.name):
                continue
            raise
        for attribute in parts[end:]:
            if not hasattr(found, attribute):
                raise LookupError(f"{path}: {name} has no {attribute}")
            found, name = getattr(found, attribute), f"{name}.{attribute}"
        return found
    raise LookupError(f"{path}: no such module")


def source(path: str) -> str:
    """The running source of the function or class at a dotted path, without its docstring, below a line that says where it is."""
    found = inspect.unwrap(resolve(path))
    lines, first = inspect.getsourcelines(found)
    code = textwrap.dedent("".join(lines))
    kept, body = code.splitlines(), ast.parse(code).body[0].body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        del kept[body[0].lineno - 1 : body[0].end_lineno]
    root = Path(decsc_core.__file__).parent.parent
    where = Path(inspect.getsourcefile(found)).relative_to(root).as_posix()
    return "\n".join([f"# {where}, line {first}", *kept])


def markdown_table() -> str:
    """The README's table: equation, what it says, what computes it, the test that checks it."""
    rows = [(f"({e.number})", e.what, f"`{e.code.removeprefix('decsc_core.')}`", f"`{e.test}`") for e in EQUATIONS]
    return pd.DataFrame(rows, columns=["Eq.", "What it says", "In `decsc_core`", "Test"]).to_markdown(index=False)


def objective(layer: Layer, z: Tensor) -> Tensor:
    r"""The sparse coding objective that the layer lowers when both priors are the identity.

    .. math:: \tfrac12 \|Y - K \otimes S - D \star H\|_F^2 + \|\theta_1 S\|_1 + \|\theta_2 H\|_1

    Source: Eq. (5), and Eqs. (6)-(8) without the learned regularisers, which have no formula: they are known only by the
    networks that stand for their proximal maps. The weights of the l1 norms are the layer's thresholds, because its step size
    is 1; with ``fidelity="noise-weighted"`` the squares of band b are multiplied by the layer's weight of that band.

    Parameters
    ----------
    layer : Layer
        Of a network with tied dictionaries and ``ridge=0``; others do not descend on it.
    z : Tensor, shape (N, d)
        Packed codes.

    Returns
    -------
    Tensor, shape (N,)
    """
    squares = layer.weights * (layer.noisy - sum(layer.reconstruct(z))).square()
    absolute = (theta * codes.abs() for theta, codes in zip(layer.thresholds, layer.unpack(z)))
    return squares.flatten(1).sum(1) / 2 + sum(part.flatten(1).sum(1) for part in absolute)
