//! Files that are no LoRA of this model, and what their refusals say.

use std::collections::HashMap;

use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::*;

/// A layer of the embedded model's UNet, `[64, 64]`.
const LAYER: &str = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";

/// A tensor by name, shape, and the value that it is full of.
type Tensor<'a> = (&'a str, &'a [usize], f32);

fn file(tensors: &[Tensor<'_>], config: Option<&str>) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, shape, value)| value.to_le_bytes().repeat(shape.iter().product())).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    let config = config.map(|text| HashMap::from([("lora_adapter_metadata".to_owned(), text.to_owned())]));
    safetensors::serialize(views, config).unwrap()
}

fn read(name: &str, bytes: &[u8]) -> Result<Loras, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), bytes).unwrap();
    let shown = format!("{}/", folder.path().display());
    Loras::from_folder(folder.path(), &pocket()).map_err(|error| error.to_string().replace(&shown, ""))
}

/// A LoRA's file with these tensors of one layer, and what reading it says.
fn refusal(tensors: &[Tensor<'_>]) -> String {
    let names: Vec<String> = tensors.iter().map(|(name, ..)| name.replace("LAYER", LAYER)).collect();
    let tensors: Vec<Tensor<'_>> =
        names.iter().zip(tensors).map(|(name, (_, shape, value))| (name.as_str(), *shape, *value)).collect();
    read("x.safetensors", &file(&tensors, None)).map(drop).unwrap_err().replace(LAYER, "LAYER")
}

const DOWN: Tensor<'_> = ("LAYER.lora_A.weight", &[4, 64], 0.1);
const UP: Tensor<'_> = ("LAYER.lora_B.weight", &[64, 4], 0.1);

#[test]
fn what_is_not_a_lora_of_this_model_is_refused_by_name() {
    let cases: &[(&[Tensor<'_>], &str)] = &[
        (&[], "x.safetensors is malformed: it has no tensors"),
        (&[DOWN], "x.safetensors is malformed: it has no second factor (up, B) for the layer "),
        (&[UP], "x.safetensors is malformed: it has no first factor (down, A) for the layer "),
        (
            &[("LAYER.lora_A.weight", &[4, 40], 0.1), UP],
            "tensor LAYER.lora_A.weight of x.safetensors has shape [4, 40]; its configuration expects [4, 64]",
        ),
        (
            &[DOWN, ("LAYER.lora_B.weight", &[64, 8], 0.1)],
            "tensor LAYER.lora_B.weight of x.safetensors has shape [64, 8]; its configuration expects [64, 4]",
        ),
        (
            &[("LAYER.lora_A.weight", &[0, 64], 0.1), ("LAYER.lora_B.weight", &[64, 0], 0.1)],
            "x.safetensors is not supported: tensor LAYER.lora_A.weight has rank 0; expected 1 to 1024",
        ),
        (
            &[("LAYER.lora_A.weight", &[1025, 64], 0.1), ("LAYER.lora_B.weight", &[64, 1025], 0.1)],
            "x.safetensors is not supported: tensor LAYER.lora_A.weight has rank 1025; expected 1 to 1024",
        ),
        (
            &[DOWN, ("LAYER.lora_B.weight", &[64, 4], f32::NAN)],
            "x.safetensors is malformed: tensor LAYER.lora_B.weight has the value NaN",
        ),
        (
            &[("LAYER.lora_A.weight", &[4, 64], f32::INFINITY), UP],
            "x.safetensors is malformed: tensor LAYER.lora_A.weight has the value inf",
        ),
        (
            &[DOWN, UP, ("LAYER.alpha", &[], f32::NAN)],
            "x.safetensors is malformed: tensor LAYER.alpha has the value NaN",
        ),
        (
            &[DOWN, UP, ("LAYER.alpha", &[], 1e9)],
            "x.safetensors is malformed: tensor LAYER.alpha is 1000000000; expected -65536 to 65536",
        ),
        (
            &[DOWN, UP, ("LAYER.alpha", &[2], 1.0)],
            "x.safetensors is malformed: tensor LAYER.alpha has shape [2]; expected one number",
        ),
        (
            &[DOWN, UP, ("LAYER.lora.down.weight", &[4, 64], 0.1)],
            "x.safetensors is malformed: its tensors LAYER.lora.down.weight and LAYER.lora_A.weight mean the same",
        ),
        (
            &[DOWN, UP, ("unet.down_blocks.7.resnets.0.conv1.lora_A.weight", &[4, 64, 3, 3], 0.1)],
            "x.safetensors is not supported: its tensor unet.down_blocks.7.resnets.0.conv1.lora_A.weight is for a layer that this model's UNet \
             does not have",
        ),
        (
            &[DOWN, UP, ("lora_te_text_model_encoder_layers_11_mlp_fc1.alpha", &[], 1.0)],
            "x.safetensors is not supported: its tensor lora_te_text_model_encoder_layers_11_mlp_fc1.alpha is for a layer that this model's text \
             encoder does not have",
        ),
        (
            &[DOWN, UP, ("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a", &[4, 4], 0.1)],
            "x.safetensors is not supported: its tensor lora_unet_mid_block_attentions_0_proj_in.hada_w1_a makes it a LoHa; Darkroom adds LoRAs \
             to layers",
        ),
    ];
    for (tensors, expected) in cases {
        let found = refusal(tensors);
        let found = found.replace(LAYER.trim_start_matches("unet."), "");
        assert_eq!(found, *expected);
    }
    assert!(
        read("x.safetensors", b"no safetensors").map(drop).unwrap_err().starts_with("x.safetensors is malformed: ")
    );
}

#[test]
fn names_that_requests_could_not_write_are_refused() {
    let good =
        file(&[(&DOWN.0.replace("LAYER", LAYER), DOWN.1, 0.1), (&UP.0.replace("LAYER", LAYER), UP.1, 0.1)], None);
    assert!(read("fine name.v2.safetensors", &good).is_ok());
    for name in ["a:b.safetensors", "<a>.safetensors", "a\nb.safetensors", &format!("{}.safetensors", "a".repeat(129))]
    {
        let error = read(name, &good).map(drop).unwrap_err();
        assert!(error.contains("a LoRA's name has 1 to 128 characters"), "{error}");
    }
    assert!(read("notes.txt", b"whatever").unwrap().is_empty());
}

/// What `named` adds to the predicted noise, with layers scaled as the file's header says.
#[test]
fn pefts_configuration_scales_layers_without_an_alpha() {
    let names = ["lora_A", "lora_B"].map(|factor| format!("{LAYER}.{factor}.weight"));
    let alpha = format!("{LAYER}.alpha");
    let factors = [(names[0].as_str(), DOWN.1, 0.1), (names[1].as_str(), UP.1, 0.1)];
    let noise = |tensors: &[Tensor<'_>], config: Option<&str>| {
        let loras = read("x.safetensors", &file(tensors, config)).unwrap();
        predict(unet(Precision::F32, &loras).as_mut(), &[("x", 1.0)])
    };
    let halved = noise(&[factors[0], factors[1], (&alpha, &[], 2.0)], None);
    assert!(noise(&factors, None) != halved);
    assert!(noise(&factors, Some(r#"{"unet.r": 4, "unet.lora_alpha": 2, "unet.alpha_pattern": null}"#)) == halved);
    let pattern = r#"{"unet.r": 4, "unet.lora_alpha": 16, "unet.alpha_pattern": {"attn1.to_q": 2}}"#;
    assert!(noise(&factors, Some(pattern)) == halved);
    assert!(noise(&factors, Some(r#"{"text_encoder.lora_alpha": 2}"#)) != halved);
    for (config, expected) in [
        (r#"{"unet.use_dora": true}"#, "its lora_adapter_metadata says use_dora; only plain LoRA is read"),
        (r#"{"unet.lora_alpha": 1e30}"#, "its lora_adapter_metadata has the alpha"),
        (r#"{"unet.lora_alpha": "two"}"#, "its lora_adapter_metadata is invalid"),
        ("[", "its lora_adapter_metadata is invalid"),
    ] {
        let error = read("x.safetensors", &file(&factors, Some(config))).map(drop).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// A file that was sound until some of its header or its end was overwritten.
    #[test]
    fn damaged_files_are_read_or_refused_by_name(damage in prop::collection::vec((0_usize..6000, any::<u8>()), 1..6), cut in 0_usize..3000) {
        let mut bytes = fs::read(golden("files/flat.safetensors")).unwrap();
        for (at, byte) in damage {
            bytes[8 + at] = byte;
        }
        bytes.truncate(bytes.len() - cut.saturating_sub(1000));
        if let Err(error) = read("x.safetensors", &bytes) {
            prop_assert!(error.contains("x.safetensors") && error.len() < 2000, "{error}");
        }
    }
}
