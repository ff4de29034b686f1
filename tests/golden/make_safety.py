"""Makes `tests/golden/safety/checker.json`: what diffusers' safety checker and transformers' preprocessing say of pictures.

    pip install torch diffusers transformers pillow numpy opencv-python-headless PyWavelets invisible-watermark==0.2.0
    # made with torch 2.15, diffusers 0.42, transformers 5.24, pillow 13.0
    python tests/golden/make_safety.py

The checker is `tiny.json` beside its result, with seeded weights; pictures are those that `make_watermark.py` draws. Kept are, for each
picture, the square that PIL cuts (its FNV-1a hash and every 499th byte), some values of what the tower then sees, its cosines, and
for several sets of thresholds near those the scores and the verdict.
"""

import json
from pathlib import Path

import numpy as np
import seeded
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from make_watermark import fnv1a, picture
from PIL import Image
from transformers import CLIPConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

FOLDER = Path(__file__).parent / "safety"
SEED = 20261127
SAMPLE = 499
# Larger, smaller and as large as what the tower sees, upright and lying, one side far longer than the other.
PICTURES = [
    ("waves", 512, 512), ("grainy", 512, 768), ("blocks", 640, 512), ("noise", 224, 224), ("grainy", 300, 225),
    ("waves", 64, 64), ("blocks", 72, 200), ("flat", 96, 64), ("noise", 1024, 768), ("waves", 64, 1027),
]
# Added to a cosine to make a threshold: a score of its negative, which rounds to something or to nothing.
NEAR = [-0.0007, -0.0003, 0.0003, 0.0007, 0.0098, 0.0102]
FAR = 1.5


def thresholds(cosines: np.ndarray, near: dict) -> torch.Tensor:
    values = np.full(len(cosines), FAR, np.float32)
    for index, distance in near.items():
        values[index] = cosines[index] + np.float32(distance)
    return torch.from_numpy(values)


def scores(checker, clip_input) -> tuple:
    """As `StableDiffusionSafetyChecker.forward`, which keeps its scores to itself, and the verdict that it does give."""
    blank = np.ones((1, 4, 4, 3), np.float32)
    _, verdicts = checker(clip_input=clip_input, images=[blank[0]])
    return bool(verdicts[0])


if __name__ == "__main__":
    config = CLIPConfig.from_dict(json.loads((FOLDER / "tiny.json").read_text()))
    checker = StableDiffusionSafetyChecker(config).eval()
    with torch.no_grad():
        for name, target in checker.state_dict().items():
            if name.endswith("position_ids"):
                continue
            plain = name
            while plain.startswith("vision_model."):
                plain = plain.removeprefix("vision_model.")
            target.copy_(torch.from_numpy(seeded.tensor("safety_checker", plain, tuple(target.shape), SEED)))
    processor = CLIPImageProcessorPil()
    cases = []
    for number, (kind, width, height) in enumerate(PICTURES):
        image = Image.fromarray(picture(kind, width, height))
        square = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
        square = np.ascontiguousarray(square.transpose(1, 2, 0)).astype(np.uint8).tobytes()
        clip_input = processor(image, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            embedding = checker.visual_projection(checker.vision_model(clip_input)[1])
            cosines = cosine_distance(embedding, checker.concept_embeds)[0].numpy()
            special = cosine_distance(embedding, checker.special_care_embeds)[0].numpy()
        verdicts = []
        for turn, distance in enumerate(NEAR):
            # A concept near its threshold, alone and behind a special one that is found or just not.
            for found in (None, 0.0003, -0.0007):
                one, care = (5 * number + turn) % 17, (number + turn) % 3
                checker.concept_embeds_weights.data = thresholds(cosines, {one: distance})
                checker.special_care_embeds_weights.data = thresholds(special, {} if found is None else {care: found})
                verdicts.append({
                    "concept_embeds_weights": checker.concept_embeds_weights.tolist(),
                    "special_care_embeds_weights": checker.special_care_embeds_weights.tolist(),
                    "flagged": scores(checker, clip_input),
                })
        cases.append({
            "kind": kind,
            "width": width,
            "height": height,
            "hash": f"{fnv1a(square):016x}",
            "square": square[::SAMPLE].hex(),
            "pixel_values": clip_input.flatten()[::SAMPLE * 11].tolist(),
            "embedding": embedding[0].tolist(),
            "cosines": cosines.tolist(),
            "special": special.tolist(),
            "verdicts": verdicts,
        })
    FOLDER.mkdir(exist_ok=True)
    out = {"versions": f"torch {torch.__version__}, pillow {Image.__version__}", "seed": SEED, "cases": cases}
    (FOLDER / "checker.json").write_text(json.dumps(out, separators=(",", ":")).replace('{"kind"', '\n{"kind"') + "\n")
    print(sum(v["flagged"] for c in cases for v in c["verdicts"]), "of", sum(len(c["verdicts"]) for c in cases), "flagged")
