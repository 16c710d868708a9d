"""Writes the tables of docs/cuda.md anew: what the CUDA kernels do as counted in an emulator, what ptxas makes of them, and the model.

    PTXEMU=/path/to/ptxemu PYTHONPATH=build/ptx-80 .venv-cuda/bin/python benchmarks/cuda_report.py

Needs nvcc, the CUDA library as .ci/test-cuda builds it, and PTXEMU, the folder of the emulator; no GPU. Takes about ten minutes on
two cores. A table stands between <!-- name --> and <!-- /name -->; the text around is written by hand. The file is replaced at the end,
or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import cuda_convolution
import cuda_layers
import cuda_model
import cuda_resources
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
RESOLUTIONS = [256, 1024]
BATCH = 4


def with_section(text: str, name: str, content: str) -> str:
    """The text with what stands between the section's two marks replaced."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
        raise ValueError(f"{first} and {last} must each stand once in the text, in this order")
    before, rest = text.split(first)
    return f"{before}{first}\n\n{content.strip()}\n\n{last}{rest.split(last)[1]}"


def write_whole(path: Path, text: str) -> None:
    """Replaces the file at once."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def printed(function: Callable[..., None], *args) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        function(*args)
    return text.getvalue()


def markdown(head: list[str], body: list[list[str]]) -> str:
    return printed(cuda_model.print_table, head, body, True)


def traffic() -> str:
    command = [sys.executable, Path(__file__).with_name("cuda_traffic.py"), "--markdown"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def counts(path: Path | None) -> list[dict]:
    """The layers' counts, from the file or, where there is none yet, anew and into it."""
    if path is not None and path.exists():
        return json.loads(path.read_text())
    total = len(list(cuda_layers.cases(RESOLUTIONS, BATCH)))  # layers in their ways
    with tqdm(total=total, unit="layer", desc="layers") as progress:
        rows = cuda_layers.count(RESOLUTIONS, BATCH, progress.update)
    if path is not None:
        write_whole(path, json.dumps(rows))
    return rows


def sections(options: argparse.Namespace, nvcc: str) -> Iterator[tuple[str, str]]:
    """Names of the sections, and what belongs into them."""
    rows = counts(options.counts)
    convolution = markdown(cuda_convolution.HEAD, cuda_convolution.table(rows, max(RESOLUTIONS), BATCH))
    yield "convolution", convolution + "\n" + "\n".join(cuda_convolution.summary(rows, RESOLUTIONS, BATCH))
    steps = [f"{r} px:\n\n" + markdown(cuda_model.STEP_HEAD, cuda_model.step_table(rows, r, BATCH)) for r in RESOLUTIONS]
    yield "steps", "\n".join(steps)
    yield "layers", markdown(["layer", "auto", *cuda_model.CARDS], cuda_model.speedups(rows, max(RESOLUTIONS), BATCH))
    yield "small layers", markdown(cuda_model.SMALL_HEAD, cuda_model.small_layers(rows, [1, BATCH]))
    cuda_model.plot(rows, max(RESOLUTIONS), BATCH, options.document.with_name("cuda-model.png"))
    tqdm.write("comparing samples with the whole", file=sys.stderr)
    yield "sample", markdown(cuda_layers.DEVIATION_HEAD, cuda_layers.deviations())
    tqdm.write("counting the other ops", file=sys.stderr)
    yield "traffic", traffic()
    tqdm.write("compiling for " + ", ".join(f"sm_{a}" for a in options.architectures), file=sys.stderr)
    kernels = cuda_resources.collect(options.architectures, "", 2, nvcc)
    yield "resources", markdown(cuda_resources.FAMILY_HEAD, cuda_resources.families(kernels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "cuda.md", help="the file whose tables are replaced")
    parser.add_argument("--counts", type=Path, help="JSON file of the layers' counts: taken if it is there, else written")
    parser.add_argument(
        "--architectures",
        type=lambda text: text.split(","),
        default=["80"],
        help="compute capabilities to compile for, some minutes each (default: 80)",
    )
    options = parser.parse_args()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        parser.error("nvcc must be on PATH")
    if "PTXEMU" not in os.environ:
        parser.error("PTXEMU must name the folder of the emulator")
    package = find_spec("stylegan_ops")
    if package is None or not list(Path(package.origin).parent.glob("_C_cuda*.so")):
        parser.error("stylegan_ops on PYTHONPATH must hold the CUDA library: build it as .ci/test-cuda does")
    text = options.document.read_text()
    for name, content in sections(options, nvcc):
        text = with_section(text, name, content)
    write_whole(options.document, text)


if __name__ == "__main__":
    main()
