from __future__ import annotations

import numpy as np
import pytest
import torch

from decsc_core.denoisers.base import Record
from decsc_core.denoisers.equilibrium import Equilibrium
from decsc_core.model import DECSC, SolverConfig, preset
from decsc_core.model.gross import HALF, PASSES, cut, found, nearer
from decsc_core.model.misfit import GROSS
from decsc_core.weights import Weights

E = 0.015
BANDS = 15
WHOLE = [0, 2, *range(4, BANDS)]


def cubes(sigma: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth image (1, 15, 48, 40) and a noisy one."""
    generator = torch.Generator().manual_seed(1)
    y, x = torch.meshgrid(torch.arange(48) / 48, torch.arange(40) / 40, indexing="ij")
    clean = (0.4 + 0.2 * y + 0.2 * x).expand(1, BANDS, 48, 40).clone()
    return clean, clean + sigma * torch.randn(clean.shape, generator=generator)


def spoilt(noisy: torch.Tensor) -> torch.Tensor:
    """Impulses in band 1, dead columns in band 3."""
    noisy = noisy.clone()
    where = torch.rand(noisy.shape[-2:], generator=torch.Generator().manual_seed(2)) < 0.1
    noisy[0, 1][where] = 1.0
    noisy[0, 3, :, 5:9] = 0.0
    return noisy


def test_gross_errors_are_found_in_the_images_that_have_them():
    clean, noisy = cubes()
    assert found(torch.cat([noisy, spoilt(noisy)]), torch.cat([clean, clean]), E).tolist() == [[[[False]]], [[[True]]]]


@pytest.mark.parametrize("sigma, e, most", [(0.1, E, HALF * 0.1), (0.02, E, E)])
def test_all_bands_come_nearer_to_the_estimate(sigma, e, most):
    """Half a deviation, which a tenth of impulses hardly changes; no nearer than what an estimate errs by itself."""
    clean, noisy = cubes(sigma)
    noisy = spoilt(noisy)
    rest, before = nearer(noisy, clean, e) - clean, noisy - clean
    furthest = rest.abs().amax((0, 2, 3))
    np.testing.assert_allclose(furthest[WHOLE], most, rtol=0.1)
    np.testing.assert_allclose(furthest, most, rtol=0.4)
    kept = before.abs() < 0.9 * most
    torch.testing.assert_close(rest[kept], before[kept], rtol=0, atol=1e-6)
    assert (rest * before >= 0).all()


@pytest.mark.parametrize("sigma", [0.005, 0.05, 0.3])
def test_gaussian_noise_stays_as_it_is(sigma):
    clean, noisy = cubes(sigma)
    assert torch.equal(cut(noisy, clean, E), noisy)


@pytest.mark.parametrize("share, seen", [(0.003, False), (0.008, True)])
def test_a_band_has_gross_errors_from_one_pixel_in_two_hundred_on(share, seen):
    clean, noisy = cubes(0.03)
    noisy[0, 1] = clean[0, 1]
    noisy[0, 1].view(-1)[: round(share * 48 * 40)] += 0.5
    assert torch.equal(cut(noisy, clean, E), noisy) != seen


def strays(noisy: torch.Tensor, band: int, distance: float) -> torch.Tensor:
    """One pixel in a hundred of a band so far off, as fine texture may be."""
    where = torch.rand(noisy.shape[-2:], generator=torch.Generator().manual_seed(3)) < 0.01
    noisy = noisy.clone()
    noisy[0, band][where] += distance
    return noisy


@pytest.mark.parametrize("distance, seen", [(0.2, False), (0.25, True)])
def test_an_image_has_gross_errors_from_a_sixth_of_what_is_left_over_of_a_band_on(distance, seen):
    clean, noisy = cubes(0.03)
    bad = strays(noisy, 1, distance)
    assert torch.equal(cut(bad, clean, E), bad) != seen


def test_beside_a_band_with_strong_gross_errors_weak_ones_are_cut_too_but_not_in_another_image():
    clean, noisy = cubes(0.03)
    weak = strays(noisy, 1, 0.2)
    both = torch.cat([strays(weak, 3, 0.5), weak])
    better = cut(both, clean.expand_as(both), E)
    assert not torch.equal(better[0, 1], both[0, 1]) and not torch.equal(better[0, 3], both[0, 3])
    assert torch.equal(better[1], weak[0])


def test_bands_with_gross_errors_come_as_close_as_the_limit_and_others_stay():
    clean, noisy = cubes(0.03)
    bad = spoilt(noisy)
    better = cut(bad, clean, E)
    assert torch.equal(better[0, WHOLE], noisy[0, WHOLE])
    for band in (1, 3):
        far, expected = (better - clean)[0, band].abs(), (0.03**2 + (GROSS * E) ** 2) ** 0.5
        assert far.quantile(0.99) == pytest.approx(expected, rel=0.15) and far.max() < 2 * expected
        untouched = (bad - clean)[0, band].abs() < 0.9 * expected
        torch.testing.assert_close(better[0, band][untouched], bad[0, band][untouched], rtol=0, atol=1e-6)


def network(misfit: float = E) -> Equilibrium:
    config = preset("tiny", bands=BANDS, depth=1, shifts=2, misfit=misfit, solver=SolverConfig(max_iter=3))
    model = DECSC(config, torch.Generator().manual_seed(0)).eval()
    return Equilibrium(Weights("decsc", model, {}, "", None), device="cpu")


@pytest.fixture
def watched(monkeypatch) -> list[torch.Tensor]:
    """What the network is given, and estimates that are the clean image."""
    given = []
    clean, _ = cubes()

    def solve(self, noisy, shifts):
        given.append(noisy.clone())
        return original(self, noisy, shifts)._replace(image=clean)

    original = DECSC.without_misfit
    monkeypatch.setattr(DECSC, "without_misfit", solve)
    return given


def as_cube(image: torch.Tensor) -> np.ndarray:
    return image[0].permute(1, 2, 0).numpy()


def test_an_image_with_gross_errors_is_denoised_again_without_them(watched):
    clean, noisy = cubes(0.03)
    bad = spoilt(noisy)
    estimate = network()(as_cube(bad))
    assert len(watched) == len(estimate.record) == PASSES == 3
    assert torch.equal(watched[0], bad)
    for given in watched[1:]:
        assert (given - clean).abs().max() < 0.2 and torch.equal(given[0, WHOLE], noisy[0, WHOLE])
    assert np.abs(estimate.cube - as_cube(clean)).max() < 0.12


@pytest.mark.parametrize("first, second, kept", [(True, False, 1), (False, False, 3), (True, True, 3)])
def test_a_pass_without_a_fixed_point_does_not_replace_one_with(monkeypatch, first, second, kept):
    clean, noisy = cubes(0.03)
    solved = []

    def solve(self, model, image, bar):
        solved.append(image)
        return clean + 0.01 * len(solved), torch.zeros_like(clean), Record([1.0], 1, first if len(solved) == 1 else second)

    monkeypatch.setattr(Equilibrium, "_solve", solve)
    monkeypatch.setattr(DECSC, "with_misfit", lambda self, parts, noisy: parts)
    monkeypatch.setattr("decsc_core.denoisers.equilibrium.wiener", lambda estimate, *_: estimate)
    estimate = network()(as_cube(spoilt(noisy)))
    assert [record.converged for record in estimate.record] == ([first] + [second] * 2)[:kept]
    np.testing.assert_allclose(estimate.cube, as_cube(clean + 0.01 * kept), rtol=0, atol=1e-5)


def test_gaussian_noise_takes_one_pass(watched):
    estimate = network()(as_cube(cubes(0.1)[1]))
    assert len(watched) == len(estimate.record) == 1


def test_without_a_misfit_there_is_one_pass_as_in_the_paper(watched):
    estimate = network(misfit=0.0)(as_cube(spoilt(cubes(0.03)[1])))
    assert len(watched) == len(estimate.record) == 1
    np.testing.assert_allclose(estimate.cube, as_cube(cubes()[0]), rtol=0, atol=1e-6)

