"""Makes `tests/golden/vae/watermark.json`: what the package invisible-watermark makes of pictures that a formula draws.

    pip install invisible-watermark==0.2.0 opencv-python-headless PyWavelets numpy
    # made with OpenCV 5.0, PyWavelets 1.9, numpy 2.4 on x86-64
    python tests/golden/make_watermark.py

A picture's pixels are whole numbers from a formula that `services/vae/tests/watermark.rs` has too, so that only the result is kept: the
FNV-1a hash of all its bytes, and every 997th byte to measure how far off another result is.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from imwatermark import WatermarkDecoder, WatermarkEncoder

TEXT = b"StableDiffusionV1"
OUT = Path(__file__).parent / "vae" / "watermark.json"
SAMPLE = 997
SIZES = [(256, 256), (512, 512), (320, 264), (301, 259), (258, 262), (512, 130), (64, 1027), (1024, 768)]


def noise(height: int, width: int) -> np.ndarray:
    """32 well mixed bits for each channel of each pixel."""
    y, x, c = np.meshgrid(*(np.arange(n, dtype=np.uint64) for n in (height, width, 3)), indexing="ij")
    z = (y * 73_856_093 + x * 19_349_663 + c * 83_492_791) & 0xFFFFFFFF
    z = ((z ^ (z >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    z = ((z ^ (z >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    return z ^ (z >> 16)


def picture(kind: str, width: int, height: int) -> np.ndarray:
    """RGB of one kind."""
    y, x = np.mgrid[0:height, 0:width]
    wave = lambda t: np.abs(t % 510 - 255)
    waves = np.stack([wave(2 * x + y), wave(x + 3 * y + 90), wave(x // 2 + y + 200)], -1)
    match kind:
        case "waves":
            pixels = waves
        case "grainy":
            pixels = np.clip(waves + (noise(height, width) >> 28).astype(np.int64) - 8, 0, 255)
        case "noise":
            pixels = noise(height, width) >> 24
        case "blocks":
            # Corners of the colour cube, where conversions clamp.
            corner = (x // 13 + 3 * (y // 7)) % 8
            pixels = np.stack([(corner >> bit & 1) * 255 for bit in range(3)], -1)
        case "flat":
            pixels = np.broadcast_to(np.array([200, 90, 40]), (height, width, 3))
    return pixels.astype(np.uint8)


def put_watermark(rgb: np.ndarray) -> np.ndarray:
    """As CompVis' scripts/txt2img.py signs its pictures."""
    encoder = WatermarkEncoder()
    encoder.set_watermark("bytes", TEXT)
    return encoder.encode(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), "dwtDct")[:, :, ::-1]


def read_watermark(rgb: np.ndarray) -> bytes:
    return WatermarkDecoder("bytes", len(TEXT) * 8).decode(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), "dwtDct")


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


if __name__ == "__main__":
    cases = []
    for width, height in SIZES:
        for kind in ("waves", "grainy", "noise", "blocks", "flat"):
            signed = np.ascontiguousarray(put_watermark(picture(kind, width, height)))
            pixels = signed.tobytes()
            cases.append({
                "kind": kind,
                "width": width,
                "height": height,
                "read": read_watermark(signed).hex(),
                "hash": f"{fnv1a(pixels):016x}",
                "samples": pixels[::SAMPLE].hex(),
            })
    OUT.parent.mkdir(exist_ok=True)
    out = {"versions": f"invisible-watermark 0.2.0, OpenCV {cv2.__version__}, numpy {np.__version__}", "cases": cases}
    OUT.write_text(json.dumps(out, separators=(",", ":")).replace('{"kind"', '\n{"kind"') + "\n")
