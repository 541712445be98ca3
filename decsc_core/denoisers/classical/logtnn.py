"""Low fibered rank by a log-based tensor nuclear norm (3DlogTNN).

Y.-B. Zheng, T.-Z. Huang, X.-L. Zhao, T.-X. Jiang, T.-H. Ma, T.-Y. Ji, "Mixed Noise Removal in Hyperspectral Image via
Low-Fibered-Rank Regularization", IEEE Transactions on Geoscience and Remote Sensing 58(1), 2020.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from decsc_core.denoisers.base import Record
from decsc_core.denoisers.classical.base import NoiseAware, check_counts, check_least, check_positive, relative_change
from decsc_core.denoisers.classical.shrinkage import reweighted_threshold, shrink_singular_values

MOST_PENALTY = 1e10


class LogTNN(NoiseAware):
    r"""Low rank of all Fourier slices along each of the three axes, beside Gaussian and sparse noise.

    .. math::
        \min_{L, N, S} \sum_{k=1}^{3} \alpha_k \, \mathrm{LogTNN}_k(L) + \lambda_1 \|N\|_F^2 + \lambda_2 \|S\|_1
        \quad \text{subject to} \quad Y = L + N + S

    LogTNN_k sums :math:`\log(s + \varepsilon)` over the singular values s of the matrices that a Fourier transform of L
    along axis k (rows, columns, bands) leaves for each frequency: W x B, B x H and H x W. One iteration of the
    alternating direction method, in the order of the released code, from zero variables:

    1. for each k, :math:`Z_k` is :math:`L + M_k / \mu_k` with the singular values of its Fourier slices replaced by
       :math:`\tfrac12 (s - \varepsilon + \sqrt{(s + \varepsilon)^2 - 4 t})`, :math:`t = \alpha_k / \mu_k`, where the
       root is real, else by 0;
    2. L = (sum_k (mu_k Z_k - M_k) + beta (Y - N - S) + P) / (beta + sum_k mu_k);
    3. S = soft(Y - N - L + P / beta, lambda2 / beta);
    4. N = beta (Y - L - S + P / beta) / (2 lambda1 + beta);
    5. stop if L changed by less than `tolerance`, relative to its norm;
    6. P += beta (Y - L - S - N), M_k += mu_k (L - Z_k), and beta grows, with mu_k = alpha_k beta.

    As in the release, a singular value s < t / eps that is kept becomes slightly negative. Not reproduced is that the
    release loses one Fourier slice of an odd number of bands: with the weight that axis has, that is worth less than
    0.01 dB. Slices of H x W are shrunk in single precision for the same reason.

    The defaults are the release's, tuned for cubes in [0, 1] with a sigma of 0.1 and a fifth of impulses. They are not
    free of scale: `offset` and `omega` are compared with Fourier coefficients, which grow with the cube, so the quality
    depends on its size. A smaller `sigma` than the true one can help: half of it gains 1.1 dB on Gaussian noise,
    0.1 dB on mixed noise.

    Parameters
    ----------
    sigma : float, optional
        Standard deviation of the noise on the 0-255 scale; default: estimated from the cube. It sets
        lambda1 = `phi` / sigma, with sigma on the scale of the cube.
    theta : float
        Weight of the bands' axis beside 1 for rows and columns: alpha = (1, 1, theta) / (2 + theta). With 0 that axis,
        which takes most of the time on large images, is left out.
    phi : float
        See `sigma`.
    varpi : float
        lambda2 = varpi * (alpha_1 / sqrt(max(B, W) H) + alpha_2 / sqrt(max(H, B) W) + alpha_3 / sqrt(max(H, W) B)).
    omega : float
        beta starts as 1 / omega.
    offset : float
        eps, in the unit of the Fourier coefficients.
    growth : float
        Factor of beta at each iteration, up to 1e10.
    iterations : int
        At most so many; 45 to 50 are taken.
    tolerance : float
        See step 5.
    device : str
        See `ModelDriven`.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the device cannot be used.

    Notes
    -----
    An iteration costs O(H W B (B + log(HWB))) operations for the axes of rows and columns and O(H W B min(H, W)) for
    the bands'; memory is about 15 cubes in double precision (1 GB for 512 x 512 x 31).
    """

    name = "logtnn"

    def __init__(
        self, *, sigma: float | None = None, theta: float = 1e-3, phi: float = 5e-5, varpi: float = 0.011,
        omega: float = 1e4, offset: float = 80.0, growth: float = 1.2, iterations: int = 80, tolerance: float = 1e-4,
        device: str = "auto",
    ) -> None:
        super().__init__(sigma=sigma, device=device)
        check_positive(phi=phi, varpi=varpi, omega=omega, offset=offset)
        check_counts(iterations=iterations)
        check_least(0, theta=theta, tolerance=tolerance)
        check_least(1, growth=growth)
        self.theta, self.phi, self.varpi, self.omega, self.offset = theta, phi, varpi, omega, offset
        self.growth, self.iterations, self.tolerance = growth, iterations, tolerance

    def _restore_at(self, noisy: Tensor, sigma: float, bar: tqdm) -> tuple[Tensor, list[Record]]:
        height, width, bands = noisy.shape
        weights = [weight / (2 + self.theta) for weight in (1, 1, self.theta)]
        sizes = (max(bands, width) * height, max(height, bands) * width, max(height, width) * bands)
        gaussian = self.phi / sigma
        sparse = self.varpi * sum(weight / size**0.5 for weight, size in zip(weights, sizes))
        axes = [axis for axis in range(3) if weights[axis] > 0]
        beta = 1 / self.omega
        low_rank, noise, spikes, multiplier = (torch.zeros_like(noisy) for _ in range(4))
        multipliers = [torch.zeros_like(noisy) for _ in axes]

        bar.total, residuals = self.iterations, []
        for _ in range(self.iterations):
            total = noisy - noise - spikes + multiplier
            for axis in axes:
                multipliers[axis] -= self._shrink(low_rank + multipliers[axis], axis, 1 / beta)
                total.sub_(multipliers[axis], alpha=weights[axis])
            before, low_rank = low_rank, total.div_(1 + sum(weights))
            gap = noisy - low_rank + multiplier
            spikes = F.softshrink(gap - noise, sparse / beta)
            gap -= spikes
            noise = gap * (beta / (2 * gaussian + beta))
            residuals.append(relative_change([low_rank], [before]))
            bar.update()
            if residuals[-1] < self.tolerance:
                break
            growth = max(min(self.growth, MOST_PENALTY / beta), 1.0)
            multiplier = (gap - noise).div_(growth)
            for axis in axes:
                multipliers[axis].add_(low_rank).div_(growth)
            beta *= growth
        return low_rank, [Record(residuals, len(residuals), residuals[-1] < self.tolerance)]

    def _shrink(self, cube: Tensor, axis: int, threshold: float) -> Tensor:
        """Step 1: shrink the singular values of all Fourier slices of (H, W, B) along `axis`, with t = `threshold`."""
        slices = torch.fft.rfft(cube, dim=axis).movedim(axis, 0)
        shrunk = shrink_singular_values(
            slices.to(torch.complex64) if axis == 2 else slices, lambda values: reweighted_threshold(values, threshold, self.offset)
        )
        return torch.fft.irfft(shrunk.to(slices.dtype).movedim(0, axis), n=cube.shape[axis], dim=axis)
