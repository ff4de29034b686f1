//! A tensor message of any bytes: what the checked view lets through is exactly as long as its shape and dtype say.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use darkroom_proto::tensor::{MAX_RANK, TensorView};
use darkroom_proto::v1::{Dtype, Tensor};
use libfuzzer_sys::fuzz_target;
use prost::Message;

const FIELD: &str = "latents";

/// A message that is sound but for what `off` changes.
#[derive(Debug, Arbitrary)]
struct Built {
    dtype: u8,
    shape: Vec<u8>,
    off: Option<(u8, u32)>,
    data: Vec<u8>,
}

fuzz_target!(|input: &[u8]| {
    match fuzzing::way_in(input, 2) {
        Some((0, message)) => drop(Tensor::decode(message).map(|tensor| check(&tensor))),
        Some((_, rest)) => drop(Built::arbitrary(&mut Unstructured::new(rest)).map(|built| check(&built.tensor()))),
        None => {}
    }
});

impl Built {
    fn tensor(self) -> Tensor {
        let dtype = i32::from(self.dtype % 6);
        let shape: Vec<u32> = self.shape.iter().take(10).map(|size| u32::from(size % 9)).collect();
        let elements = shape.iter().map(|size| *size as usize).product::<usize>().min(1 << 16);
        let mut data = self.data;
        data.resize(elements * width(dtype), 0);
        let mut tensor = Tensor { dtype, shape, data: data.into() };
        if let Some((at, value)) = self.off {
            match at as usize {
                0 => tensor.dtype = value as i32,
                1 => tensor.data = tensor.data.slice(..tensor.data.len().saturating_sub(value as usize)),
                at => {
                    let rank = tensor.shape.len().max(1);
                    if let Some(size) = tensor.shape.get_mut(at % rank) {
                        *size = value;
                    }
                }
            }
        }
        tensor
    }
}

fn width(dtype: i32) -> usize {
    match Dtype::try_from(dtype) {
        Ok(Dtype::F32) => 4,
        Ok(Dtype::F16 | Dtype::Bf16) => 2,
        Ok(Dtype::U8) => 1,
        Ok(Dtype::Unspecified) | Err(_) => 0,
    }
}

fn check(tensor: &Tensor) {
    let view = match TensorView::required(Some(tensor), FIELD) {
        Ok(view) => view,
        Err(error) => {
            assert_eq!(error.field(), FIELD);
            return fuzzing::check_message(FIELD, &error.to_string());
        }
    };
    let elements: u128 = view.shape().iter().map(|size| *size as u128).product();
    assert_eq!(elements * width(tensor.dtype) as u128, tensor.data.len() as u128);
    assert_eq!(elements, view.elements() as u128);
    assert!(view.shape().len() <= MAX_RANK && !view.shape().contains(&0));
    assert_eq!(view.dtype() as i32, tensor.dtype);

    let shape = view.shape().to_vec();
    assert!(view.expect_shape(&shape).is_ok());
    let larger: Vec<usize> = shape.iter().map(|size| size + 1).chain([2]).collect();
    fuzzing::check_message(FIELD, &view.expect_shape(&larger).expect_err("another shape").to_string());
    assert!(view.expect_dtype(view.dtype()).is_ok());

    match view.to_f32() {
        Ok(values) => {
            assert_eq!(values.len(), view.elements());
            assert!(values.iter().all(|value| value.is_finite()));
            if view.dtype() == Dtype::F32 {
                assert_eq!(&Tensor::from_f32(&shape, &values), tensor, "f32 comes back as it was");
            }
        }
        Err(error) => fuzzing::check_message(FIELD, &error.to_string()),
    }
    match view.as_u8() {
        Ok(bytes) => assert_eq!(Tensor::from_u8(&shape, bytes.to_vec()), *tensor),
        Err(_) => assert_ne!(view.dtype(), Dtype::U8),
    }
    // What was taken once is taken again.
    let again = Tensor::decode(tensor.encode_to_vec().as_slice()).expect("our own encoding");
    assert_eq!(&again, tensor);
}
