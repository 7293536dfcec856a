"""Pixel formats as a camera would send them, computed here and not by what is tested: RGB24 to raw bytes,
and what a receiver can know of the picture, as a PNG for the host's verdict."""

import struct
import zlib


def planes(rgb):
    """BT.601, limited range (ITU-R BT.601-7, 2.5): Y, Cb, Cr of every pixel as floats."""
    pixels = list(zip(rgb[0::3], rgb[1::3], rgb[2::3]))
    y = [16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255 for r, g, b in pixels]
    cb = [128 + (-37.797 * r - 74.203 * g + 112 * b) / 255 for r, g, b in pixels]
    cr = [128 + (112 * r - 93.786 * g - 18.214 * b) / 255 for r, g, b in pixels]
    return y, cb, cr


def to_rgb(y, cb, cr):
    out = bytearray()
    for y, cb, cr in zip(y, cb, cr):
        y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
        for value in (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb):
            out.append(min(255, max(0, round(255 * value))))
    return bytes(out)


def encode(fourcc, rgb, width, height):
    """(raw bytes, RGB24 that a receiver can know) of a picture in a format."""
    at = [range(row * width, (row + 1) * width) for row in range(height)]
    if fourcc == "GREY":
        grey = bytes(round(v) for v in planes(rgb)[0])
        return grey, bytes(v for v in grey for _ in range(3))
    if fourcc in ("YUYV", "NV12", "NM12", "YM12"):
        y, cb, cr = planes(rgb)
        y = [round(v) for v in y]
        raw, tall = bytearray(), 1 if fourcc == "YUYV" else 2
        share = {}  # the chroma that pixels share
        for row in range(0, height, tall):
            for column in range(0, width, 2):
                block = [at[row + r][column + c] for r in range(tall) for c in range(2)]
                mean = tuple(round(sum(p[i] for i in block) / len(block)) for p in (cb, cr))
                share.update(dict.fromkeys(block, mean))
                if tall == 1:
                    raw += bytes((y[block[0]], mean[0], y[block[1]], mean[1]))
        if tall == 2:
            raw += bytes(y)
            chroma = [share[at[row][column]] for row in range(0, height, 2) for column in range(0, width, 2)]
            if fourcc == "YM12":
                raw += bytes(blue for blue, _ in chroma) + bytes(red for _, red in chroma)
            else:
                raw += bytes(value for pair in chroma for value in pair)
        seen = [share[i] for i in range(width * height)]
        return bytes(raw), to_rgb(y, [s[0] for s in seen], [s[1] for s in seen])
    if fourcc == "RGGB":  # what a receiver makes of it depends on its demosaicing: near the picture itself
        colour = lambda row, column: (row & 1) + (column & 1)
        return bytes(rgb[3 * i + colour(i // width, i % width)] for i in range(width * height)), rgb
    raise ValueError(fourcc)


def png(path, rgb, width, height):
    rows = b"".join(b"\0" + rgb[3 * width * y : 3 * width * (y + 1)] for y in range(height))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))
