//! The forms of a picture: PNG with its parameters inside, JPEG, WebP, latents, previews.

use darkroom_client::{Event, OutputFormat, Picture};
use image::ImageFormat;
use testkit::fleet::Fleet;

use crate::asking::{SIDE, events, image, small};

const PROMPT: &str = "a red circle on a white background";

/// Keyword and text of each chunk.
type Texts = Vec<(String, String)>;

/// The text chunks of a PNG: those in Latin-1 (tEXt), and those in UTF-8 (iTXt).
fn text_chunks(png: &[u8]) -> (Texts, Texts) {
    let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().expect("a PNG");
    let info = reader.info();
    let latin1 = info.uncompressed_latin1_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.text.clone()));
    let utf8 = info.utf8_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.get_text().expect("text")));
    (latin1.collect(), utf8.collect())
}

#[tokio::test]
async fn a_png_carries_its_parameters() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let request = small(PROMPT).height(72).negative_prompt("blue").sampler("euler").guidance_scale(3.5);
    let picture = image(&fleet.client().await?, request).await?;
    assert_eq!(media_type(&picture.picture), "image/png");
    let decoded = image::load_from_memory_with_format(picture.data(), ImageFormat::Png)?;
    assert_eq!((decoded.width(), decoded.height()), (SIDE, 72));
    assert_eq!((picture.width, picture.height), (SIDE, 72));

    let (latin1, utf8) = text_chunks(picture.data());
    assert_eq!(latin1, [("parameters".to_owned(), picture.parameters.clone())]);
    assert_eq!(utf8, []);
    // As the ecosystem's viewers read it: the prompt, the negative prompt, then `Key: value, …`.
    let lines: Vec<&str> = picture.parameters.lines().collect();
    assert_eq!(lines[..2], [PROMPT, "Negative prompt: blue"]);
    for part in ["Steps: 4", "CFG scale: 3.5", "Seed: 7", "Size: 64x72", "Model: pocket"] {
        assert!(lines[2].split(", ").any(|found| found == part), "{part:?} is not in {:?}", lines[2]);
    }
    Ok(())
}

#[tokio::test]
async fn parameters_outside_of_latin_1_go_into_an_itxt_chunk() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    for prompt in ["ein rotes Kätzchen", "赤い丸 on a white background 🔴"] {
        let picture = image(&client, small(prompt)).await?;
        let (latin1, utf8) = text_chunks(picture.data());
        let chunk = [("parameters".to_owned(), picture.parameters.clone())];
        assert!(picture.parameters.starts_with(prompt));
        if prompt.chars().all(|letter| u32::from(letter) < 256) {
            assert_eq!((&latin1[..], utf8.len()), (&chunk[..], 0), "{prompt}");
        } else {
            assert_eq!((latin1.len(), &utf8[..]), (0, &chunk[..]), "{prompt}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_format_shows_the_same_picture() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let png = image::load_from_memory(image(&client, small(PROMPT)).await?.data())?.into_rgb8();

    let webp = image(&client, small(PROMPT).output_format(OutputFormat::Webp)).await?;
    assert_eq!(media_type(&webp.picture), "image/webp");
    let decoded = image::load_from_memory_with_format(webp.data(), ImageFormat::WebP)?.into_rgb8();
    assert_eq!(decoded, png, "WebP is lossless");

    let jpeg = image(&client, small(PROMPT).output_format(OutputFormat::Jpeg)).await?;
    assert_eq!(media_type(&jpeg.picture), "image/jpeg");
    let decoded = image::load_from_memory_with_format(jpeg.data(), ImageFormat::Jpeg)?.into_rgb8();
    assert_eq!(decoded.dimensions(), png.dimensions());
    let differences = decoded.iter().zip(png.iter()).map(|(one, other)| f64::from(one.abs_diff(*other)));
    let mean = differences.sum::<f64>() / png.len() as f64;
    // Quality 95 is within a few levels of 255; another picture would be tens away.
    assert!(mean < 8.0, "the JPEG is {mean} levels away on average");
    Ok(())
}

#[tokio::test]
async fn latents_come_as_they_left_the_denoiser() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let request = || small(PROMPT).height(72).output_format(OutputFormat::Latents);
    let found = image(&client, request()).await?;
    let Picture::Latents(latents) = &found.picture else { panic!("no latents: {:?}", found.picture) };
    assert_eq!(latents.shape, [4, 9, 8]);
    assert_eq!(latents.values.len(), 4 * 9 * 8);
    assert_eq!((found.width, found.height), (SIDE, 72));
    assert_eq!(image(&client, request()).await?, found);
    Ok(())
}

#[tokio::test]
async fn previews_come_when_they_are_asked_for() -> anyhow::Result<()> {
    let fleet = Fleet::with_pocket_model().start().await?;
    let client = fleet.client().await?;
    let previews = async |every: u32| {
        let events = events(&client, small(PROMPT).num_inference_steps(9).preview_every(every)).await?;
        let steps = events.into_iter().filter_map(|event| match event {
            Event::Step(step) => Some((step.step, step.preview?)),
            _ => None,
        });
        Ok::<_, anyhow::Error>(steps.collect::<Vec<_>>())
    };
    assert_eq!(previews(0).await?, []);
    let found = previews(3).await?;
    assert!(!found.is_empty());
    for (step, preview) in found {
        assert!(step.is_multiple_of(3), "a preview with step {step}");
        let decoded = image::load_from_memory_with_format(&preview.data, ImageFormat::Png)?;
        assert_eq!((decoded.width(), decoded.height()), (SIDE / 8, SIDE / 8));
        assert_eq!((preview.width, preview.height, preview.media_type.as_str()), (SIDE / 8, SIDE / 8, "image/png"));
    }
    Ok(())
}

fn media_type(picture: &Picture) -> &str {
    match picture {
        Picture::Encoded { media_type, .. } => media_type,
        Picture::Latents(_) => "latents",
    }
}
