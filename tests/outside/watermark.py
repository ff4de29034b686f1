"""Signs 100 pictures of 512x512 with Darkroom and with the package invisible-watermark, and reads both with the package: as they are, and
after JPEG at quality 90, with colours at half the resolution (the usual) and at the full one. Fails when Darkroom's are read less often
than chance allows, or when the two read a picture differently.

How often the package reads its own depends on the pictures' colours, and it is seldom: this method moves the largest of a block's
coefficients, which after that often is another one, and at half the resolution of colours too little of it is left at any quality.

Usage: watermark.py SIGN, the program of tests/examples/sign.rs
"""

import io
import math
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

# The package imports torch for another method than the one that is used here.
sys.modules.setdefault("torch", types.ModuleType("torch"))
from imwatermark import WatermarkDecoder, WatermarkEncoder  # noqa: E402

TEXT = b"StableDiffusionV1"
PICTURES, SIDE, QUALITY = 100, 512, 90
POCKET = sorted((Path(__file__).parents[1] / "golden/models/pocket").glob("*.png"))
# One in a thousand: how seldom luck alone may look like a difference.
LUCK = 1e-3


def photograph(rng: np.random.Generator) -> np.ndarray:
    """What photographs are to statistics: amplitudes fall with the frequency, brightness varies more than colour; a few even shapes."""
    across = np.fft.fftfreq(SIDE)[:, None]
    frequency = np.hypot(across, np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = 1.0
    fall = rng.uniform(1.0, 1.6)

    def field() -> np.ndarray:
        noise = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / frequency**fall
        noise[0, 0] = 0.0
        values = np.fft.irfft2(noise, (SIDE, SIDE))
        return values / values.std()

    brightness = rng.uniform(90, 165) + rng.uniform(25, 55) * field()
    colour = rng.uniform(-30, 30, 3) + sum(rng.uniform(3, 14, 3) * field()[..., None] for _ in range(2))
    picture = brightness[..., None] + colour
    y, x = np.mgrid[:SIDE, :SIDE]
    for _ in range(rng.integers(0, 5)):
        cy, cx, radius = rng.uniform(0, SIDE, 2).tolist() + [rng.uniform(20, 120)]
        picture[np.hypot(y - cy, x - cx) < radius] = rng.uniform(20, 235, 3)
    return np.clip(picture.round(), 0, 255).astype(np.uint8)


def picture(number: int) -> np.ndarray:
    """Those of the pocket model, enlarged, then photographs."""
    if number < len(POCKET):
        return np.array(Image.open(POCKET[number]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return photograph(np.random.default_rng(number))


def own(rgb: np.ndarray) -> np.ndarray:
    """As CompVis' scripts/txt2img.py signs its pictures."""
    encoder = WatermarkEncoder()
    encoder.set_watermark("bytes", TEXT)
    return encoder.encode(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), "dwtDct")[:, :, ::-1]


def read(rgb: np.ndarray) -> bytes:
    return WatermarkDecoder("bytes", 8 * len(TEXT)).decode(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), "dwtDct")


def as_jpeg(rgb: np.ndarray, colours: str) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(file, "JPEG", quality=QUALITY, subsampling=colours)
    return np.array(Image.open(file))


def bits(found: bytes) -> float:
    """The share of bits that are right."""
    wrong = sum((a ^ b).bit_count() for a, b in zip(found, TEXT))
    return 1 - wrong / (8 * len(TEXT))


def luck(worse: int, better: int) -> float:
    """How often pictures that differ by chance alone would be as unevenly split as this: a sign test, one-sided."""
    differ = worse + better
    return sum(math.comb(differ, k) for k in range(worse, differ + 1)) / 2**differ


def main() -> None:
    sign = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        plain, signed = Path(folder, "plain"), Path(folder, "signed")
        plain.mkdir(), signed.mkdir()
        pictures = [picture(number) for number in range(PICTURES)]
        for number, rgb in enumerate(pictures):
            Image.fromarray(rgb).save(plain / f"{number:03}.png")
        subprocess.run([sign, plain, signed], check=True)
        ours = [np.array(Image.open(signed / f"{number:03}.png")) for number in range(PICTURES)]
        theirs = [own(rgb) for rgb in pictures]
        readings = subprocess.run([sign, signed], check=True, capture_output=True, text=True).stdout.split()[1::2]

    equal = sum(np.array_equal(a, b) for a, b in zip(ours, theirs))
    worst = max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(ours, theirs))
    print(f"{equal} of {PICTURES} signed pictures are the package's in every value; the largest difference is {worst} levels")
    same = sum(read(rgb).hex() == found for rgb, found in zip(ours, readings))
    print(f"{same} of {PICTURES} are read alike by the package and by Darkroom")
    failed = same < PICTURES

    changes = {"as PNG": lambda rgb: rgb}
    for colours in ("4:2:0", "4:4:4"):
        changes[f"after JPEG at quality {QUALITY}, {colours}"] = lambda rgb, colours=colours: as_jpeg(rgb, colours)
    for what, change in changes.items():
        found = [[read(change(rgb)) for rgb in signed] for signed in (ours, theirs)]
        right = [[text == TEXT for text in texts] for texts in found]
        share = [np.mean([bits(text) for text in texts]) for texts in found]
        chance = luck(sum(b > a for a, b in zip(*right)), sum(a > b for a, b in zip(*right)))
        print(
            f"{what}: {TEXT.decode()} is read from {sum(right[0])} of Darkroom's and {sum(right[1])} of the package's own; "
            f"bits right: {share[0]:.2%} and {share[1]:.2%}"
        )
        failed |= chance < LUCK
    unsigned = sum(read(rgb) == TEXT for rgb in pictures)
    print(f"before they were signed: {unsigned}")
    if failed or unsigned:
        sys.exit("Darkroom's watermark is not the package's")


if __name__ == "__main__":
    main()
