"""Any image becomes an 8-bit square."""

import numpy as np
import pytest
from images import bomb, encoded, picture
from PIL import Image

from stylegan_ops.data import pixels
from stylegan_ops.data.pixels import open_image, readable_formats, to_square

FORMATS, EXTENSIONS = readable_formats()


def square(data: bytes, resolution: int = 16, channels: int = 3) -> np.ndarray:
    image = to_square(open_image(data, FORMATS), resolution, channels)
    assert image.mode == ("RGB" if channels == 3 else "L")
    assert image.size == (resolution, resolution)
    return np.asarray(image).astype(int)


def flat(mode: str, colour: object, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new(mode, size, colour)


@pytest.mark.parametrize(
    ("image", "kind", "colour"),
    [
        (flat("RGB", (10, 200, 30)), "PNG", (10, 200, 30)),
        (flat("L", 77), "PNG", (77, 77, 77)),
        (flat("1", 1), "PNG", (255, 255, 255)),
        (flat("P", 0).convert("P"), "GIF", None),
        (flat("I;16", 0x80FF), "PNG", (128, 128, 128)),
        (flat("I;16", 0x80FF), "TIFF", (128, 128, 128)),
        (flat("I", 0x80FF), "TIFF", (128, 128, 128)),
        (flat("CMYK", (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (flat("RGBA", (10, 20, 30, 0)), "PNG", (255, 255, 255)),
        (flat("RGBA", (0, 0, 0, 51)), "PNG", (204, 204, 204)),
        (flat("RGBA", (10, 20, 30, 255)), "WEBP", None),
        (flat("LA", (100, 0)), "PNG", (255, 255, 255)),
    ],
)
def test_modes(image: Image.Image, kind: str, colour: tuple[int, int, int] | None) -> None:
    result = square(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    expected = image.convert("RGB").getpixel((0, 0)) if colour is None else colour
    assert (result == np.array(expected)).all(), result[0, 0]


def test_palette_with_transparency() -> None:
    image = flat("P", 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert (square(encoded(image, "PNG")) == [255, 0, 0]).all()
    assert (square(encoded(image, "PNG", transparency=1)) == 255).all()


def test_animation_gives_its_first_frame() -> None:
    frames = [flat("RGB", colour) for colour in ("red", "blue", "green")]
    assert (square(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == [255, 0, 0]).all()


def test_crops_the_centre() -> None:
    pixels_in = np.zeros((16, 48, 3), np.uint8)
    pixels_in[:, 16:32] = 200
    assert (square(encoded(Image.fromarray(pixels_in))) == 200).all()


def test_turns_upright() -> None:
    upright = picture(3, (16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    turned = encoded(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    np.testing.assert_array_equal(square(turned), np.asarray(upright))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_reduces_without_aliasing(kind: str) -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    assert abs(square(encoded(Image.fromarray(stripes), kind)) - 127.5).max() < 6


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (15, 15), (129, 7)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    square(encoded(flat("RGB", "red", size)))


def test_huge_header_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="9000x9000 is over the limit of 67108864 pixels"):
        open_image(bomb(9000), FORMATS)
    with pytest.raises(Image.DecompressionBombError):
        open_image(bomb(20000), FORMATS)
    monkeypatch.setattr(pixels, "MAX_PIXELS", 255)
    with pytest.raises(ValueError, match="16x16 is over the limit of 255 pixels"):
        open_image(encoded(flat("L", 0)), FORMATS)


@pytest.mark.parametrize("value", [-1, 70000])
def test_rejects_integers_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match="must have 16 bits"):
        square(encoded(flat("I", value), "TIFF"))


def test_rejects_floats() -> None:
    with pytest.raises(ValueError, match="no agreed range"):
        square(encoded(flat("F", 0.5), "TIFF"))


def test_postscript_is_never_opened() -> None:
    assert ".eps" not in EXTENSIONS and ".png" in EXTENSIONS
    with pytest.raises(ValueError, match="no image of a known format"):
        open_image(encoded(flat("RGB", "red"), "EPS"), FORMATS)
