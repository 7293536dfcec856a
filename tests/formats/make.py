#!/usr/bin/env python3
"""Makes the fixtures beside it: for every pixel format a frame CODE.raw and what OpenCV or FFmpeg make of it, CODE.png.

    python3 -m venv venv && venv/bin/pip install opencv-python-headless==5.0.0.93 av==18.1.0 numpy
    venv/bin/python tests/formats/make.py

The picture is 46 x 32: the left half smooth, the right half detailed. Rows are ten bytes longer than their pixels.
"""
import pathlib
import av
import cv2
import numpy as np

HERE = pathlib.Path(__file__).parent
W, H, GAP = 46, 32, 10

y, x = np.mgrid[0:H, 0:W].astype(float)
smooth = np.stack([40 + 3.5 * x + 2 * y, 200 - 2 * x - 2 * y, 60 + x + 4 * y], -1)
dice = np.random.default_rng(7)
# Checks and lines as on cloth, with grain: what demosaicing and chroma subsampling do worst.
cloth = 110 + 60 * np.sign(np.sin(x * 1.3) * np.sin(y * 0.9))[..., None] * [1.0, 0.8, 0.5]
cloth = cloth + dice.normal(0, 8, (H, W, 3))
PICTURE = np.where((x < W // 2)[..., None], smooth, cloth).clip(0, 255).astype(np.uint8)


def save(code, rows, rgb):
    """rows: the planes of a frame, each two-dimensional bytes."""
    planes = [np.pad(plane, ((0, 0), (0, GAP)), constant_values=0xAA) for plane in rows]
    (HERE / f"{code.strip()}.raw").write_bytes(b"".join(p.astype(np.uint8).tobytes() for p in planes))
    cv2.imwrite(str(HERE / f"{code.strip()}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def words(samples):
    return samples.astype("<u2").view(np.uint8).reshape(H, -1)


# Colours. OpenCV takes every YUV for BT.601 in limited range.
save("RGB3", [PICTURE.reshape(H, -1)], PICTURE)
save("BGR3", [PICTURE[..., ::-1].reshape(H, -1)], cv2.cvtColor(PICTURE[..., ::-1].copy(), cv2.COLOR_BGR2RGB))
yuyv = cv2.cvtColor(PICTURE, cv2.COLOR_RGB2YUV_YUY2)
save("YUYV", [yuyv.reshape(H, -1)], cv2.cvtColor(yuyv, cv2.COLOR_YUV2RGB_YUY2))
uyvy = cv2.cvtColor(PICTURE, cv2.COLOR_RGB2YUV_UYVY)
save("UYVY", [uyvy.reshape(H, -1)], cv2.cvtColor(uyvy, cv2.COLOR_YUV2RGB_UYVY))
i420 = cv2.cvtColor(PICTURE, cv2.COLOR_RGB2YUV_I420).reshape(-1)
luma, u, v = np.split(i420, [W * H, W * H + W * H // 4])
chroma = np.stack([u, v], -1).reshape(H // 2, W)
nv12 = np.concatenate([luma.reshape(H, W), chroma])
save("NV12", [nv12], cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12))

def pad(plane, gap):
    return np.pad(plane, ((0, 0), (0, gap)), constant_values=0xAA)


def save_planes(code, luma, chromas, rgb, memories):
    """Planes of luma and chroma. In one piece of memory rows of chroma are as much shorter as they have fewer samples."""
    gap = GAP if memories else GAP * chromas[0].shape[1] // W
    planes = [pad(luma, GAP)] + [pad(c, gap) for c in chromas]
    (HERE / f"{code}.raw").write_bytes(b"".join(p.astype(np.uint8).tobytes() for p in planes))
    cv2.imwrite(str(HERE / f"{code}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


y_, (u_, v_) = luma.reshape(H, W), (c.reshape(H // 2, W // 2) for c in (u, v))
seen = cv2.cvtColor(i420.reshape(-1, W), cv2.COLOR_YUV2RGB_I420)
save_planes("NM12", y_, [chroma], cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12), True)
save_planes("YU12", y_, [u_, v_], seen, False)
save_planes("YM12", y_, [u_, v_], seen, True)
# 4:2:2 from YUYV's bytes; 4:4:4 from the same, every sample of colour twice: the pictures are YUYV's.
y_, u_, v_ = yuyv[..., 0], yuyv[:, 0::2, 1], yuyv[:, 1::2, 1]
seen = cv2.cvtColor(yuyv, cv2.COLOR_YUV2RGB_YUY2)
for code, times, memories in [("422P", 1, False), ("YM16", 1, True), ("444P", 2, False), ("YM24", 2, True)]:
    save_planes(code, y_, [np.repeat(c, times, axis=1) for c in (u_, v_)], seen, memories)

# The same bytes by other matrices and ranges: FFmpeg's swscale. (Its chroma is interpolated, so the
# chroma here is constant over each 2 x 2 pixels' neighbours: one colour, luma as it was.)
flat = nv12.copy()
flat[H:, 0::2], flat[H:, 1::2] = 110, 150
for name, matrix, span in [("NV12-709", "ITU709", "MPEG"), ("NV12-full", "ITU601", "JPEG"), ("NV12-709-full", "ITU709", "JPEG")]:
    frame = av.VideoFrame.from_ndarray(flat, format="nv12")
    rgb = frame.reformat(format="rgb24", src_colorspace=matrix, dst_colorspace=matrix, src_color_range=span, dst_color_range="JPEG")
    save(name, [flat], rgb.to_ndarray())

# Grey.
grey = cv2.cvtColor(PICTURE, cv2.COLOR_RGB2GRAY)
save("GREY", [grey], cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))
for code, bits in [("Y10", 10), ("Y12", 12), ("Y16", 16)]:
    deep = grey.astype(np.uint16) << (bits - 8) | dice.integers(0, 1 << (bits - 8), grey.shape, dtype=np.uint16)
    eight = cv2.convertScaleAbs(deep, alpha=1 / (1 << (bits - 8)))
    save(code, [words(deep)], cv2.cvtColor(eight, cv2.COLOR_GRAY2RGB))

# JPEG, by libjpeg-turbo, 4:2:0.
jpeg = cv2.imencode(".jpg", PICTURE[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
(HERE / "MJPG.raw").write_bytes(jpeg.tobytes())
cv2.imwrite(str(HERE / "MJPG.png"), cv2.imdecode(jpeg, cv2.IMREAD_COLOR))

# Bayer. Channel of each sample of a tile, row by row.
TILES = {"RGGB": (0, 1, 1, 2), "GRBG": (1, 0, 2, 1), "GBRG": (1, 2, 0, 1), "BGGR": (2, 1, 1, 0)}
CODES = {
    "RGGB": ("RGGB", "RG10", "RG12", "RG16", "pRAA", "pRCC"),
    "GRBG": ("GRBG", "BA10", "BA12", "GR16", "pgAA", "pgCC"),
    "GBRG": ("GBRG", "GB10", "GB12", "GB16", "pGAA", "pGCC"),
    "BGGR": ("BA81", "BG10", "BG12", "BYR2", "pBAA", "pBCC"),
}


def packed10(s):
    s = np.pad(s, ((0, 0), (0, -W % 4))).reshape(H, -1, 4)
    low = sum((s[..., i] & 3) << (2 * i) for i in range(4))
    return np.concatenate([s >> 2, low[..., None]], -1).reshape(H, -1)


def packed12(s):
    s = np.pad(s, ((0, 0), (0, -W % 2))).reshape(H, -1, 2)
    low = (s[..., 0] & 15) | (s[..., 1] & 15) << 4
    return np.concatenate([s >> 4, low[..., None]], -1).reshape(H, -1)


for order, tile in TILES.items():
    mosaic = np.empty((H, W), np.uint8)
    for i, channel in enumerate(tile):
        mosaic[i // 2::2, i % 2::2] = PICTURE[i // 2::2, i % 2::2, channel]
    convert = getattr(cv2, f"COLOR_Bayer{order}2RGB")
    c8, c10, c12, c16, p10, p12 = CODES[order]
    save(c8, [mosaic], cv2.cvtColor(mosaic, convert))
    for bits, ways in [(10, [(c10, words), (p10, packed10)]), (12, [(c12, words), (p12, packed12)]), (16, [(c16, words)])]:
        more = bits - 8
        deep = mosaic.astype(np.uint16) << more | dice.integers(0, 1 << more, mosaic.shape, dtype=np.uint16)
        rgb = (cv2.cvtColor(deep, convert) >> more).astype(np.uint8)
        for code, way in ways:
            save(code, [way(deep)], rgb)
