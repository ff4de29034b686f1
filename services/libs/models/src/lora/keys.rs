//! The names of an adapter's tensors: which network, which layer and which of the layer's tensors each means.
//!
//! Layouts as `networks/lora.py` of kohya-ss' sd-scripts writes them, and as diffusers' `utils/state_dict_utils.py` and
//! `loaders/lora_conversion_utils.py` read them.

use super::Network;

/// What a tensor is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `A`, applied first.
    Down,
    /// `B`.
    Up,
    /// What the product is scaled by, times the rank.
    Alpha,
}

/// A layer as a file names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// With dots, as diffusers does.
    Dotted(String),
    /// With underscores in their place, as kohya-ss does.
    Joined(String),
}

/// A tensor's name, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) network: Network,
    pub(super) layer: Layer,
    pub(super) role: Role,
}

/// What names of other kinds of adapters contain.
const OTHERS: [(&str, &str); 15] = [
    ("lora_mid", "a LoRA with a third factor (Tucker decomposition)"),
    ("hada_", "a LoHa"),
    ("lokr_", "a LoKr"),
    ("oft_", "an OFT"),
    ("glora", "a GLoRA"),
    ("boft", "a BOFT"),
    ("dora_scale", "a DoRA"),
    ("lora_magnitude_vector", "a DoRA"),
    (".diff", "differences of whole weights"),
    (".bias", "a LoRA with biases"),
    ("lora_te2_", "a LoRA of Stable Diffusion XL"),
    ("text_encoder_2.", "a LoRA of Stable Diffusion XL"),
    ("lora_te3_", "a LoRA of Stable Diffusion 3"),
    ("transformer.", "a LoRA of a diffusion transformer"),
    ("lora_embedding", "a LoRA of an embedding"),
];

/// Ends of names, the longer before those that they end with.
const ROLES: [(&str, Role); 13] = [
    (".lora_linear_layer.down", Role::Down),
    (".lora_linear_layer.up", Role::Up),
    (".lora_A.default", Role::Down),
    (".lora_B.default", Role::Up),
    (".lora_down", Role::Down),
    (".lora_up", Role::Up),
    (".lora_A", Role::Down),
    (".lora_B", Role::Up),
    (".lora.down", Role::Down),
    (".lora.up", Role::Up),
    ("_lora.down", Role::Down),
    ("_lora.up", Role::Up),
    (".alpha", Role::Alpha),
];

/// What the projections of a text encoder's attention were called in diffusers' first layout.
const RENAMED: [(&str, &str); 4] =
    [(".to_q", ".q_proj"), (".to_k", ".k_proj"), (".to_v", ".v_proj"), (".to_out", ".out_proj")];

impl Key {
    /// Reads a tensor's name.
    ///
    /// # Errors
    /// What the name says that the file is, if not a LoRA that is supported.
    pub(super) fn read(name: &str) -> Result<Self, &'static str> {
        if let Some((_, what)) = OTHERS.iter().find(|(part, _)| name.contains(part)) {
            return Err(what);
        }
        let bare = name.strip_suffix(".weight").unwrap_or(name);
        let role = ROLES.iter().find_map(|(end, role)| Some((bare.strip_suffix(end)?, *role)));
        let (layer, role) = role.ok_or("something else than a LoRA's factors and alphas")?;
        let prefixed = |prefix| layer.strip_prefix(prefix);
        let (network, layer) = if let Some(layer) = prefixed("lora_unet_") {
            (Network::Unet, Layer::Joined(layer.to_owned()))
        } else if let Some(layer) = prefixed("lora_te_").or_else(|| prefixed("lora_te1_")) {
            let layer = layer.strip_prefix("text_model_").unwrap_or(layer);
            (Network::TextEncoder, Layer::Joined(layer.to_owned()))
        } else if let Some(layer) = prefixed("text_encoder.") {
            (Network::TextEncoder, Layer::Dotted(of_text_encoder(layer)))
        } else {
            // A UNet that was saved by itself has no prefix.
            (Network::Unet, Layer::Dotted(of_unet(prefixed("unet.").unwrap_or(layer))))
        };
        Ok(Self { network, layer, role })
    }
}

fn of_text_encoder(layer: &str) -> String {
    let layer = layer.strip_prefix("text_model.").unwrap_or(layer);
    let renamed = RENAMED.iter().find_map(|(old, new)| Some(format!("{}{new}", layer.strip_suffix(old)?)));
    renamed.unwrap_or_else(|| layer.to_owned())
}

fn of_unet(layer: &str) -> String {
    let layer = layer.replace(".processor.", ".");
    if layer.ends_with(".to_out") { layer + ".0" } else { layer }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dotted(network: Network, layer: &str, role: Role) -> Key {
        Key { network, layer: Layer::Dotted(layer.into()), role }
    }

    #[test]
    fn layouts_name_the_same_layers() {
        let block = "down_blocks.0.attentions.0.transformer_blocks.0";
        for (name, layer, role) in [
            ("unet.{}.attn1.to_q.lora_A.weight", "to_q", Role::Down),
            ("{}.attn1.to_q.lora_A.weight", "to_q", Role::Down),
            ("unet.{}.attn1.to_q.lora.up.weight", "to_q", Role::Up),
            ("unet.{}.attn1.processor.to_k_lora.down.weight", "to_k", Role::Down),
            ("unet.{}.attn1.processor.to_out_lora.up.weight", "to_out.0", Role::Up),
            ("unet.{}.attn1.to_out.0.lora_B.default.weight", "to_out.0", Role::Up),
            ("unet.{}.attn1.to_v.alpha", "to_v", Role::Alpha),
        ] {
            let found = Key::read(&name.replace("{}", block));
            assert_eq!(found, Ok(dotted(Network::Unet, &format!("{block}.attn1.{layer}"), role)), "{name}");
        }
        let layer = "encoder.layers.1.self_attn.out_proj";
        for name in [
            "text_encoder.text_model.encoder.layers.1.self_attn.out_proj.lora_linear_layer.down.weight",
            "text_encoder.text_model.encoder.layers.1.self_attn.to_out_lora.down.weight",
            "text_encoder.encoder.layers.1.self_attn.out_proj.lora_A.weight",
        ] {
            assert_eq!(Key::read(name), Ok(dotted(Network::TextEncoder, layer, Role::Down)), "{name}");
        }
        let layer = Layer::Joined("encoder_layers_0_mlp_fc1".into());
        let kohya = Key { network: Network::TextEncoder, layer, role: Role::Alpha };
        assert_eq!(Key::read("lora_te_text_model_encoder_layers_0_mlp_fc1.alpha"), Ok(kohya.clone()));
        assert_eq!(Key::read("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha"), Ok(kohya));
    }

    #[test]
    fn other_kinds_are_told_by_name() {
        for (name, what) in [
            ("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a", "a LoHa"),
            ("lora_unet_conv_in.lora_mid.weight", "a LoRA with a third factor (Tucker decomposition)"),
            ("unet.conv_in.lora_magnitude_vector", "a DoRA"),
            ("lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha", "a LoRA of Stable Diffusion XL"),
            ("unet.conv_in.weight", "something else than a LoRA's factors and alphas"),
        ] {
            assert_eq!(Key::read(name), Err(what));
        }
    }
}
