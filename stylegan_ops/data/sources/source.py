"""What every source of images offers."""

from abc import ABC, abstractmethod
from zipfile import ZipFile

from PIL import Image


class Source(ABC):
    """Images by index, with names and perhaps labels; a context manager that lets go of its files.

    Attributes:
        name: what the data set will say of its origin.
        names: of the images, for messages.
        labels: class of each image, or None.
        label_names: name of each class, or None.
        channels: 1 or 3 if all images are known to have as many, else None.
        ignored: number of files that are no images.
    """

    name: str
    names: list[str]
    labels: list[int] | None = None
    label_names: list[str] | None = None
    channels: int | None = None
    ignored: int = 0
    _open_files: tuple[ZipFile, ...] = ()

    @abstractmethod
    def open(self, index: int) -> Image.Image:
        """The image, decoded or with its header read only; safe to call from several threads. Raises anything for a damaged one."""

    def close(self) -> None:
        for file in self._open_files:
            file.close()

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
