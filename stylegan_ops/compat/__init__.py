"""The ops under other code bases' names: `nvlabs`, `rosinality`, `mmcv` and `basicsr`, each with `install()` and `uninstall()`.

Interfaces and numbers are theirs, the code is written here. What differs on purpose stands in the docstrings and in docs/compat.md.
"""
