"""Makes `tests/golden/models/{tiny,pocket}/*`: what diffusers and transformers compute from the same weights, in f32 on a CPU.

    pip install torch diffusers transformers safetensors pillow    # made with torch 2.15, diffusers 0.42.1, transformers 5.23
    python tests/golden/make_models.py

`networks.safetensors` holds the inputs and outputs of the text encoder, the UNet and the autoencoder: of the seeded tiny
model, whose weights `seeded.py` makes, and of the embedded pocket model. `bf16.json` says how far the same modules' outputs are from
these when they compute in bf16 (relative L2). `pictures.json` lists whole pictures by diffusers' StableDiffusionPipeline on the
pocket model, each beside it as a PNG.
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

import seeded

HERE = Path(__file__).parent / "models"
POCKET = Path(__file__).parents[2] / "deploy/models/pocket"
SEED = 1

SCHEDULERS = {
    "plms": (PNDMScheduler, 50, {}),
    # diffusers clips the predicted picture unless told not to; its pipelines tell it.
    "ddim": (DDIMScheduler, 20, {"clip_sample": False}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, 20, {}),
    "euler": (EulerDiscreteScheduler, 20, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, 20, {}),
    "heun": (HeunDiscreteScheduler, 10, {}),
    "dpm2": (KDPM2DiscreteScheduler, 10, {}),
    "unipc": (UniPCMultistepScheduler, 20, {}),
}
PICTURES = [
    ("plms", "a photo of a red circle on a blue background", "", 42),
    ("ddim", "a green star on a white background", "", 7),
    ("dpmpp_2m", "a yellow square left of a purple heart on a black background", "", 3),
    ("euler", "a drawing of two orange triangles on a gray background", "", 123456789),
    ("euler_a", "a small white heart on a green background", "a red circle", 2**40 + 5),
    ("heun", "a blue triangle on a yellow background", "", 11),
    ("dpm2", "a photo of a purple circle right of a green square on a white background", "", 2024),
    ("unipc", "three red stars on a black background", "", 5),
]


def seeded_models(name: str):
    """The three networks with their seeded weights."""
    text = CLIPTextModel(CLIPTextConfig(**seeded.config(name, "text_encoder")))
    unet = UNet2DConditionModel.from_config(seeded.config(name, "unet"))
    vae = AutoencoderKL.from_config(seeded.config(name, "vae"))
    for part, module in zip(seeded.PARTS, (text, unet, vae)):
        seeded.fill(part, module.eval(), SEED)
    return text, unet, vae


def pocket_models():
    """The three networks of the embedded model."""
    load = {"torch_dtype": torch.float32}
    text = CLIPTextModel.from_pretrained(POCKET / "text_encoder", **load)
    unet = UNet2DConditionModel.from_pretrained(POCKET / "unet", **load)
    vae = AutoencoderKL.from_pretrained(POCKET / "vae", **load)
    return text.eval(), unet.eval(), vae.eval()


def embed(text, ids: torch.Tensor, clip_skip: int) -> torch.Tensor:
    """What diffusers' pipeline makes of `clip_skip`."""
    states = text(ids, output_hidden_states=True)
    if clip_skip == 0:
        return states.last_hidden_state
    tower = getattr(text, "text_model", text)
    return tower.final_layer_norm(states.hidden_states[-(clip_skip + 1)])


def uniform(name: str, *shape: int) -> torch.Tensor:
    """A seeded input of variance one."""
    return torch.from_numpy(seeded.tensor("input", name, (1, *shape), 0)[0]) * (np.prod(shape) ** 0.5)


@torch.no_grad()
def networks(models, side: int, decoded: tuple, encoded: tuple) -> dict:
    """Inputs and outputs: latents of `side`, a decoded picture of `decoded` latents, an encoded one of `encoded` pixels."""
    text, unet, vae = models
    config = text.config
    words = torch.randint(0, config.bos_token_id, (2, 12), generator=torch.Generator().manual_seed(0))
    ids = torch.full((2, config.max_position_embeddings), config.eos_token_id)
    ids[:, 0] = config.bos_token_id
    ids[0, 1:9], ids[1, 1:13] = words[0, :8], words[1]
    out = {"token_ids": ids.to(torch.int32)}
    out["prompt_embeds"] = embed(text, ids, 0)
    out["prompt_embeds_skip_1"] = embed(text, ids[:1], 1)

    out["timesteps"] = torch.tensor([999.0, 500.5, 1.0, 0.0])
    out["latents"] = uniform("latents", 4, 4, side, side)
    texts = out["prompt_embeds"][[0, 1, 0, 1]]
    out["noise_pred"] = unet(out["latents"], out["timesteps"], texts).sample
    out["odd_latents"] = uniform("odd_latents", 2, 4, 9, 10)
    out["odd_noise_pred"] = unet(out["odd_latents"], out["timesteps"][1:3], texts[:2]).sample

    out["scaled_latents"] = uniform("scaled_latents", 4, *decoded)
    out["decoded"] = vae.decode(out["scaled_latents"][None] / vae.config.scaling_factor).sample[0]
    out["image"] = torch.tanh(uniform("image", 3, *encoded))
    posterior = vae.encode(out["image"][None]).latent_dist
    out["posterior_mean"], out["posterior_std"] = posterior.mean[0], posterior.std[0]
    return {name: tensor.contiguous() for name, tensor in out.items()}


@torch.no_grad()
def bf16_errors(models, given: dict) -> dict:
    """Of the same modules in bf16, on the inputs and against the outputs of `networks`; each network reads f32's embeddings."""
    text, unet, vae = (module.to(torch.bfloat16) for module in models)
    short = {name: tensor.to(torch.bfloat16) for name, tensor in given.items() if tensor.is_floating_point()}
    ids, texts = given["token_ids"].long(), short["prompt_embeds"][[0, 1, 0, 1]]
    out = {"prompt_embeds": embed(text, ids, 0), "prompt_embeds_skip_1": embed(text, ids[:1], 1)}
    # One error over all six rows: how rounding turns out for a single one is luck, up to three times the others'.
    rows = [
        unet(short["latents"], given["timesteps"], texts).sample,
        unet(short["odd_latents"], given["timesteps"][1:3], texts[:2]).sample,
    ]
    out["noise_pred"] = torch.cat([row.flatten() for row in rows])
    out["decoded"] = vae.decode(short["scaled_latents"][None] / vae.config.scaling_factor).sample[0]
    posterior = vae.encode(short["image"][None]).latent_dist
    out["posterior_mean"], out["posterior_std"] = posterior.mean[0], posterior.std[0]
    rows = torch.cat([given[name].flatten() for name in ("noise_pred", "odd_noise_pred")])
    return {name: relative_l2(found, (given | {"noise_pred": rows})[name]) for name, found in out.items()}


def relative_l2(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.double(), expected.double()
    return float(f"{((found - expected).norm() / expected.norm()).item():.4g}")


def pictures(folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(POCKET, torch_dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    config, listed = pipeline.scheduler.config, []
    for sampler, prompt, negative_prompt, seed in PICTURES:
        scheduler, steps, options = SCHEDULERS[sampler]
        pipeline.scheduler = scheduler.from_config(config, **options)
        image = pipeline(
            prompt,
            negative_prompt=negative_prompt,
            num_inference_steps=steps,
            guidance_scale=2.0,
            height=128,
            width=128,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        image.save(folder / f"{sampler}.png", optimize=True)
        entry = {"file": f"{sampler}.png", "sampler": sampler, "num_inference_steps": steps, "prompt": prompt}
        listed.append(entry | {"negative_prompt": negative_prompt, "seed": seed, "guidance_scale": 2.0})
    (folder / "pictures.json").write_text(json.dumps(listed, indent=2) + "\n")


def main() -> None:
    torch.set_num_threads(2)
    for name, models, shapes in [
        ("tiny", seeded_models("tiny"), (8, (4, 5), (32, 40))),
        ("pocket", pocket_models(), (16, (6, 5), (48, 40))),
    ]:
        folder = HERE / name
        folder.mkdir(parents=True, exist_ok=True)
        given = networks(models, *shapes)
        save_file(given, folder / "networks.safetensors")
        (folder / "bf16.json").write_text(json.dumps(bf16_errors(models, given), indent=2) + "\n")
    pictures(HERE / "pocket")


if __name__ == "__main__":
    main()
