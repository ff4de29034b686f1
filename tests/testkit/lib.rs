//! What Darkroom's tests share: seeded models, file formats, a fleet on port 0, drawn scenes and their judge.

pub mod fleet;
pub mod formats;
pub mod judge;
pub mod scenes;
pub mod seeded;
