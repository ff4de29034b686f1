//! The watermark against the package that the reference uses: `tests/golden/make_watermark.py` made what is expected here.

use anyhow::{Context as _, Result, ensure};
use darkroom_vae::watermark::{TEXT, embed, extract};
use serde::Deserialize;
use testkit::drawings::Drawing;
use testkit::seeded::fnv1a;

use crate::golden::{hex, unhex};

const GOLDEN: &str = include_str!("../golden/vae/watermark.json");
/// Every so many bytes of a picture stand in the golden file.
const SAMPLE: usize = 997;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    width: u32,
    height: u32,
    /// What the package reads from its own picture, right or wrong.
    read: String,
    hash: String,
    samples: String,
}

#[test]
fn pixels_and_readings_are_those_of_the_package() -> Result<()> {
    let golden: Golden = serde_json::from_str(GOLDEN)?;
    let mut differing = 0;
    for Case { kind, width, height, read, hash, samples } in &golden.cases {
        let what = format!("{kind} {width}x{height}");
        let mut rgb = Drawing::named(kind).with_context(|| what.clone())?.picture(*width, *height);
        let size = (*width as usize, *height as usize);
        ensure!(embed(&mut rgb, size.0, size.1, TEXT), "{what} was not signed");
        let found = extract(&rgb, size.0, size.1, TEXT.len()).with_context(|| what.clone())?;

        let worst = rgb.iter().step_by(SAMPLE).zip(unhex(samples)?).map(|(a, b)| a.abs_diff(b)).max();
        let same = format!("{:016x}", fnv1a(&rgb)) == *hash;
        println!("watermark of {what}: every value equal: {same}; largest difference among samples: {worst:?}");
        ensure!(hex(&found) == *read, "from {what} is read {}, not {read}", hex(&found));
        differing += u32::from(!same);
    }
    ensure!(differing == 0, "{differing} pictures differ from the package's");
    Ok(())
}
