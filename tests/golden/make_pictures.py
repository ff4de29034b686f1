"""Makes pictures/lanczos.json: what Pillow's LANCZOS makes of small pictures at other sizes.

    python make_pictures.py

Needs Pillow before version 13, which takes the two passes in another order for some sizes. The pictures are `(37 x + 101 y + 59 c + 7 x y) mod 256` at column x, row y and colour c: as rough as pictures get.
"""

import json
import pathlib

import PIL
from PIL import Image

HERE = pathlib.Path(__file__).parent / "pictures"
SIZES = [((20, 13), (32, 8)), ((20, 13), (8, 24)), ((64, 48), (16, 16)), ((9, 9), (40, 40)), ((100, 3), (24, 8))]


def rough(size, colours):
    width, height = size
    value = lambda x, y, c: (37 * x + 101 * y + 59 * c + 7 * x * y) % 256
    return bytes(value(x, y, c) for y in range(height) for x in range(width) for c in range(colours))


def main():
    cases = []
    for before, after in SIZES:
        for mode, colours in (("RGB", 3), ("L", 1)):
            picture = Image.frombytes(mode, before, rough(before, colours))
            resized = picture.resize(after, resample=Image.Resampling.LANCZOS)
            cases.append({"colours": colours, "from": before, "to": after, "bytes": resized.tobytes().hex()})
    HERE.mkdir(exist_ok=True)
    made_with = {"script": "make_pictures.py", "pillow": PIL.__version__}
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "lanczos.json").write_text(f'{{"made_with": {json.dumps(made_with)}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
