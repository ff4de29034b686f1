"""The three networks, as diffusers and transformers know them: Stable Diffusion v1's architecture with small numbers."""

from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH = 96
"""Width of the text embeddings."""
TOKENS = 77
LATENT_SIDE, LATENT_CHANNELS = 16, 4


def autoencoder(scaling_factor: float = 1.0) -> AutoencoderKL:
    vae = AutoencoderKL(
        block_out_channels=(16, 24, 48, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        # Few groups: a group of few channels normalises the very colours away.
        norm_num_groups=2,
        sample_size=128,
        scaling_factor=scaling_factor,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    # On a CPU, faster than the fused attention, backwards above all.
    vae.set_attn_processor(AttnProcessor())
    return vae


def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        hidden_act="quick_gelu",
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        attn_implementation="eager",
    )
    return CLIPTextModel(config)


def denoiser() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )
    unet.set_attn_processor(AttnProcessor())
    return unet
