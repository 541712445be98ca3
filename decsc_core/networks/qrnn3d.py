"""QRNN3D (Wei, Fu and Huang, TNNLS 2020): 3-D encoder and decoder with a recurrence along the bands in every layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from decsc_core.checks import check_numbers
from decsc_core.networks.gated import GatedLayer
from decsc_core.networks.initialise import check_init, default_generator, reset_as_identity, reset_qrnn3d_family
from decsc_core.networks.names import renamed
from decsc_core.networks.padding import crop_to, pad_to_multiple, require_bands
from decsc_core.networks.volumes import run_u_shape, u_shape


@dataclass(frozen=True)
class QRNN3DConfig:
    """Size of a QRNN3D.

    Parameters
    ----------
    width : int
        Features after the head; every halving of the sides doubles them.
    depth : int
        Layers of the encoder, and of the decoder. Every other one changes the size.
    init : {"released", "identity"}
        See `initialise.INITS`; the release's start is far from the identity, which costs the first thousands of steps.
    """

    width: int = 16
    depth: int = 5
    init: str = "released"

    def __post_init__(self) -> None:
        check_numbers(self, width=1, depth=1)
        check_init(self.init)


PRESETS = {"paper": {}, "small": {"width": 8, "init": "identity"}, "tiny": {"width": 4, "depth": 3, "init": "identity"}}


class QRNN3D(nn.Module):
    """(N, B, H, W) -> (N, B, H, W) for any number of bands B. `generator` draws the initial weights.

    Layers of the default size, all with 3x3x3 convolutions; additive skips join layers of one size, and the input is
    added at the end. Sides are extended to a multiple of 4 and cropped back.

    ======== ================================================================================= ==========
    part     layers                                                                            parameters
    ======== ================================================================================= ==========
    head     1 -> 16, recurrence in both directions                                                 1,298
    encoder  16 -> 16, 16 -> 32 (half the side), 32 -> 32, 32 -> 64 (half), 64 -> 64               428,864
    decoder  64 -> 64, 64 -> 32 (twice the side), 32 -> 32, 32 -> 16 (twice), 16 -> 16             428,960
    tail     16 -> 1, recurrence in both directions, with bias                                       1,331
    ======== ================================================================================= ==========

    The direction of the recurrence alternates from layer to layer, without a break between encoder and decoder.
    """

    bands: int | None = None

    def __init__(self, config: QRNN3DConfig = QRNN3DConfig(), generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.multiple = 2 ** (config.depth // 2)
        self.head = GatedLayer(1, config.width, both=True)
        self.encoder, self.decoder = gated_u_shape(config.width, config.depth)
        self.tail = GatedLayer(config.width, 1, both=True, transposed=True, bias=True)
        generator = generator or default_generator()
        reset_qrnn3d_family(self, generator)
        if config.init == "identity":
            reset_as_identity(self, generator, self.tail.conv)

    def forward(self, noisy: Tensor) -> Tensor:
        require_bands(noisy, self.bands)
        padded = pad_to_multiple(noisy, self.multiple)
        volume = run_u_shape(self.head(padded[:, None]), self.encoder, self.decoder)
        return crop_to(padded + self.tail(volume)[:, 0], noisy)


def gated_u_shape(width: int, depth: int) -> tuple[nn.ModuleList, nn.ModuleList]:
    """The encoder and the decoder. The decoder's layers that keep the size have transposed convolutions."""
    encoder, decoder = u_shape(width, depth)
    return (
        nn.ModuleList(GatedLayer(*step, reverse=number % 2 == 1) for number, step in enumerate(encoder)),
        nn.ModuleList(
            GatedLayer(*step, reverse=number % 2 == 1, transposed=not step.sampling)
            for number, step in enumerate(decoder, start=depth)
        ),
    )


_RENAMED = [
    (r"^feature_extractor\.conv\.", "head."),
    (r"^reconstructor\.conv\.", "tail."),
    (r"^(encoder|decoder)\.layers\.(\d+)\.conv\.", r"\1.\2."),
    (r"\.(?:deconv|upsample_conv\.conv3d)\.", ".conv."),
]


def own_key(official: str) -> str | None:
    """Our name of an official parameter, None for the counters of batches."""
    if official.endswith("num_batches_tracked"):
        return None
    return renamed(official, _RENAMED)


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an official state dict under our names."""
    return {name: tensor for key, tensor in state.items() if (name := own_key(key))}


def config_of(state: dict[str, Tensor]) -> QRNN3DConfig:
    """The size of the network of an official state dict."""
    layers = {key.split(".")[2] for key in state if key.startswith("encoder.layers.")}
    return QRNN3DConfig(width=state["encoder.layers.0.conv.bn.weight"].shape[0], depth=len(layers))
