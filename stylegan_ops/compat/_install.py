"""Puts modules under other code's names, before or after that code was imported, and takes them out again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

MISSING = object()


class Installer:
    """Stands in for part of a package of other code.

    Args:
        package: the package's usual name; `install` and `uninstall` take another where the code has it elsewhere.
        modules: our module for each of theirs, named below the package: `{"ops.bias_act": module}`.
        attributes: what the package itself holds besides its modules.
    """

    def __init__(self, package: str, modules: dict[str, ModuleType], attributes: dict[str, object] | None = None) -> None:
        self.package = package
        self.modules = modules
        self.attributes = attributes or {}
        self.installed: dict[str, Installation] = {}

    def install(self, package: str | None = None) -> None:
        """Puts the modules in; a second time without effect. A package that fails is left as it was, with its error."""
        package = package or self.package
        if package in self.installed:
            return
        installation = self.installed[package] = Installation()
        try:
            installation.put_in(package, self.modules, self.attributes)
        except BaseException:
            self.uninstall(package)
            raise

    def uninstall(self, package: str | None = None) -> None:
        """Puts back what was there; without effect where nothing is installed."""
        installation = self.installed.pop(package or self.package, None)
        if installation is not None:
            installation.take_out()


class Installation:
    """One package's stand-ins, and what was in their places."""

    def __init__(self) -> None:
        self.changes: list[tuple[dict, str, object, object]] = []  # namespace, key, what was there, ours
        self.packages: list[str] = []  # those that were not loaded before

    def put_in(self, package: str, modules: dict[str, ModuleType], attributes: dict[str, object]) -> None:
        named = {f"{package}.{name}": module for name, module in modules.items()}
        theirs = {name: sys.modules[name] for name in named if name in sys.modules}
        for name, module in named.items():  # first, so that a package that imports its modules gets ours
            self.put(sys.modules, name, module)
        holders = {name.rpartition(".")[0] for name in named} | {package}
        for name in sorted({outer for holder in holders for outer in with_parents(holder)}, key=lambda name: name.count(".")):
            self.load_package(name, may_fail=name in holders)
        places = {name: (vars(sys.modules[name.rpartition(".")[0]]), name.rpartition(".")[2], module) for name, module in named.items()}
        places |= {f"{package}.{name}": (vars(sys.modules[package]), name, value) for name, value in attributes.items()}
        swaps = {}
        for name, (namespace, key, ours) in places.items():
            swaps |= swaps_of(namespace.get(key), ours, package) | swaps_of(theirs.get(name), named.get(name), package)
            self.put(namespace, key, ours)
        self.swap(swaps, [*theirs.values()])

    def put(self, namespace: dict, key: str, ours: object) -> None:
        self.changes.append((namespace, key, namespace.get(key, MISSING), ours))
        namespace[key] = ours

    def load_package(self, name: str, may_fail: bool) -> None:
        """Imports their package; where there is none, or what it holds besides ours cannot be loaded, makes one without content."""
        if name in sys.modules:
            return
        self.packages.append(name)
        try:
            import_module(name)
        except (ImportError, OSError) as error:  # OSError: an extension to be compiled at import, without a compiler
            is_absent = isinstance(error, ModuleNotFoundError) and error.name == name
            if not (is_absent or may_fail):
                raise
            sys.modules[name] = empty_package(name)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, sys.modules[name])

    def swap(self, swaps: dict[int, tuple[object, object]], theirs: list[ModuleType]) -> None:
        """Exchanges what was imported by name already: `from torch_utils.ops import bias_act` at the head of a loaded module."""
        if not swaps:
            return
        for module in [*sys.modules.values(), *theirs]:
            namespace = vars(module) if isinstance(module, ModuleType) else {}
            for key, value in list(namespace.items()):
                if id(value) in swaps:
                    self.put(namespace, key, swaps[id(value)][1])

    def take_out(self) -> None:
        for namespace, key, before, ours in reversed(self.changes):
            if namespace.get(key) is not ours:
                continue  # someone else's by now
            if before is MISSING:
                del namespace[key]
            else:
                namespace[key] = before
        for name in reversed(self.packages):  # a package stays where more of it was loaded meanwhile
            if name in sys.modules and not any(other.startswith(f"{name}.") for other in sys.modules):
                parent, _, child = name.rpartition(".")
                outer = vars(sys.modules[parent]) if parent in sys.modules else {}
                if outer.get(child) is sys.modules[name]:
                    del outer[child]
                del sys.modules[name]


def with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def swaps_of(theirs: object, ours: object, package: str) -> dict[int, tuple[object, object]]:
    """By identity: an object of theirs, with what takes its place; for a module also its functions and classes.

    Only what was defined inside their package counts: a name that they took over from torch is not to be exchanged everywhere.
    """
    if isinstance(theirs, ModuleType) and isinstance(ours, ModuleType):
        pairs = [(value, vars(ours).get(name)) for name, value in vars(theirs).items()]
        whole = [(theirs, ours)] if theirs is not ours else []
    else:
        pairs, whole = [(theirs, ours)], []
    inside = f"{package}."
    whole += [(t, o) for t, o in pairs if callable(t) and callable(o) and f"{getattr(t, '__module__', None)}.".startswith(inside)]
    return {id(t): (t, o) for t, o in whole}


def empty_package(name: str) -> ModuleType:
    package = ModuleType(name, "Made by stylegan_ops.compat, where there is no package of this name.")
    package.__spec__ = ModuleSpec(name, None, is_package=True)
    package.__path__ = package.__spec__.submodule_search_locations = Folders(name)
    return package


class Folders:
    """The folders of a package's name, wherever its parent lies now: other modules of theirs are found, also on a later `sys.path`."""

    def __init__(self, name: str) -> None:
        self.parent, _, self.child = name.rpartition(".")

    def __iter__(self) -> Iterator[str]:
        outer = getattr(sys.modules.get(self.parent), "__path__", ()) if self.parent else sys.path
        folders = (os.path.join(folder, self.child) for folder in outer if isinstance(folder, str))
        return (folder for folder in folders if os.path.isdir(folder))
