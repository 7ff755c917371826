//! The random numbers of the samplers: MT19937 with the streams of numpy's `RandomState`.
//!
//! The same seed draws the same numbers as Optuna does, so that a grid is shuffled alike by Rust and Python workers
//! and the samplers can be compared draw by draw. The generator is of M. Matsumoto and T. Nishimura, "Mersenne Twister"
//! (1998); the conversions follow numpy's legacy generator.

const N: usize = 624;
const M: usize = 397;

/// A Mersenne Twister which draws what numpy's `RandomState` draws.
///
/// ```
/// let mut rng = kiln_tune::rng::Rng::new(Some(0));
/// assert_eq!(rng.uniform(), 0.548_813_503_927_324_8);
/// ```
#[derive(Clone)]
pub struct Rng {
    state: Box<[u32; N]>,
    at: usize,
    /// The second number of the last pair of normals.
    spare_normal: Option<f64>,
}

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rng").finish_non_exhaustive()
    }
}

impl Rng {
    /// A generator for a seed, or one seeded from the operating system's entropy.
    ///
    /// Seeds below 2^32 give the stream of `numpy.random.RandomState(seed)`; larger ones, which numpy refuses, seed by
    /// both halves.
    #[must_use]
    pub fn new(seed: Option<u64>) -> Self {
        match seed {
            Some(seed) => match u32::try_from(seed) {
                Ok(seed) => Self::from_u32(seed),
                #[allow(clippy::cast_possible_truncation)]
                Err(_) => Self::from_key(&[seed as u32, (seed >> 32) as u32]),
            },
            None => Self::from_entropy(),
        }
    }

    /// Starts again from the operating system's entropy.
    pub fn reseed(&mut self) {
        *self = Self::from_entropy();
    }

    fn from_entropy() -> Self {
        use std::hash::{BuildHasher, Hasher};
        // `RandomState` of std is keyed by the operating system's entropy; a counter keeps two calls apart.
        let draw = |i: u64| {
            let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
            hasher.write_u64(i);
            hasher.write_u32(std::process::id());
            hasher.finish()
        };
        #[allow(clippy::cast_possible_truncation)]
        let key: Vec<u32> = (0..4)
            .flat_map(|i| {
                let x = draw(i);
                [x as u32, (x >> 32) as u32]
            })
            .collect();
        Self::from_key(&key)
    }

    fn from_u32(seed: u32) -> Self {
        let mut state = Box::new([0; N]);
        let mut x = seed;
        for (i, slot) in state.iter_mut().enumerate() {
            *slot = x;
            #[allow(clippy::cast_possible_truncation)]
            let next = (i + 1) as u32;
            x = 1_812_433_253_u32
                .wrapping_mul(x ^ (x >> 30))
                .wrapping_add(next);
        }
        Self {
            state,
            at: N,
            spare_normal: None,
        }
    }

    #[allow(clippy::cast_possible_truncation)]
    fn from_key(key: &[u32]) -> Self {
        let mut rng = Self::from_u32(19_650_218);
        let state = &mut rng.state;
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            state[i] = (state[i] ^ (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            i += 1;
            j += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
            if j >= key.len() {
                j = 0;
            }
        }
        for _ in 0..N - 1 {
            state[i] = (state[i]
                ^ (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(1_566_083_941))
            .wrapping_sub(i as u32);
            i += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        rng
    }

    fn refill(&mut self) {
        let state = &mut self.state;
        for i in 0..N {
            let y = (state[i] & 0x8000_0000) | (state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            state[i] = state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.at = 0;
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.at == N {
            self.refill();
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A uniform number in [0, 1) with 53 random bits (`random_sample`, `rand`).
    pub fn uniform(&mut self) -> f64 {
        let a = f64::from(self.next_u32() >> 5);
        let b = f64::from(self.next_u32() >> 6);
        (a * 67_108_864.0 + b) / 9_007_199_254_740_992.0
    }

    /// A uniform number in [low, high) (`RandomState.uniform`).
    pub fn uniform_in(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A uniform integer in [0, n) as legacy `randint(n)` draws it; `n` must be positive.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "cannot draw from an empty range");
        usize::try_from(self.interval(n as u64 - 1)).expect("the draw is below a usize")
    }

    /// A uniform integer in [0, max], by masked rejection (numpy's `random_interval`).
    fn interval(&mut self, max: u64) -> u64 {
        if max == 0 {
            return 0;
        }
        let mask = u64::MAX >> max.leading_zeros();
        loop {
            let draw = if let Ok(mask) = u32::try_from(mask) {
                u64::from(self.next_u32() & mask)
            } else {
                ((u64::from(self.next_u32()) << 32) | u64::from(self.next_u32())) & mask
            };
            if draw <= max {
                return draw;
            }
        }
    }

    /// Shuffles in place as `RandomState.shuffle` does.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }

    /// `RandomState.permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut items: Vec<usize> = (0..n).collect();
        self.shuffle(&mut items);
        items
    }

    /// A standard normal number (`standard_normal` of the legacy generator: the polar method, in pairs).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        loop {
            let x = 2.0 * self.uniform() - 1.0;
            let y = 2.0 * self.uniform() - 1.0;
            let r2 = x * x + y * y;
            if r2 < 1.0 && r2 != 0.0 {
                let f = (-2.0 * r2.ln() / r2).sqrt();
                self.spare_normal = Some(f * x);
                return f * y;
            }
        }
    }

    /// One index with the given probabilities (`choice(n, p=probabilities)`), which must sum to about 1.
    pub fn weighted_index(&mut self, probabilities: &[f64]) -> usize {
        let u = self.uniform();
        let total: f64 = probabilities.iter().sum();
        let mut cumulative = 0.0;
        for (i, p) in probabilities.iter().enumerate() {
            cumulative += p;
            if u < cumulative / total {
                return i;
            }
        }
        probabilities.len().saturating_sub(1)
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)]
mod tests {
    use super::*;

    // Numbers of numpy 2.4: `RandomState(seed).random_sample(2)`, `.standard_normal(2)`, `.permutation(8)`.
    #[test]
    fn streams_equal_those_of_numpy() {
        let mut rng = Rng::new(Some(42));
        assert_eq!(
            (rng.uniform(), rng.uniform()),
            (0.374_540_118_847_362_5, 0.950_714_306_409_916_2)
        );
        let mut rng = Rng::new(Some(1));
        assert_eq!(
            (rng.normal(), rng.normal()),
            (1.624_345_363_663_241_7, -0.611_756_413_650_075_4)
        );
        let mut rng = Rng::new(Some(u64::from(u32::MAX)));
        assert_eq!(rng.uniform(), 0.097_632_028_994_013_8);
    }

    #[test]
    fn unseeded_generators_differ() {
        assert_ne!(Rng::new(None).uniform(), Rng::new(None).uniform());
    }
}
