"""Makes `tests/golden/scenes/*`: 80 scenes as the pocket model's training draws and tells them, so that the judge holds what it learned to be right.

    pip install numpy pillow
    python tests/golden/make_scenes.py

`sheet.png` has eight in a row, 128×128 pixels each; line n of `prompts.txt` is the canonical prompt of the n-th.
"""

import random
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "deploy/models/pocket/train"))
from world.captions import canonical
from world.palette import SIDE
from world.render import render
from world.scenes import Draw

HERE = Path(__file__).parent / "scenes"
COLUMNS, ROWS = 8, 10


def main() -> None:
    HERE.mkdir(exist_ok=True)
    draw = Draw(random.Random(1), basic=0.0)
    scenes = [draw.scene() for _ in range(COLUMNS * ROWS)]
    sheet = Image.new("RGB", (COLUMNS * SIDE, ROWS * SIDE))
    for number, scene in enumerate(scenes):
        sheet.paste(Image.fromarray(render(scene)), (number % COLUMNS * SIDE, number // COLUMNS * SIDE))
    sheet.save(HERE / "sheet.png", optimize=True)
    (HERE / "prompts.txt").write_text("".join(canonical(scene) + "\n" for scene in scenes), encoding="utf-8")


if __name__ == "__main__":
    main()
