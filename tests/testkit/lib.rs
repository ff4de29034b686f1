//! What Darkroom's tests share: a fleet on port 0, its programs as real processes, seeded models, file formats, drawn scenes
//! and their judge, and the tools of load.

pub mod authority;
pub mod checker;
pub mod collector;
pub mod drawings;
pub mod fleet;
pub mod formats;
pub mod gallery;
pub mod judge;
#[path = "../load/mod.rs"]
pub mod load;
pub mod processes;
pub mod program;
pub mod scenes;
pub mod scrape;
pub mod seeded;
pub mod wait;
