"""Data: prepare a set of images once, then stream it to the training loop in a reproducible order."""

from stylegan_ops.data.dataset import ImageDataset
from stylegan_ops.data.loader import training_loader
from stylegan_ops.data.prepare import Report, prepare

__all__ = ["ImageDataset", "Report", "prepare", "training_loader"]
