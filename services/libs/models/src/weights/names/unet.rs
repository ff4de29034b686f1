//! The UNet: CompVis numbers its modules through, diffusers by block and layer.

use super::{Blocks, index, rename, rename_back};

const RESNET: [(&str, &str); 6] = [
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
];

/// Modules outside of the blocks.
const OUTSIDE: [(&str, &str); 7] = [
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    // CompVis' code has no such layer; distilled models have it under either name.
    ("time_embed.cond_proj.", "time_embedding.cond_proj."),
    ("time_embedding.cond_proj.", "time_embedding.cond_proj."),
    ("input_blocks.0.0.", "conv_in."),
    ("out.0.", "conv_norm_out."),
    ("out.2.", "conv_out."),
];

/// Residual blocks a down block: the first downsampling follows the last of them. The names come without
/// `model.diffusion_model.`.
pub(in crate::weights) fn layers_per_block<'a>(names: impl Iterator<Item = &'a str> + Clone) -> usize {
    let inputs = names.filter_map(|name| index(name.strip_prefix("input_blocks.")?));
    let downsampling = inputs.clone().filter(|(_, rest)| rest.starts_with("0.op.")).map(|(number, _)| number).min();
    let last = inputs.map(|(number, _)| number).max().unwrap_or(1);
    // One resolution alone has no downsampling, and every module but the first is a residual block.
    downsampling.map_or(last, |number| number.saturating_sub(1)).max(1)
}

/// The name of a tensor in the exponential moving average, which has no dots.
pub(in crate::weights) fn ema_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("model.")?;
    Some(format!("model_ema.{}", name.replace('.', "")))
}

/// `name` without `model.diffusion_model.`; `layers` residual blocks a down block.
pub(super) fn from_compvis(name: &str, layers: usize) -> Option<String> {
    if let Some(name) = rename(name, &OUTSIDE) {
        return Some(name);
    }
    if let Some(rest) = name.strip_prefix("middle_block.") {
        return match index(rest)? {
            (0, rest) => resnet("mid_block.resnets.0", rest),
            (1, rest) => Some(format!("mid_block.attentions.0.{rest}")),
            (2, rest) => resnet("mid_block.resnets.1", rest),
            _ => None,
        };
    }
    if let Some(rest) = name.strip_prefix("input_blocks.") {
        let (number, rest) = index(rest)?;
        let (module, rest) = index(rest)?;
        // Number 0 is the first convolution; each block has its layers and then the downsampling.
        let (block, layer) = ((number.checked_sub(1)?) / (layers + 1), (number - 1) % (layers + 1));
        return match module {
            0 if layer == layers => rename(rest, &[("op.", &format!("down_blocks.{block}.downsamplers.0.conv."))]),
            0 => resnet(&format!("down_blocks.{block}.resnets.{layer}"), rest),
            1 => Some(format!("down_blocks.{block}.attentions.{layer}.{rest}")),
            _ => None,
        };
    }
    let (number, rest) = index(name.strip_prefix("output_blocks.")?)?;
    let (module, rest) = index(rest)?;
    let (block, layer) = (number / (layers + 1), number % (layers + 1));
    match module {
        0 => resnet(&format!("up_blocks.{block}.resnets.{layer}"), rest),
        // The upsampling comes after the attention, or in its place where there is none.
        1 | 2 if rest.starts_with("conv.") => Some(format!("up_blocks.{block}.upsamplers.0.{rest}")),
        1 => Some(format!("up_blocks.{block}.attentions.{layer}.{rest}")),
        _ => None,
    }
}

fn resnet(block: &str, rest: &str) -> Option<String> {
    rename(rest, &RESNET).map(|rest| format!("{block}.{rest}"))
}

/// The name that becomes `name` by [`from_compvis`], without `model.diffusion_model.`.
pub(super) fn to_compvis(name: &str, blocks: &Blocks) -> Option<String> {
    if let Some(name) = rename_back(name, &OUTSIDE) {
        return Some(name);
    }
    if let Some(rest) = name.strip_prefix("mid_block.") {
        if let Some(rest) = rest.strip_prefix("attentions.0.") {
            return Some(format!("middle_block.1.{rest}"));
        }
        let (layer, rest) = index(rest.strip_prefix("resnets.")?)?;
        return rename_back(rest, &RESNET)
            .filter(|_| layer < 2)
            .map(|rest| format!("middle_block.{}.{rest}", 2 * layer));
    }
    let layers = blocks.unet_layers;
    if let Some(rest) = name.strip_prefix("down_blocks.") {
        let (block, rest) = index(rest)?;
        // Number 0 is the first convolution.
        let number = |layer: usize| 1 + block * (layers + 1) + layer;
        if let Some(rest) = rest.strip_prefix("downsamplers.0.conv.") {
            return Some(format!("input_blocks.{}.0.op.{rest}", number(layers)));
        }
        let (module, rest) = layer_of(rest)?;
        return module.renamed(rest).map(|rest| format!("input_blocks.{}.{rest}", number(module.layer)));
    }
    let (block, rest) = index(name.strip_prefix("up_blocks.")?)?;
    let number = |layer: usize| block * (layers + 1) + layer;
    if let Some(rest) = rest.strip_prefix("upsamplers.0.") {
        let module = 1 + usize::from(*blocks.up_block_attention.get(block)?);
        return Some(format!("output_blocks.{}.{module}.{rest}", number(layers)));
    }
    let (module, rest) = layer_of(rest)?;
    module.renamed(rest).map(|rest| format!("output_blocks.{}.{rest}", number(module.layer)))
}

/// A residual block or a transformer of a block.
struct Module {
    layer: usize,
    is_resnet: bool,
}

impl Module {
    /// Its number in the layer and a tensor's name within it, as CompVis has them.
    fn renamed(&self, rest: &str) -> Option<String> {
        if self.is_resnet {
            rename_back(rest, &RESNET).map(|rest| format!("0.{rest}"))
        } else {
            Some(format!("1.{rest}"))
        }
    }
}

/// Splits "resnets.1.rest" or "attentions.1.rest".
fn layer_of(name: &str) -> Option<(Module, &str)> {
    let (kind, rest) = name.split_once('.')?;
    let is_resnet = match kind {
        "resnets" => true,
        "attentions" => false,
        _ => return None,
    };
    let (layer, rest) = index(rest)?;
    Some((Module { layer, is_resnet }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_names() {
        let attention = vec![false, true, true, true];
        let blocks = Blocks { unet_layers: 2, up_block_attention: attention, vae_levels: 4 };
        for (compvis, diffusers) in [
            ("time_embed.2.bias", "time_embedding.linear_2.bias"),
            ("input_blocks.0.0.weight", "conv_in.weight"),
            ("input_blocks.3.0.op.weight", "down_blocks.0.downsamplers.0.conv.weight"),
            ("input_blocks.4.0.skip_connection.weight", "down_blocks.1.resnets.0.conv_shortcut.weight"),
            ("input_blocks.8.1.proj_in.weight", "down_blocks.2.attentions.1.proj_in.weight"),
            ("input_blocks.11.0.emb_layers.1.weight", "down_blocks.3.resnets.1.time_emb_proj.weight"),
            ("middle_block.2.out_layers.3.bias", "mid_block.resnets.1.conv2.bias"),
            ("output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
            ("output_blocks.5.2.conv.weight", "up_blocks.1.upsamplers.0.conv.weight"),
            (
                "output_blocks.5.1.transformer_blocks.0.attn2.to_k.weight",
                "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_k.weight",
            ),
            ("out.2.weight", "conv_out.weight"),
        ] {
            assert_eq!(from_compvis(compvis, 2).as_deref(), Some(diffusers), "{compvis}");
            assert_eq!(to_compvis(diffusers, &blocks).as_deref(), Some(compvis), "{diffusers}");
        }
        for stray in ["label_emb.0.0.weight", "input_blocks.x.0.op.weight", "input_blocks.1.7.weight", "out", ""] {
            assert_eq!(from_compvis(stray, 2), None, "{stray}");
        }
    }

    #[test]
    fn layers_are_counted_to_the_first_downsampling() {
        let names = ["input_blocks.1.0.in_layers.0.weight", "input_blocks.3.0.op.weight", "input_blocks.6.0.op.weight"];
        assert_eq!(layers_per_block(names.into_iter()), 2);
        assert_eq!(layers_per_block(["input_blocks.2.0.in_layers.0.weight"].into_iter()), 2);
        assert_eq!(layers_per_block(std::iter::empty()), 1);
    }

    #[test]
    fn ema_names_have_no_dots() {
        let name = ema_name("model.diffusion_model.input_blocks.0.0.weight");
        assert_eq!(name.as_deref(), Some("model_ema.diffusion_modelinput_blocks00weight"));
    }
}
