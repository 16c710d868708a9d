"""What a process spawned by a script under `python -m stylegan_ops.compat.nvlabs` imports as its main module: the script, on these ops."""

import os
import runpy

from stylegan_ops.compat import nvlabs

nvlabs.install()
_script = runpy.run_path(os.environ["STYLEGAN_OPS_SCRIPT"], run_name=__name__)
globals().update({name: value for name, value in _script.items() if name != "__spec__"})  # its own processes come here as well
