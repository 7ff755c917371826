//! Weight files of every layout, from PyTorch and from nobody with good intentions.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Tensor, TensorData};
use kiln_zoo::weights::{Element, Format, Load, StateDict, WeightsError, save};
use serde_json::Value;

mod archive;
mod tiny;
use archive::archive;
use tiny::{Tiny, device, numbers};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/weights")
        .join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap()
}

fn refusal(path: impl AsRef<Path>) -> WeightsError {
    match Load::new().into_model(Tiny::new(4, &device()), path) {
        Err(error) => error,
        Ok(_) => panic!("it was loaded"),
    }
}

#[test]
fn every_layout_is_read_exactly_and_gives_pytorchs_output() {
    let expected = expected();
    for device in kiln_testing::devices() {
        let x = TensorData::new(numbers(&expected["input"]), [2, 3, 7, 6]).convert::<f32>();
        let x = Tensor::<4>::from_data(x, &device);
        for case in expected["files"].as_array().unwrap() {
            let name = case["file"].as_str().unwrap();
            let file = StateDict::open(golden(name)).unwrap();
            let state = case["state"].as_object().unwrap();
            assert_eq!(file.entries().len(), state.len(), "{name}");
            for entry in file.entries() {
                let plain = entry.name().trim_start_matches("module._orig_mod.");
                let expected = &state[plain];
                let data = file.read(entry.name()).unwrap();
                let read: Vec<f64> = data.iter::<f64>().collect();
                assert_eq!(read, numbers(&expected["data"]), "{name}: {plain}");
                let shape: Vec<usize> = numbers(&expected["shape"])
                    .iter()
                    .map(|&x| x as usize)
                    .collect();
                assert_eq!(entry.shape(), shape, "{name}: {plain}");
            }
            let (model, report) = Load::new()
                .into_model(Tiny::new(4, &device), golden(name))
                .unwrap();
            // num_batches_tracked has no place in Burn's own batch norm.
            assert_eq!(report.loaded, state.len() - 1, "{name}");
            let output = model.forward(x.clone()).into_data();
            for (got, expected) in output.iter::<f64>().zip(numbers(&case["output"])) {
                assert!(
                    (got - expected).abs() < 1e-5,
                    "{name}: {got} for {expected}"
                );
            }
        }
    }
}

#[test]
fn format_and_key_are_told_from_the_content() {
    let open = |name| StateDict::open(golden(name)).unwrap();
    assert_eq!(open("plain.pth").format(), Format::PyTorch);
    assert_eq!(open("legacy.pth").format(), Format::PyTorchLegacy);
    assert_eq!(open("plain.safetensors").format(), Format::Safetensors);
    assert_eq!(open("plain.pth").key(), None);
    assert_eq!(open("checkpoint.pth").key(), Some("model_state_dict"));
    assert_eq!(
        open("bf16.pth").entry("fc.bias").unwrap().element(),
        Element::BF16
    );
    let error = StateDict::open_key(golden("checkpoint.pth"), "ema")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("'ema'; there are: model_state_dict"),
        "{error}"
    );
}

#[test]
fn what_is_saved_is_read_back_and_has_pytorchs_names_and_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.safetensors");
    for device in kiln_testing::devices() {
        let (model, _) = Load::new()
            .into_model(Tiny::new(4, &device), golden("plain.pth"))
            .unwrap();
        save(&model, &path).unwrap();
        let file = StateDict::open(&path).unwrap();
        let reference = StateDict::open(golden("plain.safetensors")).unwrap();
        for entry in file.entries() {
            assert_eq!(
                file.read(entry.name()).unwrap(),
                reference.read(entry.name()).unwrap()
            );
        }
        let names: Vec<&str> = file.entries().iter().map(|entry| entry.name()).collect();
        let order = [
            "conv.weight",
            "conv.bias",
            "bn.weight",
            "bn.bias",
            "bn.running_mean",
            "bn.running_var",
            "fc.weight",
            "fc.bias",
        ];
        assert_eq!(names, order);
        let first = std::fs::read(&path).unwrap();
        save(&model, &path).unwrap();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            first,
            "the same weights give the same bytes"
        );
    }
}

#[test]
fn burns_own_records_are_read() {
    #[derive(Module, Debug)]
    #[allow(clippy::large_enum_variant)]
    enum Choice {
        Tiny(Tiny),
    }
    let folder = tempfile::tempdir().unwrap();
    let device = device();
    let (model, _) = Load::new()
        .into_model(Tiny::new(4, &device), golden("plain.pth"))
        .unwrap();
    let x = Tensor::<4>::ones([1, 3, 8, 8], &device);
    let output = model.forward(x.clone()).into_data();

    let plain = folder.path().join("plain.bpk");
    model.clone().save_file(&plain).unwrap();
    assert_eq!(StateDict::open(&plain).unwrap().format(), Format::Burnpack);
    let wrapped = folder.path().join("wrapped.bpk");
    Choice::Tiny(model).save_file(&wrapped).unwrap();
    for path in [&plain, &wrapped] {
        let (loaded, report) = Load::new()
            .into_model(Choice::Tiny(Tiny::new(4, &device)), path)
            .unwrap();
        let Choice::Tiny(loaded) = loaded;
        assert_eq!(report.loaded, 8);
        assert_eq!(loaded.forward(x.clone()).into_data(), output);
    }
}

#[test]
fn loading_keeps_what_is_frozen_and_what_is_trained() {
    let device = device();
    let model = Tiny::new(4, &device);
    let model = Tiny {
        fc: model.fc.no_grad(),
        ..model
    };
    let (model, _) = Load::new().into_model(model, golden("plain.pth")).unwrap();
    let model = model.train();
    assert!(model.conv.weight.val().is_require_grad());
    assert!(!model.fc.weight.val().is_require_grad());
}

#[test]
fn a_mismatch_lists_what_is_missing_left_over_and_misshapen_with_the_nearest_name() {
    #[derive(Module, Debug)]
    struct Other {
        conv: Conv2d,
        bn: BatchNorm,
        fc1: Linear,
        fc2: Linear,
    }
    let device = device();
    let tiny = Tiny::new(4, &device);
    let model = Other {
        conv: Conv2dConfig::new([3, 6], [3, 3]).init(&device),
        bn: tiny.bn,
        fc1: tiny.fc,
        fc2: LinearConfig::new(4, 2).init(&device),
    };
    let error = Load::new()
        .into_model(model.clone(), golden("plain.pth"))
        .unwrap_err();
    let WeightsError::Mismatch { mismatch, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(mismatch.missing.len(), 4);
    assert_eq!(mismatch.missing[0].name, "fc1.weight");
    assert_eq!(mismatch.missing[0].nearest.as_deref(), Some("fc.weight"));
    let unexpected: Vec<&str> = mismatch
        .unexpected
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    assert_eq!(unexpected, ["fc.weight", "fc.bias"]);
    assert_eq!(mismatch.misshapen[0].name, "conv.weight");
    assert_eq!(mismatch.misshapen[0].file, [5, 3, 3, 3]);
    assert_eq!(mismatch.misshapen[0].model, [6, 3, 3, 3]);
    assert_eq!(mismatch.head, None);
    let text = error.to_string();
    for part in [
        "plain.pth does not fit the model",
        "the file lacks (4):",
        "fc1.weight [4x5] (nearest in the file: fc.weight)",
        "the model has no place for (2):",
        "conv.weight: [5x3x3x3] in the file, [6x3x3x3] in the model",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    // Without strictness a wrong shape is still an error, the rest is not.
    let lenient = Load::new().strict(false);
    assert!(lenient.into_model(model, golden("plain.pth")).is_err());
}

#[test]
fn another_number_of_classes_needs_permission_and_keeps_the_fresh_head() {
    let device = device();
    let model = Tiny::new(10, &device);
    let error = Load::new()
        .into_model(model.clone(), golden("plain.pth"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("only the head 'fc' differs: --allow-head-mismatch"),
        "{error}"
    );

    let load = Load::new().allow_head_mismatch(true);
    let (loaded, report) = load.into_model(model.clone(), golden("plain.pth")).unwrap();
    assert_eq!(report.head_kept, ["fc.weight", "fc.bias"]);
    assert_eq!(
        loaded.fc.weight.val().into_data(),
        model.fc.weight.val().into_data()
    );
    assert_ne!(
        loaded.conv.weight.val().into_data(),
        model.conv.weight.val().into_data()
    );

    // What differs elsewhere, or in the head's input, stays an error.
    let wider = Tiny {
        fc: LinearConfig::new(6, 10).init(&device),
        ..model.clone()
    };
    assert!(load.into_model(wider, golden("plain.pth")).is_err());
    let deeper = Tiny {
        conv: Conv2dConfig::new([3, 7], [3, 3]).init(&device),
        ..model.clone()
    };
    assert!(load.into_model(deeper, golden("plain.pth")).is_err());
    // The same number of classes loads the head too.
    let (same, report) = load
        .into_model(Tiny::new(4, &device), golden("plain.pth"))
        .unwrap();
    assert!(report.head_kept.is_empty() && report.loaded == 8);
    assert_ne!(
        same.fc.bias.unwrap().val().into_data(),
        model.fc.bias.unwrap().val().into_data()
    );
}

#[test]
fn old_densenet_names_are_understood() {
    #[derive(Module, Debug)]
    struct Layer {
        norm1: BatchNorm,
        conv1: Conv2d,
    }
    #[derive(Module, Debug)]
    struct Dense {
        denselayer1: Layer,
        classifier: Linear,
    }
    let device = device();
    let model = Dense {
        denselayer1: Layer {
            norm1: BatchNormConfig::new(3).init(&device),
            conv1: Conv2dConfig::new([3, 5], [3, 3])
                .with_bias(false)
                .init(&device),
        },
        classifier: LinearConfig::new(5, 4).init(&device),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.safetensors");
    save(&model, &path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // One space of padding goes for each dot more.
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = text(&bytes[8..8 + len])
        .replace("norm1", "norm.1")
        .replace("conv1", "conv.1");
    let header = format!(
        "{:<1$}",
        header.trim_end(),
        header.trim_end().len().next_multiple_of(8)
    );
    let numbers = bytes.split_off(8 + len);
    let old = [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &numbers,
    ]
    .concat();
    std::fs::write(&path, old).unwrap();
    assert!(
        StateDict::open(&path)
            .unwrap()
            .entry("denselayer1.norm.1.running_mean")
            .is_some()
    );
    let (_, report) = Load::new().into_model(model, &path).unwrap();
    assert_eq!(report.loaded, 7);
}

// --- files that nobody should trust ---

fn pth(pickle: &[u8]) -> Vec<u8> {
    archive(&[("a/data.pkl", pickle), ("a/data/0", &[0; 16])], 0)
}

/// `{name: tensor}` with a view of a storage that announces `len` floats.
fn tensor_pickle(len: &[u8], offset: &[u8], shape: &[u8], strides: &[u8]) -> Vec<u8> {
    [
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu",
        len,
        b"tQ",
        offset,
        b"(",
        shape,
        b"t(",
        strides,
        b"t\x89N",
        b"tRs.",
    ]
    .concat()
}

fn opened(bytes: &[u8]) -> Result<StateDict, WeightsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pth");
    std::fs::write(&path, bytes).unwrap();
    StateDict::open(&path)
}

fn opened_error(bytes: &[u8]) -> String {
    opened(bytes).expect_err("it was opened").to_string()
}

#[test]
fn the_archives_of_these_tests_are_sound() {
    let file = opened(&pth(&tensor_pickle(b"K\x04", b"K\0", b"K\x04", b"K\x01"))).unwrap();
    assert_eq!(file.entry("w").unwrap().shape(), [4]);
}

#[test]
fn foreign_python_objects_are_refused_and_never_called() {
    let attacks: [(&[u8], &str); 7] = [
        (
            b"\x80\x02cposix\nsystem\nX\x0c\0\0\0touch owned!\x85R.",
            "posix.system",
        ),
        (
            b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
            "builtins.eval",
        ),
        (b"(S'touch owned'\nios\nsystem\n.", "os.system"),
        (
            b"\x80\x02}X\x01\0\0\0wcnumpy.core.multiarray\nscalar\n)Rs.",
            "numpy.core.multiarray.scalar",
        ),
        (
            b"\x80\x02ctorchvision.models.resnet\nResNet\n)\x81}b.",
            "torchvision.models.resnet.ResNet",
        ),
        (b"\x80\x02ctorch\nload\n.", "torch.load"),
        (
            b"\x80\x02ccollections\ndefaultdict\n.",
            "collections.defaultdict",
        ),
    ];
    for (pickle, name) in attacks {
        let error = opened(&pth(pickle)).unwrap_err();
        assert!(
            matches!(&error, WeightsError::ForeignGlobal { global, .. } if global == name),
            "{error}"
        );
    }
    assert!(!Path::new("owned").exists());
}

#[test]
fn a_file_with_a_whole_model_in_it_says_how_to_take_the_weights_out() {
    // `torch.save(Net())`, and the same in a dict: {'model': Net(), ..}.
    let model = b"c__main__\nNet\n)\x81}X\x08\0\0\0_modules}sb";
    let alone = [&b"\x80\x02"[..], model, b"."].concat();
    let in_a_dict = |key: &[u8]| {
        let len = (key.len() as u32).to_le_bytes();
        [&b"\x80\x02}X"[..], &len, key, model, b"s."].concat()
    };
    for (pickle, command) in [
        (alone, "weights_only=False).state_dict(), 'weights.pth')"),
        (
            in_a_dict(b"model"),
            "weights_only=False)['model'].state_dict()",
        ),
        // Nobody else's words get into a command.
        (
            in_a_dict(b"'] or 1 #"),
            "weights_only=False)['KEY'].state_dict()",
        ),
    ] {
        let error = opened(&pth(&pickle)).unwrap_err().to_string();
        assert!(
            error.contains("a whole model, an object of the class __main__.Net"),
            "{error}"
        );
        assert!(error.contains(command), "{error}");
    }
}

#[test]
fn tensors_that_reach_beyond_their_storage_are_refused() {
    let huge = b"\x8a\x07\xff\xff\xff\xff\xff\xff\x7f";
    for (pickle, part) in [
        (
            tensor_pickle(b"K\x05", b"K\0", b"K\x05", b"K\x01"),
            "announces more numbers",
        ),
        (
            tensor_pickle(b"K\x04", b"K\x01", b"K\x04", b"K\x01"),
            "reaches beyond",
        ),
        (
            tensor_pickle(b"K\x04", b"K\0", b"K\x02", b"K\x04"),
            "reaches beyond",
        ),
        (
            tensor_pickle(b"K\x04", huge, b"K\x02", b"K\x01"),
            "reaches beyond",
        ),
        (
            tensor_pickle(b"K\x04", b"K\0", huge, b"K\x01"),
            "reaches beyond",
        ),
        (
            tensor_pickle(b"K\x04", b"K\0", &[huge, &huge[..]].concat(), b"K\0K\0"),
            "impossible shape",
        ),
        (
            tensor_pickle(huge, b"K\0", b"K\x04", b"K\x01"),
            "announces more numbers",
        ),
        (
            tensor_pickle(b"K\x04", b"K\0", b"J\xff\xff\xff\xff", b"K\x01"),
            "no natural number",
        ),
        (
            tensor_pickle(b"K\x04", b"K\0", b"K\x04", b"K\x01K\x01"),
            "more axes than strides",
        ),
    ] {
        let error = opened_error(&pth(&pickle));
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_tensor_that_repeats_one_number_forever_is_not_read() {
    // 2^50 numbers by a stride of 0: sound to describe, impossible to hold.
    let pickle = tensor_pickle(b"K\x04", b"K\0", b"\x8a\x07\0\0\0\0\0\0\x04", b"K\0");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pth");
    std::fs::write(&path, pth(&pickle)).unwrap();
    let error = StateDict::open(&path)
        .unwrap()
        .read("w")
        .unwrap_err()
        .to_string();
    assert!(error.contains("claims"), "{error}");
    // A moderate one is what `expand` makes.
    std::fs::write(
        &path,
        pth(&tensor_pickle(
            b"K\x04",
            b"K\x01",
            b"K\x03K\x02",
            b"K\0K\x01",
        )),
    )
    .unwrap();
    assert_eq!(
        StateDict::open(&path)
            .unwrap()
            .read("w")
            .unwrap()
            .num_elements(),
        6
    );
}

#[test]
fn pickles_that_lie_nest_or_never_end_are_refused() {
    let deep_lists = [
        b"\x80\x02".as_slice(),
        &b"]".repeat(200_000),
        &b"a".repeat(199_999),
        b".",
    ]
    .concat();
    let deep_tuples = [b"\x80\x02N".as_slice(), &b"\x85".repeat(200_000), b"."].concat();
    let marks = b"(".repeat(300_000);
    let many = [b"\x80\x02".as_slice(), &b"N".repeat(4_100_000), b"."].concat();
    // A list that holds itself, as the root and as a state dict.
    let cycle: &[u8] = b"\x80\x02]q\0h\0a.";
    let loops: &[u8] = b"\x80\x02}q\0X\x01\0\0\0ah\0s.";
    // One list of pairs, copied into a new dict again and again.
    let copies = [
        b"\x80\x02ccollections\nOrderedDict\nq\x01](".as_slice(),
        &b"NN\x86".repeat(20_000),
        b"eq\x02\x85q\x03",
        &b"h\x01h\x03R".repeat(20_000),
        b".",
    ]
    .concat();
    for pickle in [
        &deep_lists[..],
        &deep_tuples,
        &marks,
        &many,
        &copies,
        cycle,
        loops,
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.",
        b"\x80\x02\x8b\xff\xff\xff\xff.",
        b"\x80\x02B\xff\xff\xff\xff.",
        b"\x80\x02h\x07.",
        b"\x80\x02t.",
        b"\x80\x020.",
        b"\x80\x02(N0020.",
        b"\x80\x02NNR.",
        b"\x80\x02Nb.",
        b"\x80\x02}(NNNu.",
        b"\x80\x09.",
        b"\x80\x02P1\n.",
        b"\x80\x02NQ.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02N",
        b"",
    ] {
        assert!(
            opened(&pth(pickle)).is_err(),
            "{:?}",
            &pickle[..pickle.len().min(20)]
        );
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    for name in ["plain.pth", "legacy.pth", "plain.safetensors"] {
        let whole = std::fs::read(golden(name)).unwrap();
        for len in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
            assert!(
                opened(&whole[..len]).is_err(),
                "{name} cut off at {len} of {}",
                whole.len()
            );
        }
    }
}

#[test]
fn no_changed_byte_makes_the_reader_panic() {
    for name in [
        "plain.pth",
        "legacy.pth",
        "plain.safetensors",
        "protocol4.pth",
    ] {
        let whole = std::fs::read(golden(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for at in (0..whole.len()).step_by(3) {
            for change in [0xff, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                std::fs::write(&path, &bytes).unwrap();
                if let Ok(file) = StateDict::open(&path) {
                    for entry in file.entries() {
                        let _ = file.read(entry.name());
                    }
                }
            }
        }
    }
}

#[test]
fn damaged_numbers_in_an_archive_are_noticed_by_their_check_sum() {
    let mut bytes = std::fs::read(golden("plain.pth")).unwrap();
    let weight = StateDict::open(golden("plain.pth"))
        .unwrap()
        .read("conv.weight")
        .unwrap();
    let start = weight.as_bytes();
    let at = bytes
        .windows(start.len())
        .position(|window| window == start)
        .unwrap();
    bytes[at + 5] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pth");
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(&path).to_string();
    assert!(error.contains("check sum"), "{error}");
}

#[test]
fn compressed_archives_are_refused_so_that_none_can_explode() {
    let error = opened_error(&archive(&[("a/data.pkl", b"\x80\x02}.")], 8));
    assert!(
        error.contains("is compressed, which torch.save never does"),
        "{error}"
    );
}

#[test]
fn what_is_no_weight_file_is_told_apart() {
    for (bytes, part) in [
        (&b""[..], "it is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            "Git LFS pointer",
        ),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\x80\x04}.", "not one that torch.save wrote"),
        (b"GGUF\x03\0\0\0", "it is none of"),
        (
            &archive(&[("word/document.xml", b"<w/>")], 0),
            "it has no data.pkl",
        ),
        (&pth(b"\x80\x02]."), "it holds a list, not a dict"),
        (&pth(b"\x80\x02}."), "without a single tensor"),
    ] {
        let error = opened_error(bytes);
        assert!(error.contains(part), "{part}: {error}");
    }
    let missing = StateDict::open("no/such/file.pth").unwrap_err();
    assert!(matches!(missing, WeightsError::Io { .. }), "{missing}");
}

#[test]
fn safetensors_headers_that_lie_are_refused() {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let tensor = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let one = |tensor: &str| format!(r#"{{"w":{tensor}}}"#);
    let nested = format!("{{\"w\":{}", "[".repeat(100_000));
    for (bytes, part) in [
        (file(&one(&tensor("[2]", 0, 8)), 4), "the file has only 4"),
        (file(&one(&tensor("[2]", 0, 8)), 12), "belong to no tensor"),
        (file(&one(&tensor("[3]", 0, 8)), 8), "contradict"),
        (
            file(&one(&tensor("[4294967296,4294967296,4]", 0, 0)), 0),
            "contradict",
        ),
        (file(&one(&tensor("[2]", 8, 0)), 8), "contradict"),
        (
            file(
                &format!(
                    r#"{{"a":{},"b":{}}}"#,
                    tensor("[2]", 0, 8),
                    tensor("[2]", 4, 12)
                ),
                12,
            ),
            "overlap",
        ),
        (
            file(
                &format!(
                    r#"{{"a":{},"a":{}}}"#,
                    tensor("[1]", 0, 4),
                    tensor("[1]", 4, 8)
                ),
                8,
            ),
            "twice",
        ),
        (
            file(
                r#"{"w":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#,
                1,
            ),
            "its tensor w has the type F4",
        ),
        (file(&nested, 0), "not the JSON of safetensors"),
        (file("{\"w\": ", 0), "not the JSON of safetensors"),
        ([&[0xff; 8][..], b"{}"].concat(), "its header claims"),
        ([&1000u64.to_le_bytes()[..], b"{}"].concat(), "cut off"),
    ] {
        let error = opened_error(&bytes);
        assert!(error.contains(part), "{part}: {error}");
    }
}
