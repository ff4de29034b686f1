"""Makes `tests/golden/loras/*`: LoRAs of the embedded model, and what diffusers and PEFT make of them in f32 on a CPU.

    pip install torch diffusers transformers peft safetensors pillow    # made with torch 2.15, diffusers 0.42.1, peft 0.21.2
    python tests/golden/make_loras.py

`files/*`: one LoRA (linear layers of both networks) as kohya-ss' sd-scripts, diffusers with PEFT and diffusers before that write it, and one of every
layer that has a product, convolutions and the time's too. `expected.safetensors`: embeddings and predicted noise. `pictures.json` and the
PNGs: whole pictures of one LoRA and of two.
"""

import json
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from make_models import POCKET

HERE = Path(__file__).parent / "loras"
FILES = HERE / "files"
LINEAR = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
# Of the first LoRA. Their ratio is a power of two above 1, so that the layouts without alphas can hold it exactly in f16.
RANK, ALPHA = 4, 8.0

PICTURES = [
    ("a red circle on a white background", "", 51, "ddim", [("flat", 1.0)]),
    ("a green star on a black background", "a small blue heart", 52, "ddim", [("flat", -0.75)]),
    ("a blue square on a yellow background", "", 53, "ddim", [("flat", 0.5), ("every layer", 0.8)]),
    ("a purple heart on a gray background", "", 54, "ddim", [("every layer", 1.25)]),
]


def factors(module, rank, draw, strength):
    """A and B, f16 as they are kept."""
    weight = module.weight
    inner = weight[0].numel()
    down = torch.randn((rank, *weight.shape[1:]), generator=draw) / inner**0.5
    up = torch.randn((weight.shape[0], rank), generator=draw) * strength / rank**0.5
    if weight.dim() == 4:
        up = up[..., None, None]
    return down.half(), up.half()


def of(networks, wanted, rank, seed, strength):
    draw = torch.Generator().manual_seed(seed)
    made = {}
    for prefix, network in networks:
        for name, module in network.named_modules():
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and wanted(prefix, name):
                made[f"{prefix}.{name}"] = factors(module, rank, draw, strength)
    return made


def kohya(layers, alpha):
    named = {}
    for layer, (down, up) in layers.items():
        # Recent transformers have no text_model level; sd-scripts' names do.
        layer = layer.replace("text_encoder.", "lora_te.text_model.").replace("text_model.text_model.", "text_model.")
        layer = layer.replace("unet.", "lora_unet.").replace(".", "_")
        named |= {f"{layer}.lora_down.weight": down.clone(), f"{layer}.lora_up.weight": up.clone()}
        named[f"{layer}.alpha"] = torch.tensor(alpha)
    return named


def peft(layers, scale):
    named = {}
    for layer, (down, up) in layers.items():
        named |= {f"{layer}.lora_A.weight": down.clone(), f"{layer}.lora_B.weight": up * scale}
    return named


def before_peft(layers, scale):
    named = {}
    for layer, (down, up) in layers.items():
        block, last = layer.rsplit(".to_", 1) if ".to_" in layer else (layer, None)
        if last is not None:
            stem = f"{block}.processor.to_{last.split('.')[0]}_lora"
        elif layer.startswith("text_encoder."):
            stem = f"{layer.replace('text_encoder.encoder', 'text_encoder.text_model.encoder')}.lora_linear_layer"
        else:
            stem = f"{layer}.lora"
        named |= {f"{stem}.down.weight": down.clone(), f"{stem}.up.weight": up * scale}
    return named


def use(pipeline, chosen):
    names = [name.replace(" ", "_") for name, _ in chosen]
    pipeline.set_adapters(names, [weight for _, weight in chosen])


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(2)
    FILES.mkdir(parents=True, exist_ok=True)
    pipeline = StableDiffusionPipeline.from_pretrained(POCKET, torch_dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    networks = [("unet", pipeline.unet), ("text_encoder", pipeline.text_encoder)]

    flat = of(networks, lambda prefix, name: prefix != "unet" or name.endswith(LINEAR), RANK, 1, 0.0625)
    save_file(kohya(flat, ALPHA), FILES / "flat.safetensors")
    save_file(peft(flat, ALPHA / RANK), FILES / "flat peft.safetensors")
    save_file(before_peft(flat, ALPHA / RANK), FILES / "flat before.safetensors")
    every = of(networks, lambda prefix, name: True, 2, 2, 0.2)
    save_file(peft(every, 1.0), FILES / "every layer.safetensors")

    for name in ["flat peft", "every layer"]:
        adapter = name.replace("flat peft", "flat").replace(" ", "_")
        pipeline.load_lora_weights(FILES, weight_name=f"{name}.safetensors", adapter_name=adapter)
    loaded = sum("lora_A" in name for name, _ in pipeline.unet.named_parameters())
    wanted = sum(name.startswith("unet.") for name in [*flat, *every])
    assert loaded == wanted, f"diffusers has taken {loaded} layers of {wanted}"

    tensors = {}
    use(pipeline, [("flat", 1.0)])
    text = "a red circle on a white background"
    tensors["prompt_embeds.flat"] = pipeline.encode_prompt(text, "cpu", 1, False)[0].contiguous()
    use(pipeline, [("flat", 0.5), ("every layer", -0.8)])
    tensors["prompt_embeds.both"] = pipeline.encode_prompt(text, "cpu", 1, False)[0].contiguous()
    latents = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(3))
    embeds = torch.randn((1, 77, 96), generator=torch.Generator().manual_seed(4))
    tensors |= {"latents": latents, "embeds": embeds}
    for name, chosen in [("flat", [("flat", 1.0)]), ("every", [("every layer", 1.0)]), ("both", [("flat", 0.5), ("every layer", -0.8)])]:
        use(pipeline, chosen)
        tensors[f"noise_pred.{name}"] = pipeline.unet(latents, 421.0, embeds).sample.contiguous()
    save_file(tensors, HERE / "expected.safetensors")

    listed = []
    for positive, negative, seed, sampler, chosen in PICTURES:
        use(pipeline, chosen)
        generator = torch.Generator().manual_seed(seed)
        asked = {"num_inference_steps": 20, "guidance_scale": 2.0}
        image = pipeline(positive, negative_prompt=negative, generator=generator, **asked).images[0]
        file = f"lora-{seed}.png"
        image.save(HERE / file, optimize=True)
        request = {"prompt": positive, "negative_prompt": negative, "sampler": sampler, "seed": seed, "loras": chosen}
        listed.append({"file": file, "request": request | asked})
    (HERE / "pictures.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    main()
