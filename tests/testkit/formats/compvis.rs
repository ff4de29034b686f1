//! Names of CompVis' single files, from diffusers' names: `openaimodel.py` and `model.py` of CompVis' Stable Diffusion.

use darkroom_models::config::{UNetConfig, VaeConfig};

/// The moving average's name of a UNet tensor: without the module's own prefix, and without dots.
pub(super) fn average(name: &str) -> String {
    format!("model_ema.{}", name.trim_start_matches("model.").replace('.', ""))
}

pub(super) fn text_encoder(name: &str) -> String {
    format!("cond_stage_model.transformer.text_model.{name}")
}

/// `input_blocks` and `output_blocks` count every layer, downsamplings included.
pub(super) fn unet(name: &str, config: &UNetConfig) -> String {
    let layers = config.layers_per_block;
    let parts: Vec<&str> = name.split('.').collect();
    let number = |index: usize| parts.get(index).and_then(|part| part.parse::<usize>().ok()).unwrap_or(0);
    let (block, layer) = (number(1), number(3));
    let rest = |from: usize| parts[from.min(parts.len())..].join(".");
    let renamed = match (parts[0], *parts.get(2).unwrap_or(&"")) {
        ("down_blocks", "resnets") => {
            format!("input_blocks.{}.0.{}", 1 + block * (layers + 1) + layer, unet_resnet(&rest(4)))
        }
        ("down_blocks", "attentions") => format!("input_blocks.{}.1.{}", 1 + block * (layers + 1) + layer, rest(4)),
        ("down_blocks", _) => format!("input_blocks.{}.0.op.{}", (block + 1) * (layers + 1), rest(5)),
        ("up_blocks", "resnets") => {
            format!("output_blocks.{}.0.{}", block * (layers + 1) + layer, unet_resnet(&rest(4)))
        }
        ("up_blocks", "attentions") => format!("output_blocks.{}.1.{}", block * (layers + 1) + layer, rest(4)),
        ("up_blocks", _) => {
            let module = 1 + usize::from(config.up_block_attention[block]);
            format!("output_blocks.{}.{module}.{}", block * (layers + 1) + layers, rest(4))
        }
        ("mid_block", _) if parts[1] == "attentions" => format!("middle_block.1.{}", rest(3)),
        ("mid_block", _) => format!("middle_block.{}.{}", 2 * number(2), unet_resnet(&rest(3))),
        ("time_embedding", _) if parts[1] == "cond_proj" => format!("time_embed.cond_proj.{}", rest(2)),
        ("time_embedding", _) => format!("time_embed.{}.{}", if parts[1] == "linear_1" { 0 } else { 2 }, rest(2)),
        ("conv_in", _) => format!("input_blocks.0.0.{}", rest(1)),
        ("conv_norm_out", _) => format!("out.0.{}", rest(1)),
        _ => format!("out.2.{}", rest(1)),
    };
    format!("model.diffusion_model.{renamed}")
}

fn unet_resnet(name: &str) -> String {
    name.replace("norm1.", "in_layers.0.")
        .replace("conv1.", "in_layers.2.")
        .replace("time_emb_proj.", "emb_layers.1.")
        .replace("norm2.", "out_layers.0.")
        .replace("conv2.", "out_layers.3.")
        .replace("conv_shortcut.", "skip_connection.")
}

/// The decoder's blocks count down.
pub(super) fn vae(name: &str, config: &VaeConfig) -> String {
    let last = config.block_out_channels.len() - 1;
    let mut name = name
        .replace("mid_block.resnets.0", "mid.block_1")
        .replace("mid_block.resnets.1", "mid.block_2")
        .replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
        .replace("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out")
        .replace("mid_block.attentions.0.to_", "mid.attn_1.")
        .replace("conv_norm_out", "norm_out")
        .replace("conv_shortcut", "nin_shortcut")
        .replace(".resnets.", ".block.")
        .replace("downsamplers.0", "downsample")
        .replace("upsamplers.0", "upsample")
        .replace("down_blocks.", "down.");
    for block in 0..=last {
        name = name.replace(&format!("up_blocks.{block}."), &format!("up.{}.", last - block));
    }
    format!("first_stage_model.{name}")
}

/// The attention's linear layers are 1×1 convolutions there.
pub(super) fn vae_shape(name: &str, shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if name.contains(".attentions.") && shape.len() == 2 {
        shape.extend([1, 1]);
    }
    shape
}
