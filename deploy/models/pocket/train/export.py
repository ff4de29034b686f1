"""Stage `export`: the model as a diffusers folder in half precision."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import PNDMScheduler
from safetensors.torch import save_file
from transformers import CLIPTokenizer

import networks
import previews

GUIDANCE_SCALE = 2.0
"""Such flat pictures want little guidance: README.md has the rates."""


def load(folder: Path) -> tuple:
    """The trained text encoder, denoiser and autoencoder, in f32."""
    read = lambda name: torch.load(folder / name, weights_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text, unet = networks.text_encoder(tokenizer), networks.denoiser()
    vae = networks.autoencoder(torch.load(folder / "latents.pt", mmap=True, weights_only=True)["scaling_factor"])
    text.load_state_dict(read("text.pt"))
    unet.load_state_dict(read("denoiser.pt"))
    vae.load_state_dict(read("decoder.pt"))
    return text.eval(), unet.eval(), vae.eval()


def write(file: Path, value: dict) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main(folder: Path) -> None:
    out = folder / "model.new"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder / "tokenizer", out / "tokenizer")
    text, unet, vae = load(folder)
    preview = previews.fit(vae)
    unet.half().to(memory_format=torch.contiguous_format).save_pretrained(out / "unet")
    vae.half().to(memory_format=torch.contiguous_format).save_pretrained(out / "vae")
    (out / "text_encoder").mkdir()
    # Version 5 of transformers calls the tensors otherwise; every reader knows these names.
    named = lambda name: name if name.startswith("text_model.") else f"text_model.{name}"
    tensors = {named(name): tensor.half().contiguous() for name, tensor in text.state_dict().items() if "position_ids" not in name}
    save_file(tensors, out / "text_encoder/model.safetensors", metadata={"format": "pt"})
    kept = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads max_position_embeddings hidden_act layer_norm_eps"
        " projection_dim bos_token_id eos_token_id pad_token_id attention_dropout initializer_range initializer_factor"
    )
    config = text.config.to_dict()
    about = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
    write(out / "text_encoder/config.json", {**about, **{name: config[name] for name in kept.split()}, "torch_dtype": "float32"})
    PNDMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        set_alpha_to_one=False,
    ).save_pretrained(out / "scheduler")
    parts = {
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    none = {"feature_extractor": [None, None], "requires_safety_checker": False, "safety_checker": [None, None]}
    write(out / "model_index.json", {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0", **none, **parts})
    defaults = {"guidance_scale": GUIDANCE_SCALE, "num_inference_steps": 50, "sampler": "plms", "width": 128, "height": 128}
    for name, value in (("defaults.json", defaults), ("latent_rgb.json", preview)):
        (out / name).write_text(json.dumps(value) + "\n", encoding="utf-8")
    shutil.rmtree(folder / "model", ignore_errors=True)
    out.rename(folder / "model")
    print(f"{sum(file.stat().st_size for file in (folder / 'model').rglob('*') if file.is_file()) / 1e6:.1f} MB")
