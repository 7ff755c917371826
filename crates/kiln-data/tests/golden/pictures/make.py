"""Pictures of every kind, and what Pillow reads of each: writes the files here and expected.json.

    python make.py        (Pillow 13.0, numpy)

non_interleaved_420_64x64.jpg is not made here, since Pillow cannot write such: it is one of the test pictures of
zune-image (https://github.com/etemesi254/zune-image, test-images/jpeg; MIT, Apache-2.0 or Zlib).
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
rng = np.random.default_rng(7)


def smooth(height, width):
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 100 * np.sin(x / 5 + y / 7), 128 + 90 * np.cos(x / 4 - y / 9), 128 + 80 * np.sin(x * y / 99)]
    return Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8))


noise = Image.fromarray(rng.integers(0, 256, (5, 9, 3), dtype=np.uint8))
gray = noise.convert("L")
one = gray.convert("1")
palette = noise.quantize(16)
alpha = Image.fromarray(rng.integers(0, 256, (5, 9, 4), dtype=np.uint8), "RGBA")
# A mask of PASCAL VOC: indices with a palette, and 255 for the edge.
voc = Image.fromarray(np.array([[0, 1, 20, 255, 15, 0, 0, 7, 7]] * 5, dtype=np.uint8), "P")
voc.putpalette([v for i in range(256) for v in ((i * 37) % 256, (i * 91) % 256, (i * 13) % 256)])
two = Image.fromarray((np.asarray(gray) > 127).astype(np.uint8) * 255)

files = {
    "gray.png": (gray, {}),
    "gray-alpha.png": (alpha.convert("LA"), {}),
    "one-bit.png": (one, {}),
    "palette.png": (palette, {}),
    "palette-transparent.png": (palette, {"transparency": 3}),
    "voc-mask.png": (voc, {}),
    "rgb.png": (noise, {}),
    "rgb-alpha.png": (alpha, {}),
    "rgb-transparent.png": (noise, {"transparency": noise.getpixel((0, 0))}),
    "gray-16-small.png": (Image.fromarray(rng.integers(0, 256, (5, 9), dtype=np.uint16)), {}),
    "gray-16-large.png": (Image.fromarray(rng.integers(0, 65536, (5, 9), dtype=np.uint16)), {}),
    "gray.gif": (gray, {}),
    "palette.gif": (palette, {}),
    "mask.gif": (two, {}),
    "several.gif": (gray, {"save_all": True, "append_images": [two]}),
    "gray.bmp": (gray, {}),
    "one-bit.bmp": (one, {}),
    "palette.bmp": (palette, {}),
    "rgb.bmp": (noise, {}),
    "gray.tif": (gray, {}),
    "one-bit-fax.tif": (one, {"compression": "group4"}),
    "rgb-lzw.tif": (noise, {"compression": "tiff_lzw"}),
    "rgb-deflate.tif": (noise, {"compression": "tiff_adobe_deflate"}),
    "rgb-alpha.tif": (alpha, {}),
    "ink.tif": (noise.convert("CMYK"), {}),
    "gray-16-large.tif": (Image.fromarray(rng.integers(0, 65536, (5, 9), dtype=np.uint16)), {}),
    "palette.tif": (palette, {}),
    "lossless.webp": (noise, {"lossless": True}),
    "lossless-alpha.webp": (alpha, {"lossless": True, "exact": True}),
    "lossy.webp": (smooth(16, 24), {"quality": 80}),
}
photo = smooth(24, 32)
turned = Image.Exif()
turned[0x112] = 6
for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
    files[f"colour-{name}.jpg"] = (photo, {"subsampling": sampling, "quality": 85})
    files[f"progressive-{name}.jpg"] = (photo, {"subsampling": sampling, "quality": 85, "progressive": True})
files["odd.jpg"] = (smooth(17, 19), {"subsampling": 2, "quality": 75})
files["gray.jpg"] = (photo.convert("L"), {"quality": 85})
files["ink.jpg"] = (photo.convert("CMYK"), {"quality": 85})
files["restarts.jpg"] = (photo, {"quality": 85, "restart_marker_blocks": 1})
files["turned.jpg"] = (photo, {"quality": 85, "exif": turned})

for name, (image, options) in files.items():
    image.save(HERE / name, **options)

expected = {}
for name in [*files, "non_interleaved_420_64x64.jpg"]:
    image = Image.open(HERE / name)
    values = np.asarray(image)
    flat = {"1": values * np.uint8(255), "P": values, "L": values}.get(image.mode)
    expected[name] = {
        "height": image.height,
        "width": image.width,
        "rgb": np.asarray(image.convert("RGB")).transpose(2, 0, 1).tobytes().hex(),
        "luma": np.asarray(image.convert("L")).tobytes().hex(),
        # What a mask holds, if these are gray levels or indices.
        "mask": None if flat is None else flat.astype(np.uint8).tobytes().hex(),
    }
(HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
