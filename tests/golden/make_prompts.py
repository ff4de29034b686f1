"""Makes `tests/golden/prompts/*`: prompts as AUTOMATIC1111's web UI reads and weighs them, and textual inversions as diffusers uses them.

    pip install torch diffusers transformers safetensors pillow lark    # made with torch 2.15, diffusers 0.42.1, transformers 5.23
    pip install --no-deps --target SDK auto1111sdk==0.0.95              # that web UI's modules, of its version 1.7
    python tests/golden/make_prompts.py SDK

`windows.json`: tokens and weights of each window, with CLIP's vocabulary and the pocket model's, of chosen prompts and of random ones.
`embeds.safetensors`, `embeds.json`: what the pocket model's text encoder makes of some, in f32 on a CPU. `words/*`: a textual inversion in each
layout. `pictures.json` and the PNGs: whole pictures of weighted prompts, by diffusers' networks and scheduler.
"""

import importlib.util
import json
import random
import sys
import types
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPTokenizer

HERE = Path(__file__).parent / "prompts"
ROOT = Path(__file__).parents[2]
POCKET = ROOT / "deploy/models/pocket"
CLIP = ROOT / "services/libs/models/assets/clip-tokenizer"

CHOSEN = [
    "a red circle",
    "",
    "a (red) circle",
    "a (red:1.5) [circle] on ((blue:0.4) paper)",
    "a (b: -1.25 ) c",
    r"a \(red\) \[b\] c\\d \e",
    "(open [never closed",
    "closed) never] opened:1.2)",
    "(a:b:1.2) :) 8:30",
    "one BREAK two, BREAK BREAK three",
    "(one BREAK two:1.3) BREAKS aBREAK",
    "(x:-1)BREAK y",
    "BREAK",
    "red " * 74 + "blue, green",
    "red, " * 37 + "blue green yellow, black",
    "red " * 60 + "x, " + "blue " * 30 + "end",
    "red " * 54 + "x, " + "blue " * 19 + "green white",
    "red " * 54 + "x, " + "blue " * 22 + "end",
    "red " * 75 + ", blue",
    "red " * 75 + "BREAK blue",
    "(" + "red, blue " * 80 + ":1.2) and (more:0.5)",
    "(\u732b:1.1) 🐱 (caf\u00e9\t\n: 0.9\t)",
]
PIECES = ["(", ")", "[", "]", ":1.3)", ": 0.7 )", ":", "\\", "\\(", "BREAK", " BREAK ", ",", ", ", " ", "red ", "circle", "two words ", "é", "-1", "."]


def web_ui(sdk: Path):
    """The web UI's reader of prompts, with its defaults and without what it does not need here."""
    package = types.ModuleType("webui")
    package.__path__ = [str(sdk / "auto1111sdk/modules")]
    sys.modules["webui"] = package
    stubs = {
        "devices": {"device": torch.device("cpu")},
        "sd_hijack": {"StableDiffusionModelHijack": object},
        "shared": {
            "opts": types.SimpleNamespace(
                comma_padding_backtrack=20, CLIP_stop_at_last_layers=1, emphasis="Original", enable_emphasis=True
            )
        },
    }
    for name, content in stubs.items():
        module = types.ModuleType(f"webui.{name}")
        module.__dict__.update(content)
        sys.modules[f"webui.{name}"] = module
        setattr(package, name, module)
    modules = {}
    for name in ["prompt_parser", "sd_hijack_clip"]:
        spec = importlib.util.spec_from_file_location(f"webui.{name}", sdk / f"auto1111sdk/modules/{name}.py")
        modules[name] = sys.modules[f"webui.{name}"] = importlib.util.module_from_spec(spec)
        setattr(package, name, modules[name])
        spec.loader.exec_module(modules[name])
    return modules["sd_hijack_clip"], stubs["shared"]["opts"]


class NoInversions:
    def find_embedding_at_position(self, tokens, position):
        return None, None


def reader(clip, tokenizer, encoder=None):
    if encoder is not None:
        # Before transformers 5 the layers were one level below.
        object.__setattr__(encoder, "text_model", encoder)
    hijack = types.SimpleNamespace(embedding_db=NoInversions(), extra_generation_params={})
    wrapped = types.SimpleNamespace(tokenizer=tokenizer, transformer=encoder)
    made = clip.FrozenCLIPEmbedderWithCustomWords(wrapped, hijack)
    return made


def random_prompts(count: int) -> list[str]:
    draw = random.Random(5)
    made = []
    while len(made) < count:
        text = "".join(draw.choice(PIECES) for _ in range(draw.choice([3, 8, 20, 60])))
        made.append(text)
    return made


def windows(read, text: str):
    chunks, _ = read.tokenize_line(text)
    return [{"ids": chunk.tokens, "weights": chunk.multipliers} for chunk in chunks]


def shortened(window, end: int):
    """Without the end tokens that fill it up: one is enough to see where they begin."""
    ids, weights = window["ids"][1:-1], window["weights"][1:-1]
    while ids and ids[-1] == end:
        ids.pop()
        weights.pop()
    plain = all(weight == 1.0 for weight in weights)
    return {"ids": ids} if plain else {"ids": ids, "weights": weights}


EMBEDDED = [
    ("a (red:1.4) circle on a [blue] background", 1),
    ("a ((red)) circle BREAK on a (blue:0.5) background", 1),
    ("red circle, " * 30 + "(white background:1.2)", 1),
    ("a (red:1.4) circle on a [blue] background", 2),
    ("a (red:-0.5) circle", 1),
]

PICTURES = [
    ("a (red:1.3) circle on a [blue] background", "", 41, 2.0),
    ("a photo of a green star BREAK on a (white:1.2) background", "(red:1.5) circle", 42, 2.0),
    ("a yellow square, " * 12 + "on a black background", "a small blue heart", 43, 2.5),
    ("a purple heart on a gray background", "red, green, blue, " * 10 + "(stars:1.2)", 44, 2.5),
]


@torch.no_grad()
def picture(pipeline, positive, negative, seed, scale, steps=20):
    """DDIM with each text in a call of its own: they need not be equally long."""
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(steps)
    latents = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(seed))
    for t in scheduler.timesteps:
        unconditional, conditional = (pipeline.unet(latents, t, text).sample for text in (negative, positive))
        latents = scheduler.step(unconditional + scale * (conditional - unconditional), t, latents).prev_sample
    decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    return pipeline.image_processor.postprocess(decoded)[0]


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(2)
    (HERE / "words").mkdir(parents=True, exist_ok=True)
    clip, opts = web_ui(Path(sys.argv[1]))
    pipeline = StableDiffusionPipeline.from_pretrained(POCKET, torch_dtype=torch.float32, safety_checker=None)
    listed = {}
    for name, tokenizer in [("clip", CLIPTokenizer.from_pretrained(CLIP)), ("pocket", pipeline.tokenizer)]:
        read = reader(clip, tokenizer)
        listed[name] = []
        for text in CHOSEN + random_prompts(100):
            try:
                found = [shortened(window, tokenizer.eos_token_id) for window in windows(read, text)]
            except ValueError:
                # Python's float() does not know the weight.
                found = None
            listed[name].append({"prompt": text, "windows": found})
    (HERE / "windows.json").write_text(json.dumps(listed, ensure_ascii=False, separators=(",", ":")).replace('},{"p', '},\n{"p') + "\n")

    read = reader(clip, pipeline.tokenizer, pipeline.text_encoder)
    tensors, asked = {}, []
    for text, last in EMBEDDED:
        opts.CLIP_stop_at_last_layers = last
        tensors[f"weighted.{len(asked)}"] = read([text])[0].contiguous()
        asked.append({"prompt": text, "clip_skip": last - 1})
    opts.CLIP_stop_at_last_layers = 1

    pictures = []
    for positive, negative, seed, scale in PICTURES:
        image = picture(pipeline, read([positive]), read([negative]), seed, scale)
        file = f"weighted-{seed}.png"
        image.save(HERE / file, optimize=True)
        request = {"prompt": positive, "negative_prompt": negative, "prompt_syntax": "weighted", "sampler": "ddim"}
        pictures.append({"file": file, "request": request | {"num_inference_steps": 20, "guidance_scale": scale, "seed": seed}})
    (HERE / "pictures.json").write_text(json.dumps(pictures, indent=1) + "\n")

    vectors = torch.randn((3, 96), generator=torch.Generator().manual_seed(9)) * 0.3
    glow = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "glow", "step": 500, "sd_checkpoint": None}
    torch.save(glow, HERE / "words/glow.pt")
    torch.save({"<cat-toy>": vectors[0].to(torch.float16)}, HERE / "words/learned_embeds.bin")
    save_file({"emb_params": vectors[1:] * 2}, HERE / "words/Flat Style.safetensors")
    pipeline.load_textual_inversion(str(HERE / "words/glow.pt"), token="<glow>")
    pipeline.load_textual_inversion(str(HERE / "words/learned_embeds.bin"))
    for name, text in [("glow", "a <glow> circle"), ("toy", "two <cat-toy>, and <cat-toy>s on a blue background")]:
        tensors[f"inversion.{name}"] = pipeline.encode_prompt(text, "cpu", 1, False)[0][0].contiguous()
    save_file(tensors, HERE / "embeds.safetensors")
    (HERE / "embeds.json").write_text(json.dumps(asked, indent=1) + "\n")


if __name__ == "__main__":
    main()
