"""`stylegan-ops doctor`: what this installation can do, and for every "no" the reason and the mending command."""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from typing import Any

import click
import numpy
import torch

import stylegan_ops
from stylegan_ops import _architectures, ops
from stylegan_ops._library import LIBRARIES

# How a GPU runs the CUDA library, by the kind of its code.
CODE = {
    "sm": "runs the code for {}",
    "compute": "runs PTX for {}, which the driver translates at first use",
    "unknown": "the build did not tell what it is for",
}
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TORCH_WITH_CUDA = "install a torch with CUDA (https://pytorch.org/get-started/locally), then install stylegan_ops anew"


def answer(*command: str) -> list[str]:
    """The lines that a program prints; none where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return []
    done = subprocess.run(command, capture_output=True, text=True)
    return [] if done.returncode else done.stdout.strip().splitlines()


def versions() -> dict[str, str | None]:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), "c++")
    return {
        "stylegan_ops": stylegan_ops.__version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "CUDA of torch": torch.version.cuda,
        "numpy": numpy.__version__,
        "C++ compiler": next(iter(answer(*compiler.split(), "--version")), None),
        "nvcc": next((line for line in answer("nvcc", "--version") if "release" in line), None),
        "NVIDIA driver": next(iter(answer("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")), None),
    }


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        name = ""
    return f"{name or platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def gpu_facts(gpu: Any) -> dict[str, str | None]:
    """A GPU and the code of the CUDA library that it runs; where there is none, the reason and what mends it."""
    facts = {"name": gpu.name, "architecture": f"{gpu.major}.{gpu.minor}", "code": None}
    library = LIBRARIES["cuda"]
    if not library.loaded:
        return {**facts, "reason": f"the CUDA library is not loaded: {library.reason}", "remedy": library.remedy}
    fit = _architectures.fit(gpu)
    if fit.reason is not None:
        return {**facts, "reason": fit.reason, "remedy": fit.remedy}
    return {**facts, "code": str(fit.code) if fit.code else "unknown", "reason": None, "remedy": None}


def gpus(driver: str | None) -> dict[str, Any]:
    """The GPUs that torch can use; where there are none, the reason and what mends it."""
    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return {"present": [gpu_facts(gpu) for gpu in found], "reason": None, "remedy": None}
    if driver is None:
        return {"present": [], "reason": "no NVIDIA driver answers (nvidia-smi)", "remedy": "with an NVIDIA GPU: install its driver"}
    if torch.version.cuda is None:
        return {"present": [], "reason": f"torch {torch.__version__} is built without CUDA", "remedy": TORCH_WITH_CUDA}
    remedy = "make a GPU visible (CUDA_VISIBLE_DEVICES), or update the driver"
    return {"present": [], "reason": f"torch finds no GPU that it can use with driver {driver}", "remedy": remedy}


def implementations() -> dict[str, dict[str, dict[str, str]]]:
    """Op -> device -> dtype -> which implementation will run, and why."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return {
        op: {
            device: {
                str(t).removeprefix("torch."): stylegan_ops.explain(op, torch.empty(1, 1, 1, 1, dtype=t, device=device)) for t in DTYPES
            }
            for device in devices
        }
        for op in ops.NAMES
    }


def extras() -> dict[str, dict[str, Any]]:
    """Extra -> what of it is missing, as the installed package's metadata lists it."""
    try:
        requirements = importlib.metadata.requires("stylegan_ops") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for requirement in requirements:
        match = re.match(r"([\w.-]+).*extra == [\"'](\w+)[\"']", requirement)
        if match is None:
            continue
        name, extra = match.groups()
        entry = found.setdefault(extra, {"missing": [], "remedy": f'pip install "stylegan_ops[{extra}]"'})
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            entry["missing"].append(name)
    return found


def examine() -> dict[str, Any]:
    """Everything that the doctor knows, in plain JSON values."""
    seen = versions()
    return {
        "versions": seen,
        "processor": processor(),
        **{
            key: value
            for key, value in stylegan_ops.build_info().items()
            if key in ("cpu_variant", "cpu_variants_built", "libraries", "build")
        },
        "gpus": gpus(seen["NVIDIA driver"]),
        "implementations": implementations(),
        "extras": extras(),
    }


def verdict(good: bool, words: str) -> str:
    return click.style(words, fg="green" if good else "yellow")


def show_row(name: str, text: str, remedy: str | None = None) -> None:
    click.echo(f"  {name:<18}{text}")
    if remedy:
        click.echo(f"  {'':<18}{click.style('to mend it:', fg='cyan')} {remedy}")


def show(report: dict[str, Any]) -> None:
    def title(words: str) -> None:
        click.secho(f"\n{words}", bold=True)

    title("Versions")
    for name, version in report["versions"].items():
        show_row(name, version or verdict(False, "none"))

    title("Machine")
    show_row("processor", report["processor"])
    built = ", ".join(report["cpu_variants_built"])
    show_row("SIMD in use", f"{verdict(True, report['cpu_variant'])} (built: {built})" if report["cpu_variant"] else verdict(False, "none"))
    for gpu in report["gpus"]["present"]:
        words = f"{verdict(gpu['code'] is not None, gpu['name'])}, compute capability {gpu['architecture']}: "
        show_row("GPU", words + (CODE[gpu["code"].split("_")[0]].format(gpu["code"]) if gpu["code"] else gpu["reason"]), gpu["remedy"])
    if not report["gpus"]["present"]:
        show_row("GPU", f"{verdict(False, 'none')}: {report['gpus']['reason']}", report["gpus"]["remedy"])
    architectures = report["build"].get("cuda_architectures")
    show_row("GPUs built for", ", ".join(architectures) if architectures else verdict(False, "none"))

    title("Libraries")
    for name, library in report["libraries"].items():
        if library["loaded"]:
            how = report["build"].get("libraries", {}).get(name, {}).get("reason", "")
            show_row(name, f"{verdict(True, 'loaded')}: {how}")
            show_row("", library["path"])
        else:
            show_row(name, f"{verdict(False, 'not loaded')}: {library['reason']}", library["remedy"])

    title("What runs")
    notes: dict[str, None] = {}
    for op, devices in report["implementations"].items():
        for device, sentences in devices.items():
            words = [f"{dtype} {verdict(text.startswith('native'), text.partition(':')[0])}" for dtype, text in sentences.items()]
            show_row(op, f"{device:<5} {', '.join(words)}")
            # The kind of tensor at the end of the sentence stands in the row already.
            notes |= dict.fromkeys(re.sub(r" \([^()]*\)$", "", text) for text in sentences.values() if not text.startswith("native"))
    for note in notes:
        show_row("", note)

    title("Extras")
    for extra, entry in report["extras"].items():
        if entry["missing"]:
            show_row(extra, f"{verdict(False, 'missing')}: {', '.join(entry['missing'])}", entry["remedy"])
        else:
            show_row(extra, verdict(True, "installed"))
    if not report["extras"]:
        show_row("", "unknown: the package is used from a folder, not installed", stylegan_ops._library.install_command())


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
def command(as_json: bool) -> None:
    """Say what this installation can do, and how to mend what it cannot.

    Versions, the GPUs present and built for, the compiled libraries that were loaded, the implementation that will run for each op,
    device and dtype, and the installed extras. Every "no" comes with its reason and the command that mends it.
    """
    report = examine()
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show(report)
