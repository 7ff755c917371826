//! The bodies for CubeCL's runtimes: several tensors to a launch.
//!
//! Tensors lie in buffers of their own, and a kernel reads only buffers that are bound to it. So one launch takes as many
//! tensors as the device binds, at most [`MOST`], and the rest goes into the next. All in one launch have the same *class*:
//! type, width of loads, and whether rows are padded. With `n` tensors of a class and `k` to a launch:
//!
//! - **norms**: `ceil(n / k)` launches for each class, in which a cube takes 8,192 values (2,048 if the number of values is
//!   no multiple of 4), and one launch for all, which merges what the cubes found;
//! - **products**: `ceil(n / k)` launches for each class, in place where nothing else holds the tensor. The others form
//!   classes of their own, with a new buffer for each tensor and half of `k`.
//!
//! | device | bindings | `k` |
//! |---|---|---|
//! | CUDA, ROCm | 1,024 | 64 |
//! | Vulkan | usually thousands | 64 |
//! | Metal through wgpu | about 30 | 28 |
//! | WebGPU's least | 8, one of which wgpu keeps | 5 |
//!
//! Most networks have one or two classes: tensors whose number of values is a multiple of 4, and a few others. The 161 of
//! a ResNet-50 are of one, so they take 4 launches for the norms and 3 for the products; where CUDA pads rows of 3 or 7
//! values, one or two more.
//!
//! A cube keeps its values in registers, finds the largest, and adds powers of their shares of it: no square overflows or
//! vanishes, and memory is read once. There are no atomics and the sums' order is fixed, so the same tensors give the same
//! bits. Values whose order in memory is another than the tensor's are taken as they lie; only what has gaps or repeats
//! (a part of another tensor, a broadcast) is copied first.
//!
//! Under fusion each door is one lazy operation with all tensors as inputs, and nothing is read back.

// Launching a kernel without bounds checks: its indices come from the tensors' lengths, and tests compare uneven ones.
#![allow(unsafe_code)]

mod kernels;

use burn::backend::fusion::custom::{
    CustomOpIr, HandleContainer, Operation, OperationIr, StreamId, TensorId, TensorIr,
};
use burn::backend::fusion::{FusionBackend, FusionRuntime, FusionTensor};
use burn::backend::{Cube, DispatchTensor, DispatchTensorKind, ExecutionError, TensorMetadata};
use burn::tensor::{DType, FloatDType, Shape, Tensor};
use burn_backend::cubecl::dtype_to_storage_type;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::is_permuted;
use crate::cube::{cube_dim, cubes, threads};
use kernels::Order;

/// Tensors of a launch, where a device binds that many: the kernel has a branch for each.
const MOST: usize = 64;
/// Vectors that a thread takes.
const ITEMS: usize = 8;
/// Threads of a cube, where a device has that many.
const UNITS: usize = 256;

type Runtime = <CubeBackend as FusionBackend>::FusionRuntime;
type Handles = HandleContainer<<Runtime as FusionRuntime>::FusionHandle>;

/// None unless all are tensors of this backend and of a type that its kernels know.
pub(super) fn norms(tensors: &[DispatchTensor], p: f64) -> Option<Tensor<1>> {
    if tensors.is_empty() || !tensors.iter().all(supported) {
        return None;
    }
    let empty = |tensor: &DispatchTensor| tensor.shape().num_elements() == 0;
    assert!(
        !tensors.iter().any(empty),
        "a tensor without values has no norm"
    );
    let inputs: Vec<_> = tensors.iter().cloned().map(primitive).collect();
    let shape = Shape::from([inputs.len()]);
    let norms = register(
        "multi_tensor_norms",
        inputs,
        &[(shape, DType::F32)],
        move |tensors| vec![norms_of(tensors, p)],
    );
    norms.into_iter().next().map(Tensor::from_primitive::<Cube>)
}

/// The tensors back unless all are tensors of this backend and of a type that its kernels know.
pub(super) fn scale(
    tensors: Vec<DispatchTensor>,
    factors: &Tensor<1>,
    zero: bool,
) -> Result<Vec<DispatchTensor>, Vec<DispatchTensor>> {
    if tensors.is_empty() || !tensors.iter().all(supported) {
        return Err(tensors);
    }
    let own = match factors.dtype() {
        DType::F32 => factors.clone(),
        _ => factors.clone().cast(FloatDType::F32),
    };
    let own = own.into_dispatch();
    if !supported(&own) {
        return Err(tensors);
    }
    let outputs: Vec<_> = tensors.iter().map(|t| (t.shape(), t.dtype())).collect();
    // Moved, so that a tensor that nothing else holds arrives as the only one.
    let mut inputs: Vec<_> = tensors.into_iter().map(primitive).collect();
    inputs.push(primitive(own));
    let scaled = register(
        "multi_tensor_scale",
        inputs,
        &outputs,
        move |mut tensors| {
            let factors = tensors.pop().expect("the factors come last");
            scaled(tensors, factors, zero)
        },
    );
    let wrap = |tensor| Tensor::<1>::from_primitive::<Cube>(tensor).into_dispatch();
    Ok(scaled.into_iter().map(wrap).collect())
}

fn supported(tensor: &DispatchTensor) -> bool {
    // Kernels count vectors and parts in 32 bits.
    matches!(tensor.kind, DispatchTensorKind::Cube(_))
        && matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16)
        && tensor.shape().num_elements() < u32::MAX as usize
}

fn primitive(tensor: DispatchTensor) -> FusionTensor<Runtime> {
    // The rank in the type does not matter: the primitive has its own.
    let tensor = Tensor::<1>::from_dispatch(tensor);
    let tensor = tensor.try_into_primitive::<Cube>();
    tensor.expect("a tensor of this backend that autodiff does not track")
}

/// Queues an operation of any number of tensors, which Burn's macro for backend extensions has no words for.
fn register(
    name: &str,
    inputs: Vec<FusionTensor<Runtime>>,
    outputs: &[(Shape, DType)],
    body: impl Fn(Vec<CubeTensor>) -> Vec<CubeTensor> + Send + Sync + 'static,
) -> Vec<FusionTensor<Runtime>> {
    let client = inputs[0].client.clone();
    let inputs: Vec<TensorIr> = inputs.into_iter().map(FusionTensor::into_ir).collect();
    let outputs: Vec<TensorIr> = outputs
        .iter()
        .map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape.clone(), *dtype))
        .collect();
    let operation = ManyTensors {
        inputs: inputs.clone(),
        outputs: outputs.iter().map(|output| output.id).collect(),
        body,
    };
    let description = CustomOpIr {
        id: name.into(),
        inputs,
        outputs,
        scalars: Vec::new(),
    };
    client.register(
        StreamId::current(),
        OperationIr::Custom(description),
        operation,
    )
}

struct ManyTensors<F> {
    inputs: Vec<TensorIr>,
    outputs: Vec<TensorId>,
    body: F,
}

impl<F> core::fmt::Debug for ManyTensors<F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ManyTensors({})", self.inputs.len())
    }
}

impl<F> Operation<Runtime> for ManyTensors<F>
where
    F: Fn(Vec<CubeTensor>) -> Vec<CubeTensor> + Send + Sync,
{
    fn execute(&self, handles: &mut Handles) -> Result<(), ExecutionError> {
        let tensors = self.inputs.iter();
        let tensors = tensors.map(|input| handles.get_float_tensor::<CubeBackend>(input));
        let outputs = (self.body)(tensors.collect());
        for (id, output) in self.outputs.iter().zip(outputs) {
            handles.register_float_tensor::<CubeBackend>(id, output);
        }
        Ok(())
    }
}

/// What all tensors of a launch have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Class {
    dtype: DType,
    /// Values of a load.
    vector: usize,
    pitched: bool,
    in_place: bool,
}

/// A tensor whose values lie in rows, in any order.
struct Rows {
    tensor: CubeTensor,
    class: Class,
    /// Values of the tensor, of a row, and from one row to the next.
    len: usize,
    row: usize,
    pitch: usize,
}

impl Rows {
    fn new(tensor: CubeTensor) -> Self {
        let known = !tensor.meta.is_tiled() && tensor.qparams.is_none();
        let (tensor, (row, pitch)) = match known.then(|| rows(&tensor)).flatten() {
            Some(rows) => (tensor, rows),
            None => {
                let tensor = into_contiguous(tensor);
                let len = tensor.shape().num_elements();
                (tensor, (len, len))
            }
        };
        let wide = row.is_multiple_of(4) && pitch.is_multiple_of(4);
        Self {
            class: Class {
                dtype: tensor.dtype,
                vector: if wide { 4 } else { 1 },
                pitched: row != pitch,
                in_place: true,
            },
            len: tensor.shape().num_elements(),
            row,
            pitch,
            tensor,
        }
    }

    /// Values from the first to the last one, with what lies between rows.
    fn span(&self) -> usize {
        (self.len / self.row - 1) * self.pitch + self.row
    }

    fn cubes(&self, units: usize) -> usize {
        self.len.div_ceil(units * ITEMS * self.class.vector)
    }

    /// The argument for this tensor or for another one of its layout.
    fn buffer(&self, tensor: &CubeTensor) -> BufferArg {
        unsafe { BufferArg::from_raw_parts(tensor.handle.clone(), self.span()) }
    }
}

/// Values of a row and from one row to the next: one row if there are no gaps, or the rows of a padded matrix. None for
/// any other layout.
fn rows(tensor: &CubeTensor) -> Option<(usize, usize)> {
    let shape = tensor.meta.shape().as_slice();
    let strides = tensor.meta.strides();
    if is_permuted(shape, strides.iter().map(|&stride| stride as isize)) {
        let len = shape.iter().product();
        return Some((len, len));
    }
    let rank = shape.len();
    if rank < 2 || strides[rank - 1] != 1 {
        return None;
    }
    let (row, pitch) = (shape[rank - 1], strides[rank - 2]);
    let outer = (0..rank - 2).all(|i| strides[i] == strides[i + 1] * shape[i + 1]);
    (outer && pitch > row).then_some((row, pitch))
}

/// The places of a list that each launch takes: all of one class, at most `most(class)` of them.
fn launches(
    classes: impl Iterator<Item = (usize, Class)>,
    most: impl Fn(Class) -> usize,
) -> Vec<(Class, Vec<usize>)> {
    let mut launches: Vec<(Class, Vec<usize>)> = Vec::new();
    for (i, class) in classes {
        let room = |(other, members): &&mut (Class, Vec<usize>)| {
            *other == class && members.len() < most(class)
        };
        match launches.iter_mut().find(room) {
            Some((_, members)) => members.push(i),
            None => launches.push((class, vec![i])),
        }
    }
    launches
}

/// Tensors of a launch if each takes `each` bindings; two are taken by other arguments.
fn most(client: &Client, each: usize) -> usize {
    let bindings = client.properties().hardware.max_bindings as usize;
    (bindings.saturating_sub(2) / each).clamp(1, MOST)
}

/// The arguments that kernels have for each tensor.
struct Arguments {
    ends: SequenceArg<usize>,
    lens: SequenceArg<usize>,
    rows: SequenceArg<usize>,
    pitches: SequenceArg<usize>,
    cubes: usize,
    /// Empty tensors that fill up the launch: few numbers of tensors mean few kernels to compile.
    unused: usize,
}

impl Arguments {
    fn new(members: &[&Rows], most: usize, units: usize) -> Self {
        let unused = members.len().next_power_of_two().min(most) - members.len();
        let mut cubes = 0;
        let mut ends: Vec<usize> = Vec::new();
        for rows in members {
            cubes += rows.cubes(units);
            ends.push(cubes);
        }
        ends.extend(vec![cubes; unused]);
        let each = |value: fn(&Rows) -> usize| {
            let values = members.iter().map(|rows| value(rows) / rows.class.vector);
            values.chain(vec![1; unused]).collect()
        };
        Self {
            ends: ends.into_iter().collect(),
            lens: each(|rows| rows.len),
            rows: each(|rows| rows.row),
            pitches: each(|rows| rows.pitch),
            cubes,
            unused,
        }
    }

    /// The members' buffers, and another one for those that are unused.
    fn buffers<'a, T: LaunchArg<RuntimeArg = BufferArg>>(
        &self,
        client: &Client,
        buffers: impl Iterator<Item = BufferArg> + 'a,
    ) -> SequenceArg<T> {
        let mut all: Vec<BufferArg> = buffers.collect();
        if self.unused > 0 {
            let none = client.empty(64);
            let none = || unsafe { BufferArg::from_raw_parts(none.clone(), 4) };
            all.extend((0..self.unused).map(|_| none()));
        }
        all.into_iter().collect()
    }
}

/// The norm of each tensor, `[tensors.len()]`.
fn norms_of(tensors: Vec<CubeTensor>, p: f64) -> CubeTensor {
    let (client, device) = (tensors[0].client.clone(), tensors[0].device.clone());
    let order = match p {
        1.0 => Order::One,
        2.0 => Order::Two,
        f64::INFINITY => Order::Largest,
        _ => Order::Any,
    };
    let p = p as f32;
    let units = threads(&client, UNITS);
    let list: Vec<Rows> = tensors.into_iter().map(Rows::new).collect();
    let classes = list.iter().map(|rows| rows.class).enumerate();
    let most = most(&client, 1);

    let all: usize = list.iter().map(|rows| rows.cubes(units)).sum();
    let parts = client.empty(all * 2 * size_of::<u32>());
    let buffer = || unsafe { BufferArg::from_raw_parts(parts.clone(), 2 * all) };
    let mut table = vec![0u32; 2 * list.len()];
    let mut base = 0;
    for (class, members) in launches(classes, |_| most) {
        let mut first = base;
        for &i in &members {
            let cubes = list[i].cubes(units);
            table[2 * i] = first as u32;
            table[2 * i + 1] = cubes as u32;
            first += cubes;
        }
        let members: Vec<&Rows> = members.iter().map(|&i| &list[i]).collect();
        let arguments = Arguments::new(&members, most, units);
        unsafe {
            kernels::parts::launch_unchecked(
                &client,
                cubes(arguments.cubes),
                cube_dim(units),
                class.vector,
                arguments.buffers(
                    &client,
                    members.iter().map(|rows| rows.buffer(&rows.tensor)),
                ),
                arguments.ends,
                arguments.lens,
                arguments.rows,
                arguments.pitches,
                buffer(),
                base,
                p,
                order,
                class.pitched,
                units,
                ITEMS,
                dtype_to_storage_type(class.dtype),
            );
        }
        base = first;
    }

    let norms = client.empty(list.len() * size_of::<f32>());
    let table_handle = client.create_from_slice(u32::as_bytes(&table));
    unsafe {
        kernels::finish::launch_unchecked(
            &client,
            cubes(list.len()),
            cube_dim(units),
            buffer(),
            BufferArg::from_raw_parts(table_handle, table.len()),
            BufferArg::from_raw_parts(norms.clone(), list.len()),
            list.len(),
            p,
            order,
            units,
        );
    }
    CubeTensor::new_contiguous(client, device, Shape::from([list.len()]), norms, DType::F32)
}

/// Each tensor times the only factor or its own.
fn scaled(tensors: Vec<CubeTensor>, factors: CubeTensor, zero: bool) -> Vec<CubeTensor> {
    let factors = into_contiguous(factors);
    let count = factors.shape().num_elements();
    let client = factors.client.clone();
    let units = threads(&client, UNITS);
    let list: Vec<Rows> = tensors
        .into_iter()
        .map(|tensor| {
            let mut rows = Rows::new(tensor);
            // Asked while every tensor of the list is held, so that one that is there twice counts as shared.
            rows.class.in_place = rows.tensor.can_mut() || rows.len == 0;
            rows
        })
        .collect();
    let outputs: Vec<Option<CubeTensor>> = list
        .iter()
        .map(|rows| (!rows.class.in_place).then(|| like(rows)))
        .collect();
    let most = |class: Class| most(&client, if class.in_place { 1 } else { 2 });
    let full = list.iter().enumerate().filter(|(_, rows)| rows.len > 0);
    for (class, members) in launches(full.map(|(i, rows)| (i, rows.class)), most) {
        let places = members.iter().map(|&i| if count == 1 { 0 } else { i });
        let places: Vec<usize> = places.collect();
        let new = members.iter().filter_map(|&i| outputs[i].as_ref());
        let new: Vec<&CubeTensor> = new.collect();
        let members: Vec<&Rows> = members.iter().map(|&i| &list[i]).collect();
        let old = || members.iter().map(|rows| rows.buffer(&rows.tensor));
        let arguments = Arguments::new(&members, most(class), units);
        let (from, to) = match class.in_place {
            true => (SequenceArg::new(), arguments.buffers(&client, old())),
            false => {
                let to = members.iter().zip(new).map(|(rows, to)| rows.buffer(to));
                (
                    arguments.buffers(&client, old()),
                    arguments.buffers(&client, to),
                )
            }
        };
        let unused = vec![0; arguments.unused];
        unsafe {
            kernels::scale::launch_unchecked(
                &client,
                cubes(arguments.cubes),
                cube_dim(units),
                class.vector,
                from,
                to,
                arguments.ends,
                arguments.lens,
                arguments.rows,
                arguments.pitches,
                places.into_iter().chain(unused).collect(),
                BufferArg::from_raw_parts(factors.handle.clone(), count),
                zero,
                class.in_place,
                class.pitched,
                units,
                ITEMS,
                dtype_to_storage_type(class.dtype),
            );
        }
    }
    list.into_iter()
        .zip(outputs)
        .map(|(rows, output)| output.unwrap_or(rows.tensor))
        .collect()
}

/// A new tensor whose values lie as those of another.
fn like(rows: &Rows) -> CubeTensor {
    let tensor = &rows.tensor;
    let handle = tensor.client.empty(rows.span() * tensor.dtype.size());
    let (client, device) = (tensor.client.clone(), tensor.device.clone());
    CubeTensor::new(client, handle, (*tensor.meta).clone(), device, tensor.dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Class = Class {
        dtype: DType::F32,
        vector: 4,
        pitched: false,
        in_place: true,
    };
    const NARROW: Class = Class { vector: 1, ..WIDE };

    #[test]
    fn a_launch_takes_many_tensors_of_one_class() {
        // As in a network: every tenth tensor has an odd number of values.
        let classes: Vec<Class> = (0..161)
            .map(|i| if i % 10 == 0 { NARROW } else { WIDE })
            .collect();
        let launches = launches(classes.iter().copied().enumerate(), |_| MOST);
        // 144 of one class and 17 of the other: ceil(144 / 64) + ceil(17 / 64).
        assert_eq!(launches.len(), 4);
        let mut places: Vec<usize> = launches.iter().flat_map(|(_, m)| m.clone()).collect();
        places.sort_unstable();
        assert_eq!(places, (0..161).collect::<Vec<_>>());
        for (class, members) in &launches {
            assert!(members.len() <= MOST && members.iter().all(|&i| classes[i] == *class));
        }
    }

    /// A tensor of the first of the tests' devices that these kernels serve, as they get it.
    fn on_gpu(values: [f32; 8]) -> Option<CubeTensor> {
        let tensors = kiln_testing::devices().into_iter();
        let tensors = tensors.map(|device| Tensor::<1>::from_floats(values, &device));
        let tensor = tensors.map(Tensor::into_dispatch).find(supported)?;
        let tensor = primitive(tensor);
        let client = tensor.client.clone();
        Some(client.resolve_tensor_float::<CubeBackend>(tensor))
    }

    #[test]
    fn a_tensor_that_nothing_else_holds_is_scaled_in_place() {
        let Some(tensor) = on_gpu([1.0; 8]) else {
            return; // Only the processor is tested.
        };
        // Each buffer has a descriptor, which all its handles share.
        let place =
            |tensor: &CubeTensor| core::ptr::from_ref(tensor.handle.memory.descriptor()) as usize;
        let factor = on_gpu([0.5; 8]).expect("the same device");
        let before = place(&tensor);
        let scaled = scaled(vec![tensor], factor.clone(), true).remove(0);
        assert_eq!(place(&scaled), before);
        let held = scaled.clone();
        let again = super::scaled(vec![scaled], factor, true).remove(0);
        assert_ne!(place(&again), place(&held));
    }

    #[test]
    fn launches_grow_with_tensors_by_one_for_many() {
        for n in [1, 64, 65, 2000] {
            let classes = (0..n).map(|i| (i, WIDE));
            assert_eq!(launches(classes, |_| 64).len(), n.div_ceil(64));
        }
    }
}
