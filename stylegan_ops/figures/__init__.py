"""Figures of the StyleGAN papers, drawn from trained generators: functions that give arrays or a matplotlib figure."""

from .contributions import contribution_images, contribution_stds, contributions, contributions_of_run, contributions_plot
from .droplets import droplet_maps, droplets, droplets_plot
from .images import captioned, draw_images, seeded_latents, sheet
from .mix import RANGES, layer_range, mix
from .truncation import mean_w, truncation

__all__ = [
    "RANGES",
    "captioned",
    "contribution_images",
    "contribution_stds",
    "contributions",
    "contributions_of_run",
    "contributions_plot",
    "draw_images",
    "droplet_maps",
    "droplets",
    "droplets_plot",
    "layer_range",
    "mean_w",
    "mix",
    "seeded_latents",
    "sheet",
    "truncation",
]
