//! Checkpoints as training programs leave them: the weights are found in whatever company they are.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use kiln_zoo::weights::{ClassOrder, Load, Report, StateDict, WeightsError, split_key};
use serde_json::Value;

mod tiny;
use tiny::{Tiny, device, numbers};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/checkpoints")
        .join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap()
}

fn load(file: &str, load: Load) -> Result<(Tiny, Report), WeightsError> {
    let (path, key) = split_key(&golden(file));
    let load = match key {
        Some(key) => load.key(key),
        None => load,
    };
    load.into_model(Tiny::new(4, &device()), path)
}

#[track_caller]
fn assert_output(model: &Tiny, output: &Value, what: &str) {
    let x = TensorData::new(numbers(&expected()["input"]), [2, 3, 7, 6]).convert::<f32>();
    let got = model.forward(Tensor::from_data(x, &device())).into_data();
    for (got, expected) in got.iter::<f64>().zip(numbers(output)) {
        assert!(
            (got - expected).abs() < 1e-5,
            "{what}: {got} for {expected}"
        );
    }
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_weights_are_found_beside_whatever_a_training_program_saves() {
    let expected = expected();
    for case in expected["cases"].as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let named = match case["ask"].as_str() {
            Some(key) => format!("{file}#{key}"),
            None => file.to_owned(),
        };
        let (model, report) = load(&named, Load::new()).unwrap_or_else(|e| panic!("{named}: {e}"));
        assert_eq!(report.loaded, 8, "{named}");
        assert_eq!(report.key.as_deref(), case["key"].as_str(), "{named}");
        assert_eq!(report.beside, texts(&case["beside"]), "{named}");
        assert_eq!(report.other_keys, texts(&case["others"]), "{named}");
        let output = match case["averaged"].as_bool() {
            Some(true) => &expected["averaged"],
            _ => &expected["output"],
        };
        assert_output(&model, output, &named);
    }
}

#[test]
fn another_set_of_weights_is_taken_by_its_key() {
    let averaged = &expected()["averaged"];
    for named in [
        "torchvision.pth#model_ema",
        "torchvision_legacy.pth#model_ema",
        "timm.pth#state_dict_ema",
        "lightning.ckpt#state_dict.ema_model",
        "twice.pth#student",
        "twice_flat.pth#encoder_q",
    ] {
        let (model, _) = load(named, Load::new()).unwrap_or_else(|e| panic!("{named}: {e}"));
        assert_output(&model, averaged, named);
    }
    let error = load("timm.pth#ema", Load::new()).unwrap_err().to_string();
    assert!(
        error.contains("there are: ") && error.contains("state_dict_ema"),
        "{error}"
    );
}

#[test]
fn weights_that_are_there_twice_are_asked_for_by_a_key_that_works() {
    for (file, names) in [
        ("twice.pth", ["student", "teacher"]),
        ("twice_flat.pth", ["encoder_q", "encoder_k"]),
    ] {
        let error = load(file, Load::new()).unwrap_err().to_string();
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
        let key = error.rsplit_once("FILE#").unwrap().1;
        assert!(load(&format!("{file}#{key}"), Load::new()).is_ok(), "{key}");
    }
}

#[test]
fn what_cannot_be_read_is_named_only_where_it_is_needed() {
    for (file, part) in [
        (
            "bad_quantized.pth",
            "conv.weight cannot be read: it is quantized; save dequantize()",
        ),
        (
            "bad_sparse.pth",
            "fc.weight cannot be read: it is sparse; save to_dense()",
        ),
        (
            "bad_object.pth",
            "Python object numpy._core.multiarray._reconstruct",
        ),
        (
            "bad_module.pth",
            "a whole model, an object of the class __main__.Tiny",
        ),
        (
            "bad_module_in_dict.pth",
            "a whole model, an object of the class __main__.Tiny",
        ),
        (
            "bad_module_in_dict.pth#model",
            "a whole model, an object of the class __main__.Tiny",
        ),
        ("bad_torchscript.pt", "TorchScript program"),
        (
            "bad_pickle.pkl",
            "a Python pickle, but not one that torch.save wrote",
        ),
    ] {
        let error = load(file, Load::new()).unwrap_err().to_string();
        assert!(error.contains(part), "{file}: {error}");
    }
    // The head may be anything if it is drawn anew.
    let any_head = Load::new().allow_head_mismatch(true);
    let (_, report) = load("bad_sparse.pth", any_head).unwrap();
    assert_eq!(report.head_kept, ["fc.weight"]);
    // A look inside says so too.
    let file = StateDict::open(golden("bad_quantized.pth")).unwrap();
    assert!(file.entry("conv.weight").is_none());
    let error = file.read("conv.weight").unwrap_err().to_string();
    assert!(error.contains("it is quantized"), "{error}");
}

#[test]
fn floats_of_eight_bits_and_integers_without_a_sign_are_read_as_pytorch_reads_them() {
    let file = StateDict::open(golden("numbers.pth")).unwrap();
    let expected = expected();
    let types = expected["numbers"].as_object().unwrap();
    assert_eq!(types.len(), 8);
    for (name, values) in types {
        let entry = file.entry(name).unwrap();
        assert_eq!(entry.element().name(), name);
        let data = file.read(name).unwrap();
        let wanted = texts(values);
        if name.starts_with("uint") {
            let read: Vec<String> = data.iter::<u64>().map(|x| x.to_string()).collect();
            assert_eq!(read, wanted, "{name}");
            continue;
        }
        let read: Vec<f32> = data.iter::<f32>().collect();
        assert_eq!(read.len(), 256);
        for (read, wanted) in read.into_iter().zip(wanted) {
            let wanted: f32 = wanted.parse().unwrap();
            assert!(
                read == wanted || read.is_nan() && wanted.is_nan(),
                "{name}: {read} for {wanted}"
            );
        }
    }
}

#[test]
fn the_rows_of_the_head_follow_the_names_of_the_classes() {
    let expected = expected();
    let names = ["pear", "fig", "apple", "plum"];
    let sorted = ["apple", "fig", "pear", "plum"];
    for case in expected["cases"].as_array().unwrap() {
        let file = case["file"].as_str().unwrap();
        let open = StateDict::open(golden(file));
        if case["classes"].is_null() {
            let classes = open.ok().and_then(|file| file.classes().map(<[_]>::to_vec));
            assert_eq!(classes, None, "{file}");
            continue;
        }
        assert_eq!(open.unwrap().classes().unwrap(), names, "{file}");
        let (same, report) = load(file, Load::new().classes(names)).unwrap();
        assert_eq!(report.classes, ClassOrder::Same, "{file}");
        let (model, report) = load(file, Load::new().classes(sorted)).unwrap();
        assert_eq!(report.classes, ClassOrder::Reordered, "{file}");
        let x = Tensor::<4>::ones([1, 3, 7, 6], &device());
        let logits = |model: &Tiny| {
            model
                .forward(x.clone())
                .into_data()
                .iter::<f32>()
                .collect::<Vec<_>>()
        };
        let (by_names, by_sorted) = (logits(&same), logits(&model));
        for (i, name) in sorted.iter().enumerate() {
            let place = names.iter().position(|other| other == name).unwrap();
            assert_eq!(by_sorted[i], by_names[place], "{file}: {name}");
        }
        let (model, report) = load(file, Load::new().classes(["a", "b", "c", "d"])).unwrap();
        assert_eq!(
            report.classes,
            ClassOrder::Others(names.map(String::from).into())
        );
        assert_eq!(logits(&model), by_names);
        // Fewer names than the head has rows say nothing of it.
        let (_, report) = load(file, Load::new().classes(["a", "b"])).unwrap();
        assert_eq!(report.classes, ClassOrder::Unknown);
    }
}

#[test]
fn the_metadata_of_safetensors_name_the_classes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("named.safetensors");
    let mut plain = Vec::new();
    kiln_zoo::weights::write(&Tiny::new(3, &device()), &mut plain).unwrap();
    let len = u64::from_le_bytes(plain[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&plain[8..8 + len]).unwrap();
    let with = |metadata: Value| {
        let mut header = header.clone();
        header["__metadata__"] = metadata;
        let header = header.to_string();
        let header_len = (header.len() as u64).to_le_bytes();
        std::fs::write(
            &path,
            [&header_len[..], header.as_bytes(), &plain[8 + len..]].concat(),
        )
        .unwrap();
        StateDict::open(&path).map(|file| file.classes().map(<[_]>::to_vec))
    };
    for metadata in [
        serde_json::json!({"classes": r#"["b", "a", "c"]"#}),
        serde_json::json!({"format": "pt", "class_to_idx": r#"{"a": 1, "b": 0, "c": 2}"#}),
        serde_json::json!({"id2label": r#"{"0": "b", "1": "a", "2": "c"}"#}),
        serde_json::json!({"names": "b, a, c"}),
        serde_json::json!({"labels": "b\na\nc"}),
    ] {
        let classes = with(metadata.clone()).unwrap();
        assert_eq!(
            classes.as_deref(),
            Some(&["b", "a", "c"].map(String::from)[..]),
            "{metadata}"
        );
    }
    for nothing in [
        serde_json::json!({"classes": r#"["b", "b", "c"]"#}),
        serde_json::json!({"class_to_idx": r#"{"a": 1, "b": 3}"#}),
        serde_json::json!({"classes": ""}),
        serde_json::json!({"format": "pt"}),
        Value::Null,
    ] {
        assert_eq!(with(nothing.clone()).unwrap(), None, "{nothing}");
    }
    // As Kiln writes them.
    let names = ["b", "ä", "c\n"].map(String::from);
    let mut named = Vec::new();
    kiln_zoo::weights::write_with_classes(&Tiny::new(3, &device()), &names, &mut named).unwrap();
    std::fs::write(&path, named).unwrap();
    assert_eq!(StateDict::open(&path).unwrap().classes(), Some(&names[..]));
    // The names below a prefix are taken by it.
    let error = Load::new()
        .key("encoder")
        .into_model(Tiny::new(3, &device()), &path)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no name in it begins with 'encoder.'"),
        "{error}"
    );
}

#[test]
fn layers_too_many_are_an_error_though_all_that_is_needed_is_there() {
    // As with the weights of a ResNet-34 for a ResNet-18: the same parts, with more in them.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep.safetensors");
    let device = device();
    let settings = kiln_zoo::Settings::default();
    let deep = kiln_zoo::create("resnet32", &settings, &device).unwrap();
    kiln_zoo::weights::save(&deep, &path).unwrap();
    let shallow = kiln_zoo::create("resnet20", &settings, &device).unwrap();
    let error = Load::new()
        .into_model(shallow, &path)
        .unwrap_err()
        .to_string();
    assert!(error.contains("the model has no place for"), "{error}");
}

#[test]
fn files_that_are_no_weights_are_called_by_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, part) in [
        (
            &tar[..],
            "a tar archive; PyTorch before version 0.1.10 saved so",
        ),
        (b"\x1f\x8b\x08\0", "packed with gzip; unpack it with gunzip"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras writes"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"\x08\x08\x12\x07pytorch", "may be an ONNX model"),
        (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = StateDict::open(&path).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}
