//! Writes Digits as MNIST-format files, for other programs to train on.
//!
//! ```text
//! cargo run --release -p kiln-data --example export_digits -- FOLDER [TRAIN] [TEST] [SEED]
//! ```

use std::path::PathBuf;
use std::time::Instant;

use kiln_data::{Digits, Split, idx};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: export_digits FOLDER [TRAIN] [TEST] [SEED]";
    let folder = PathBuf::from(args.next().ok_or(usage)?);
    let mut number = |default| args.next().map_or(Ok(default), |text| text.parse::<u64>());
    let counts = [
        (Split::Train, number(Digits::TRAIN_LEN as u64)? as usize),
        (Split::Test, number(Digits::TEST_LEN as u64)? as usize),
    ];
    let digits = Digits::new(number(0)?);
    for (split, count) in counts {
        let start = Instant::now();
        let data = digits.generate(split, count);
        println!(
            "{split}: {count} images in {:.2} s",
            start.elapsed().as_secs_f64()
        );
        idx::write_split(&folder, split, &data, idx::Encoding::Plain)?;
    }
    Ok(())
}
