"""From the bytes of any image file to a square of 8-bit grey or RGB."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 2**26  # of one source image, 8192 x 8192: more is taken for a decompression bomb

# Pillow hands EPS to Ghostscript, which runs it as a program.
_FORBIDDEN_FORMATS = {"EPS"}

_GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"}


def readable_formats() -> tuple[list[str], set[str]]:
    """The names of the formats that are read, and their file extensions (lower case, with the dot)."""
    extensions = Image.registered_extensions()  # loads all of Pillow's plugins
    formats = sorted(set(Image.OPEN) - _FORBIDDEN_FORMATS)
    return formats, {extension for extension, name in extensions.items() if name in formats}


def open_image(data: bytes, formats: list[str]) -> Image.Image:
    """Read the header only; the size is checked before anything is unpacked."""
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        raise ValueError("no image of a known format") from None  # Pillow's own message names an address in memory
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} is over the limit of {MAX_PIXELS} pixels")
    return image


def is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY_MODES


def to_square(image: Image.Image, resolution: int, channels: int) -> Image.Image:
    """Upright, cropped to the square at the centre, over white where transparent, resized; mode "L" (channels 1) or "RGB" (3).

    Resizing averages blocks of pixels down to no less than 3 times the target, then applies a Lanczos filter.
    """
    image.draft(None, (3 * resolution, 3 * resolution))  # lets a JPEG be decoded at 1/2, 1/4 or 1/8, if that leaves this much
    image = ImageOps.exif_transpose(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = _flatten(image.crop((left, top, left + side, top + side))).convert("L" if channels == 1 else "RGB")
    if side != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def _flatten(image: Image.Image) -> Image.Image:
    """An image without transparency whose samples have 8 bits."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):
        samples = np.asarray(image)
        if samples.min() < 0 or samples.max() > 65535:
            raise ValueError(f"integer pixels must have 16 bits ({samples.min()} to {samples.max()})")
        return Image.fromarray((samples.astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def to_png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=6)
    return data.getvalue()
