//! What Darkroom's tests share: a fleet on port 0, its programs as real processes, seeded models, file formats, drawn scenes
//! and their judge.

pub mod fleet;
pub mod formats;
pub mod gallery;
pub mod judge;
pub mod processes;
pub mod program;
pub mod scenes;
pub mod scrape;
pub mod seeded;
pub mod wait;
