//! The names and shapes of a model's tensors, from its configuration alone.
//!
//! Written from diffusers' and transformers' module trees, apart from the networks' own loading code, so that each checks
//! the other.

use darkroom_models::config::{ClipConfig, UNetConfig, VaeConfig};

/// Names and shapes, in the order of the network.
pub type Layout = Vec<(String, Vec<usize>)>;

/// A layout being written.
#[derive(Default)]
struct Writer(Layout);

impl Writer {
    fn tensor(&mut self, name: String, shape: &[usize]) {
        self.0.push((name, shape.to_vec()));
    }

    fn norm(&mut self, name: &str, channels: usize) {
        self.tensor(format!("{name}.weight"), &[channels]);
        self.tensor(format!("{name}.bias"), &[channels]);
    }

    fn conv(&mut self, name: &str, inputs: usize, outputs: usize, kernel: usize) {
        self.tensor(format!("{name}.weight"), &[outputs, inputs, kernel, kernel]);
        self.tensor(format!("{name}.bias"), &[outputs]);
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.projection(name, inputs, outputs);
        self.tensor(format!("{name}.bias"), &[outputs]);
    }

    /// A linear layer without a bias.
    fn projection(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.tensor(format!("{name}.weight"), &[outputs, inputs]);
    }

    fn resnet(&mut self, name: &str, inputs: usize, outputs: usize, time: Option<usize>) {
        self.norm(&format!("{name}.norm1"), inputs);
        self.conv(&format!("{name}.conv1"), inputs, outputs, 3);
        if let Some(width) = time {
            self.linear(&format!("{name}.time_emb_proj"), width, outputs);
        }
        self.norm(&format!("{name}.norm2"), outputs);
        self.conv(&format!("{name}.conv2"), outputs, outputs, 3);
        if inputs != outputs {
            self.conv(&format!("{name}.conv_shortcut"), inputs, outputs, 1);
        }
    }

    fn transformer(&mut self, name: &str, channels: usize, text: usize) {
        self.norm(&format!("{name}.norm"), channels);
        self.conv(&format!("{name}.proj_in"), channels, channels, 1);
        let block = format!("{name}.transformer_blocks.0");
        for (index, memory) in [(1, channels), (2, text)] {
            self.norm(&format!("{block}.norm{index}"), channels);
            self.projection(&format!("{block}.attn{index}.to_q"), channels, channels);
            self.projection(&format!("{block}.attn{index}.to_k"), memory, channels);
            self.projection(&format!("{block}.attn{index}.to_v"), memory, channels);
            self.linear(&format!("{block}.attn{index}.to_out.0"), channels, channels);
        }
        self.norm(&format!("{block}.norm3"), channels);
        self.linear(&format!("{block}.ff.net.0.proj"), channels, 8 * channels);
        self.linear(&format!("{block}.ff.net.2"), 4 * channels, channels);
        self.conv(&format!("{name}.proj_out"), channels, channels, 1);
    }

    /// The middle of the autoencoder's halves.
    fn pixel_mid(&mut self, name: &str, channels: usize) {
        self.resnet(&format!("{name}.resnets.0"), channels, channels, None);
        let attention = format!("{name}.attentions.0");
        self.norm(&format!("{attention}.group_norm"), channels);
        for projection in ["to_q", "to_k", "to_v", "to_out.0"] {
            self.linear(&format!("{attention}.{projection}"), channels, channels);
        }
        self.resnet(&format!("{name}.resnets.1"), channels, channels, None);
    }
}

/// transformers' `CLIPTextModel`, without its `text_model.` prefix.
#[must_use]
pub fn text_encoder_layout(config: &ClipConfig) -> Layout {
    let (mut out, width) = (Writer::default(), config.hidden_size);
    out.projection("embeddings.token_embedding", width, config.vocab_size);
    out.projection("embeddings.position_embedding", width, config.max_position_embeddings);
    for index in 0..config.num_hidden_layers {
        let layer = format!("encoder.layers.{index}");
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            out.linear(&format!("{layer}.self_attn.{projection}"), width, width);
        }
        out.norm(&format!("{layer}.layer_norm1"), width);
        out.norm(&format!("{layer}.layer_norm2"), width);
        out.linear(&format!("{layer}.mlp.fc1"), width, config.intermediate_size);
        out.linear(&format!("{layer}.mlp.fc2"), config.intermediate_size, width);
    }
    out.norm("final_layer_norm", width);
    out.0
}

/// diffusers' `UNet2DConditionModel`.
#[must_use]
pub fn unet_layout(config: &UNetConfig) -> Layout {
    let mut out = Writer::default();
    let (widths, text, layers) = (&config.block_out_channels, config.cross_attention_dim, config.layers_per_block);
    let (levels, time) = (widths.len(), 4 * widths[0]);
    out.conv("conv_in", config.in_channels, widths[0], 3);
    out.linear("time_embedding.linear_1", widths[0], time);
    out.linear("time_embedding.linear_2", time, time);
    if let Some(guidance) = config.time_cond_proj_dim {
        out.projection("time_embedding.cond_proj", guidance, widths[0]);
    }

    // The channels that each skip connection carries.
    let mut skips = vec![widths[0]];
    let mut channels = widths[0];
    for (level, width) in widths.iter().enumerate() {
        let block = format!("down_blocks.{level}");
        for layer in 0..layers {
            out.resnet(&format!("{block}.resnets.{layer}"), channels, *width, Some(time));
            channels = *width;
            if config.down_block_attention[level] {
                out.transformer(&format!("{block}.attentions.{layer}"), channels, text);
            }
            skips.push(channels);
        }
        if level + 1 < levels {
            out.conv(&format!("{block}.downsamplers.0.conv"), channels, channels, 3);
            skips.push(channels);
        }
    }

    out.resnet("mid_block.resnets.0", channels, channels, Some(time));
    out.transformer("mid_block.attentions.0", channels, text);
    out.resnet("mid_block.resnets.1", channels, channels, Some(time));

    for index in 0..levels {
        let (block, width) = (format!("up_blocks.{index}"), widths[levels - 1 - index]);
        for layer in 0..=layers {
            let skip = skips.pop().unwrap_or_default();
            out.resnet(&format!("{block}.resnets.{layer}"), channels + skip, width, Some(time));
            channels = width;
            if config.up_block_attention[index] {
                out.transformer(&format!("{block}.attentions.{layer}"), channels, text);
            }
        }
        if index + 1 < levels {
            out.conv(&format!("{block}.upsamplers.0.conv"), channels, channels, 3);
        }
    }
    out.norm("conv_norm_out", channels);
    out.conv("conv_out", channels, config.out_channels, 3);
    out.0
}

/// diffusers' `AutoencoderKL`.
#[must_use]
pub fn vae_layout(config: &VaeConfig) -> Layout {
    let mut out = Writer::default();
    let (widths, latents) = (&config.block_out_channels, config.latent_channels);
    let last = widths[widths.len() - 1];

    let mut channels = widths[0];
    out.conv("encoder.conv_in", config.in_channels, channels, 3);
    for (level, width) in widths.iter().enumerate() {
        for layer in 0..config.layers_per_block {
            out.resnet(&format!("encoder.down_blocks.{level}.resnets.{layer}"), channels, *width, None);
            channels = *width;
        }
        if level + 1 < widths.len() {
            out.conv(&format!("encoder.down_blocks.{level}.downsamplers.0.conv"), channels, channels, 3);
        }
    }
    out.pixel_mid("encoder.mid_block", last);
    out.norm("encoder.conv_norm_out", last);
    out.conv("encoder.conv_out", last, 2 * latents, 3);
    out.conv("quant_conv", 2 * latents, 2 * latents, 1);
    out.conv("post_quant_conv", latents, latents, 1);

    channels = last;
    out.conv("decoder.conv_in", latents, channels, 3);
    out.pixel_mid("decoder.mid_block", channels);
    for (index, width) in widths.iter().rev().enumerate() {
        for layer in 0..=config.layers_per_block {
            out.resnet(&format!("decoder.up_blocks.{index}.resnets.{layer}"), channels, *width, None);
            channels = *width;
        }
        if index + 1 < widths.len() {
            out.conv(&format!("decoder.up_blocks.{index}.upsamplers.0.conv"), channels, channels, 3);
        }
    }
    out.norm("decoder.conv_norm_out", channels);
    out.conv("decoder.conv_out", channels, config.out_channels, 3);
    out.0
}
