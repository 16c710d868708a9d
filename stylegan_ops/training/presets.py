"""Named sets of training settings."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Small pictures of aligned faces on two CPU cores in about ten minutes.
    "demo": {
        "channel_base": 2048,
        "channel_max": 128,
        "mapping_layers": 4,
        "batch_size": 16,
        "g_lr": 0.0025,
        "d_lr": 0.0025,
        "r1_gamma": 0.1,
        "ema_kimg": 1.0,
        "minutes": 10.0,
        "snapshot_minutes": 2.0,
    },
}
