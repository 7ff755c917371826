//! Files that are no weights, told apart by their first bytes or their records, so that a message can name them.

use std::collections::HashMap;

use super::zip::Record;

/// Bytes at the beginning of a file that tell a format.
pub(super) const START: u64 = 512;

/// First bytes, what they are, and what to do.
const KNOWN: [(&[u8], &str); 14] = [
    (b"\x1f\x8b", "it is packed with gzip; unpack it with gunzip"),
    (b"BZh", "it is packed with bzip2; unpack it with bunzip2"),
    (b"\xfd7zXZ", "it is packed with xz; unpack it with unxz"),
    (
        b"\x28\xb5\x2f\xfd",
        "it is packed with zstd; unpack it with unzstd",
    ),
    (b"7z\xbc\xaf", "it is a 7-Zip archive; unpack it"),
    (b"Rar!", "it is a RAR archive; unpack it"),
    (
        b"\x89HDF",
        "it is an HDF5 file, such as Keras writes; save the weights from PyTorch or as safetensors",
    ),
    (
        b"\x93NUMPY",
        "it is a NumPy array; save the weights with torch.save or as safetensors",
    ),
    (
        b"GGUF",
        "it is none of: PyTorch (.pth), safetensors, Burn's burnpack (.bpk), but a GGUF file of a language model",
    ),
    (b"TFL3", TFLITE),
    (b"RIFF", PICTURE),
    (b"\x89PNG", PICTURE),
    (b"\xff\xd8\xff", PICTURE),
    (b"PAR1", "it is a Parquet file, not weights"),
];

const TFLITE: &str =
    "it is a TensorFlow Lite model; save the weights from PyTorch or as safetensors";
const PICTURE: &str = "it is a picture or a sound, not weights";

/// What a file is that begins so and is no weight file.
pub(super) fn named(start: &[u8]) -> Option<&'static str> {
    if start.get(257..262) == Some(b"ustar") || start.starts_with(b"sys_info\0") {
        return Some(
            "it is a tar archive; PyTorch before version 0.1.10 saved so, and if you trust it, today's PyTorch writes it anew: \
             python -c \"import torch; torch.save(torch.load('FILE', weights_only=False), 'weights.pth')\"; another archive is \
             unpacked with tar -xf FILE",
        );
    }
    if start.get(4..8) == Some(b"TFL3") {
        return Some(TFLITE);
    }
    if start.get(4..8) == Some(b"ET12") {
        return Some("it is a program of ExecuTorch; save the model's state_dict() from PyTorch");
    }
    // The first field of an ONNX model is its version, the second the name of the producer.
    if start.starts_with(&[8]) && start.get(2) == Some(&0x12) {
        return Some(
            "it may be an ONNX model; save the state_dict() of the PyTorch model that it was exported from",
        );
    }
    let known = KNOWN.iter().find(|(magic, _)| start.starts_with(magic));
    known.map(|(_, what)| *what)
}

/// What a zip archive is that `torch.save` did not write.
pub(super) fn named_archive(records: &HashMap<String, Record>) -> Option<&'static str> {
    let any = |test: &dyn Fn(&str) -> bool| records.keys().any(|name| test(name));
    let ends = |end: &str| any(&|name| name == end || name.ends_with(&format!("/{end}")));
    if ends("constants.pkl")
        || ends("bytecode.pkl")
        || ends("model.json") && ends("attributes.pkl")
        || any(&|name| name.split('/').nth(1) == Some("code") && name.ends_with(".py"))
    {
        return Some(
            "it is a TorchScript program, not a state_dict; PyTorch takes the weights out of it: python -c \"import torch; \
             torch.save(torch.jit.load('FILE', map_location='cpu').state_dict(), 'weights.pth')\"",
        );
    }
    if any(&|name| name.contains("exported_program") || name.ends_with("models/model.json")) {
        return Some(
            "it is a program of torch.export, not a state_dict; PyTorch takes the weights out of it: python -c \"import torch; \
             torch.save(torch.export.load('FILE').state_dict, 'weights.pth')\"",
        );
    }
    if ends("model.weights.h5") {
        return Some("it is a Keras model; save the weights from PyTorch or as safetensors");
    }
    if any(&|name| name.ends_with(".npy")) {
        return Some(
            "it is an archive of NumPy arrays (.npz); save the weights with torch.save or as safetensors",
        );
    }
    if any(&|name| {
        [".pth", ".pt", ".safetensors", ".ckpt"]
            .iter()
            .any(|end| name.ends_with(end))
    }) {
        return Some("it is a zip archive with a weight file in it; unpack it");
    }
    None
}
