/// Makes damaged inputs. The same seed makes the same ones on every machine.
///
/// ```
/// use kiln_fuzz::Mutator;
///
/// let damaged = Mutator::new(1).mutate(b"a valid input");
/// assert_eq!(damaged, Mutator::new(1).mutate(b"a valid input"));
/// ```
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

/// Numbers at which code that computes with sizes, steps and indices breaks.
const NUMBERS: [i64; 22] = [
    0,
    1,
    -1,
    2,
    3,
    10,
    127,
    128,
    255,
    256,
    32_767,
    65_535,
    65_536,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    -0x8000_0000,
    1 << 53,
    (1 << 53) + 1,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
];

/// The same for text, with what is no integer, or none that fits.
const NUMERALS: [&str; 18] = [
    "1e308",
    "-1e308",
    "1.7976931348623157e308",
    "1e999",
    "5e-324",
    "1e-20",
    "-0.0",
    "NaN",
    "Infinity",
    "-Infinity",
    "null",
    "true",
    "18446744073709551616",
    "-9223372036854775809",
    "007",
    "0.1",
    "\"\"",
    "[]",
];

impl Mutator {
    /// A mutator whose every choice follows from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits (SplitMix64, Steele and others, 2014).
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from 0 up to but not including `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() as usize).checked_rem(end).unwrap_or(0)
    }

    /// True once in `n` times on average.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T: ?Sized>(&mut self, of: &'a [&'a T]) -> &'a T {
        assert!(!of.is_empty(), "there is nothing to pick from");
        of[self.below(of.len())]
    }

    /// An integer at which code tends to break, or any integer.
    pub fn number(&mut self) -> i64 {
        if self.one_in(4) {
            self.bits() as i64
        } else {
            NUMBERS[self.below(NUMBERS.len())]
        }
    }

    /// A number as text: an integer, a float, or a word that stands where a number should.
    pub fn numeral(&mut self) -> String {
        if self.one_in(2) {
            self.number().to_string()
        } else {
            NUMERALS[self.below(NUMERALS.len())].to_owned()
        }
    }

    /// Damages one of several valid inputs, sometimes with a piece of another one.
    ///
    /// # Panics
    /// When there is no input.
    pub fn mutate_any(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        let mut input = self.pick(seeds).to_vec();
        if self.one_in(8) {
            let other = self.pick(seeds);
            let (start, len) = self.range(other.len());
            let at = self.below(input.len() + 1);
            input.splice(at..at, other[start..start + len].iter().copied());
        }
        self.damage(&mut input);
        input
    }

    /// Damages a valid input by one to eight changes: bits, bytes, numbers of any width, pieces removed, repeated, moved
    /// or cut off, and numerals of a text replaced.
    #[must_use]
    pub fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut input = seed.to_vec();
        self.damage(&mut input);
        input
    }

    /// As [`mutate`](Self::mutate), in place.
    pub fn damage(&mut self, input: &mut Vec<u8>) {
        loop {
            self.change(input);
            if self.one_in(2) {
                return;
            }
        }
    }

    /// As [`damage`](Self::damage) without a change of length, for a format whose length is checked first.
    pub fn overwrite(&mut self, input: &mut [u8]) {
        loop {
            self.replace(input);
            if self.one_in(2) {
                return;
            }
        }
    }

    /// Damages a text and leaves it valid UTF-8 (what is not becomes U+FFFD).
    #[must_use]
    pub fn mutate_text(&mut self, seed: &str) -> String {
        String::from_utf8_lossy(&self.mutate(seed.as_bytes())).into_owned()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        if input.is_empty() {
            input.push(self.bits() as u8);
            return;
        }
        let (start, len) = self.range(input.len());
        match self.below(12) {
            0 => {
                input.drain(start..start + len);
            }
            1 => input.truncate(start),
            2 => {
                let piece = input[start..start + len].to_vec();
                let at = self.below(input.len() + 1);
                input.splice(at..at, piece);
            }
            3 => {
                let piece: Vec<u8> = (0..=self.below(8)).map(|_| self.bits() as u8).collect();
                input.splice(start..start, piece);
            }
            4..=6 => self.replace_numeral(input),
            _ => self.replace(input),
        }
    }

    /// A change that keeps the length.
    fn replace(&mut self, input: &mut [u8]) {
        if input.is_empty() {
            return;
        }
        let (start, len) = self.range(input.len());
        match self.below(5) {
            0 => input[start] ^= 1 << self.below(8),
            1 => input[start] = self.bits() as u8,
            2 => input[start] = [0, 1, 0x20, 0x22, 0x7f, 0x80, 0xfe, 0xff][self.below(8)],
            3 => {
                // An integer of 1, 2, 4 or 8 bytes in either byte order.
                let (width, number) = (1 << self.below(4), self.number());
                let end = (start + width).min(input.len());
                let mut bytes = number.to_le_bytes()[..width].to_vec();
                if self.one_in(2) {
                    bytes.reverse();
                }
                input[start..end].copy_from_slice(&bytes[..end - start]);
            }
            _ => {
                let from = self.below(input.len() - len + 1);
                input.copy_within(from..from + len, start);
            }
        }
    }

    /// Writes another numeral over one of the text's, or changes bytes where there is none.
    fn replace_numeral(&mut self, input: &mut Vec<u8>) {
        let from = self.below(input.len());
        let is_part = |byte: &u8| byte.is_ascii_digit();
        let Some(start) = input[from..].iter().position(is_part).map(|at| at + from) else {
            self.replace(input);
            return;
        };
        let part = |byte: &u8| is_part(byte) || matches!(byte, b'.' | b'e' | b'-' | b'+');
        let len = input[start..]
            .iter()
            .position(|b| !part(b))
            .unwrap_or(input.len() - start);
        let numeral = self.numeral();
        input.splice(start..start + len, numeral.into_bytes());
    }

    /// A piece of an input, mostly a short one: where it starts and how long it is, at least 1 of a length of at least 1.
    fn range(&mut self, len: usize) -> (usize, usize) {
        let start = self.below(len);
        let left = len - start;
        let most = if self.one_in(4) { left } else { left.min(16) };
        (start, (1 + self.below(most)).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let seeds: [&[u8]; 2] = [b"{\"a\": 12.5, \"b\": [1, 2, 3]}", b""];
        let make = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..200)
                .map(|_| mutator.mutate_any(&seeds))
                .collect::<Vec<_>>()
        };
        assert_eq!(make(3), make(3));
        assert_ne!(make(3), make(4));
    }

    #[test]
    fn an_overwritten_input_keeps_its_length() {
        let mut mutator = Mutator::new(5);
        for len in [0, 1, 2, 7, 100] {
            let mut changed = 0;
            for _ in 0..300 {
                let mut input = vec![7; len];
                mutator.overwrite(&mut input);
                assert_eq!(input.len(), len);
                changed += usize::from(input.iter().any(|byte| *byte != 7));
            }
            assert!(changed > 100 || len == 0, "{changed} of 300 at {len}");
        }
    }

    #[test]
    fn numerals_of_a_text_are_replaced() {
        let mut mutator = Mutator::new(1);
        let texts: Vec<_> = (0..2000)
            .map(|_| mutator.mutate_text("{\"value\": 25}"))
            .collect();
        for wanted in [
            "1e308",
            "NaN",
            "-9223372036854775808",
            "18446744073709551616",
        ] {
            assert!(
                texts.contains(&format!("{{\"value\": {wanted}}}")),
                "{wanted} was never written"
            );
        }
    }
}
