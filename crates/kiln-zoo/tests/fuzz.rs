//! Damaged weight files: every reader takes or refuses them, in bounded time and memory.
//!
//! `KILN_FUZZ_CASES=1000000 cargo test -p kiln-zoo --test fuzz -- --nocapture` runs that many cases for each reader and prints
//! what it saw; the README of this crate has the figures.

use std::path::Path;
use std::time::Duration;

use kiln_fuzz::{CountingAllocator, Mutator, Run, Verdict};
use kiln_zoo::weights::{Load, StateDict};

mod archive;
#[allow(dead_code)]
mod tiny;
use archive::archive;
use tiny::{Tiny, device};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Cases of a short run.
const CASES: usize = 1500;

fn golden(names: &[&str]) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = names.iter().map(|name| std::fs::read(folder.join(name)));
    files.collect::<Result<_, _>>().unwrap()
}

/// Runs the reader on damaged inputs.
fn fuzz(name: &str, seed: u64, make: impl FnMut(&mut Mutator) -> Vec<u8>) {
    let cases = std::env::var("KILN_FUZZ_CASES").ok();
    let cases = cases.map_or(CASES, |cases| cases.parse().expect("a number of cases"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let device = device();
    let report = Run::new(name)
        .seed(seed)
        .cases(cases.try_into().unwrap())
        .slow(Duration::from_secs(5))
        // A tensor that repeats its numbers may take 64 MiB, and is copied into its type and into the model's.
        .bytes(256 << 20)
        .check(make, |input: &Vec<u8>| {
            std::fs::write(&path, input).unwrap();
            read(&path, &device)
        });
    println!("{report}");
    report.assert_clean();
    assert!(report.refused > 0, "{report}");
}

/// Reads all that a file has, and loads it into a model.
fn read(path: &Path, device: &burn::tensor::Device) -> Verdict {
    let message = |error: kiln_zoo::weights::WeightsError| {
        let text = error.to_string();
        match text.contains(&*path.to_string_lossy()) {
            true => Verdict::Refused,
            false => Verdict::Wrong(format!("a message without the file: {text}")),
        }
    };
    let loaded = Load::new().into_model(Tiny::new(4, device), path);
    let file = match StateDict::open(path) {
        Ok(file) => file,
        Err(error) => return message(error),
    };
    for entry in file.entries() {
        match file.read(entry.name()) {
            Ok(data) if data.num_elements() != entry.shape().iter().product::<usize>() => {
                return Verdict::Wrong(format!("{} numbers for {entry:?}", data.num_elements()));
            }
            Ok(_) => {}
            Err(error) => return message(error),
        }
    }
    match loaded {
        Ok(_) => Verdict::Accepted,
        Err(error) => message(error),
    }
}

fn any_of(mutator: &mut Mutator, seeds: &[Vec<u8>]) -> Vec<u8> {
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    mutator.mutate_any(&seeds)
}

#[test]
fn damaged_zip_files_of_pytorch_are_read_or_refused() {
    let seeds = golden(&[
        "weights/plain.pth",
        "weights/views.pth",
        "weights/protocol5.pth",
        "checkpoints/torchvision.pth",
        "checkpoints/tensors.pth",
    ]);
    fuzz("PyTorch's zip files", 1, |mutator| any_of(mutator, &seeds));
}

#[test]
fn damaged_legacy_files_of_pytorch_are_read_or_refused() {
    let seeds = golden(&[
        "weights/legacy.pth",
        "checkpoints/torchvision_legacy.pth",
        "checkpoints/legacy_tensors.pth",
    ]);
    fuzz("PyTorch's legacy files", 2, |mutator| {
        any_of(mutator, &seeds)
    });
}

#[test]
fn damaged_pickles_in_sound_archives_are_read_or_refused() {
    // Else the check sum of the archive would refuse nearly all of them.
    let seeds: Vec<Vec<u8>> = golden(&[
        "weights/plain.pth",
        "weights/protocol4.pth",
        "checkpoints/torchvision.pth",
        "checkpoints/lightning.ckpt",
        "checkpoints/values.pth",
        "checkpoints/tensors.pth",
        "checkpoints/numpy.pth",
        "checkpoints/protocol1.pth",
    ])
    .iter()
    .map(|file| pickle_of(file))
    .collect();
    let numbers = [0; 1024];
    let names: Vec<String> = (0..24).map(|i| format!("a/data/{i}")).collect();
    fuzz("pickles", 3, |mutator| {
        let pickle = any_of(mutator, &seeds);
        let mut records: Vec<(&str, &[u8])> = vec![("a/data.pkl", &pickle)];
        records.extend(names.iter().map(|name| (name.as_str(), &numbers[..])));
        archive(&records, 0)
    });
}

/// The bytes of `data.pkl`, which torch.save stores as they are.
fn pickle_of(file: &[u8]) -> Vec<u8> {
    let at = |from: &[u8], what: &[u8]| from.windows(what.len()).position(|w| w == what).unwrap();
    let number = |at: usize| usize::from(u16::from_le_bytes([file[at], file[at + 1]]));
    let name = at(file, b"data.pkl");
    let header = file[..name]
        .windows(4)
        .rposition(|w| w == b"PK\x03\x04")
        .unwrap();
    let start = header + 30 + number(header + 26) + number(header + 28);
    // The first STOP that the next record or its descriptor follows.
    let end = at(&file[start..], b".PK\x07\x08") + 1;
    file[start..start + end].to_vec()
}

#[test]
fn damaged_safetensors_are_read_or_refused() {
    let mut seeds = golden(&["weights/plain.safetensors", "weights/f16.safetensors"]);
    let header = br#"{"__metadata__":{"classes":"[\"a\",\"b\"]"},"w":{"dtype":"F8_E5M2","shape":[2,2],"data_offsets":[0,4]}}"#;
    let len = (header.len() as u64).to_le_bytes();
    seeds.push([&len[..], header, &[1, 2, 3, 4]].concat());
    fuzz("safetensors", 4, |mutator| any_of(mutator, &seeds));
}

#[test]
fn damaged_burnpacks_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bpk");
    burn::module::Module::save_file(Tiny::new(4, &device()), &path).unwrap();
    let seeds = [std::fs::read(&path).unwrap()];
    fuzz("burnpack", 5, |mutator| any_of(mutator, &seeds));
}
