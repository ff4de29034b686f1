//! The facades on the pocket model: what they refuse, and that rows of a batch do not disturb each other.

use super::*;
use crate::LoadError;
use crate::source::ModelSource;

fn pocket() -> Result<ModelSource, LoadError> {
    ModelSource::resolve(None, Default::default())
}

fn options() -> ComputeOptions {
    ComputeOptions::default()
}

fn refusal<T>(result: Result<T, ModelError>) -> String {
    match result {
        Err(error @ ModelError::Input { .. }) => error.to_string(),
        Err(other) => panic!("not an input error: {other}"),
        Ok(_) => panic!("was accepted"),
    }
}

#[test]
fn the_text_encoder_refuses_what_it_has_no_embedding_for() {
    let mut model = load_text_encoder(&pocket().unwrap(), &options()).unwrap();
    assert_eq!(refusal(model.encode(&[vec![747]], 0)), "token_ids has the id 747; the vocabulary has 747");
    assert_eq!(refusal(model.encode(&[vec![0; 78]], 0)), "token_ids has rows of 78 tokens; expected 1 to 77");
    assert_eq!(
        refusal(model.encode(&[vec![0; 77], vec![0; 5]], 0)),
        "token_ids has rows of 77 and of 5 tokens; expected equal lengths"
    );
    assert_eq!(refusal(model.encode(&[vec![0; 77]], 3)), "clip_skip is 3; expected less than the 3 layers");
    assert!(model.encode(&[], 0).unwrap().is_empty());
}

#[test]
fn the_unet_refuses_lengths_that_lie_and_other_models_texts() {
    let source = pocket().unwrap();
    let mut model = load_unet(&source, &options()).unwrap();
    let mut other = load_unet(&source, &options()).unwrap();
    let own = model.context(&[0.5; 3 * 96], 3).unwrap();
    let foreign = other.context(&[0.5; 3 * 96], 3).unwrap();

    assert!(refusal(model.context(&[0.5; 95], 1)).starts_with("prompt_embeds has 95 values"));
    let row = |latents, timestep, context| UnetRow { latents, timestep, context, guidance_scale: None };
    assert!(refusal(model.predict(&[row(&[0.0; 255], 1.0, &own)], 8, 8)).starts_with("latents has 255 values"));
    assert!(refusal(model.predict(&[row(&[], 1.0, &own)], 0, 8)).contains("empty shape"));
    assert_eq!(
        refusal(model.predict(&[row(&[0.0; 256], f32::NAN, &own)], 8, 8)),
        "timestep is NaN; expected a finite number"
    );
    assert_eq!(
        refusal(model.predict(&[row(&[0.0; 256], 1.0, &foreign)], 8, 8)),
        "context was prepared by another model"
    );
    assert!(model.predict(&[], 8, 8).unwrap().is_empty());
}

#[test]
fn a_row_has_the_same_bits_in_any_company_and_on_any_number_of_threads() {
    for precision in [Precision::F32, Precision::Bf16] {
        let mut model = load_unet(&pocket().unwrap(), &ComputeOptions { precision, ..options() }).unwrap();
        same_bits(model.as_mut());
    }
}

fn same_bits(model: &mut dyn UnetModel) {
    let texts: Vec<Context> = [(77, 0.1), (77, -0.2), (5, 0.3)]
        .map(|(tokens, value)| model.context(&vec![value; tokens * 96], tokens).unwrap())
        .into();
    let latents: Vec<Vec<f32>> =
        (0..3u8).map(|row| (0..256u16).map(|i| f32::from(i) / 128.0 - f32::from(row)).collect()).collect();
    let rows: Vec<UnetRow<'_>> = latents
        .iter()
        .zip(&texts)
        .zip([981.0, 500.5, 1.0])
        .map(|((latents, context), timestep)| UnetRow { latents, timestep, context, guidance_scale: None })
        .collect();
    let together = on_threads(2, || model.predict(&rows, 8, 8)).unwrap();
    let alone: Vec<_> =
        rows.iter().map(|row| on_threads(1, || model.predict(&[*row], 8, 8)).unwrap().concat()).collect();
    assert!(alone == together);
    assert!(on_threads(3, || model.predict(&rows, 8, 8)).unwrap() == together);
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn texts_and_pictures_have_the_same_bits_too() {
    for precision in [Precision::F32, Precision::Bf16] {
        let (source, options) = (pocket().unwrap(), ComputeOptions { precision, ..options() });
        let mut text_encoder = load_text_encoder(&source, &options).unwrap();
        let ids: Vec<Vec<u32>> = (0..3).map(|row| (0..77).map(|i| (i * 7 + row) % 747).collect()).collect();
        let together = on_threads(2, || text_encoder.encode(&ids, 0)).unwrap();
        let alone =
            ids.iter().map(|row| on_threads(1, || text_encoder.encode(std::slice::from_ref(row), 0)).unwrap().concat());
        assert!(alone.eq(together));

        let mut vae = load_vae(&source, &options).unwrap();
        let latents: Vec<f32> = (0..4 * 6 * 5).map(|i| (i as f32 * 0.7).sin()).collect();
        let picture = on_threads(1, || vae.decode(&latents, 6, 5)).unwrap();
        assert!(on_threads(3, || vae.decode(&latents, 6, 5)).unwrap() == picture);
        let posterior = on_threads(1, || vae.encode(&picture, 48, 40)).unwrap();
        assert!(on_threads(2, || vae.encode(&picture, 48, 40)).unwrap() == posterior);
    }
}

#[test]
fn the_autoencoder_refuses_sizes_that_are_no_latents() {
    let mut model = load_vae(&pocket().unwrap(), &options()).unwrap();
    assert_eq!(refusal(model.encode(&[0.0; 3 * 8 * 12], 8, 12)), "image is 12x8; expected multiples of 8");
    assert!(refusal(model.decode(&[0.0; 5], 1, 1)).starts_with("latents has 5 values"));
    assert_eq!(model.decode(&[0.0; 4 * 2 * 3], 2, 3).unwrap().len(), 3 * 16 * 24);
    assert_eq!(model.encode(&[0.0; 3 * 16 * 24], 16, 24).unwrap().std.len(), 4 * 2 * 3);
}

#[test]
fn a_model_says_what_it_is() {
    let source = pocket().unwrap();
    let (mut first, second) = (load_unet(&source, &options()).unwrap(), load_unet(&source, &options()).unwrap());
    assert_eq!(first.identity(), second.identity());
    let Identity { precision, device, .. } = first.identity();
    assert_eq!((*precision, *device), (Precision::Auto.on(Device::Cpu), Device::Cpu));
    first.warm().unwrap();
}

#[test]
fn a_device_that_is_not_there_is_said_before_anything_is_read() {
    let absent = ComputeOptions { device: Device::Metal, ..options() };
    let error = load_vae(&pocket().unwrap(), &absent).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "device metal is not in this build: build with --features metal, or use cpu");
}
