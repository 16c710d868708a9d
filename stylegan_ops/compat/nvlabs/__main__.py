"""`python -m stylegan_ops.compat.nvlabs SCRIPT ARGUMENTS...` runs a script of other code, unchanged, on the ops of this package.

`sys.argv`, `sys.path[0]` and `__main__` are what `python SCRIPT ARGUMENTS...` makes them, but for `__main__.__spec__`: through it the
processes that the script spawns get these ops, too.
"""

import io
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from stylegan_ops.compat import nvlabs


def main() -> None:
    usage = "usage: python -m stylegan_ops.compat.nvlabs SCRIPT [ARGUMENTS...]"
    if len(sys.argv) < 2:
        raise SystemExit(usage)
    if sys.argv[1] in ("-h", "--help"):
        print(f"{usage}\n\nRuns a script of other code, unchanged, on the ops of this package.")
        return
    sys.argv[:] = sys.argv[1:]
    script = os.path.abspath(sys.argv[0])
    try:
        with io.open_code(script) as file:
            code = compile(file.read(), script, "exec")
    except OSError as error:
        raise SystemExit(f"python -m stylegan_ops.compat.nvlabs: cannot read the script {sys.argv[0]}: {error.strerror}") from error
    if not getattr(sys.flags, "safe_path", False):  # python -P has no such entry
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    nvlabs.install()
    os.environ["STYLEGAN_OPS_SCRIPT"] = script
    module = ModuleType("__main__")
    module.__file__ = script
    module.__spec__ = ModuleSpec("stylegan_ops.compat.nvlabs._spawned", None)
    sys.modules["__main__"] = module
    exec(code, vars(module))


main()
