//! Diffusers folders in all the shapes that they have been saved in: the same weights have the same revision.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use darkroom_models::source::{LatentRgb, ModelSource, SourceOptions};
use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
use serde_json::json;

use super::builder::{self, Pickle};
use super::{pocket_copy, resolve, set};

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (&str, TensorView<'_>)| {
        (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.iter().map(tensor).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

fn pocket() -> ModelSource {
    ModelSource::resolve(None, SourceOptions::default()).unwrap()
}

#[test]
fn the_embedded_model_is_the_folder() {
    let folder = pocket_copy();
    let (embedded, disk) = (pocket(), resolve(folder.path()).unwrap());
    assert_eq!(embedded.name(), "pocket");
    assert_eq!(embedded.defaults().unwrap(), disk.defaults().unwrap());
    assert_eq!(embedded.defaults().unwrap().guidance_scale, 2.0);
    assert_eq!(embedded.schedule(), disk.schedule());
    assert_eq!(embedded.unet().unwrap().1.revision(), disk.unet().unwrap().1.revision());
    let map = embedded.latent_rgb().unwrap();
    assert_eq!(map.weights.len(), 4);
    assert_ne!(map, LatentRgb::stable_diffusion_v1());
    assert!(ModelSource::resolve(Some("pocket"), SourceOptions::default()).is_ok());
}

#[test]
fn without_a_word_of_its_own_a_model_takes_the_references_defaults() {
    let folder = pocket_copy();
    fs::remove_file(folder.path().join("defaults.json")).unwrap();
    fs::remove_file(folder.path().join("latent_rgb.json")).unwrap();
    let source = resolve(folder.path()).unwrap();
    let defaults = source.defaults().unwrap();
    assert_eq!((defaults.guidance_scale, defaults.num_inference_steps, defaults.sampler.name()), (7.5, 50, "plms"));
    // sample_size 16 times the autoencoder's factor 8.
    assert_eq!((defaults.width, defaults.height), (128, 128));
    assert_eq!(source.latent_rgb().unwrap(), LatentRgb::stable_diffusion_v1());
}

#[test]
fn half_precision_variants_are_found() {
    let folder = pocket_copy();
    let of = |name: &str| folder.path().join("unet").join(name);
    fs::rename(of("diffusion_pytorch_model.safetensors"), of("diffusion_pytorch_model.fp16.safetensors")).unwrap();
    let found = resolve(folder.path()).unwrap().unet().unwrap().1;
    assert_eq!(found.revision(), pocket().unet().unwrap().1.revision());
    assert!(found.file().ends_with("fp16.safetensors"));
}

#[test]
fn shards_are_gathered() {
    let folder = pocket_copy();
    let of = |name: &str| folder.path().join("unet").join(name);
    let mut first = read(&of("diffusion_pytorch_model.safetensors"));
    let middle = first.keys().nth(100).unwrap().clone();
    let second = first.split_off(&middle);
    fs::remove_file(of("diffusion_pytorch_model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (shard, tensors) in [("shard-1.safetensors", &first), ("shard-2.safetensors", &second)] {
        write(&of(shard), tensors);
        map.extend(tensors.keys().map(|name| (name.clone(), json!(shard))));
    }
    let index = of("diffusion_pytorch_model.safetensors.index.json");
    fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    let revision = resolve(folder.path()).unwrap().unet().unwrap().1.revision();
    assert_eq!(revision, pocket().unet().unwrap().1.revision());

    set(&index, "weight_map", json!({"a": "../../secret.safetensors"}));
    let message = resolve(folder.path()).unwrap().unet().err().unwrap().to_string();
    assert!(message.contains("is not the name of a file beside it"), "{message}");
    set(&index, "weight_map", json!({"a": "shard-9.safetensors"}));
    let message = resolve(folder.path()).unwrap().unet().err().unwrap().to_string();
    assert!(message.ends_with("names the shard shard-9.safetensors, which is missing"), "{message}");
}

#[test]
fn older_autoencoder_names_are_todays() {
    let folder = pocket_copy();
    let path = folder.path().join("vae/diffusion_pytorch_model.safetensors");
    let older = read(&path).into_iter().map(|(name, (dtype, mut shape, data))| {
        let mut renamed = name.clone();
        for (today, older) in [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")] {
            renamed = renamed.replace(&format!("attentions.0.{today}."), &format!("attentions.0.{older}."));
        }
        if renamed != name && shape.len() == 2 {
            shape.extend([1, 1]);
        }
        (renamed, (dtype, shape, data))
    });
    let older: Tensors = older.collect();
    assert!(older.contains_key("decoder.mid_block.attentions.0.proj_attn.weight"));
    write(&path, &older);
    let revision = resolve(folder.path()).unwrap().vae().unwrap().1.revision();
    assert_eq!(revision, pocket().vae().unwrap().1.revision());
}

#[test]
fn the_text_encoders_prefix_comes_and_goes() {
    let folder = pocket_copy();
    let path = folder.path().join("text_encoder/model.safetensors");
    let tensors = read(&path);
    assert!(tensors.keys().all(|name| name.starts_with("text_model.")));
    let mut bare: Tensors =
        tensors.into_iter().map(|(name, tensor)| (name["text_model.".len()..].to_owned(), tensor)).collect();
    // What older releases add, and whole CLIP models.
    bare.insert("embeddings.position_ids".into(), (Dtype::I64, vec![1, 77], vec![0; 77 * 8]));
    bare.insert("logit_scale".into(), (Dtype::F32, vec![], vec![0; 4]));
    write(&path, &bare);
    // transformers nests the configuration of a whole CLIP model.
    let config = folder.path().join("text_encoder/config.json");
    let inner: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    fs::write(&config, json!({"model_type": "clip", "text_config": inner}).to_string()).unwrap();
    let revision = resolve(folder.path()).unwrap().text_encoder().unwrap().1.revision();
    assert_eq!(revision, pocket().text_encoder().unwrap().1.revision());
}

#[test]
fn the_revision_covers_the_configuration() {
    let folder = pocket_copy();
    set(&folder.path().join("vae/config.json"), "scaling_factor", json!(0.5));
    let revision = resolve(folder.path()).unwrap().vae().unwrap().1.revision();
    assert_ne!(revision, pocket().vae().unwrap().1.revision());
}

#[test]
fn pickles_do_where_there_is_no_safetensors() {
    let folder = pocket_copy();
    fs::remove_file(folder.path().join("text_encoder/model.safetensors")).unwrap();
    let prefix = "cond_stage_model.transformer.";
    let names: Vec<_> = builder::tower().into_iter().map(|(name, tensor)| (&name[prefix.len()..], tensor)).collect();
    let start = Pickle::new().raw(b"}(");
    let pickle = names.iter().fold(start, |pickle, (name, tensor)| pickle.text(name).tensor(tensor)).raw(b"u.");
    fs::write(folder.path().join("text_encoder/pytorch_model.bin"), builder::archive(&pickle)).unwrap();
    let weights = resolve(folder.path()).unwrap().text_encoder().unwrap().1;
    assert!(weights.file().ends_with("pytorch_model.bin"));
    assert_eq!(weights.shape("embeddings.token_embedding.weight"), Some(&[3, 64][..]));
}
