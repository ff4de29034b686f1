//! The networks, and whole pictures, against PyTorch: every number here comes from `tests/golden/make_models.py`.

mod golden;
mod layouts;
mod networks;
mod pictures;
