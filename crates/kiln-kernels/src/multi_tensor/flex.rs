//! The CPU's bodies: one parallel pass over the values of all tensors.

use burn::backend::{DispatchTensor, Flex, TensorMetadata};
use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::is_permuted;

/// Values that a thread takes at once: they fit the second cache, and 2,000 small tensors make 2,000 tasks only.
const CHUNK: usize = 1 << 15;
/// Values that are summed in f32 before they go into an f64.
const BLOCK: usize = 1024;
/// Sums side by side, for SIMD.
const LANES: usize = 16;
/// Below this sum some squares in it may have lost digits.
const SMALL: f32 = 1e-26;

/// None unless all are f32 tensors of this backend.
pub(super) fn norms(tensors: &[DispatchTensor], p: f64) -> Option<Tensor<1>> {
    if !all_f32(tensors) {
        return None;
    }
    let device = Tensor::<1>::from_dispatch(tensors.first()?.clone()).device();
    let tensors: Vec<FlexTensor> = tensors
        .iter()
        .map(|tensor| Some(dense(primitive(tensor.clone()).ok()?)))
        .collect::<Option<_>>()?;
    let values: Vec<&[f32]> = tensors
        .iter()
        .map(|tensor| tensor.storage::<f32>())
        .collect();
    assert!(
        values.iter().all(|values| !values.is_empty()),
        "a tensor without values has no norm"
    );
    let chunks = values.iter().enumerate();
    let chunks: Vec<(usize, &[f32])> = chunks
        .flat_map(|(i, values)| values.chunks(CHUNK).map(move |chunk| (i, chunk)))
        .collect();
    let sum: fn(&[f32], f64) -> f64 = match p {
        1.0 => |values, _| blocks(values, |v| v.abs(), |v| v.abs()),
        2.0 => |values, _| blocks(values, |v| v * v, |v| v * v),
        f64::INFINITY => |values, _| largest(values),
        _ => |values, p| values.iter().map(|&v| f64::from(v).abs().powf(p)).sum(),
    };
    let sums: Vec<(usize, f64)> = chunks
        .into_par_iter()
        .with_min_len(8)
        .map(|(i, values)| (i, sum(values, p)))
        .collect();
    // Added up in the order of the chunks: the same on any number of threads.
    let mut norms = vec![0.0f64; values.len()];
    for (i, sum) in sums {
        norms[i] = match p {
            // `max` drops NaN.
            f64::INFINITY if sum.is_nan() || norms[i].is_nan() => f64::NAN,
            f64::INFINITY => norms[i].max(sum),
            _ => norms[i] + sum,
        };
    }
    let root = |sum: f64| match p {
        1.0 | f64::INFINITY => sum,
        2.0 => sum.sqrt(),
        _ => sum.powf(1.0 / p),
    };
    let norms: Vec<f32> = norms.into_iter().map(|sum| root(sum) as f32).collect();
    let count = norms.len();
    Some(Tensor::from_data(TensorData::new(norms, [count]), &device))
}

/// The sum of a function of all values: blocks in f32, added up in f64. A block whose sum overflows f32, or is so small
/// that parts of it may have vanished, is taken again in f64.
fn blocks(values: &[f32], narrow: fn(f32) -> f32, wide: fn(f64) -> f64) -> f64 {
    let block = |block: &[f32]| {
        let mut lanes = [0.0f32; LANES];
        let (full, rest) = block.as_chunks::<LANES>();
        for values in full {
            for (lane, &value) in lanes.iter_mut().zip(values) {
                *lane += narrow(value);
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            *lane += narrow(value);
        }
        let sum: f32 = lanes.iter().sum();
        match sum.is_finite() && sum > SMALL {
            true => f64::from(sum),
            false => block.iter().map(|&value| wide(f64::from(value))).sum(),
        }
    };
    values.chunks(BLOCK).map(block).sum()
}

/// The largest absolute value; NaN if there is one.
fn largest(values: &[f32]) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let mut nan = false;
    let (full, rest) = values.as_chunks::<LANES>();
    for values in full {
        for (lane, &value) in lanes.iter_mut().zip(values) {
            *lane = lane.max(value.abs());
            nan |= value.is_nan();
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = lane.max(value.abs());
        nan |= value.is_nan();
    }
    match nan {
        true => f64::NAN,
        false => lanes.iter().fold(0.0, |a, &b| f64::from(b).max(a)),
    }
}

/// The tensors back unless all are f32 tensors of this backend.
pub(super) fn scale(
    tensors: Vec<DispatchTensor>,
    factors: &Tensor<1>,
    zero: bool,
) -> Result<Vec<DispatchTensor>, Vec<DispatchTensor>> {
    if !all_f32(&tensors) || primitive(factors.clone().into_dispatch()).is_err() {
        return Err(tensors);
    }
    // On this backend a tensor's values are in memory already.
    let Ok(factors) = factors.clone().try_into_vec_as::<f32>() else {
        return Err(tensors);
    };
    if factors.iter().all(|&factor| factor == 1.0) {
        return Ok(tensors);
    }
    let mut owned: Vec<FlexTensor> = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        owned.push(dense(primitive(tensor).expect("checked above")));
    }
    let parts: Vec<(f32, &mut [f32])> = owned
        .iter_mut()
        .enumerate()
        .flat_map(|(i, tensor)| {
            let factor = factors[if factors.len() == 1 { 0 } else { i }];
            // In place if nothing else holds the tensor, otherwise in a copy.
            let values = tensor.storage_mut::<f32>();
            values.chunks_mut(CHUNK).map(move |chunk| (factor, chunk))
        })
        .collect();
    parts
        .into_par_iter()
        .with_min_len(8)
        .for_each(|(factor, values)| match factor {
            1.0 => {}
            0.0 if zero => values.fill(0.0),
            _ => values.iter_mut().for_each(|value| *value *= factor),
        });
    let wrap = |tensor| Tensor::<1>::from_primitive::<Flex>(tensor).into_dispatch();
    Ok(owned.into_iter().map(wrap).collect())
}

fn all_f32(tensors: &[DispatchTensor]) -> bool {
    let here =
        |tensor: &DispatchTensor| tensor.dtype() == DType::F32 && primitive(tensor.clone()).is_ok();
    tensors.iter().all(here)
}

fn primitive(tensor: DispatchTensor) -> Result<FlexTensor, ()> {
    // The rank in the type does not matter: the primitive has its own.
    let tensor = Tensor::<1>::from_dispatch(tensor);
    tensor.try_into_primitive::<Flex>().map_err(|_| ())
}

/// The tensor with each value once in its storage and nothing else there, in whatever order.
fn dense(tensor: FlexTensor) -> FlexTensor {
    let layout = tensor.layout();
    let whole = layout.start_offset() == 0
        && layout.num_elements() == tensor.storage::<f32>().len()
        && is_permuted(layout.shape(), layout.strides().iter().copied());
    match whole {
        true => tensor,
        false => tensor.to_contiguous(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_that_nothing_else_holds_is_scaled_in_place() {
        let device = burn::tensor::Device::flex();
        let address =
            |tensor: &DispatchTensor| primitive(tensor.clone()).unwrap().bytes().as_ptr() as usize;
        let tensor = Tensor::<2>::ones([300, 200], &device).into_dispatch();
        let before = address(&tensor);
        let half = Tensor::<1>::from_floats([0.5], &device);
        let scaled = scale(vec![tensor], &half, false).unwrap();
        assert_eq!(address(&scaled[0]), before);
        // A tensor that someone holds stays as it is.
        let held = scaled[0].clone();
        let again = scale(scaled, &half, false).unwrap();
        assert_ne!(address(&again[0]), before);
        let first = |tensor: DispatchTensor| {
            Tensor::<2>::from_dispatch(tensor)
                .try_into_vec_as::<f32>()
                .unwrap()[0]
        };
        assert_eq!((first(held), first(again[0].clone())), (0.5, 0.25));
    }
}
