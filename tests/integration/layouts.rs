//! One seeded model, saved in the three layouts that people have: the four services make the same file of it, byte by byte.

use std::path::Path;

use testkit::fleet::Fleet;
use testkit::formats::{CheckpointExtras, Precision, Saving};
use testkit::seeded::{self, Configs};

use crate::asking::{image, small};

/// Any; the weights follow from it.
const SEED: u64 = 3;

async fn picture(model: &Path) -> anyhow::Result<Vec<u8>> {
    let fleet = Fleet::with_model(model).start().await?;
    let request = small("a photograph of an astronaut riding a horse").guidance_scale(7.5);
    let picture = image(&fleet.client().await?, request).await?;
    fleet.drain().await?;
    Ok(picture.data().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_layouts_make_the_same_picture() -> anyhow::Result<()> {
    let configs = Configs::tiny()?;
    let (tensors, averages) = (seeded::model(&configs, SEED), seeded::model(&configs, SEED + 1));
    let saving = Saving { configs: &configs, tensors: &tensors, precision: Precision::F32 };
    let to = tempfile::tempdir()?;
    // A model is named after its folder or its file, and a PNG tells the name: here all are called tiny.
    let [folder, single, checkpoint] = ["tiny", "tiny.safetensors", "tiny.ckpt"].map(|name| to.path().join(name));
    saving.folder(&folder)?;
    saving.single_safetensors(&single)?;
    saving.checkpoint(&checkpoint, &CheckpointExtras { ema: Some(&averages), lightning: true })?;

    let expected = picture(&folder).await?;
    for layout in [&single, &checkpoint] {
        assert!(picture(layout).await? == expected, "{} makes another picture", layout.display());
    }
    Ok(())
}
