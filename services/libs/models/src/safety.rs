//! The safety checker: what CLIP sees in a finished picture, held against embeddings of what must not be there; Radford 2021,
//! arXiv:2103.00020, as diffusers' `pipelines/stable_diffusion/safety_checker.py` puts it together.
//!
//! [`prepare`] makes the tower's input of a picture's bytes, [`tower`] is the network, [`concepts`] has the thresholds.

pub(crate) mod concepts;
pub mod prepare;
pub(crate) mod tower;
