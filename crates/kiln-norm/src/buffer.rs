//! Values of a layer that the forward pass updates and no optimizer trains.

use std::fmt::{Display, Formatter};
use std::sync::{Arc, Mutex, MutexGuard};

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    Param, ParamId,
};
use burn::tensor::kind::Basic;
use burn::tensor::{Device, Float, Int, Tensor};

/// A tensor that belongs to a layer's state but not to its parameters, as PyTorch's `register_buffer` makes it:
/// a running mean, a counter.
///
/// [`update`](Buffer::update) changes it through a shared reference and takes effect at once, also for a visitor that
/// saves the layer. It never requires gradients and holds no autodiff graph. A clone is a copy with a life of its own.
#[derive(Debug)]
pub struct Buffer<K: Basic = Float> {
    id: ParamId,
    // Shared only with itself: the lock makes `update` possible, `Arc` makes the type cheap to move.
    value: Arc<Mutex<Tensor<1, K>>>,
}

impl<K: Basic> Buffer<K> {
    /// A buffer with a value. A float tensor must not require gradients.
    pub fn new(value: Tensor<1, K>) -> Self {
        Self::with_id(ParamId::new(), value)
    }

    /// The value.
    pub fn value(&self) -> Tensor<1, K> {
        self.lock().clone()
    }

    /// Replaces the value by a function of it.
    pub fn update(&self, f: impl FnOnce(Tensor<1, K>) -> Tensor<1, K>) {
        let mut value = self.lock();
        *value = f(value.clone());
    }

    fn with_id(id: ParamId, value: Tensor<1, K>) -> Self {
        Self {
            id,
            value: Arc::new(Mutex::new(value)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tensor<1, K>> {
        // A panic of `f` leaves the old value in place, which is whole.
        self.value.lock().unwrap_or_else(|error| error.into_inner())
    }
}

impl<K: Basic> Clone for Buffer<K> {
    fn clone(&self) -> Self {
        Self::with_id(self.id, self.value())
    }
}

impl<K: Basic> Display for Buffer<K> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer {{shape: {:?}}}", self.value().shape().as_slice())
    }
}

impl<K: Basic> ModuleDisplayDefault for Buffer<K> {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }
}

impl<K: Basic> ModuleDisplay for Buffer<K> {}

macro_rules! buffer_module {
    ($kind:ty, $visit:ident, $map:ident, $settle:expr) => {
        impl Module for Buffer<$kind> {
            fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
                visitor.$visit(&Param::initialized(self.id, self.value()));
            }

            fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
                let param = mapper.$map(Param::initialized(self.id, self.value()));
                let (id, value, _) = param.consume();
                let settle: fn(Tensor<1, $kind>) -> Tensor<1, $kind> = $settle;
                Self::with_id(id, settle(value))
            }

            fn to_device(self, device: &Device) -> Self {
                Self::with_id(self.id, self.value().to_device(device))
            }

            fn fork(self, device: &Device) -> Self {
                self.to_device(device)
            }

            fn collect_devices(&self, mut devices: Devices) -> Devices {
                let device = self.value().device();
                if !devices.contains(&device) {
                    devices.push(device);
                }
                devices
            }

            fn materialize(self) -> Self {
                self
            }

            fn valid(&self) -> Self {
                Self::with_id(self.id, self.value().without_autodiff())
            }

            fn train(self) -> Self {
                Self::with_id(self.id, Tensor::from_inner(self.value()))
            }
        }
    };
}

// A mapper may change a buffer's value (load it, cast it), but must not make it a parameter.
buffer_module!(Float, visit_float, map_float, |value| value
    .set_require_grad(false));
buffer_module!(Int, visit_int, map_int, |value| value);
