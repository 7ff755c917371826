//! Damaged files of every kind are read or refused with the file's name, quickly and in bounded memory.
//!
//! A short round of fixed seeds runs here; `KILN_FUZZ_CASES=1000000` makes it a long one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use flate2::write::GzEncoder;
use flate2::{Compression, Crc};
use kiln_data::cifar::{self, Cifar};
use kiln_data::idx;
use kiln_data::images::{self, Framing, Invert, Mask, Raster};
use kiln_fuzz::{CountingAllocator, Mutator, Run, Verdict};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn cases(usual: u64) -> u64 {
    let given = std::env::var("KILN_FUZZ_CASES").ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Reads inputs from a file, and checks that an error names it.
fn fuzz(
    what: &str,
    usual: u64,
    make: impl Fn(&mut Mutator) -> Vec<u8>,
    read: impl Fn(&Path) -> Result<(), String>,
) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged");
    let report = Run::new(what)
        .seed(11)
        .cases(cases(usual))
        .slow(Duration::from_secs(5))
        // As many pixels as are read at most, several times.
        .bytes(640 << 20)
        .check(make, |input: &Vec<u8>| {
            fs::write(&path, input).unwrap();
            match read(&path) {
                Ok(()) => Verdict::Accepted,
                Err(text) if text.contains("damaged") => Verdict::Refused,
                Err(text) => Verdict::Wrong(format!("it does not name the file: {text}")),
            }
        });
    eprintln!("{report}");
    report.assert_clean();
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut encoder, content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn damaged_idx_files_are_read_or_refused() {
    let images = [
        &[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2][..],
        &[7; 12],
    ]
    .concat();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 5][..], &[0, 1, 2, 3, 9]].concat();
    let members = [gzip(&images[..9]), gzip(&images[9..])].concat();
    let seeds = [&images[..], &labels, &members, &gzip(&labels)];
    fuzz(
        "IDX",
        3_000,
        |m| m.mutate_any(&seeds),
        |path| {
            let read = idx::read_images(path).map(drop);
            let _ = idx::read_labels(path);
            read.map_err(|error| error.to_string())
        },
    );
}

#[test]
fn damaged_cifar_files_are_read_or_refused() {
    let records = [vec![3; 3073], vec![8; 3073]].concat();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, size) in [("cifar-10-batches-bin/test_batch.bin", 30), ("other", 7)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_cksum();
        let content = vec![1; size as usize];
        archive
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    let tar = archive.into_inner().unwrap();
    let seeds = [&records[..], &records[..3073], &tar];
    let make = |m: &mut Mutator| {
        let damaged = m.mutate_any(&seeds);
        if m.one_in(2) { gzip(&damaged) } else { damaged }
    };
    fuzz("CIFAR", 1_000, make, |path| {
        let _ = cifar::read_archive(path, Cifar::Cifar10);
        let _ = cifar::read_records(path, Cifar::Cifar100, None);
        let read = cifar::read_records(path, Cifar::Cifar10, None);
        read.map(drop).map_err(|error| error.to_string())
    });
}

/// The check sums of a PNG made right again, so that damage reaches what is behind them.
fn mend(png: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = png.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(checked) = png
            .get(at + 4..)
            .and_then(|rest| rest.get(..length.saturating_add(4)))
        else {
            return;
        };
        let mut crc = Crc::new();
        crc.update(checked);
        let end = at + 8 + length;
        if let Some(sum) = png.get_mut(end..end + 4) {
            sum.copy_from_slice(&crc.sum().to_be_bytes());
        }
        at = end + 4;
    }
}

fn pictures(endings: &[&str], usual: u64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
    let mut seeds = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let ending = path.extension().unwrap().to_str().unwrap();
        if endings.contains(&ending) {
            seeds.push(fs::read(path).unwrap());
        }
    }
    seeds.sort();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let make = |m: &mut Mutator| {
        let mut damaged = m.mutate_any(&seeds);
        if !m.one_in(4) {
            mend(&mut damaged);
        }
        damaged
    };
    fuzz(endings[0], usual, make, |path| {
        let _ = Mask::read(path);
        let picture = Raster::read(path, None).map_err(|error| error.to_string())?;
        // What is read must fit the next steps.
        let [channels, height, width] = picture.shape;
        assert_eq!(picture.pixels.len(), channels * height * width);
        if height * width < 10_000 {
            picture.cover(5, 7);
            let _ = images::read(path, Framing::Ink, Invert::Auto);
        }
        Ok(())
    });
}

#[test]
fn damaged_pngs_are_read_or_refused() {
    pictures(&["png"], 4_000);
}

#[test]
fn damaged_jpegs_are_read_or_refused() {
    pictures(&["jpg"], 1_500);
}

#[test]
fn damaged_gifs_are_read_or_refused() {
    pictures(&["gif"], 2_000);
}

#[test]
fn damaged_tiffs_are_read_or_refused() {
    pictures(&["tif"], 2_000);
}

#[test]
fn damaged_webps_are_read_or_refused() {
    pictures(&["webp"], 1_500);
}

#[test]
fn damaged_bmps_are_read_or_refused() {
    pictures(&["bmp"], 2_000);
}
