"""Named sets of training settings."""

from __future__ import annotations

from typing import Any

# What a model's paper prescribes beside its networks: the loss, the penalties and what goes with them.
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    # Karras et al. 2018 (arXiv:1710.10196), appendix A: Adam (0, 0.99) at 0.001, and `WGAN_GP`, unless another loss is given.
    "progan": {"g_lr": 0.001, "d_lr": 0.001, "path_weight": 0.0, "style_mixing": 0.0},
    # Karras et al. 2019 (arXiv:1812.04948), appendix C: non-saturating logistic loss with R1; no path length.
    "stylegan": {"path_weight": 0.0},
}

# The Wasserstein loss with the gradient penalty in every step, and ProGAN's drift term.
WGAN_GP: dict[str, Any] = {"loss": "wasserstein", "gp_weight": 10.0, "drift": 0.001, "r1_gamma": 0.0, "r1_interval": 1}

PRESETS: dict[str, dict[str, Any]] = {
    # Small pictures of aligned faces on two CPU cores in about ten minutes. Few channels and small batches, since at that length the number
    # of steps decides; no style mixing, path length and noise, which pay off in longer runs and on photos.
    "demo": {
        "z_dim": 128,
        "w_dim": 128,
        "channel_base": 1024,
        "channel_max": 128,
        "mapping_layers": 4,
        "batch_size": 16,
        "g_lr": 0.0025,
        "d_lr": 0.0025,
        "r1_gamma": 0.3,
        "path_weight": 0.0,
        "style_mixing": 0.0,
        "noise_mode": "none",
        "ema_kimg": 2.0,
        "stabilize_kimg": 4.0,
        "fade_kimg": 4.0,
        "minutes": 10.0,
        "snapshot_minutes": 2.0,
    },
}
