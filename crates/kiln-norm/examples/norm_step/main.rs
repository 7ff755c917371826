//! Times the layers beside burn-nn's; `benches/norms.py` runs it beside PyTorch.
//!
//! ```text
//! cargo run --release -p kiln-norm --example norm_step -- [--device D] [--seconds S] [--only LAYER]
//! ```
//!
//! Prints one JSON object a line: layer, shape, whose (`kiln` or `burn-nn`), and the median milliseconds of `forward` (in
//! training, with the statistics of the input) and of `both`: forward and backward of `layer(x).sum()` with
//! gradients for input and parameters. `copy` is a plain copy of the input. The device is synchronized around every run.

mod layers;

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use layers::{Layer, Visitor};

/// The allocator of the `kiln` program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bench {
    device: Device,
    seconds: f64,
    only: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut name, mut seconds, mut only) = (String::from("flex"), 1.0, None);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--device" => name = value,
            "--seconds" => seconds = value.parse()?,
            "--only" => only = Some(value),
            _ => return Err(format!("no flag {flag}; allowed: --device --seconds --only").into()),
        }
    }
    let device = kiln::device::select(&name)?.device;
    let mut bench = Bench {
        device,
        seconds,
        only,
    };
    layers::visit(&mut bench);
    Ok(())
}

impl Visitor for Bench {
    fn visit<const D: usize>(
        &mut self,
        layer: &str,
        shape: [usize; D],
        make: &dyn Fn(&Device, bool) -> Layer<D>,
    ) {
        if self.only.as_ref().is_some_and(|only| only != layer) {
            return;
        }
        let x = Tensor::<D>::random(shape, Distribution::Normal(0.5, 2.0), &self.device);
        let copy = self.median(|| {
            // A sum with zero reads and writes as a copy does, and no backend leaves it out.
            let _ = x.clone() + 0.0;
        });
        for kiln in [true, false] {
            let trained = make(&self.device.clone().autodiff(), kiln);
            let leaf = Tensor::from_inner(x.clone()).require_grad();
            let forward = self.median(|| {
                let _ = trained(leaf.clone());
            });
            let both = self.median(|| {
                let gradients = trained(leaf.clone()).sum().backward();
                leaf.grad(&gradients).expect("the input has a gradient");
            });
            let whose = if kiln { "kiln" } else { "burn-nn" };
            println!(
                "{{\"layer\": \"{layer}\", \"shape\": {shape:?}, \"whose\": \"{whose}\", \"forward\": {forward:.3}, \
                 \"both\": {both:.3}, \"copy\": {copy:.3}}}"
            );
        }
    }
}

impl Bench {
    /// Milliseconds.
    fn median(&self, mut run: impl FnMut()) -> f64 {
        let mut times = Vec::new();
        let begin = Instant::now();
        run();
        while times.len() < 5 || begin.elapsed().as_secs_f64() < self.seconds {
            self.device.sync().expect("the device works");
            let start = Instant::now();
            run();
            self.device.sync().expect("the device works");
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }
}
