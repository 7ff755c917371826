//! Weights that are a function of their name and shape, so that reference values need no weight files.
//!
//! The rules, and the numbers that they must give, are those of `common.py` beside kiln-zoo's golden files.

/// Values of the `state_dict` entry `name` of a shape in PyTorch's order. `salt` makes another set of weights.
pub fn values(name: &str, shape: &[usize], salt: &str) -> Vec<f32> {
    let count = shape.iter().product();
    if name.ends_with("num_batches_tracked") {
        return vec![0.0; count];
    }
    let rule: Box<dyn Fn(f64) -> f64> = if name.ends_with("running_mean") {
        Box::new(|r| 0.1 * r)
    } else if name.ends_with("running_var") {
        Box::new(|r| 2.0 + r)
    } else if name.ends_with("bias") {
        Box::new(|r| 0.1 * r)
    } else if shape.len() == 1 {
        Box::new(|r| 1.0 + 0.2 * r)
    } else {
        let fan: usize = shape[1..].iter().product();
        let factor = (6.0 / fan as f64).sqrt();
        Box::new(move |r| factor * r)
    };
    uniform(name, salt, count).map(|r| rule(r) as f32).collect()
}

/// The network's input: the entry `input`.
pub fn input(shape: &[usize], name: &str, salt: &str) -> Vec<f32> {
    let count = shape.iter().product();
    uniform(name, salt, count)
        .map(|r| (2.0 * r) as f32)
        .collect()
}

/// SplitMix64 from the FNV-1a hash of salt and name, in [-1, 1).
fn uniform(name: &str, salt: &str, count: usize) -> impl Iterator<Item = f64> {
    let bytes = salt.bytes().chain(name.bytes());
    let seed = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (1..=count as u64).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        2.0 * ((z >> 11) as f64 / (1u64 << 53) as f64) - 1.0
    })
}
