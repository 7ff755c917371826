//! A Burn module seen as PyTorch's state dict.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId, Parameter};
use burn::tensor::kind::Basic;
use burn::tensor::{Bool, DType, Device, Int, Shape, Tensor, TensorData};

use super::element::Element;
use super::file::{Entry, StateDict};
use super::safetensors::Output;
use super::{Rename, WeightsError};

/// Whose names and layouts a file has.
#[derive(Clone, Copy)]
pub(super) enum Style<'a> {
    /// PyTorch's, after a translation of the model's own.
    PyTorch(Rename<'a>),
    /// Burn's: the fields' names and the layouts in memory. A record of a whole enum names its variant.
    Burn { variants: bool },
}

/// What kind of numbers a parameter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Int,
    Bool,
}

/// A parameter or buffer of a module, as PyTorch would name and lay it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
}

/// The way to the parameter that a traversal is at.
struct Walk<'a> {
    names: Vec<String>,
    containers: Vec<String>,
    style: Style<'a>,
}

/// The name of a parameter in a file, and what its layout differs in.
struct Place {
    name: String,
    /// Whether its two axes change places.
    transposed: bool,
    /// Whether a lone axis of one is none.
    scalar: bool,
}

impl<'a> Walk<'a> {
    fn new(style: Style<'a>) -> Self {
        Self {
            names: Vec::new(),
            containers: Vec::new(),
            style,
        }
    }

    /// An enum's variant is a choice of Burn's; PyTorch has the module itself there.
    fn names(&self, container: &str) -> bool {
        matches!(self.style, Style::Burn { variants: true }) || !container.starts_with("Enum:")
    }

    fn enter(&mut self, name: &str, container: &str) {
        self.containers.push(container.into());
        if self.names(container) {
            self.names.push(name.into());
        }
    }

    fn exit(&mut self, container: &str) {
        self.containers.pop();
        if self.names(container) {
            self.names.pop();
        }
    }

    fn place(&self, rank: usize) -> Place {
        let Style::PyTorch(rename) = self.style else {
            return Place {
                name: self.names.join("."),
                transposed: false,
                scalar: false,
            };
        };
        let mut containers = self.containers.iter().rev();
        let layer = containers
            .find_map(|c| c.strip_prefix("Struct:"))
            .unwrap_or_default();
        let mut names = self.names.clone();
        if layer.ends_with("Norm")
            && let Some(last) = names.last_mut()
        {
            match last.as_str() {
                "gamma" => *last = "weight".into(),
                "beta" => *last = "bias".into(),
                _ => {}
            }
        }
        let transposed =
            layer == "Linear" && rank == 2 && names.last().is_some_and(|last| last == "weight");
        let name = rename(&names.join("."));
        Place {
            scalar: is_counter(&name),
            name,
            transposed,
        }
    }
}

impl Place {
    fn shape(&self, shape: &Shape) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if self.transposed {
            shape.reverse();
        }
        // A counter has no axis in PyTorch; Burn's tensors have one at least.
        if self.scalar && shape == [1] {
            shape.clear();
        }
        shape
    }
}

/// Whether this is the batch counter of a norm layer, which old files and some layers lack.
pub(super) fn is_counter(name: &str) -> bool {
    name == "num_batches_tracked" || name.ends_with(".num_batches_tracked")
}

/// The parameters and buffers of a module in the order of its fields.
pub(super) fn slots<M: Module>(model: &M, style: Style) -> Vec<Slot> {
    struct Collect<'a> {
        walk: Walk<'a>,
        slots: Vec<Slot>,
    }
    impl Collect<'_> {
        fn add(&mut self, shape: Shape, kind: Kind) {
            let place = self.walk.place(shape.num_dims());
            self.slots.push(Slot {
                shape: place.shape(&shape),
                name: place.name,
                kind,
            });
        }
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.walk.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.add(param.lazy_shape(), Kind::Float);
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            self.add(param.lazy_shape(), Kind::Int);
        }
        fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
            self.add(param.lazy_shape(), Kind::Bool);
        }
    }
    let mut collect = Collect {
        walk: Walk::new(style),
        slots: Vec::new(),
    };
    model.visit(&mut collect);
    collect.slots
}

/// The order of the classes in a file, for the layer that has a row for each of them.
pub(super) struct Rows<'a> {
    /// The layer.
    pub(super) head: &'a str,
    /// Which row of the file is the first, the second, ... of the model.
    pub(super) order: Vec<usize>,
}

impl Rows<'_> {
    /// The bytes of an entry with its rows in the model's order.
    fn ordered(&self, name: &str, entry: &Entry, bytes: Vec<u8>) -> Vec<u8> {
        let of_head = name
            .rsplit_once('.')
            .is_some_and(|(layer, _)| layer == self.head);
        if !of_head || entry.shape.first() != Some(&self.order.len()) {
            return bytes;
        }
        let row = bytes.len() / self.order.len();
        let rows = self.order.iter().map(|&i| &bytes[i * row..(i + 1) * row]);
        rows.collect::<Vec<_>>().concat()
    }
}

/// Puts entries of a file into a module: `plan` says which entry goes to which name.
pub(super) fn apply<M: Module>(
    model: M,
    file: &StateDict,
    plan: &HashMap<String, usize>,
    rows: Option<&Rows>,
    style: Style,
) -> Result<M, WeightsError> {
    struct Apply<'a> {
        walk: Walk<'a>,
        file: &'a StateDict,
        plan: &'a HashMap<String, usize>,
        rows: Option<&'a Rows<'a>>,
        error: Option<WeightsError>,
    }
    impl Apply<'_> {
        fn tensor<const D: usize, K: Basic>(
            &mut self,
            shape: Shape,
            device: &Device,
            kind: Kind,
        ) -> Option<Tensor<D, K>> {
            let place = self.walk.place(shape.num_dims());
            let entry = &self.file.entries()[*self.plan.get(&place.name)?];
            if self.error.is_some() {
                return None;
            }
            match self.data(entry, &place, shape, kind) {
                Ok(data) => Some(Tensor::from_data(data, device)),
                Err(error) => {
                    self.error = Some(error);
                    None
                }
            }
        }

        fn data(
            &self,
            entry: &Entry,
            place: &Place,
            shape: Shape,
            kind: Kind,
        ) -> Result<TensorData, WeightsError> {
            let mut bytes = self.file.bytes(entry)?;
            if let Some(rows) = self.rows {
                bytes = rows.ordered(&place.name, entry, bytes);
            }
            if place.transposed {
                bytes = transposed(&bytes, &entry.shape, entry.element.size() as usize);
            }
            let data = entry.element.typed(&bytes, shape.clone());
            Ok(match kind {
                Kind::Float => data.convert_dtype(DType::F32),
                Kind::Int => data.convert_dtype(DType::I64),
                Kind::Bool => {
                    TensorData::new(data.iter::<f32>().map(|x| x != 0.0).collect(), shape)
                }
            })
        }
    }
    impl ModuleMapper for Apply<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.walk.exit(container);
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.tensor(param.lazy_shape(), &param.lazy_device(), Kind::Float) {
                Some(tensor) => put(param, tensor),
                None => param,
            }
        }
        fn map_int<const D: usize>(
            &mut self,
            param: Param<Tensor<D, Int>>,
        ) -> Param<Tensor<D, Int>> {
            match self.tensor(param.lazy_shape(), &param.lazy_device(), Kind::Int) {
                Some(tensor) => put(param, tensor),
                None => param,
            }
        }
        fn map_bool<const D: usize>(
            &mut self,
            param: Param<Tensor<D, Bool>>,
        ) -> Param<Tensor<D, Bool>> {
            match self.tensor(param.lazy_shape(), &param.lazy_device(), Kind::Bool) {
                Some(tensor) => put(param, tensor),
                None => param,
            }
        }
    }
    let mut apply = Apply {
        walk: Walk::new(style),
        file,
        plan,
        rows,
        error: None,
    };
    let model = model.map(&mut apply);
    match apply.error {
        Some(error) => Err(error),
        None => Ok(model),
    }
}

/// The parameter with another value, and all else as it was: its identity, whether it is trained.
fn put<T: Parameter>(param: Param<T>, tensor: T) -> Param<T> {
    let id = param.id;
    param.transform_for_load(tensor, id)
}

/// The tensors of a module for PyTorch.
pub(super) fn outputs<M: Module>(model: &M, style: Style) -> Vec<Output> {
    struct Read<'a> {
        walk: Walk<'a>,
        outputs: Vec<Output>,
    }
    impl Read<'_> {
        fn add(&mut self, data: TensorData) {
            let place = self.walk.place(data.shape().num_dims());
            let data = match data.dtype() {
                // PyTorch counts in 64 bits; a GPU's integers are often shorter.
                dtype if dtype.is_int() || dtype.is_uint() => data.convert_dtype(DType::I64),
                DType::F64 | DType::F16 | DType::BF16 => data,
                DType::Bool(_) => TensorData::new(
                    data.iter::<bool>().map(u8::from).collect(),
                    data.shape().clone(),
                ),
                _ => data.convert_dtype(DType::F32),
            };
            let element = Element::of_dtype(data.dtype()).unwrap_or(Element::F32);
            let mut bytes = data.as_bytes().to_vec();
            if place.transposed {
                bytes = transposed(&bytes, data.shape().as_slice(), element.size() as usize);
            }
            self.outputs.push(Output {
                shape: place.shape(data.shape()),
                name: place.name,
                element,
                bytes,
            });
        }
    }
    impl ModuleVisitor for Read<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.walk.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.add(param.val().into_data());
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            self.add(param.val().into_data());
        }
        fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
            self.add(param.val().into_data());
        }
    }
    let mut read = Read {
        walk: Walk::new(style),
        outputs: Vec::new(),
    };
    model.visit(&mut read);
    read.outputs
}

/// Changes the two axes of a matrix: PyTorch's linear layers keep `[out, in]`, Burn's `[in, out]`.
fn transposed(from: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let &[rows, columns] = shape else {
        return from.to_vec();
    };
    let mut bytes = vec![0; from.len()];
    for row in 0..rows {
        for column in 0..columns {
            let (source, target) = (
                (row * columns + column) * size,
                (column * rows + row) * size,
            );
            bytes[target..target + size].copy_from_slice(&from[source..source + size]);
        }
    }
    bytes
}

/// The numbers for a name and shape of PyTorch, if there are any.
type Values<'a> = &'a mut dyn FnMut(&str, &[usize]) -> Option<Vec<f32>>;

/// Gives every parameter and buffer a value by its name and shape in PyTorch.
pub(super) fn fill<M: Module>(model: M, style: Style, values: Values) -> M {
    struct Fill<'a> {
        walk: Walk<'a>,
        values: Values<'a>,
    }
    impl Fill<'_> {
        fn data(&mut self, shape: Shape) -> Option<TensorData> {
            let place = self.walk.place(shape.num_dims());
            let wanted = place.shape(&shape);
            let values = (self.values)(&place.name, &wanted)?;
            assert_eq!(
                values.len(),
                shape.num_elements(),
                "{} has the shape {wanted:?}",
                place.name
            );
            if !place.transposed {
                return Some(TensorData::new(values, shape));
            }
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let bytes = transposed(&bytes, &wanted, size_of::<f32>());
            Some(Element::F32.typed(&bytes, shape))
        }
    }
    impl ModuleMapper for Fill<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.walk.exit(container);
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.data(param.lazy_shape()) {
                Some(data) => {
                    let tensor = Tensor::from_data(data, &param.lazy_device());
                    put(param, tensor)
                }
                None => param,
            }
        }
        fn map_int<const D: usize>(
            &mut self,
            param: Param<Tensor<D, Int>>,
        ) -> Param<Tensor<D, Int>> {
            match self.data(param.lazy_shape()) {
                Some(data) => {
                    let data = data.convert_dtype(DType::I64);
                    let tensor = Tensor::from_data(data, &param.lazy_device());
                    put(param, tensor)
                }
                None => param,
            }
        }
    }
    let walk = Walk::new(style);
    model.map(&mut Fill { walk, values })
}

/// Name and identity of every float parameter and buffer.
pub(super) fn ids<M: Module>(model: &M, style: Style) -> Vec<(String, ParamId)> {
    struct Ids<'a> {
        walk: Walk<'a>,
        ids: Vec<(String, ParamId)>,
    }
    impl ModuleVisitor for Ids<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.walk.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.walk.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let place = self.walk.place(D);
            self.ids.push((place.name, param.id));
        }
    }
    let mut ids = Ids {
        walk: Walk::new(style),
        ids: Vec::new(),
    };
    model.visit(&mut ids);
    ids.ids
}
