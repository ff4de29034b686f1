//! Asks a server for pictures of scenes and has each of them judged.

use anyhow::Context as _;
use darkroom_client::{Client, Event, GenerateRequest};
use image::{Rgb, RgbImage, imageops};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use crate::judge::{Verdict, judge};
use crate::scenes::{SIDE, Scene};

/// Requests that are under way at once.
const AT_ONCE: usize = 4;
/// Pixels around each picture of a contact sheet.
const MARGIN: u32 = 4;
/// Pictures in a row of a contact sheet.
const COLUMNS: u32 = 8;
/// The margin of pictures with a fault; none of the scenes' colours is near it.
const FAULT: Rgb<u8> = Rgb([255, 0, 255]);

/// A picture that a server made, with what it should show and what the judge says of it.
pub struct Exhibit {
    /// What the prompt asked for.
    pub scene: Scene,
    /// The request's seed.
    pub seed: u64,
    /// What came back.
    pub picture: RgbImage,
    /// What it got right.
    pub verdict: Verdict,
}

/// Has a picture made of each scene's canonical prompt, with its seed and otherwise the settings of `change`, or the model's defaults, and
/// judges them. They come in the order of `scenes`.
///
/// # Errors
/// The first request that fails.
pub async fn draw(
    client: &Client,
    scenes: &[(Scene, u64)],
    change: impl Fn(GenerateRequest) -> GenerateRequest,
) -> anyhow::Result<Vec<Exhibit>> {
    let mut waiting = scenes.iter().cloned().enumerate();
    let mut running = JoinSet::new();
    let mut exhibits = Vec::with_capacity(scenes.len());
    loop {
        for (place, (scene, seed)) in waiting.by_ref().take(AT_ONCE - running.len()) {
            let (client, request) = (client.clone(), change(GenerateRequest::new(scene.to_string()).seed(seed)));
            running.spawn(async move { anyhow::Ok((place, draw_one(&client, scene, seed, request).await?)) });
        }
        let Some(done) = running.join_next().await else { break };
        exhibits.push(done??);
    }
    exhibits.sort_by_key(|(place, _)| *place);
    Ok(exhibits.into_iter().map(|(_, exhibit)| exhibit).collect())
}

async fn draw_one(client: &Client, scene: Scene, seed: u64, request: GenerateRequest) -> anyhow::Result<Exhibit> {
    let prompt = scene.to_string();
    let mut events = client.generate(request).await?;
    let mut picture = None;
    while let Some(event) = events.next().await {
        match event.with_context(|| format!("\"{prompt}\""))? {
            Event::Image(image) => picture = Some(image::load_from_memory(image.data())?.to_rgb8()),
            Event::ImageFailed(failed) => anyhow::bail!("\"{prompt}\": {}", failed.message),
            _ => {}
        }
    }
    let picture = picture.with_context(|| format!("no picture came for \"{prompt}\""))?;
    let verdict = judge(&scene, &picture);
    Ok(Exhibit { scene, seed, picture, verdict })
}

/// All pictures on one sheet, row by row, those with a fault on magenta.
#[must_use]
pub fn contact_sheet(exhibits: &[Exhibit]) -> RgbImage {
    let cell = SIDE + 2 * MARGIN;
    let rows = (exhibits.len() as u32).div_ceil(COLUMNS).max(1);
    let mut sheet = RgbImage::from_pixel(COLUMNS * cell, rows * cell, Rgb([235, 235, 235]));
    for (index, exhibit) in exhibits.iter().enumerate() {
        let (left, top) = ((index as u32 % COLUMNS) * cell, (index as u32 / COLUMNS) * cell);
        if !exhibit.verdict.all_right() {
            imageops::replace(&mut sheet, &RgbImage::from_pixel(cell, cell, FAULT), left.into(), top.into());
        }
        let (left, top) = (left + MARGIN, top + MARGIN);
        imageops::replace(&mut sheet, &exhibit.picture, left.into(), top.into());
    }
    sheet
}
