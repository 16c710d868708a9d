"""Fashion-MNIST from its Debian package, fetched and unpacked without root and without running anything of it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from stylegan_ops.data.sources.idx import FASHION_IMAGES_SHA256, IdxSource, find_idx_files, read_idx

_PACKAGE = "dataset-fashion-mnist"  # 31 MB
_FOLDER = "usr/share/datasets/fashion-mnist"
_OTHERWISE = "or give a folder with train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz as SOURCE"


class FashionMnistSource(IdxSource):
    """60,000 photos of clothes, 28x28 grey, 10 classes."""

    def __init__(self, resolution: int) -> None:
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise RuntimeError(f"fashion-mnist: needs {tool} of Debian or Ubuntu, which is not here; fetch it there, {_OTHERWISE}")
        with tempfile.TemporaryDirectory() as folder:
            _run(["apt-get", "download", _PACKAGE], folder)
            packages = list(Path(folder).glob(f"{_PACKAGE}_*.deb"))
            if len(packages) != 1:
                raise RuntimeError(f"fashion-mnist: apt-get downloaded no package; run `apt-get update` as root first, {_OTHERWISE}")
            _run(["dpkg-deb", "-x", str(packages[0]), "unpacked"], folder)
            data = Path(folder, "unpacked", _FOLDER)
            if find_idx_files(data) is None or read_idx(find_idx_files(data)[0], 3)[1] != FASHION_IMAGES_SHA256:
                raise RuntimeError(f"fashion-mnist: package {packages[0].name} does not hold the known images; {_OTHERWISE}")
            super().__init__(data, resolution)
        if self.label_names is None:
            raise RuntimeError(f"fashion-mnist: package {packages[0].name} does not hold the known labels; {_OTHERWISE}")


def _run(command: list[str], folder: str) -> None:
    result = subprocess.run(command, cwd=folder, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False)
    if result.returncode:
        errors = " ".join(line for line in result.stderr.splitlines() if line.startswith("E:")) or result.stderr.strip()
        if "Unable to locate package" in errors:
            errors += " (the package lists are absent or old: run `apt-get update` as root first)"
        raise RuntimeError(f"fashion-mnist: `{' '.join(command[:3])}` failed: {errors}; mend that, {_OTHERWISE}")
