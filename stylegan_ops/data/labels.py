"""The labels of `dataset.json`: `{"labels": [[path, class], ...] or null, "label_names": [...] or null, ...}`."""

import json
from typing import Any

MAX_CLASSES = 2**16  # a label is trained on as a one-hot vector of this length at most


def read_metadata(text: bytes, where: str) -> dict[str, Any]:
    """Parse `dataset.json`; `where` names it in errors."""
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: must be JSON in UTF-8 ({error})") from None
    if not isinstance(metadata, dict):
        raise ValueError(f"{where}: must be a JSON object ({type(metadata).__name__})")
    return metadata


def read_labels(metadata: dict[str, Any], names: list[str], where: str) -> tuple[list[int] | None, list[str] | None]:
    """The class of every image in `names`, in their order, and the names of the classes.

    Args:
        metadata: parsed `dataset.json`.
        names: paths of the images, relative to `dataset.json`.
        where: names the file in errors.

    Returns:
        (labels, label_names): each None where the metadata has none.

    Raises:
        ValueError: an entry is malformed, doubled, missing, of a file that is not there, or outside `label_names`.
    """
    entries, label_names = metadata.get("labels"), metadata.get("label_names")
    if entries is None:
        return None, None
    if label_names is not None and not (isinstance(label_names, list) and label_names and all(isinstance(n, str) for n in label_names)):
        raise ValueError(f"{where}: label_names must be a list of strings or null")
    if not isinstance(entries, list):
        raise ValueError(f"{where}: labels must be a list of [path, class] or null ({type(entries).__name__})")
    classes = MAX_CLASSES if label_names is None else min(len(label_names), MAX_CLASSES)
    of_name: dict[str, int] = {}
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and type(entry[1]) is int):
            raise ValueError(f"{where}: each label must be [path, class] with an integer class ({str(entry)[:100]})")
        name, label = entry
        if not 0 <= label < classes:
            raise ValueError(f"{where}: class of {name!r} must be in 0 to {classes - 1} ({label})")
        if name in of_name:
            raise ValueError(f"{where}: {name!r} has two labels")
        of_name[name] = label
    unlabelled = [name for name in names if name not in of_name]
    if unlabelled:
        raise ValueError(f"{where}: {len(unlabelled)} images have no label, the first is {unlabelled[0]!r}")
    absent = of_name.keys() - set(names)
    if absent:
        raise ValueError(f"{where}: {len(absent)} labels are of files that are not there, the first is {min(absent)!r}")
    return [of_name[name] for name in names], label_names
