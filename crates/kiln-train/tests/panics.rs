//! A panic ends the run, whichever thread it is on, and leaves its checkpoints as they are.

use std::process::{Command, Output};
use std::time::Duration;

use kiln_train::{Outcome, Recipe, RecipeTrainer, TrainDevice, TrainError};

/// Set in the process that a test starts to see how it ends.
const CHILD: &str = "KILN_TEST_PANICS";

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one of these tests in a process of its own, which must end by itself.
fn child(test: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1");
    command.output().unwrap()
}

#[test]
fn a_panic_on_a_thread_that_nobody_waits_for_ends_the_program() {
    if is_child() {
        kiln_train::end_on_panic();
        std::thread::spawn(|| panic!("the driver is \u{1b}gone"));
        // As a training loop waits for a device.
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
    let output = child("a_panic_on_a_thread_that_nobody_waits_for_ends_the_program");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(101), "{told}");
    let message = "error: a thread of the program panicked, which is a fault of the program or of a driver: \
                   the driver is \\x1bgone";
    assert!(told.contains(message), "{told}");
}

#[test]
fn panics_that_someone_takes_over_do_not_end_the_program() {
    if is_child() {
        kiln_train::end_on_panic();
        assert!(std::panic::catch_unwind(|| panic!("here")).is_err());
        let there = || rayon::join(|| (), || panic!("in a pool"));
        assert!(std::panic::catch_unwind(there).is_err());
        println!("still here");
        return;
    }
    let output = child("panics_that_someone_takes_over_do_not_end_the_program");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("still here"));
}

fn trainer(run: &std::path::Path) -> RecipeTrainer {
    let recipe = "epochs = 3\nbatch_size = 8\n[data]\nname = 'digits'\ntrain_len = 40\ntest_len = 10\n\
                  [model]\nname = 'mlp'\nhidden = [4]\n";
    RecipeTrainer::new(Recipe::from_toml(recipe).unwrap(), device()).run_dir(run)
}

fn device() -> TrainDevice {
    TrainDevice {
        device: kiln_testing::devices().remove(0),
        name: "CPU".into(),
        backend: "flex".into(),
    }
}

#[test]
fn a_panic_in_the_training_loop_is_an_error_and_the_run_goes_on_from_its_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(name));
    trainer(&whole).run().unwrap();
    let result = trainer(&broken)
        .on_epoch(|epoch| match epoch.epoch {
            2 => panic!("after the second epoch"),
            _ => true,
        })
        .run();
    let error = result.unwrap_err();
    assert!(matches!(error, TrainError::Panicked { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains("after the second epoch"), "{told}");
    assert!(
        told.contains("continue from the last checkpoint with: kiln train --resume "),
        "{told}"
    );
    let resumed = RecipeTrainer::resume(&broken, device()).run().unwrap();
    assert!(matches!(resumed, Outcome::Finished(_)));
    let weights = |run: &std::path::Path| std::fs::read(run.join("model.safetensors")).unwrap();
    assert!(weights(&broken) == weights(&whole));
}
