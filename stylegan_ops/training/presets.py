"""Named sets of training settings."""

from __future__ import annotations

from typing import Any

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
        "minutes": 10.0,
        "snapshot_minutes": 2.0,
    },
}
