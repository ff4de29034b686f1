//! A labelled grid: pictures in columns and rows, what varies written above and at the left.

use std::collections::BTreeMap;

use image::{Rgb, RgbImage};

use crate::failure::Failure;
use crate::txt2img::sweep::axis::{Plan, Setting};
use crate::txt2img::sweep::font;

/// Pixels of a whole grid: 384 MiB in memory.
const MOST_PIXELS: u64 = 128 << 20;
/// Pixels of a grid's side: many viewers and formats end there.
const MOST_SIDE: u64 = u16::MAX as u64;
/// A picture of this width has labels whose dots are one pixel; one twice as wide has dots of two.
const WIDTH_OF_A_DOT: u32 = 128;

/// White pictures show where they end.
const PAPER: Rgb<u8> = Rgb([224; 3]);
const INK: Rgb<u8> = Rgb([0; 3]);
/// Where a picture could not be made.
const NOTHING: Rgb<u8> = Rgb([160; 3]);

/// The grids of a run, one for each prompt. A grid is kept from its first picture to its last.
#[derive(Debug)]
pub(crate) struct Sheets<'a> {
    plan: &'a Plan,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    sheet: Option<(Layout, RgbImage)>,
    /// Cells that are still to come.
    left: usize,
}

impl<'a> Sheets<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self { plan, open: BTreeMap::new() }
    }

    /// Whether grids of pictures of this size can be drawn.
    ///
    /// # Errors
    /// When they would be too large.
    pub(crate) fn check(&self, width: u32, height: u32) -> Result<(), Failure> {
        Layout::new(self.plan, width, height).map(drop)
    }

    /// Puts the run's `index`-th picture, or nothing if it could not be made, into its place. The grid comes with its last cell,
    /// unless all of them are empty.
    pub(crate) fn put(&mut self, index: u64, picture: Option<&RgbImage>) -> Result<Option<RgbImage>, Failure> {
        let cells = self.plan.cells();
        let (prompt, cell) = (index / cells as u64, (index % cells as u64) as usize);
        let open = self.open.entry(prompt).or_insert(Open { sheet: None, left: cells });
        open.left = open.left.saturating_sub(1);
        if let Some(picture) = picture {
            let (layout, sheet) = match &mut open.sheet {
                Some(sheet) => sheet,
                none => {
                    let layout = Layout::new(self.plan, picture.width(), picture.height())?;
                    let sheet = layout.blank(self.plan);
                    none.insert((layout, sheet))
                }
            };
            layout.put(sheet, cell, picture);
        }
        if open.left > 0 {
            return Ok(None);
        }
        Ok(self.open.remove(&prompt).and_then(|open| open.sheet).map(|(_, sheet)| sheet))
    }
}

/// Where things stand, in pixels.
#[derive(Debug)]
struct Layout {
    /// Of one picture.
    width: u32,
    height: u32,
    columns: u32,
    /// Of a letter's dot.
    dot: u32,
    /// Left of the first column: the rows' labels.
    left: u32,
    /// Above the first row: a label's height and some air.
    band: u32,
    gap: u32,
    /// From row to row.
    pitch: u32,
    sheet: (u32, u32),
}

impl Layout {
    fn new(plan: &Plan, width: u32, height: u32) -> Result<Self, Failure> {
        let (columns, rows) = (plan.columns() as u64, plan.rows() as u64);
        // The numbers below stay within u32 for every picture of this size, and larger ones are refused by their grid's.
        let (width, height) = (width.min(MOST_SIDE as u32), height.min(MOST_SIDE as u32));
        let dot = (width / WIDTH_OF_A_DOT).max(1);
        let (gap, air) = (2 * dot, 3 * dot);
        let band = font::HEIGHT * dot + 2 * air;
        let widest = plan.beside().iter().map(|setting| font::width(&label(setting, width, dot), dot)).max();
        let left = widest.map_or(gap, |widest| widest + 2 * air);
        // One axis alone has its labels above every row.
        let pitch = height + if plan.beside().is_empty() { band } else { gap };
        let sheet_width = u64::from(left) + columns * u64::from(width + gap);
        let sheet_height = u64::from(band) + (rows - 1) * u64::from(pitch) + u64::from(height + gap);
        if sheet_width.max(sheet_height) > MOST_SIDE || sheet_width * sheet_height > MOST_PIXELS {
            return Err(Failure::Usage(format!(
                "the grid would have {sheet_width}x{sheet_height} pixels for {columns} columns and {rows} rows of \
                 {width}x{height}; at most {MOST_SIDE} a side and {} million in all are allowed: fewer values, smaller pictures \
                 or --skip-grid",
                MOST_PIXELS / 1_000_000
            )));
        }
        // Within u16 both.
        let sheet = (sheet_width as u32, sheet_height as u32);
        Ok(Self { width, height, columns: columns as u32, dot, left, band, gap, pitch, sheet })
    }

    /// Upper left corner of a cell.
    fn corner(&self, cell: usize) -> (u32, u32) {
        let (row, column) = (cell as u32 / self.columns, cell as u32 % self.columns);
        (self.left + column * (self.width + self.gap), self.band + row * self.pitch)
    }

    /// The sheet with its labels and no picture.
    fn blank(&self, plan: &Plan) -> RgbImage {
        let mut sheet = RgbImage::from_pixel(self.sheet.0, self.sheet.1, PAPER);
        let nothing = RgbImage::from_pixel(self.width, self.height, NOTHING);
        let letter = font::HEIGHT * self.dot;
        for cell in 0..plan.cells() {
            let (x, y) = self.corner(cell);
            image::imageops::replace(&mut sheet, &nothing, x.into(), y.into());
            if let Some(setting) = plan.above(cell) {
                let text = label(setting, self.width, self.dot);
                let x = x + (self.width.saturating_sub(font::width(&text, self.dot))) / 2;
                font::draw(&mut sheet, &text, (x, y - (self.band + letter) / 2), self.dot, INK);
            }
        }
        for (row, setting) in plan.beside().iter().enumerate() {
            let text = label(setting, self.width, self.dot);
            let (x, y) = self.corner(row * plan.columns());
            let x = x.saturating_sub(font::width(&text, self.dot) + 3 * self.dot);
            font::draw(&mut sheet, &text, (x, y + self.height.saturating_sub(letter) / 2), self.dot, INK);
        }
        sheet
    }

    fn put(&self, sheet: &mut RgbImage, cell: usize, picture: &RgbImage) {
        let (x, y) = self.corner(cell);
        // A picture of another size must not cover its neighbours.
        let part = image::imageops::crop_imm(picture, 0, 0, self.width, self.height);
        image::imageops::replace(sheet, &*part, x.into(), y.into());
    }
}

/// A label of `most` pixels at most: with the setting's name where there is room.
fn label(setting: &Setting, most: u32, dot: u32) -> String {
    let whole = setting.to_string();
    let text = if font::width(&whole, dot) <= most { whole } else { setting.value() };
    font::fitted(&text, most, dot)
}
