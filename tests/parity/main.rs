//! The networks, whole pictures, and what is done to finished ones, against the reference: every number here comes from a script in
//! `tests/golden`.

mod golden;
mod layouts;
mod networks;
mod pictures;
mod safety;
mod watermark;
