//! `kiln models`: the list, one model layer by layer, and fetching weights.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn kiln(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.arg("models").args(args).current_dir(folder);
    command
        .env("KILN_DATA_DIR", folder.join("cache"))
        .output()
        .unwrap()
}

fn json(args: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = kiln(folder.path(), args);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn fails(args: &[&str], message: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = kiln(folder.path(), args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(stderr.contains(message), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn the_list_has_parameters_and_multiply_adds() {
    let list = json(&["--json"]);
    let line = |name: &str| {
        let models = list["models"].as_array().unwrap();
        models
            .iter()
            .find(|model| model["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(line("resnet50")["parameters"], 25_557_032);
    assert_eq!(line("resnet50")["macs"], 4_089_184_256u64);
    assert_eq!(line("unet")["macs"], 36_881_367_040u64);
    assert_eq!(
        line("resnet50")["weights"],
        serde_json::json!(["IMAGENET1K_V1", "IMAGENET1K_V2"])
    );
    let small = json(&["--json", "--input", "3x8x8"]);
    let unet = &small["models"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["name"] == "unet")
        .unwrap()["macs"];
    assert!(
        unet.is_null(),
        "an image of 8x8 is too small for four halvings"
    );
}

#[test]
fn one_model_is_shown_layer_by_layer() {
    let shown = json(&["resnet18", "--input", "3x224x224", "--json"]);
    assert_eq!(shown["parameters"], 11_689_512);
    assert_eq!(
        shown["layers"][0]["output"],
        serde_json::json!([1, 64, 112, 112])
    );
    let shown = json(&[
        "densenet-bc-22-8",
        "--classes",
        "5",
        "--norm",
        "group-size:4",
        "--json",
    ]);
    assert_eq!(shown["layers"][1]["kind"], "GroupNorm");
    assert_eq!(shown["num_classes"], 5);

    let folder = tempfile::tempdir().unwrap();
    let output = kiln(
        folder.path(),
        &["resnet18", "--stem", "cifar", "--input", "3x32x32"],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("layer4.1.conv2"))
        .unwrap();
    assert!(
        line.contains("512x4x4") && line.contains("2,359,296"),
        "{line}"
    );
    assert!(
        text.contains("kiln models fetch resnet18 --weights IMAGENET1K_V1"),
        "{text}"
    );
}

#[test]
fn mistakes_are_answered_with_what_is_known() {
    fails(&["resnet19"], "did you mean 'resnet18'");
    fails(&["unet", "--input", "3x8x8"], "8x8 is too small");
    fails(&["resnet18", "--input", "224x224"], "such as 3x224x224");
    fails(&["resnet18", "--stem", "mnist"], "write imagenet or cifar");
    fails(
        &["resnet18", "--norm", "batchnorm"],
        "unknown normalization 'batchnorm'",
    );
    fails(
        &["fetch", "resnet20"],
        "no weights are published for resnet20; there are for resnet18",
    );
    fails(
        &["fetch", "resnet18", "--weights", "V9"],
        "there are IMAGENET1K_V1",
    );
}

#[test]
fn a_file_that_is_not_the_published_one_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mirror = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let body = if lines[0].starts_with("HEAD") {
                ""
            } else {
                "no weights"
            };
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n";
            write!(stream, "{head}{body}").unwrap();
            asked.push(lines[0].clone());
        }
        asked
    });
    let folder = tempfile::tempdir().unwrap();
    let output = kiln(folder.path(), &["fetch", "resnet18", "--mirror", &mirror]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("its SHA-256 is") && stderr.contains("f37072fd"),
        "{stderr}"
    );
    let asked = server.join().unwrap();
    assert_eq!(asked[1], "GET /resnet18-f37072fd.pth HTTP/1.1");
    assert!(
        !folder
            .path()
            .join("cache/models/resnet18-f37072fd.pth")
            .exists()
    );
}
