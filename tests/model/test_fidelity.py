from __future__ import annotations

import torch
import torch.nn.functional as F

from decsc_core.model import DECSC, preset
from decsc_core.model.decsc import Layer
from decsc_core.model.noise_levels import MEAN_WEIGHT, NOISE_FLOOR, band_weights


def test_weights_are_the_ratio_of_noise_levels() -> None:
    generator = torch.Generator().manual_seed(0)
    sigmas = torch.tensor([0.0, 0.1, 0.3])
    smooth = torch.linspace(0, 1, 96)[:, None] * torch.linspace(0, 1, 96)
    noisy = smooth + sigmas[:, None, None] * torch.randn(1, 3, 96, 96, generator=generator)
    expected = NOISE_FLOOR / (sigmas**2 + NOISE_FLOOR**2).sqrt()
    weights = band_weights(noisy)[0, :, 0, 0]
    torch.testing.assert_close(weights / weights[0], expected, rtol=0.03, atol=0)
    torch.testing.assert_close(weights.mean(), torch.tensor(MEAN_WEIGHT))


def test_the_cleanest_of_many_noisy_bands_weighs_one() -> None:
    noisy = torch.cat([torch.zeros(1, 1, 40, 40), torch.randn(1, 9, 40, 40, generator=torch.Generator().manual_seed(2))], dim=1)
    weights = band_weights(noisy)[0, :, 0, 0]
    assert weights[0] == 1 and weights[1:].max() < 0.1


def test_weights_of_an_image_do_not_depend_on_its_batch_mates() -> None:
    batch = torch.rand(3, 5, 20, 21, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(band_weights(batch)[1:2], band_weights(batch[1:2]))


def test_a_single_pixel_has_equal_weights() -> None:
    torch.testing.assert_close(band_weights(torch.rand(1, 4, 1, 1)).flatten(), torch.full((4,), MEAN_WEIGHT))


def test_a_noisy_band_of_a_single_row_weighs_less() -> None:
    sigmas = torch.tensor([0.0, 0.4, 0.4])[:, None, None]
    row = sigmas * torch.randn(1, 3, 1, 200, generator=torch.Generator().manual_seed(0))
    for noisy in (row, row.mT):
        weights = band_weights(noisy)[0, :, 0, 0]
        assert weights[0] == 1 and weights[1:].max() < 0.2


def test_layer_steps_along_the_weighted_data_term() -> None:
    """With priors and shrinkage switched off, one step is S + K^T W (Y - D H - K S), H likewise."""
    model = DECSC(preset("tiny", bands=5, depth=0, tie="paper", ridge=0.0, thresholds="free")).double()
    with torch.no_grad():
        model.shared_threshold.zero_()
        model.unshared_threshold.zero_()
    model.prior_unshared.forward = lambda codes, fused: codes
    noisy = torch.rand(1, 5, 17, 17, dtype=torch.float64) * torch.tensor([0.1, 1, 0.3, 1, 0.2])[:, None, None]
    layer = Layer(model, noisy)
    z = torch.randn(layer.initial().shape, dtype=torch.float64)
    S, H = layer.unpack(z)
    K, D = model.shared.kernel("synthesis"), model.unshared.kernel("synthesis")[:, None]
    weights, stride = band_weights(noisy), (1, 3, 3)
    unshared = F.conv_transpose3d(H, D, stride=stride)[:, 0]
    S = S + F.conv2d(weights * (noisy - unshared - F.conv_transpose2d(S, K, stride=3)), K, stride=3)
    rest = noisy - F.conv_transpose2d(S, K, stride=3) - unshared
    H = H + F.conv3d((weights * rest)[:, None], D, stride=stride)
    torch.testing.assert_close(layer(z), layer.pack(S, H))
    assert weights.min() < 0.9
