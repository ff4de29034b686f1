//! The grids of a run: one of all its pictures at its end, or of a sweep one for each prompt as soon as it is whole.

use std::collections::BTreeMap;

use anyhow::Context;
use image::RgbImage;

use crate::failure::Failure;
use crate::txt2img::flags::Flags;
use crate::txt2img::grid;
use crate::txt2img::sweep::{Plan, Sheets};

pub(crate) enum Grids<'a> {
    /// None is asked for.
    None,
    /// Finished pictures by their place in the run, and how many are in a row.
    Whole(BTreeMap<u64, RgbImage>, u32),
    Labelled(Sheets<'a>),
}

impl<'a> Grids<'a> {
    pub(crate) fn new(flags: &Flags, plan: Option<&'a Plan>, wanted: bool) -> Self {
        let columns = match flags.output.n_rows {
            0 => flags.picture.n_samples,
            columns => columns,
        };
        match plan {
            _ if !wanted => Self::None,
            Some(plan) => Self::Labelled(Sheets::new(plan)),
            None => Self::Whole(BTreeMap::new(), columns),
        }
    }

    pub(crate) fn wanted(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Refuses a sweep's grid that would be too large.
    pub(crate) fn check(&self, width: u32, height: u32) -> Result<(), Failure> {
        match self {
            Self::Labelled(sheets) => sheets.check(width, height),
            Self::None | Self::Whole(..) => Ok(()),
        }
    }

    /// Takes the run's `index`-th picture; gives the grid that is whole with it.
    pub(crate) fn put(&mut self, index: u64, picture: RgbImage) -> Result<Option<RgbImage>, Failure> {
        match self {
            Self::None => Ok(None),
            Self::Whole(pictures, _) => {
                pictures.insert(index, picture);
                Ok(None)
            }
            Self::Labelled(sheets) => sheets.put(index, Some(&picture)),
        }
    }

    /// The run's `index`-th picture will not come; gives the grid that nothing else is missing from.
    pub(crate) fn missing(&mut self, index: u64) -> Result<Option<RgbImage>, Failure> {
        match self {
            Self::Labelled(sheets) => sheets.put(index, None),
            Self::None | Self::Whole(..) => Ok(None),
        }
    }

    /// The grid of all pictures, if there are several.
    pub(crate) fn last(&self) -> Result<Option<RgbImage>, Failure> {
        match self {
            Self::Whole(pictures, columns) if pictures.len() > 1 => {
                let pictures: Vec<&RgbImage> = pictures.values().collect();
                let grid = grid::compose(&pictures, *columns);
                Ok(Some(grid.context("the grid is too large for one picture, see --skip-grid")?))
            }
            _ => Ok(None),
        }
    }
}
