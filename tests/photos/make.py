#!/usr/bin/env python3
"""Makes the photos beside it: JPEG in every kind that cameras and programs write, and orientations.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 simplejpeg==1.9.0 numpy
    venv/bin/python tests/photos/make.py

The JPEG pictures are 88 x 56, smooth on the left and detailed on the right. The ones with an orientation show the same
12 x 8 picture when they are turned as they say.
"""
import io
import pathlib
import struct

import numpy as np
import simplejpeg
from PIL import Image

HERE = pathlib.Path(__file__).parent
W, H = 88, 56

y, x = np.mgrid[0:H, 0:W].astype(float)
dice = np.random.default_rng(5)
smooth = np.stack([40 + 2 * x + y, 200 - x - 2 * y, 60 + x + 2 * y], -1)
cloth = 110 + 60 * np.sign(np.sin(x * 1.3) * np.sin(y * 0.9))[..., None] * [1.0, 0.8, 0.5]
cloth = cloth + dice.normal(0, 8, (H, W, 3))
PICTURE = np.where((x < W // 2)[..., None], smooth, cloth).clip(0, 255).astype(np.uint8)
PHOTO = Image.fromarray(PICTURE)


def write(name, data):
    (HERE / name).write_bytes(data)


def jpeg(image, **how):
    out = io.BytesIO()
    image.save(out, "JPEG", **{"quality": 85, **how})
    return out.getvalue()


def segments(data):
    """(marker, whole segment) up to the scan's codes, which come last with marker None."""
    at = 2
    while True:
        marker, (length,) = data[at + 1], struct.unpack(">H", data[at + 2:at + 4])
        yield marker, data[at:at + 2 + length]
        at += 2 + length
        if marker == 0xDA:
            yield None, data[at:-2]
            return


def join(parts):
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xd9"


# Samplings, by libjpeg-turbo.
for sampling in ["444", "422", "420", "440", "411"]:
    write(f"{sampling}.jpg", simplejpeg.encode_jpeg(PICTURE, 85, "RGB", sampling))
baseline = jpeg(PHOTO)
PHOTO.save(HERE / "picture.png")
write("grey.jpg", jpeg(PHOTO.convert("L")))
write("cmyk.jpg", jpeg(PHOTO.convert("CMYK")))
write("optimised.jpg", jpeg(PHOTO, optimize=True))
write("fine.jpg", jpeg(PHOTO, quality=100, subsampling=0))
write("coarse.jpg", jpeg(PHOTO, quality=5))
write("restart.jpg", jpeg(PHOTO, restart_marker_blocks=2))
write("restart_rows.jpg", jpeg(PHOTO.convert("L"), restart_marker_rows=1))
write("progressive.jpg", jpeg(PHOTO, progressive=True))
write("progressive_grey.jpg", jpeg(PHOTO.convert("L"), progressive=True))
write("progressive_fine.jpg", jpeg(PHOTO, progressive=True, quality=98, subsampling=0))
write("progressive_restart.jpg", jpeg(PHOTO, progressive=True, restart_marker_blocks=5))

# Without Huffman tables, as AVI's frames.
write("no_tables.jpg", join(s for m, s in segments(baseline) if m != 0xC4))
# Bytes that only fill, before markers.
write("filled.jpg", join(b"\xff\xff\xff" + s if m else s + b"\xff\xff" for m, s in segments(baseline)))
# A thumbnail, whole with its own start and end, in application data; and comments that look like markers.
small = jpeg(PHOTO.resize((22, 14)))
app = lambda marker, data: b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(data)) + data
first, *rest = [s for _, s in segments(baseline)]
write("thumbnail.jpg", join([first, app(0xE1, b"Other\0" + small), app(0xFE, b"\xff\xd9\xff\xda"), *rest]))
# Colours one after the other, in scans of their own: three grey pictures of the same quality.
planes = [dict(segments(jpeg(p, quality=85))) for p in PHOTO.convert("YCbCr").split()]
frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, H, W, 3) + b"".join(bytes([i, 0x11, 0]) for i in (1, 2, 3))
head = [s for m, s in segments(jpeg(PHOTO.convert("L"))) if m in (0xE0, 0xDB, 0xC4)]
scans = [b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([i + 1, 0, 0, 63, 0]) + p[None] for i, p in enumerate(planes)]
write("scans.jpg", join(head + [frame] + scans))

# Kinds that are not read: only their headers are of that kind.
kinds = {"arithmetic": (0xC9, 0), "lossless": (0xC3, 0), "hierarchical": (0xC5, 0), "twelve_bits": (0xC1, 12)}
for name, (marker, bits) in kinds.items():
    parts = []
    for m, s in segments(baseline):
        if m == 0xC0:
            s = bytes([0xFF, marker]) + s[2:4] + bytes([bits or s[4]]) + s[5:]
        parts.append(s)
    write(f"{name}.jpg", join(parts))
parts = [s[:5] + b"\0\0" + s[7:] if m == 0xC0 else s for m, s in segments(baseline)]
write("height_behind.jpg", join(parts + [b"\xff\xdc" + struct.pack(">HH", 4, H)]))

# Orientations: each file shows UPRIGHT.
UPRIGHT = dice.integers(0, 256, (8, 12, 3), dtype=np.uint8)
# In the file: rows and columns as Exif's numbers 1 to 8 say they lie there.
LIES = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
Image.fromarray(UPRIGHT).save(HERE / "upright.png")
for number, lies in LIES.items():
    image = Image.fromarray(np.ascontiguousarray(lies(UPRIGHT)))
    exif = Image.Exif()
    exif[0x0112] = number
    image.save(HERE / f"turned{number}.png", exif=exif)
    image.save(HERE / f"turned{number}.webp", lossless=True, exif=exif)
    image.save(HERE / f"turned{number}.tif", tiffinfo={274: number})
    # Every pixel 8 x 8: JPEG keeps such colours.
    blocks = image.resize((8 * image.width, 8 * image.height), Image.NEAREST)
    blocks.save(HERE / f"turned{number}.jpg", quality=95, subsampling=0, exif=exif)

# Several pictures in a file, and what else is strange.
two = [Image.fromarray(UPRIGHT), Image.fromarray(UPRIGHT[::-1].copy())]
two[0].save(HERE / "pages.tif", save_all=True, append_images=two[1:])
two[0].save(HERE / "animation.png", save_all=True, append_images=two[1:])
two[0].save(HERE / "animation.webp", save_all=True, append_images=two[1:], lossless=True)
grey = PICTURE[..., 1].astype(np.uint16)
Image.fromarray(grey << 4 | grey >> 4).save(HERE / "twelve_in_sixteen.png")
Image.fromarray(grey * 257).save(HERE / "sixteen.png")
Image.fromarray(grey << 4 | grey >> 4).save(HERE / "twelve_in_sixteen.tif")
PHOTO.save(HERE / "jpeg.tif", compression="jpeg", quality=85)
PHOTO.crop((0, 0, 40, 24)).save(HERE / "deflate.tif", compression="tiff_adobe_deflate")
PHOTO.crop((0, 0, 40, 24)).save(HERE / "lzw.tif", compression="tiff_lzw")
PHOTO.crop((0, 0, 24, 16)).save(HERE / "plain.bmp")
PHOTO.crop((0, 0, 24, 16)).save(HERE / "plain.ppm")
PHOTO.crop((0, 0, 48, 32)).save(HERE / "plain.png")
PHOTO.crop((0, 0, 48, 32)).save(HERE / "lossy.webp", quality=80)
