//! Times gradient clipping; `benches/clipping.py` runs it beside PyTorch.
//!
//! ```text
//! cargo run --release -p kiln-clip --example clip_speed -- [--device D] [--repeats N]
//! ```
//!
//! Prints one JSON object: for ResNet-50's parameters and for 2,000 small ones the median and the best milliseconds of
//! `kiln_clip::clip_grad_norm` and of Burn's clipping of each parameter by itself; and of a training step of the CNN without
//! and with clipping, taken in turns, and of the clipping in it.

use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn::grad_clipping::GradientClippingConfig;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Distribution, Tensor};
use kiln::data::{DeviceDataset, DeviceLoader, Digits, Split};
use kiln::train::{OptimizerRecipe, optimizer};
use kiln_clip::{NormType, clip_grad_norm};

/// A parameter of ResNet-50.
#[derive(Module, Debug)]
enum Parameter {
    Vector(Param<Tensor<1>>),
    Matrix(Param<Tensor<2>>),
    Kernel(Param<Tensor<4>>),
}

type Net = Vec<Parameter>;

/// The allocator of the `kiln` program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut device, mut repeats) = (String::from("flex"), 30);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--device" => device = value,
            "--repeats" => repeats = value.parse()?,
            _ => return Err(format!("no flag {flag}; allowed: --device --repeats").into()),
        }
    }
    let device = kiln::device::select(&device)?.device;
    let mut report = serde_json::Map::new();
    for (name, net) in [
        ("resnet50", resnet50(&device)),
        ("small2000", small(&device)),
    ] {
        let (kiln, burn) = compare(&net, &device, repeats)?;
        let numbers = serde_json::json!({
            "tensors": net.len(),
            "kiln_ms": median(&kiln), "kiln_best_ms": best(&kiln),
            "burn_ms": median(&burn), "burn_best_ms": best(&burn),
        });
        report.insert(name.into(), numbers);
    }
    let [plain, clipped, clips] = training(&device, repeats.max(10))?;
    report.insert(
        "cnn_step".into(),
        serde_json::json!({
            "without_ms": median(&plain), "without_best_ms": best(&plain),
            "with_ms": median(&clipped), "with_best_ms": best(&clipped),
            "clip_ms": median(&clips), "clip_best_ms": best(&clips),
        }),
    );
    println!("{}", serde_json::Value::from(report));
    Ok(())
}

/// Milliseconds of two things, taken in turns.
type Pair = (Vec<f64>, Vec<f64>);

/// Kiln's and Burn's.
fn compare(net: &Net, device: &Device, repeats: usize) -> Result<Pair, Box<dyn std::error::Error>> {
    let (mut ours, mut theirs) = (gradients(net), gradients(net));
    let (mut kiln, mut burn) = (Vec::new(), Vec::new());
    for _ in 0..repeats + 3 {
        device.sync()?;
        let start = Instant::now();
        // Below the norm, so that every value is multiplied.
        clip_grad_norm(&mut ours, net, 1.0, NormType::L2);
        device.sync()?;
        kiln.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        clip_as_burn(&mut theirs, net);
        device.sync()?;
        burn.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok((kiln.split_off(3), burn.split_off(3)))
}

fn clip_as_burn(grads: &mut GradientsParams, net: &Net) {
    struct Clip<'a>(
        &'a mut GradientsParams,
        burn::grad_clipping::GradientClipping,
    );
    impl ModuleVisitor for Clip<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, self.1.clip_gradient(grad));
            }
        }
    }
    net.visit(&mut Clip(grads, GradientClippingConfig::Norm(0.01).init()));
}

fn gradients(net: &Net) -> GradientsParams {
    struct Draw<'a>(&'a mut GradientsParams);
    impl ModuleVisitor for Draw<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let noise = Distribution::Normal(0.0, 1.0);
            let grad = Tensor::<D>::random(value.shape(), noise, &value.device());
            self.0.register(param.id, grad);
        }
    }
    let mut grads = GradientsParams::new();
    net.visit(&mut Draw(&mut grads));
    grads
}

/// The shapes of torchvision's ResNet-50: 161 tensors, 25,557,032 values.
fn resnet50(device: &Device) -> Net {
    let kernel = |o: usize, i: usize, k: usize| {
        Parameter::Kernel(Param::from_tensor(Tensor::zeros([o, i, k, k], device)))
    };
    let vector = |n: usize| Parameter::Vector(Param::from_tensor(Tensor::zeros([n], device)));
    let mut net = Net::new();
    let mut layer = |o, i, k| net.extend([kernel(o, i, k), vector(o), vector(o)]);
    layer(64, 3, 7);
    let mut inputs = 64;
    for (width, blocks) in [(64, 3), (128, 4), (256, 6), (512, 3)] {
        for block in 0..blocks {
            layer(width, inputs, 1);
            layer(width, width, 3);
            layer(width * 4, width, 1);
            if block == 0 {
                layer(width * 4, inputs, 1);
            }
            inputs = width * 4;
        }
    }
    let head = Tensor::zeros([1000, 2048], device);
    net.extend([Parameter::Matrix(Param::from_tensor(head)), vector(1000)]);
    assert_eq!((net.len(), net.num_params()), (161, 25_557_032));
    net
}

fn small(device: &Device) -> Net {
    let vector = |_| Parameter::Vector(Param::from_tensor(Tensor::zeros([64], device)));
    (0..2000).map(vector).collect()
}

/// A training step of the CNN at batch 64 with Adam, without and with clipping, and of the clipping alone.
fn training(device: &Device, steps: usize) -> Result<[Vec<f64>; 3], Box<dyn std::error::Error>> {
    let device = device.clone().autodiff();
    let digits = Digits::new(0).generate(Split::Train, 640);
    let data = DeviceDataset::new(&digits, &device)?.normalized(&[0.1307], &[0.3081])?;
    let loader = DeviceLoader::new(data, 64).to_device(&device);
    let mut model = kiln::zoo::create("cnn", &Default::default(), &device)?;
    let mut adam = optimizer(&OptimizerRecipe::default());
    let (mut times, mut clips) = ([Vec::new(), Vec::new()], Vec::new());
    let batches = std::iter::repeat_with(|| loader.iter()).flatten();
    for (i, batch) in batches.take(2 * steps + 6).enumerate() {
        let batch = batch?;
        device.sync()?;
        let start = Instant::now();
        let [n] = batch.labels.dims();
        let logits = model.forward(batch.images);
        let picked = log_softmax(logits, 1).gather(1, batch.labels.reshape([n, 1]));
        let mut grads = GradientsParams::from_grads(picked.mean().neg().backward(), &model);
        if i % 2 == 1 {
            device.sync()?;
            let start = Instant::now();
            clip_grad_norm(&mut grads, &model, 0.1, NormType::L2);
            device.sync()?;
            clips.push(start.elapsed().as_secs_f64() * 1e3);
        }
        model = adam.step(1e-3, model, grads);
        device.sync()?;
        times[i % 2].push(start.elapsed().as_secs_f64() * 1e3);
    }
    let [mut plain, mut clipped] = times;
    Ok([plain.split_off(3), clipped.split_off(3), clips.split_off(3)])
}

fn best(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
