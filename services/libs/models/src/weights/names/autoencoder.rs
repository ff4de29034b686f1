//! The autoencoder: CompVis' decoder counts its blocks from the finest, diffusers' from the coarsest.

use super::{index, rename, rename_back};

const RESNET: [(&str, &str); 5] = [
    ("norm1.", "norm1."),
    ("conv1.", "conv1."),
    ("norm2.", "norm2."),
    ("conv2.", "conv2."),
    ("nin_shortcut.", "conv_shortcut."),
];

const ATTENTION: [(&str, &str); 5] =
    [("norm.", "group_norm."), ("q.", "to_q."), ("k.", "to_k."), ("v.", "to_v."), ("proj_out.", "to_out.0.")];

const OUTSIDE: [(&str, &str); 3] =
    [("conv_in.", "conv_in."), ("conv_out.", "conv_out."), ("norm_out.", "conv_norm_out.")];

/// What diffusers called the attention's layers before version 0.17.
const OLDER_ATTENTION: [(&str, &str); 4] =
    [("query.", "to_q."), ("key.", "to_k."), ("value.", "to_v."), ("proj_attn.", "to_out.0.")];

/// The number of resolutions, from names without `first_stage_model.`.
pub(super) fn levels<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.filter_map(|name| index(name.strip_prefix("decoder.up.")?)).map(|(level, _)| level + 1).max().unwrap_or(1)
}

/// Today's name of a tensor of a diffusers folder.
pub(super) fn from_older(name: &str) -> String {
    let attention = ".mid_block.attentions.0.";
    let renamed = name.split_once(attention).and_then(|(side, rest)| {
        let rest = rename(rest, &OLDER_ATTENTION)?;
        Some(format!("{side}{attention}{rest}"))
    });
    renamed.unwrap_or_else(|| name.to_owned())
}

/// `name` without `first_stage_model.`.
pub(super) fn from_compvis(name: &str, levels: usize) -> Option<String> {
    let (side, rest) = name.split_once('.')?;
    match side {
        "quant_conv" | "post_quant_conv" => Some(name.to_owned()),
        "encoder" | "decoder" => within(side, rest, levels).map(|rest| format!("{side}.{rest}")),
        _ => None,
    }
}

fn within(side: &str, name: &str, levels: usize) -> Option<String> {
    if let Some(name) = rename(name, &OUTSIDE) {
        return Some(name);
    }
    if let Some(rest) = name.strip_prefix("mid.") {
        let (module, rest) = rest.split_once('.')?;
        return match module {
            "block_1" => resnet("mid_block.resnets.0", rest),
            "block_2" => resnet("mid_block.resnets.1", rest),
            "attn_1" => rename(rest, &ATTENTION).map(|rest| format!("mid_block.attentions.0.{rest}")),
            _ => None,
        };
    }
    let (level, rest, block) = if side == "encoder" {
        let (level, rest) = index(name.strip_prefix("down.")?)?;
        (level, rest, "down_blocks")
    } else {
        let (level, rest) = index(name.strip_prefix("up.")?)?;
        ((levels - 1).checked_sub(level)?, rest, "up_blocks")
    };
    if let Some(rest) = rest.strip_prefix("block.") {
        let (layer, rest) = index(rest)?;
        return resnet(&format!("{block}.{level}.resnets.{layer}"), rest);
    }
    let resampling = [
        ("downsample.conv.", format!("{block}.{level}.downsamplers.0.conv.")),
        ("upsample.conv.", format!("{block}.{level}.upsamplers.0.conv.")),
    ];
    resampling.iter().find_map(|(old, new)| rest.strip_prefix(old).map(|rest| format!("{new}{rest}")))
}

fn resnet(block: &str, rest: &str) -> Option<String> {
    rename(rest, &RESNET).map(|rest| format!("{block}.{rest}"))
}

/// The name that becomes `name` by [`from_compvis`], without `first_stage_model.`.
pub(super) fn to_compvis(name: &str, levels: usize) -> Option<String> {
    let (side, rest) = name.split_once('.')?;
    match side {
        "quant_conv" | "post_quant_conv" => Some(name.to_owned()),
        "encoder" | "decoder" => back_within(rest, levels).map(|rest| format!("{side}.{rest}")),
        _ => None,
    }
}

fn back_within(name: &str, levels: usize) -> Option<String> {
    if let Some(name) = rename_back(name, &OUTSIDE) {
        return Some(name);
    }
    if let Some(rest) = name.strip_prefix("mid_block.") {
        if let Some(rest) = rest.strip_prefix("attentions.0.") {
            return rename_back(rest, &ATTENTION).map(|rest| format!("mid.attn_1.{rest}"));
        }
        let (layer, rest) = index(rest.strip_prefix("resnets.")?)?;
        return rename_back(rest, &RESNET).filter(|_| layer < 2).map(|rest| format!("mid.block_{}.{rest}", layer + 1));
    }
    let (block, rest) = match name.strip_prefix("down_blocks.") {
        Some(rest) => index(rest).map(|(level, rest)| (format!("down.{level}"), rest))?,
        None => {
            let (number, rest) = index(name.strip_prefix("up_blocks.")?)?;
            (format!("up.{}", (levels - 1).checked_sub(number)?), rest)
        }
    };
    if let Some(rest) = rest.strip_prefix("resnets.") {
        let (layer, rest) = index(rest)?;
        return rename_back(rest, &RESNET).map(|rest| format!("{block}.block.{layer}.{rest}"));
    }
    let resampling = [("downsample.conv.", "downsamplers.0.conv."), ("upsample.conv.", "upsamplers.0.conv.")];
    rename_back(rest, &resampling).map(|rest| format!("{block}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_names() {
        for (compvis, diffusers) in [
            ("encoder.down.0.block.1.conv2.bias", "encoder.down_blocks.0.resnets.1.conv2.bias"),
            ("encoder.down.1.block.0.nin_shortcut.weight", "encoder.down_blocks.1.resnets.0.conv_shortcut.weight"),
            ("encoder.down.2.downsample.conv.weight", "encoder.down_blocks.2.downsamplers.0.conv.weight"),
            ("encoder.mid.attn_1.q.weight", "encoder.mid_block.attentions.0.to_q.weight"),
            ("decoder.mid.attn_1.proj_out.bias", "decoder.mid_block.attentions.0.to_out.0.bias"),
            ("decoder.mid.attn_1.norm.bias", "decoder.mid_block.attentions.0.group_norm.bias"),
            ("decoder.up.3.block.2.norm1.weight", "decoder.up_blocks.0.resnets.2.norm1.weight"),
            ("decoder.up.1.upsample.conv.weight", "decoder.up_blocks.2.upsamplers.0.conv.weight"),
            ("decoder.norm_out.weight", "decoder.conv_norm_out.weight"),
            ("post_quant_conv.weight", "post_quant_conv.weight"),
        ] {
            assert_eq!(from_compvis(compvis, 4).as_deref(), Some(diffusers), "{compvis}");
            assert_eq!(to_compvis(diffusers, 4).as_deref(), Some(compvis), "{diffusers}");
        }
        for stray in ["loss.logvar", "decoder.up.9.block.0.norm1.weight", "encoder.down.0.attn.0.q.weight", "encoder"] {
            assert_eq!(from_compvis(stray, 4), None, "{stray}");
        }
    }

    #[test]
    fn older_diffusers_names() {
        let today = from_older("decoder.mid_block.attentions.0.proj_attn.weight");
        assert_eq!(today, "decoder.mid_block.attentions.0.to_out.0.weight");
        assert_eq!(from_older("encoder.mid_block.attentions.0.query.bias"), "encoder.mid_block.attentions.0.to_q.bias");
        let unchanged = "encoder.mid_block.attentions.0.group_norm.weight";
        assert_eq!(from_older(unchanged), unchanged);
    }
}
