"""model.dictionary: the two dictionaries against literal loops of Eqs. (3)-(4), their adjoints, and Eq. (10)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from decsc_core.model.dictionary import ROLES, SharedDictionary, UnsharedDictionary, code_side, soft_threshold

N, M, J, B, KERNEL = 2, 4, 3, 5, 5
GEOMETRIES = [(3, (11, 14)), (3, (13, 12)), (4, (5, 17)), (1, (6, 7)), (5, (16, 9)), (2, (5, 5))]
"""Strides and image sizes; in the first and third the atoms tile the image, in the others pixels are left over."""


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def fill(dictionary: torch.nn.Module) -> torch.nn.Module:
    """Every copy of a dictionary another random tensor, float64."""
    dictionary.double()
    with torch.no_grad():
        for seed, copy in enumerate(dictionary.copies.values()):
            copy.copy_(normal(*copy.shape, seed=100 + seed))
    return dictionary


def shared(stride: int, tie: str = "released") -> SharedDictionary:
    return fill(SharedDictionary(M, B, KERNEL, stride, tie))


def unshared(stride: int, tie: str = "released") -> UnsharedDictionary:
    return fill(UnsharedDictionary(J, KERNEL, stride, tie))


def sides(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """How many whole atoms lie along each side, by counting them."""
    return tuple(sum(1 for at in range(0, side, stride) if at + KERNEL <= side) for side in size)


@pytest.mark.parametrize("stride, size", GEOMETRIES)
def test_code_side_counts_the_atoms_that_fit(stride, size):
    assert tuple(code_side(side, KERNEL, stride) for side in size) == sides(size, stride)


@pytest.mark.parametrize("stride, size", GEOMETRIES)
@pytest.mark.parametrize("role", ["synthesis", "reconstruction"])
def test_shared_synthesis_is_equation_3_literally(stride, size, role):
    K, (h, w) = shared(stride), sides(size, stride)
    S = normal(N, M, h, w, seed=1)
    C = torch.zeros(N, B, *size, dtype=torch.float64)
    for n, b, m, p, q in itertools.product(range(N), range(B), range(M), range(h), range(w)):
        rows, columns = (slice(at * stride, at * stride + KERNEL) for at in (p, q))
        C[n, b, rows, columns] += S[n, m, p, q] * K.copies[role][m, b]
    torch.testing.assert_close(K.synthesise(S, size, role), C, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride, size", GEOMETRIES)
def test_shared_analysis_is_a_correlation_with_every_atom(stride, size):
    K, (h, w) = shared(stride), sides(size, stride)
    Y = normal(N, B, *size, seed=2)
    S = torch.zeros(N, M, h, w, dtype=torch.float64)
    for n, m, p, q in itertools.product(range(N), range(M), range(h), range(w)):
        patch = Y[n, :, p * stride : p * stride + KERNEL, q * stride : q * stride + KERNEL]
        S[n, m, p, q] = (patch * K.copies["analysis"][m]).sum()
    torch.testing.assert_close(K.analyse(Y), S, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride, size", GEOMETRIES)
@pytest.mark.parametrize("role", ["synthesis", "reconstruction"])
def test_unshared_synthesis_is_equation_4_literally(stride, size, role):
    D, (h, w) = unshared(stride), sides(size, stride)
    H = normal(N, J, B - 2, h, w, seed=3)
    U = torch.zeros(N, B, *size, dtype=torch.float64)
    for n, j, b, p, q in itertools.product(range(N), range(J), range(B - 2), range(h), range(w)):
        block = (n, slice(b, b + 3), slice(p * stride, p * stride + KERNEL), slice(q * stride, q * stride + KERNEL))
        U[block] += H[n, j, b, p, q] * D.copies[role][j]
    torch.testing.assert_close(D.synthesise(H, size, role), U, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride, size", GEOMETRIES)
def test_unshared_analysis_is_a_correlation_with_every_atom(stride, size):
    D, (h, w) = unshared(stride), sides(size, stride)
    Y = normal(N, B, *size, seed=4)
    H = torch.zeros(N, J, B - 2, h, w, dtype=torch.float64)
    for n, j, b, p, q in itertools.product(range(N), range(J), range(B - 2), range(h), range(w)):
        block = Y[n, b : b + 3, p * stride : p * stride + KERNEL, q * stride : q * stride + KERNEL]
        H[n, j, b, p, q] = (block * D.copies["analysis"][j]).sum()
    torch.testing.assert_close(D.analyse(Y), H, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dictionary", [shared, unshared])
def test_pixels_that_no_atom_reaches_are_zero(dictionary):
    stride, size = 3, (13, 12)  # atoms of 5 cover 11 rows and columns of 5 + 3 k
    D = dictionary(stride)
    codes = normal(*D.analyse(normal(N, B, *size)).shape, seed=5)
    image = D.synthesise(codes, size)
    assert image.shape == (N, B, *size)
    assert (image[..., 11:, :] == 0).all() and (image[..., :, 11:] == 0).all()
    assert (image[..., :11, :11] != 0).all()


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("stride, size", GEOMETRIES)
@pytest.mark.parametrize("dictionary", [shared, unshared])
def test_analysis_is_the_adjoint_of_synthesis(dictionary, stride, size, dtype, tolerance):
    D = dictionary(stride, "paper").to(dtype)
    image = normal(N, B, *size, seed=6, dtype=dtype)
    analysed = D.analyse(image)
    codes = normal(*analysed.shape, seed=7, dtype=dtype)
    synthesised = D.synthesise(codes, size)
    assert analysed.dtype == synthesised.dtype == dtype
    gap = (analysed.double() * codes.double()).sum() - (image.double() * synthesised.double()).sum()
    assert abs(gap) <= tolerance * analysed.double().norm() * codes.double().norm()


@pytest.mark.parametrize("dictionary", [shared, unshared])
def test_a_sample_does_not_depend_on_its_batch(dictionary):
    D, size = dictionary(3), (13, 12)
    image = normal(3, B, *size, seed=8)
    codes = D.analyse(image)
    torch.testing.assert_close(D.analyse(image[1:2]), codes[1:2], rtol=0, atol=1e-13)
    torch.testing.assert_close(D.synthesise(codes[1:2], size), D.synthesise(codes, size)[1:2], rtol=0, atol=1e-13)


@pytest.mark.parametrize("bands", [3, 4, 31, 46])
def test_unshared_codes_have_two_slices_fewer_than_bands(bands):
    D = unshared(3)
    codes = D.analyse(normal(1, bands, 8, 8))
    assert codes.shape == (1, J, bands - 2, 2, 2)
    assert D.synthesise(codes, (8, 8)).shape == (1, bands, 8, 8)


@pytest.mark.parametrize("dictionary", [shared, unshared])
def test_paper_tie_has_one_tensor_and_released_tie_three(dictionary):
    paper, released = dictionary(3, "paper"), dictionary(3, "released")
    assert len(list(paper.parameters())) == 1
    assert len(list(released.parameters())) == 3
    assert all(paper.kernel(role) is paper.kernel("synthesis") for role in ROLES)
    assert len({released.kernel(role).data_ptr() for role in ROLES}) == 3


@pytest.mark.parametrize("dictionary", [shared, unshared])
def test_released_tie_gives_every_role_its_own_copy(dictionary):
    D, size = dictionary(3), (11, 14)
    image = normal(1, B, *size)
    codes = D.analyse(image)
    results = {"analysis": D.analyse(image), "synthesis": D.synthesise(codes, size),
               "reconstruction": D.synthesise(codes, size, "reconstruction")}
    for changed in ROLES:
        with torch.no_grad():
            D.copies[changed].mul_(2)
        now = {"analysis": D.analyse(image), "synthesis": D.synthesise(codes, size),
               "reconstruction": D.synthesise(codes, size, "reconstruction")}
        for role in ROLES:
            factor = 2 if role == changed else 1
            torch.testing.assert_close(now[role], factor * results[role], rtol=1e-12, atol=1e-12)
        results = now


def test_soft_threshold_is_equation_10():
    x = torch.linspace(-2, 2, 401, dtype=torch.float64)
    for theta in (0.0, 0.3, 1.0, 5.0):
        expected = torch.sign(x) * (x.abs() - theta).clamp_min(0)
        found = soft_threshold(x, torch.tensor(theta, dtype=torch.float64))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


def test_soft_threshold_is_the_proximal_map_of_the_weighted_l1_norm():
    grid = torch.linspace(-3, 3, 60001, dtype=torch.float64)
    for theta, v in itertools.product((0.0, 0.2, 0.75, 1.5), (-1.9, -0.75, -0.1, 0.0, 0.3, 1.2, 2.5)):
        objective = theta * grid.abs() + (grid - v).square() / 2
        found = soft_threshold(torch.tensor([v], dtype=torch.float64), torch.tensor(theta, dtype=torch.float64))
        assert abs(found - grid[objective.argmin()]) <= 1e-4, (theta, v)


def test_soft_threshold_with_a_negative_threshold():
    x = torch.tensor([-2.0, -0.5, -0.2, 0.0, 0.3, 0.5, 1.5], dtype=torch.float64)
    expected = torch.tensor([-2.5, -1.0, -0.4, 0.0, 0.6, 1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(soft_threshold(x, torch.tensor(-0.5)), expected, rtol=0, atol=1e-15)


def test_soft_threshold_has_one_threshold_per_channel():
    x = normal(2, 3, 4, 5)
    theta = torch.tensor([0.1, -0.4, 0.7], dtype=torch.float64)
    together = soft_threshold(x, theta[:, None, None])
    for m in range(3):
        torch.testing.assert_close(together[:, m], soft_threshold(x[:, m], theta[m]))


@pytest.mark.parametrize("dictionary", [shared, unshared])
def test_gradients_are_exact(dictionary):
    D, size = dictionary(3), (7, 9)
    image = normal(1, B, *size, seed=9).requires_grad_()
    codes = normal(*D.analyse(image).shape, seed=10).requires_grad_()

    def both(image: Tensor, codes: Tensor, *kernels: Tensor) -> tuple[Tensor, Tensor]:
        D.copies = dict(zip(ROLES, kernels))
        return D.analyse(image), D.synthesise(codes, size)

    kernels = [copy.detach().requires_grad_() for copy in D.parameters()]
    del D.copies
    assert torch.autograd.gradcheck(both, (image, codes, *kernels), fast_mode=True)
