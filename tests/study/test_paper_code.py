"""study.paper_code: the table of equations against the code, the tests and the README; the equations that no other test holds."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from decsc_core import deq
from decsc_core.model import DECSC, preset
from decsc_core.model.decsc import Layer
from decsc_core.model.noise_levels import band_weights
from decsc_core.scenes import Scene
from decsc_core.study import paper_code, patches, train
from decsc_core.study.paper_code import EQUATIONS, NOTATION, objective, resolve, source
from decsc_core.study.recipes import training

ROOT = Path(__file__).resolve().parents[2]
PEERS = ("classical", "learned")
"""Folders of `denoisers` whose docstrings cite the equations of other papers."""


def cited(text: str) -> set[int]:
    """Numbers after "Eq." or "Eqs.", with or without parentheses, ranges filled in."""
    numbers: set[int] = set()
    number = r"\(?\d+\)?"
    for phrase in re.findall(rf"\bEqs?\.\s+({number}(?:(?:\s*-\s*|,\s*(?:and\s+)?|\s+and\s+){number})*)", text):
        for first, last in re.findall(r"\(?(\d+)\)?(?:\s*-\s*\(?(\d+)\)?)?", phrase):
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def docstrings(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    return [node.value.value for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)]


def test_the_parser_of_citations():
    assert cited("as in Eq. (3): and Eqs. (12)-(13), (20), (Eqs. 3-5, 9-11). Eqs. (2), (11) and (21) Table 7, Eq. 25, 1") == {
        3, 12, 13, 20, 4, 5, 9, 10, 11, 2, 21, 25, 1,
    }
    assert cited("Eq. (9) and 3 more; Eq. (24), first line; 12 dB") == {9, 3, 24}
    assert cited("no equation (3)") == set()


def test_every_numbered_equation_has_one_row():
    assert [equation.number for equation in EQUATIONS] == list(range(1, 27))


@pytest.mark.parametrize("path", sorted({row.code for row in (*EQUATIONS, *NOTATION)}))
def test_code_paths_lead_somewhere(path):
    assert callable(resolve(path))


@pytest.mark.parametrize("path", sorted({equation.test for equation in EQUATIONS}))
def test_test_paths_lead_to_tests(path):
    file, name = path.split("::")
    functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name.startswith("test_") and name in functions


def test_what_docstrings_cite_is_in_the_table():
    known = {equation.number for equation in EQUATIONS}
    files = [path for path in (ROOT / "decsc_core").rglob("*.py") if not set(PEERS) & set(path.parts)]
    found = {path: cited("\n".join(docstrings(path))) for path in files}
    assert {path.name: numbers - known for path, numbers in found.items() if numbers - known} == {}
    assert set().union(*found.values()) == known, "an equation that no docstring cites"


@pytest.mark.parametrize("equation", EQUATIONS, ids=lambda equation: f"Eq. {equation.number}")
def test_the_code_of_an_equation_cites_it(equation):
    """In its docstring, its class's or its module's."""
    parts = equation.code.split(".")
    owners = [resolve(".".join(parts[:end])) for end in range(len(parts), 1, -1)]
    assert equation.number in cited("\n".join(owner.__doc__ or "" for owner in owners))


def test_readme_has_the_table():
    readme = (ROOT / "README.md").read_text()
    if not readme.strip():
        pytest.skip("the README is not written yet")
    lines = {re.sub(r"\s+", " ", line).strip() for line in readme.splitlines()}
    missing = [line for line in paper_code.markdown_table().splitlines()[2:] if re.sub(r"\s+", " ", line).strip() not in lines]
    assert not missing, f"put study.paper_code.markdown_table() into the README; missing: {missing[0]}"


def test_markdown_table_has_a_row_an_equation():
    lines = paper_code.markdown_table().splitlines()
    assert len(lines) == 2 + len(EQUATIONS)
    assert [cell.strip() for cell in lines[11].strip("|").split("|")] == [
        "(10)", "soft threshold", "`model.dictionary.soft_threshold`",
        "`tests/model/test_dictionary.py::test_soft_threshold_is_equation_10`",
    ]


@pytest.mark.parametrize("path", ["decsc_core.model.dictionary.soft_threshold", "decsc_core.deq.solve",
                                  "decsc_core.model.decsc.Layer.pack", "decsc_core.model.dictionary.Dictionary"])
def test_source_is_the_file_without_the_docstring(path):
    where, *code = source(path).splitlines()
    file, line = re.fullmatch(r"# (\S+), line (\d+)", where).groups()
    original = (ROOT / file).read_text().splitlines()[int(line) - 1 :]
    shown = iter(text.strip() for text in code)
    wanted = next(shown)
    assert original[0].strip() == wanted
    for text in original:
        wanted = next(shown, None) if text.strip() == wanted else wanted
    assert wanted is None, f"{wanted!r} is not in {file} from line {line} on"
    name, body = path.rsplit(".", 1)[-1], "\n".join(code)
    assert re.search(rf"(def|class) {name}\b", body)
    assert '"""' not in body.split("def ", 2)[1] and (resolve(path).__doc__ or "?").splitlines()[0] not in body


@pytest.mark.parametrize("path", ["decsc_core.nothing", "nothing.at.all", "decsc_core.model.decsc.Layer.nothing"])
def test_wrong_paths_are_refused(path):
    with pytest.raises(LookupError, match=re.escape(path)):
        resolve(path)


def bare(fidelity: str) -> Layer:
    """f without priors, which are the identity with Eq. (24) as printed and residual Swin blocks, all weights 0."""
    config = preset("tiny", bands=4, tie="paper", detail="paper", ridge=0.0, fidelity=fidelity)
    model = DECSC(config, torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        for weight in (*model.prior_shared.parameters(), *model.prior_unshared.parameters()):
            weight.zero_()
        model.shared_threshold.fill_(-2.0)
        model.unshared_threshold.fill_(-2.5)
    rng = np.random.default_rng(0)
    noise = np.array([0, 0.1, 0.3, 1])[:, None, None] * rng.standard_normal((2, 4, 11, 14))
    return Layer(model, torch.from_numpy(rng.random((2, 4, 1, 1)) + noise))


@pytest.fixture(params=["uniform", "noise-weighted"])
def layer(request) -> Layer:
    return bare(request.param)


def codes(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(1)
    return tuple(torch.from_numpy(rng.standard_normal((len(layer.noisy), *shape))) for shape in layer.shapes)


def literal_parts(layer: Layer, S: torch.Tensor, H: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """K (x) S and D * H, atom by atom."""
    K, D = (d.kernel("reconstruction").detach() for d in (layer.model.shared, layer.model.unshared))
    side, stride = layer.model.config.kernel, layer.model.config.stride
    C, U = torch.zeros_like(layer.noisy), torch.zeros_like(layer.noisy)
    for y, x in np.ndindex(*S.shape[2:]):
        rows, columns = slice(stride * y, stride * y + side), slice(stride * x, stride * x + side)
        C[:, :, rows, columns] += torch.einsum("nm,mbpq->nbpq", S[:, :, y, x], K)
        for b in range(H.shape[2]):
            U[:, b : b + 3, rows, columns] += torch.einsum("nj,jbpq->nbpq", H[:, :, b, y, x], D)
    return C, U


@torch.no_grad()
def test_reconstruction_is_the_sum_of_both_parts_literally(layer):
    S, H = codes(layer)
    torch.testing.assert_close(sum(layer.reconstruct(layer.pack(S, H))), sum(literal_parts(layer, S, H)), rtol=0, atol=1e-12)


@torch.no_grad()
def test_objective_is_equation_5_literally(layer):
    S, H = codes(layer)
    C, U = literal_parts(layer, S, H)
    lambda_1, lambda_2 = math.log1p(math.exp(-2.0)), math.log1p(math.exp(-2.5))
    weighted = layer.model.config.fidelity == "noise-weighted"
    weights = band_weights(layer.noisy) if weighted else torch.ones(2, 4, 1, 1)
    assert (weights.amin() < 0.3) == weighted
    for n, value in enumerate(objective(layer, layer.pack(S, H))):
        misfit = (weights[n] * (layer.noisy[n] - C[n] - U[n]) ** 2).sum() / 2
        assert value == pytest.approx(float(misfit + lambda_1 * S[n].abs().sum() + lambda_2 * H[n].abs().sum()), rel=1e-12)


@torch.no_grad()
def test_each_half_step_lowers_the_objective(layer):
    z = layer.pack(*codes(layer))
    for _ in range(30):
        fz = layer(z)
        half = layer.pack(layer.unpack(fz)[0], layer.unpack(z)[1])
        before, between, after = (objective(layer, point) for point in (z, half, fz))
        assert (between < before).all() and (after < between).all()
        z = fz


@torch.no_grad()
def test_the_fixed_point_without_priors_minimises_the_objective(layer):
    z = deq.solve(layer, layer.initial(), rel_tol=1e-12, max_iter=2000).z
    value = objective(layer, z)
    assert 0.1 < (z == 0).double().mean() < 0.9
    rng = np.random.default_rng(2)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(20):
            moved = z + size * torch.from_numpy(rng.standard_normal(z.shape))
            assert (objective(layer, moved) > value).all()


def test_the_training_loss_is_equation_25(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    scene = Scene(rng.random((40, 40, 31), dtype=np.float32), "random")
    monkeypatch.setattr(train, "load", lambda dataset, split: [scene])
    seen = {"clean": [], "estimate": []}

    def spy_batch(*arguments, original=patches.patch_batch):
        clean, noisy = original(*arguments)
        seen["clean"].append(clean)
        return clean, noisy

    def spy_forward(self, *arguments, original=DECSC.forward):
        output = original(self, *arguments)
        if self.training:
            seen["estimate"].append(output.image.detach())
        return output

    monkeypatch.setattr(patches, "patch_batch", spy_batch)
    monkeypatch.setattr(DECSC, "forward", spy_forward)
    config = training("decsc", "tiny", dataset="photos", steps=2, batch=3, patch=16)
    train.train(config, tmp_path / "run", progress=False)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(rows) == len(seen["clean"]) == len(seen["estimate"]) == 2
    for row, clean, estimate in zip(rows, seen["clean"], seen["estimate"]):
        equation = sum(float(((x_hat - x) ** 2).sum()) for x_hat, x in zip(estimate, clean)) / len(clean)
        assert row["loss"] * clean[0].numel() == pytest.approx(equation, rel=1e-5)
