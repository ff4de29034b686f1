//! All pictures of a run side by side, as torchvision's `make_grid` lays them out for the reference's script.

use std::io::Cursor;

use anyhow::Context;
use image::{ImageFormat, RgbImage};

/// Black pixels around and between the pictures: `make_grid`'s default.
const PADDING: u32 = 2;

/// The grid as a file.
pub(crate) fn png(grid: &RgbImage) -> anyhow::Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    grid.write_to(&mut file, ImageFormat::Png).context("cannot encode the grid")?;
    Ok(file.into_inner())
}

/// Lays pictures of one size out, `columns` in a row. `None` when that has too many pixels for one picture.
pub(crate) fn compose(pictures: &[&RgbImage], columns: u32) -> Option<RgbImage> {
    let count = u32::try_from(pictures.len()).ok()?;
    let columns = columns.clamp(1, count.max(1));
    let (width, height) = pictures.first()?.dimensions();
    let (cell_width, cell_height) = (width + PADDING, height + PADDING);
    let grid_width = columns.checked_mul(cell_width)?.checked_add(PADDING)?;
    let grid_height = count.div_ceil(columns).checked_mul(cell_height)?.checked_add(PADDING)?;
    let mut grid = RgbImage::new(grid_width, grid_height);
    for (index, &picture) in (0..).zip(pictures) {
        let (column, row) = (index % columns, index / columns);
        let (x, y) = (PADDING + column * cell_width, PADDING + row * cell_height);
        image::imageops::replace(&mut grid, picture, i64::from(x), i64::from(y));
    }
    Some(grid)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn pictures_stand_where_make_grid_puts_them() {
        let colour = |value| RgbImage::from_pixel(8, 6, Rgb([value; 3]));
        let grid = compose(&[&colour(10), &colour(20), &colour(30)], 2).unwrap();
        assert_eq!(grid.dimensions(), (2 + 2 * 10, 2 + 2 * 8));
        assert_eq!(grid.get_pixel(0, 0).0, [0; 3]);
        assert_eq!(grid.get_pixel(2, 2).0, [10; 3]);
        assert_eq!(grid.get_pixel(12, 2).0, [20; 3]);
        assert_eq!(grid.get_pixel(2, 10).0, [30; 3]);
        assert_eq!(grid.get_pixel(12, 10).0, [0; 3]);
    }

    #[test]
    fn a_row_is_no_longer_than_the_pictures() {
        let grid = compose(&[&RgbImage::new(8, 8), &RgbImage::new(8, 8)], 9).unwrap();
        assert_eq!(grid.dimensions(), (22, 12));
    }
}
