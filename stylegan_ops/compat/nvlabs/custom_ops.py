"""`torch_utils.custom_ops`: builds other code's own extensions. The ops here are compiled already and never come this way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import ModuleType

from torch.utils import cpp_extension

verbosity = "brief"  # none, brief (a line for each extension) or full (the compiler's output)
_plugins: dict[str, ModuleType] = {}


def get_plugin(
    module_name: str, sources: Sequence[str], headers: Sequence[str] | None = None, source_dir: str | None = None, **build_kwargs
) -> ModuleType:
    """Compiles a C++ or CUDA extension with torch's own builder, once for each process, and returns its module.

    Serves the signatures of both generations; ADA's has neither headers nor source_dir.

    Args:
        module_name: the extension's name.
        sources: files, below source_dir if that is given. headers: as sources; the build finds by itself when they change.
        build_kwargs: as in `torch.utils.cpp_extension.load`.

    Raises:
        RuntimeError: with the compiler's output where the build fails.
        ValueError: verbosity is none of its three words.
    """
    if verbosity not in ("none", "brief", "full"):
        raise ValueError(f"get_plugin: verbosity must be none, brief or full (got {verbosity!r})")
    if module_name in _plugins:
        return _plugins[module_name]
    if verbosity != "none":
        print(f"Building the extension {module_name} ...", end="\n" if verbosity == "full" else " ", flush=True)
    files = [os.path.join(source_dir, source) for source in sources] if source_dir is not None else list(sources)
    done = "failed."
    try:
        plugin = _plugins[module_name] = cpp_extension.load(module_name, files, verbose=verbosity == "full", **build_kwargs)
        done = "done."
    finally:
        if verbosity != "none":
            print(done, flush=True)
    return plugin
