//! Bits of rows: the same in any company, and those of a model without LoRAs where a row has none.

use darkroom_models::stage::Context;

use super::*;

/// What rows have: none, one, another that leaves out layers of the first, both, and none again.
const ROWS: [&[(&str, f64)]; 7] = [&[], FLAT, EVERY, EVERY, BOTH, &[("flat", 0.0)], &[]];

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Latents of a row, and its text.
fn row(index: usize) -> (Vec<f32>, Vec<f32>) {
    let wave = |count: usize, salt: f32| (0..count).map(|i| (i as f32 * 0.37 + salt).sin()).collect();
    (wave(4 * 8 * 12, index as f32), wave(TOKENS * 96, 10.0 + index as f32))
}

fn predict_all(model: &mut dyn UnetModel, rows: &[usize], threads: usize) -> Vec<Vec<f32>> {
    let inputs: Vec<_> = rows.iter().map(|index| row(*index)).collect();
    let contexts: Vec<Context> = rows
        .iter()
        .zip(&inputs)
        .map(|(index, (_, embeds))| model.context_with(embeds, TOKENS, &uses(ROWS[*index])).unwrap())
        .collect();
    let rows: Vec<UnetRow<'_>> = inputs
        .iter()
        .zip(&contexts)
        .zip(rows)
        .map(|(((latents, _), context), index)| UnetRow {
            latents,
            timestep: 20.5 * *index as f32,
            context,
            guidance_scale: None,
        })
        .collect();
    on_threads(threads, || model.predict(&rows, 8, 12)).unwrap()
}

#[test]
fn rows_with_loras_and_without_keep_their_bits_in_one_batch() {
    for precision in [Precision::F32, Precision::Bf16] {
        let (mut model, mut plain) = (unet(precision, &loras()), unet(precision, &Loras::default()));
        let all: Vec<usize> = (0..ROWS.len()).collect();
        let together = predict_all(model.as_mut(), &all, 2);
        let shuffled = [4, 0, 2, 6, 1, 3, 5];
        let apart = predict_all(model.as_mut(), &shuffled, 3);
        for (index, found) in together.iter().enumerate() {
            let alone = predict_all(model.as_mut(), &[index], 1).concat();
            assert!(*found == alone, "{precision}: row {index} depends on its company");
            let place = shuffled.iter().position(|row| *row == index).unwrap();
            assert!(apart[place] == alone, "{precision}: row {index} depends on its place");
        }
        for index in [0, 5, 6] {
            let before = on_threads(1, || {
                let (latents, embeds) = row(index);
                let context = plain.context(&embeds, TOKENS).unwrap();
                let row = UnetRow {
                    latents: &latents,
                    timestep: 20.5 * index as f32,
                    context: &context,
                    guidance_scale: None,
                };
                plain.predict(&[row], 8, 12).unwrap().concat()
            });
            assert!(together[index] == before, "{precision}: row {index} is not the plain model's");
        }
        assert!(together[2] != together[0]);
    }
}

#[test]
fn texts_with_loras_do_not_change_those_without() {
    let (mut model, mut plain) = (text_encoder(&loras()), text_encoder(&Loras::default()));
    let text = "a purple star";
    let before = embed(plain.as_mut(), text, &[]);
    assert!(embed(model.as_mut(), text, &[]) == before);
    assert!(embed(model.as_mut(), text, FLAT) != before);
    assert!(embed(model.as_mut(), text, &[("flat", 0.0)]) == before);
    assert!(embed(model.as_mut(), text, &[]) == before);
}

#[test]
fn memory_is_counted_while_they_are_used() {
    let mut model = unet(Precision::F32, &loras());
    let memory = model.text_memory();
    let (_, embeds) = row(0);
    let plain = model.context(&embeds, TOKENS).unwrap();
    let with = model.context_with(&embeds, TOKENS, &uses(FLAT)).unwrap();
    let bytes = model.adapter_bytes(&uses(FLAT));
    assert!(bytes > 0 && memory.bytes() > bytes);
    // Another text with the same ones shares them: what the first one leaves behind is the other's.
    let other = model.context_with(&row(1).1, TOKENS, &uses(FLAT)).unwrap();
    drop((plain, with));
    let left = memory.bytes();
    drop(model.context_with(&embeds, TOKENS, &uses(EVERY)).unwrap());
    assert_eq!(memory.bytes(), left + model.adapter_bytes(&uses(EVERY)), "those in use stay, and the last ones too");
    drop(model.context_with(&embeds, TOKENS, &uses(FLAT)).unwrap());
    assert_eq!(memory.bytes(), left, "they were still there");
    drop(other);
    // The last ones are kept for the next request, and make room for others.
    assert_eq!(memory.bytes(), bytes);
    drop(model.context_with(&embeds, TOKENS, &uses(EVERY)).unwrap());
    assert_eq!(memory.bytes(), model.adapter_bytes(&uses(EVERY)));
}

#[test]
fn names_that_were_not_loaded_are_refused() {
    let mut model = unet(Precision::F32, &Loras::default());
    let error = model.context_with(&[0.0; 96], 1, &uses(FLAT)).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "loras has \"flat\", which is not loaded");
    let mut model = unet(Precision::F32, &loras());
    let error = model.context_with(&[0.0; 96], 1, &uses(&[("flat", f64::NAN)])).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "loras has the weight NaN; expected a finite number");
}
