//! Optimizer state that a checkpoint can restore without knowing the device.

use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor, TensorData};

/// The number of steps taken and some tensors of the parameter's shape.
#[derive(Clone)]
pub(super) struct State<const D: usize> {
    steps: usize,
    tensors: Vec<Slot<D>>,
}

#[derive(Clone)]
enum Slot<const D: usize> {
    Device(Tensor<D>),
    /// As loaded: the first step puts it where its parameter is.
    Host(TensorData),
}

impl<const D: usize> Slot<D> {
    fn on_device(self, device: &Device) -> Tensor<D> {
        match self {
            Self::Device(tensor) => tensor.to_device(device),
            Self::Host(data) => {
                let dtype = data.dtype();
                Tensor::from_data(data, (device, dtype))
            }
        }
    }
}

impl<const D: usize> State<D> {
    pub(super) fn new<const N: usize>(steps: usize, tensors: [Tensor<D>; N]) -> Self {
        Self::from_tensors(steps, tensors.into())
    }

    pub(super) fn from_tensors(steps: usize, tensors: Vec<Tensor<D>>) -> Self {
        Self {
            steps,
            tensors: tensors.into_iter().map(Slot::Device).collect(),
        }
    }

    /// The steps taken and the tensors, on the parameter's device.
    pub(super) fn place<const N: usize>(
        state: Option<Self>,
        parameter: &Tensor<D>,
    ) -> Option<(usize, [Tensor<D>; N])> {
        let steps = state.as_ref()?.steps;
        let tensors: Vec<_> = Self::place_all(state, &parameter.device()).collect();
        Some((steps, tensors.try_into().ok()?))
    }

    /// The tensors, on a device; none where there is no state yet.
    pub(super) fn place_all(
        state: Option<Self>,
        device: &Device,
    ) -> impl Iterator<Item = Tensor<D>> + use<D> {
        let device = device.clone();
        let tensors = state.map_or(Vec::new(), |state| state.tensors);
        tensors.into_iter().map(move |slot| slot.on_device(&device))
    }

    pub(super) fn moved_to(self, device: &Device) -> Self {
        let tensors = self.tensors.into_iter();
        Self::from_tensors(
            self.steps,
            tensors.map(|slot| slot.on_device(device)).collect(),
        )
    }
}

impl<const D: usize> RecordState for State<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "steps", self.steps.into());
        for (i, slot) in self.tensors.iter().enumerate() {
            let data = match slot {
                Slot::Device(tensor) => tensor.clone().into_data(),
                Slot::Host(data) => data.clone(),
            };
            out.push_tensor(prefix, &i.to_string(), data);
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, _device: &Device) -> Option<Self> {
        let steps = src.take_scalar(prefix, "steps")?.try_into().ok()?;
        let tensors = (0..)
            .map_while(|i: usize| src.take_tensor(prefix, &i.to_string()))
            .map(Slot::Host)
            .collect();
        Some(Self { steps, tensors })
    }
}
