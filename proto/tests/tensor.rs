//! What a tensor message may hold, as properties over random and hostile messages.

use bytes::Bytes;
use darkroom_proto::tensor::{MAX_RANK, TensorError, TensorView};
use darkroom_proto::v1::{Dtype, Tensor};
use proptest::prelude::*;

const FIELD: &str = "latents";

fn tensor(dtype: i32, shape: &[u32], bytes: usize) -> Tensor {
    Tensor { dtype, shape: shape.to_vec(), data: Bytes::from(vec![0; bytes]) }
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(shape in prop::collection::vec(1usize..5, 0..=4), seed in any::<u32>()) {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| (seed as f32).sin() * 1e3 + i as f32).collect();
        let tensor = Tensor::from_f32(&shape, &values);
        let view = TensorView::new(&tensor, FIELD).unwrap().expect_shape(&shape).unwrap();
        prop_assert_eq!(view.elements(), count);
        prop_assert_eq!(view.to_f32().unwrap(), values);
    }

    #[test]
    fn a_length_that_lies_is_refused(shape in prop::collection::vec(1u32..6, 0..4), dtype in 1i32..=4, off in 1usize..9) {
        let width = [4, 2, 2, 1][dtype as usize - 1];
        let right = shape.iter().map(|&s| s as usize).product::<usize>() * width;
        prop_assert!(TensorView::new(&tensor(dtype, &shape, right), FIELD).is_ok());
        let long = tensor(dtype, &shape, right + off);
        let lengths = match TensorView::new(&long, FIELD) {
            Err(TensorError::Length { expected, found, .. }) => (expected, found),
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(lengths, (right, right + off));
        if off <= right {
            prop_assert!(TensorView::new(&tensor(dtype, &shape, right - off), FIELD).is_err());
        }
    }

    /// Any message at all ends in an answer, never in a panic or an allocation of its claimed size.
    #[test]
    fn hostile_messages_are_answered(dtype in -2i32..9, shape in prop::collection::vec(any::<u32>(), 0..12), bytes in 0usize..64) {
        let tensor = tensor(dtype, &shape, bytes);
        if let Ok(view) = TensorView::new(&tensor, FIELD) {
            prop_assert!(view.elements() <= bytes);
            prop_assert!(view.to_f32().is_ok());
        }
    }
}

#[test]
fn each_refusal_says_what_was_found_and_what_is_right() {
    let cases = [
        (tensor(0, &[1], 4), "latents: dtype 0 is not known, use DTYPE_F32, DTYPE_F16, DTYPE_BF16 or DTYPE_U8"),
        (tensor(9, &[1], 4), "latents: dtype 9 is not known, use DTYPE_F32, DTYPE_F16, DTYPE_BF16 or DTYPE_U8"),
        (tensor(1, &[1; MAX_RANK + 1], 4), "latents: the shape has 9 dimensions, at most 8 are allowed"),
        (tensor(1, &[2, 0], 0), "latents: the shape [2, 0] holds a zero"),
        (
            tensor(1, &[u32::MAX, u32::MAX, 4], 4),
            "latents: the shape [4294967295, 4294967295, 4] has more elements than can be counted",
        ),
        (tensor(2, &[4, 8], 63), "latents: f16 [4, 8] takes 64 bytes of data, found 63"),
    ];
    for (tensor, message) in cases {
        assert_eq!(TensorView::new(&tensor, FIELD).unwrap_err().to_string(), message);
    }
    assert_eq!(TensorView::required(None, FIELD).unwrap_err().to_string(), "latents: no tensor was sent");
}

#[test]
fn the_call_decides_shape_and_dtype() {
    let tensor = Tensor::from_u8(&[2, 3], vec![7; 6]);
    let view = TensorView::new(&tensor, "image").unwrap();
    assert_eq!(view.as_u8().unwrap(), [7; 6]);
    assert_eq!(view.to_f32().unwrap(), [7.0; 6]);
    let error = view.expect_shape(&[3, 2]).unwrap_err();
    assert_eq!(error.to_string(), "image: expected the shape [3, 2], found [2, 3]");
    assert_eq!(error.field(), "image");
    assert_eq!(view.expect_dtype(Dtype::F32).unwrap_err().to_string(), "image: expected f32, found u8");
}

#[test]
fn nan_and_infinity_are_refused_in_every_float_type() {
    let cases: [(Dtype, &[u8]); 4] = [
        (Dtype::F32, &[0, 0, 0, 0, 0, 0, 0xc0, 0x7f]),
        (Dtype::F32, &[0, 0, 0, 0, 0, 0, 0x80, 0xff]),
        (Dtype::F16, &[0, 0, 0, 0x7c]),
        (Dtype::Bf16, &[0, 0, 0x80, 0x7f]),
    ];
    for (dtype, bytes) in cases {
        let tensor = Tensor { dtype: dtype as i32, shape: vec![2], data: Bytes::from_static(bytes) };
        let error = TensorView::new(&tensor, FIELD).unwrap().to_f32().unwrap_err();
        assert!(matches!(error, TensorError::NotFinite { index: 1, .. }), "{dtype:?}: {error}");
    }
}

#[test]
fn half_types_are_widened_exactly() {
    for (dtype, bytes) in [(Dtype::F16, [0x00, 0x3c, 0x00, 0xc0]), (Dtype::Bf16, [0x80, 0x3f, 0x00, 0xc0])] {
        let tensor = Tensor { dtype: dtype as i32, shape: vec![2], data: Bytes::copy_from_slice(&bytes) };
        assert_eq!(TensorView::new(&tensor, FIELD).unwrap().to_f32().unwrap(), [1.0, -2.0], "{dtype:?}");
    }
}
