//! Criterion's measurement of every normalization layer beside burn-nn's, on the device that `KILN_DEVICE` names
//! (default `flex`). `benches/norms.py` puts PyTorch beside the same layers.
//!
//! ```text
//! cargo bench --manifest-path benches/criterion/Cargo.toml [-- FILTER]
//! ```

#[path = "../../../crates/kiln-norm/examples/norm_step/layers.rs"]
mod layers;

use std::time::Duration;

use burn::tensor::{Device, Distribution, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use layers::{Layer, Visitor};

/// The allocator of the `kiln` program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bench<'a> {
    criterion: &'a mut Criterion,
    device: Device,
}

impl Visitor for Bench<'_> {
    fn visit<const D: usize>(
        &mut self,
        layer: &str,
        shape: [usize; D],
        make: &dyn Fn(&Device, bool) -> Layer<D>,
    ) {
        let x = Tensor::<D>::random(shape, Distribution::Normal(0.5, 2.0), &self.device);
        let mut group = self.criterion.benchmark_group(format!("{layer}/{shape:?}"));
        group.throughput(Throughput::Elements(shape.iter().product::<usize>() as u64));
        for (whose, kiln) in [("kiln", true), ("burn-nn", false)] {
            let trained = make(&self.device.clone().autodiff(), kiln);
            let leaf = Tensor::from_inner(x.clone()).require_grad();
            let sync = || self.device.sync().expect("the device works");
            group.bench_function(format!("{whose}/forward"), |b| {
                b.iter(|| {
                    let y = trained(leaf.clone());
                    sync();
                    y
                })
            });
            group.bench_function(format!("{whose}/both"), |b| {
                b.iter(|| {
                    let gradients = trained(leaf.clone()).sum().backward();
                    let gradient = leaf.grad(&gradients);
                    sync();
                    gradient
                })
            });
        }
        group.finish();
    }
}

fn norms(criterion: &mut Criterion) {
    let name = std::env::var("KILN_DEVICE").unwrap_or_else(|_| "flex".into());
    let device = match kiln::device::select(&name) {
        Ok(choice) => choice.device,
        Err(error) => panic!("KILN_DEVICE={name}: {error}"),
    };
    layers::visit(&mut Bench { criterion, device });
}

criterion_group! {
    name = benches;
    // The largest shapes take a second a run.
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = norms
}
criterion_main!(benches);
