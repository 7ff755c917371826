//! A model, a loss and data that Kiln does not know, trained with all that it has.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::{Dataset, DatasetError, InMemDataset};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig, Relu};
use burn::tensor::{Device, Int, Tensor};
use burn::train::{ClassificationOutput, InferenceStep, Interrupter, TrainOutput, TrainStep};
use kiln_train::{
    Batches, CheckpointRecipe, DatasetBatches, EarlyStoppingRecipe, Epoch, IterBatches,
    ScheduleName, ScheduleRecipe, StepSums, Summary, TensorBatch, TensorBatches, TrainError,
    Trained, Trainer, evaluate,
};

use kiln_tune::{MedianPruner, Study, TpeSampler, Trial, TrialState};

/// A point of the plane and the quadrant that it lies in.
#[derive(Clone, Debug)]
struct Point {
    at: [f32; 2],
    quadrant: i32,
}

fn points(n: usize, seed: u64) -> Vec<Point> {
    let mut state = seed;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n)
        .map(|_| {
            let at = [draw(), draw()];
            let quadrant = i32::from(at[0] > 0.0) + 2 * i32::from(at[1] > 0.0);
            Point { at, quadrant }
        })
        .collect()
}

#[derive(Clone, Debug)]
struct PointBatch {
    at: Tensor<2>,
    quadrants: Tensor<1, Int>,
}

#[derive(Clone)]
struct PointBatcher;

impl Batcher<Point, PointBatch> for PointBatcher {
    fn batch(&self, items: Vec<Point>, device: &Device) -> PointBatch {
        let at: Vec<f32> = items.iter().flat_map(|point| point.at).collect();
        let quadrants: Vec<i32> = items.iter().map(|point| point.quadrant).collect();
        PointBatch {
            at: Tensor::<1>::from_floats(at.as_slice(), device).reshape([items.len(), 2]),
            quadrants: Tensor::from_ints(quadrants.as_slice(), device),
        }
    }
}

/// As a user of burn-train writes it, with a layer that keeps statistics and one that draws.
#[derive(Module, Debug)]
struct Quadrants {
    hidden: Linear,
    norm: BatchNorm,
    dropout: Dropout,
    output: Linear,
    activation: Relu,
}

impl Quadrants {
    fn new(device: &Device) -> Self {
        device.seed(5);
        Self {
            hidden: LinearConfig::new(2, 16).init(device),
            norm: BatchNormConfig::new(16).init(device),
            dropout: DropoutConfig::new(0.1).init(),
            output: LinearConfig::new(16, 4).init(device),
            activation: Relu::new(),
        }
        .materialize()
    }

    fn forward_step(&self, batch: PointBatch) -> ClassificationOutput {
        let x = self.activation.forward(self.hidden.forward(batch.at));
        let x = self.norm.forward::<2>(x);
        let output = self.output.forward(self.dropout.forward(x));
        let loss = CrossEntropyLossConfig::new()
            .init(&output.device())
            .forward(output.clone(), batch.quadrants.clone());
        ClassificationOutput::new(loss, output, batch.quadrants)
    }
}

impl TrainStep for Quadrants {
    type Input = PointBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: PointBatch) -> TrainOutput<ClassificationOutput> {
        let item = self.forward_step(batch);
        TrainOutput::new(self, item.loss.backward(), item)
    }
}

impl InferenceStep for Quadrants {
    type Input = PointBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: PointBatch) -> ClassificationOutput {
        self.forward_step(batch)
    }
}

/// A device has one generator, for dropout, so that only one of these tests may train at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn device() -> Device {
    kiln_testing::devices().remove(0)
}

fn batches(n: usize, seed: u64) -> DatasetBatches<InMemDataset<Point>, Point, PointBatcher> {
    DatasetBatches::new(InMemDataset::new(points(n, seed)), PointBatcher, 16)
}

fn trainer(run: &Path) -> Trainer<Quadrants> {
    let model = Quadrants::new(&device().autodiff());
    configured(model, batches(200, 1).shuffled(3), run)
}

fn configured(
    model: Quadrants,
    train: impl Batches<PointBatch> + 'static,
    run: &Path,
) -> Trainer<Quadrants> {
    Trainer::new(model, train, batches(60, 2), device())
        .lr(0.01)
        .epochs(4)
        .seed(9)
        .clip("norm:1.0".parse().unwrap())
        .log_every(5)
        .checkpoint(CheckpointRecipe { every: 4, keep: 2 })
        .run_dir(run)
}

fn finished<M>(trained: Trained<M>) -> (M, Summary) {
    match trained {
        Trained::Finished { model, summary } => (model, summary),
        Trained::Stopped { step, .. } => panic!("stopped after step {step}"),
    }
}

#[test]
fn a_model_written_for_burn_train_learns_and_leaves_a_whole_run() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let (model, summary) = finished(trainer(&run).epochs(12).run().unwrap());
    assert!(summary.scores["valid_accuracy"] > 0.85, "{summary:?}");
    assert_eq!((summary.epochs, summary.steps), (12, 12 * 13));
    assert!(summary.grad_norm.unwrap() > 0.0);
    assert_eq!((&*summary.model, &*summary.data), ("quadrants", "own"));
    let backends = ["flex", "ndarray", "wgpu"];
    assert!(backends.contains(&&*summary.backend), "{}", summary.backend);
    let seen = evaluate(&model, &batches(60, 2), &device()).unwrap();
    assert_eq!(seen.get("accuracy"), Some(summary.scores["valid_accuracy"]));
    for file in [
        "metrics.jsonl",
        "model.safetensors",
        "summary.json",
        "report.html",
        "recipe.toml",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let log = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(
        log.contains("\"accuracy\":") && log.contains("\"grad_norm\":"),
        "{log}"
    );
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("quadrants on own") && page.contains("valid accuracy"));
}

#[test]
fn a_run_stopped_in_mid_epoch_resumes_to_the_same_bits() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    finished(trainer(&whole).run().unwrap());

    // The data stop the run: the 20th batch of all asks for it.
    let (data, taken) = (batches(200, 1).shuffled(3), AtomicUsize::new(1));
    let (taken, stop) = (Arc::new(taken), Arc::new(OnceLock::<Interrupter>::new()));
    let asks = stop.clone();
    let stopping = IterBatches::new(200, 13, move |epoch, device| {
        let all: Vec<_> = data.epoch(epoch, 0, &device).map(Result::unwrap).collect();
        let (taken, asks) = (taken.clone(), asks.clone());
        all.into_iter().inspect(move |_| {
            if taken.fetch_add(1, Ordering::Relaxed) == 20 {
                asks.get().unwrap().stop(None);
            }
        })
    });
    let stopped = configured(Quadrants::new(&device().autodiff()), stopping, &parts);
    stop.set(stopped.interrupter()).ok().unwrap();
    match stopped.run().unwrap() {
        Trained::Stopped { step, epoch, .. } => assert_eq!((step, epoch), (20, 2)),
        Trained::Finished { .. } => panic!("it was to be stopped"),
    }
    let (_, summary) = finished(trainer(&parts).resume(true).run().unwrap());
    assert_eq!(summary.steps, 4 * 13);
    let read = |run: &Path| std::fs::read(run.join("model.safetensors")).unwrap();
    assert!(read(&whole) == read(&parts), "the weights differ");
    let lines = |run: &Path| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let valid = text.lines().map(|line| serde_json::from_str(line).unwrap());
        valid
            .filter(|line: &serde_json::Value| line["split"] == "valid")
            .collect()
    };
    assert_eq!(lines(&whole), lines(&parts));
    // And once more: it is finished, and gives the model that it has.
    let (model, again) = finished(trainer(&parts).resume(true).run().unwrap());
    assert_eq!(again, summary);
    let seen = evaluate(&model, &batches(60, 2), &device()).unwrap();
    assert_eq!(seen.get("accuracy"), Some(summary.scores["valid_accuracy"]));
}

#[test]
fn a_run_is_not_resumed_with_other_settings_data_or_model() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let first = trainer(&run);
    let interrupter = first.interrupter();
    interrupter.stop(None);
    assert!(matches!(
        first.run().unwrap(),
        Trained::Stopped { step: 1, .. }
    ));
    let refused = |trainer: Trainer<Quadrants>| match trainer.resume(true).run() {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was to be refused"),
    };
    let error = refused(trainer(&run).lr(0.5));
    assert!(
        error.contains("optimizer.lr") && error.contains("0.5"),
        "{error}"
    );
    let mut model = Quadrants::new(&device().autodiff());
    let fewer = configured(model.clone(), batches(100, 1).shuffled(3), &run);
    let error = refused(fewer);
    assert!(error.contains("100 items in 7 batches"), "{error}");
    let hidden = LinearConfig::new(2, 16).with_bias(false);
    model.hidden = hidden.init(&device().autodiff());
    let error = refused(configured(model, batches(200, 1).shuffled(3), &run));
    assert!(error.contains("made with another model"), "{error}");
    // A folder that is there is not written into unless it is asked for.
    assert!(matches!(trainer(&run).run(), Err(TrainError::RunExists(_))));
    finished(trainer(&run).resume(true).run().unwrap());
}

#[test]
fn early_stopping_keeps_the_best_weights_of_any_model() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    // So large a learning rate that the loss does not fall for ever.
    let trainer = trainer(&folder.path().join("run"))
        .lr(0.3)
        .schedule(ScheduleRecipe {
            name: ScheduleName::Constant,
            ..ScheduleRecipe::default()
        })
        .early_stopping(EarlyStoppingRecipe {
            patience: 2,
            min_delta: 0.0,
        })
        .epochs(60);
    let (model, summary) = finished(trainer.run().unwrap());
    assert!(summary.stopped_early && summary.kept_epoch + 2 == summary.epochs);
    let seen = evaluate(&model, &batches(60, 2), &device()).unwrap();
    assert!((seen.loss - summary.scores["valid_loss"]).abs() < 1e-6);
}

/// A data set of which one item cannot be read.
struct Broken(InMemDataset<Point>);

impl Dataset<Point> for Broken {
    fn get(&self, index: usize) -> Result<Point, DatasetError> {
        match index {
            77 => Err(DatasetError::new(std::io::Error::other("the disk is gone"))),
            index => self.0.get(index),
        }
    }

    fn len(&self) -> usize {
        Dataset::<Point>::len(&self.0)
    }
}

#[test]
fn what_goes_wrong_is_an_error_that_says_it() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let model = || Quadrants::new(&device().autodiff());
    let broken = DatasetBatches::new(Broken(InMemDataset::new(points(100, 1))), PointBatcher, 16);
    let run = folder.path().join("broken");
    let error = Trainer::new(model(), broken, batches(60, 2), device())
        .run_dir(&run)
        .run();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("the disk is gone"), "{error}");

    let mut bad = points(60, 2);
    bad[3].at[0] = f32::NAN;
    let bad = DatasetBatches::new(InMemDataset::new(bad), PointBatcher, 16);
    let trainer = Trainer::new(model(), bad, batches(60, 2), device());
    let error = trainer
        .run_dir(folder.path().join("nan"))
        .run()
        .unwrap_err();
    assert!(
        matches!(error, TrainError::Diverged { step: 4, .. }),
        "{error}"
    );

    let error = trainer_error(|trainer| trainer.lr(-1.0));
    assert!(
        error.contains("optimizer.lr") && error.contains("-1"),
        "{error}"
    );
    let error = trainer_error(|trainer| trainer.epochs(0));
    assert!(error.contains("epochs"), "{error}");
}

/// What a model measures of its steps, one of them no number.
#[derive(Module, Debug)]
struct Measured {
    inner: Quadrants,
}

impl Measured {
    fn measured(&self, batch: PointBatch) -> (Tensor<1>, StepSums) {
        let [items] = batch.quadrants.dims();
        let seen = self.inner.forward_step(batch);
        let nothing = seen.loss.clone() * 0.0;
        let sums = StepSums::new(seen.loss.clone(), items)
            .mean("undefined", nothing.clone() / nothing.clone())
            .derived(nothing + 2.0, |sums| vec![("doubled", 2.0 * sums[0])]);
        (seen.loss, sums)
    }
}

impl TrainStep for Measured {
    type Input = PointBatch;
    type Output = StepSums;

    fn step(&self, batch: PointBatch) -> TrainOutput<StepSums> {
        let (loss, sums) = self.measured(batch);
        TrainOutput::new(self, loss.backward(), sums)
    }
}

impl InferenceStep for Measured {
    type Input = PointBatch;
    type Output = StepSums;

    fn step(&self, batch: PointBatch) -> StepSums {
        self.measured(batch).1
    }
}

#[test]
fn a_metric_that_is_no_number_damages_neither_checkpoints_nor_the_summary() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let trainer = || {
        let model = Measured {
            inner: Quadrants::new(&device().autodiff()),
        };
        Trainer::new(model, batches(200, 1), batches(60, 2), device())
            .epochs(1)
            .log_every(2)
            .checkpoint(CheckpointRecipe { every: 4, keep: 2 })
            .run_dir(folder.path().join("run"))
    };
    let first = trainer();
    first.interrupter().stop(None);
    assert!(matches!(
        first.run().unwrap(),
        Trained::Stopped { step: 1, .. }
    ));
    let notices = Arc::new(Mutex::new(Vec::new()));
    let said = notices.clone();
    let resumed = trainer()
        .resume(true)
        .on_notice(move |line| said.lock().unwrap().push(line.to_owned()));
    let (_, summary) = finished(resumed.run().unwrap());
    let notices = notices.lock().unwrap().join("\n");
    assert!(notices.contains("resuming after step 1 of 13"), "{notices}");
    // Four batches to validate on.
    assert_eq!(summary.score("valid_doubled"), Some(2.0 * 2.0 * 4.0));
    assert_eq!(summary.score("valid_undefined"), None);
    let (_, again) = finished(trainer().resume(true).run().unwrap());
    assert_eq!(again, summary);
}

/// The batches of a data set, but not as many as they say.
struct Miscounted(
    DatasetBatches<InMemDataset<Point>, Point, PointBatcher>,
    usize,
);

impl Batches<PointBatch> for Miscounted {
    fn num_items(&self) -> usize {
        self.0.num_items()
    }

    fn num_batches(&self) -> usize {
        self.1
    }

    fn epoch(&self, epoch: usize, from: usize, device: &Device) -> Epoch<'_, PointBatch> {
        self.0.epoch(epoch, from, device)
    }
}

#[test]
fn data_that_give_another_number_of_batches_than_they_say_are_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    // 13 batches to train on, 4 to validate on.
    for (train, valid, message) in [
        (12, 4, "gave 13 batches, but num_batches says 12"),
        (14, 4, "gave 13 batches, but num_batches says 14"),
        (13, 3, "gave 4 batches, but num_batches says 3"),
        (13, 5, "gave 4 batches, but num_batches says 5"),
    ] {
        let model = Quadrants::new(&device().autodiff());
        let train = Miscounted(batches(200, 1), train);
        let valid = Miscounted(batches(60, 2), valid);
        let run = folder.path().join(message);
        let trainer = Trainer::new(model, train, valid, device()).run_dir(run);
        let error = trainer.run().unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_an_error_also_when_the_run_ends_with_it() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let taken = AtomicUsize::new(0);
    let (data, checkpoints) = (batches(200, 1), run.join("checkpoints"));
    let breaking = IterBatches::new(200, 13, move |epoch, device| {
        if taken.fetch_add(1, Ordering::Relaxed) == 0 {
            std::fs::remove_dir_all(&checkpoints).unwrap();
            std::fs::write(&checkpoints, "in the way").unwrap();
        }
        let all: Vec<_> = data.epoch(epoch, 0, &device).map(Result::unwrap).collect();
        all.into_iter()
    });
    let model = Quadrants::new(&device().autodiff());
    let trainer = configured(model, breaking, &run).checkpoint(CheckpointRecipe::default());
    trainer.interrupter().stop(None);
    let error = trainer.run().unwrap_err().to_string();
    assert!(error.contains("checkpoints"), "{error}");
}

fn trainer_error(change: impl Fn(Trainer<Quadrants>) -> Trainer<Quadrants>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let error = change(trainer(&run)).run().unwrap_err();
    assert!(!run.exists());
    error.to_string()
}

#[test]
fn trials_of_a_study_train_an_own_model_and_are_pruned() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().to_owned();
    let pruner = MedianPruner::new().n_startup_trials(2);
    let study = Study::builder()
        .name("own")
        .sampler(TpeSampler::new().seed(3))
        .pruner(pruner)
        .create()
        .unwrap();
    let objective = |trial: &mut Trial| {
        let lr = trial.suggest_float_log("lr", 1e-5, 1e-1)?;
        let trainer = trainer(Path::new("unused")).lr(lr).epochs(3).runs(&runs);
        trainer.run_trial(trial, "loss")
    };
    study.optimize(objective, 8).unwrap();
    let trials = study.trials().unwrap();
    let states: Vec<TrialState> = trials.iter().map(|trial| trial.state).collect();
    assert!(states.contains(&TrialState::Pruned), "{states:?}");
    let best = study.best_trial().unwrap();
    let run = best.user_attrs.get("run").unwrap().as_str().unwrap();
    let summary = std::fs::read_to_string(Path::new(run).join("summary.json")).unwrap();
    let summary: Summary = serde_json::from_str(&summary).unwrap();
    assert_eq!(Some(summary.scores["valid_loss"]), best.value());
    // A metric that the model does not have fails at once, and is named.
    let mut trial = study.ask().unwrap();
    let error = trainer(Path::new("unused"))
        .runs(&runs)
        .run_trial(&mut trial, "dice");
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("\"dice\"") && error.contains("accuracy"),
        "{error}"
    );
}

#[test]
fn every_kind_of_batches_gives_the_same_order_for_the_same_seed_and_epoch() {
    let device = device();
    let numbers = Tensor::<1, Int>::arange(0..10, &device).float();
    let tensors = TensorBatches::new(numbers.clone().reshape([10, 1]), numbers, 4).shuffled(11);
    let order = |epoch, from| -> Vec<Vec<f32>> {
        let batches = tensors.epoch(epoch, from, &device);
        batches
            .map(|batch| {
                let TensorBatch { features, targets } = batch.unwrap();
                let targets = targets.try_into_vec_as::<f32>().unwrap();
                assert_eq!(features.try_into_vec_as::<f32>().unwrap(), targets);
                targets
            })
            .collect()
    };
    let first = order(1, 0);
    assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
    assert_eq!(order(1, 1), first[1..]);
    assert_ne!(order(2, 0), first);
    let items: Vec<Point> = (0..10)
        .map(|i| Point {
            at: [i as f32; 2],
            quadrant: i,
        })
        .collect();
    // As many trainers of a study share it.
    let dataset = DatasetBatches::new(InMemDataset::new(items), PointBatcher, 4).shuffled(11);
    let dataset = Arc::new(dataset);
    let same: Vec<Vec<f32>> = dataset
        .epoch(1, 0, &device)
        .map(|batch| batch.unwrap().quadrants.float().try_into_vec_as().unwrap())
        .collect();
    assert_eq!(same, first);
}
