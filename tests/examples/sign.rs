//! Signs PNGs with the invisible watermark as the VAE service does, and reads it: for `tests/outside/watermark.py`, which compares with
//! the package that the reference uses.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use darkroom_vae::watermark::{TEXT, embed, extract};
use image::RgbImage;

/// Signs every PNG of a folder.
#[derive(Parser)]
struct Arguments {
    /// The folder.
    from: PathBuf,
    /// Where the signed ones go, under the same names. Without it, what each says is printed in hexadecimal digits, by name.
    to: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { from, to } = Arguments::parse();
    let entries: Vec<PathBuf> = std::fs::read_dir(&from)
        .with_context(|| from.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    let mut pictures: Vec<&PathBuf> =
        entries.iter().filter(|path| path.extension().is_some_and(|it| it == "png")).collect();
    pictures.sort();
    for path in pictures {
        match &to {
            Some(to) => sign(path, to)?,
            None => read(path)?,
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<RgbImage> {
    Ok(image::open(path).with_context(|| path.display().to_string())?.into_rgb8())
}

fn sign(path: &Path, to: &Path) -> Result<()> {
    let mut picture = open(path)?;
    let (width, height) = picture.dimensions();
    let signed = embed(&mut picture, width as usize, height as usize, TEXT);
    ensure!(signed, "{} is too small", path.display());
    picture.save(to.join(path.file_name().context("a picture without a name")?))?;
    Ok(())
}

fn read(path: &Path) -> Result<()> {
    let picture = open(path)?;
    let (width, height) = picture.dimensions();
    let found = extract(&picture, width as usize, height as usize, TEXT.len()).unwrap_or_default();
    let digits: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{} {digits}", path.file_name().unwrap_or_default().display());
    Ok(())
}
