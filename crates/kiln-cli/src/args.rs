//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use kiln_study::STORAGE_URLS;

/// Train, evaluate and use neural networks on any GPU or CPU.
#[derive(Parser)]
#[command(
    name = "kiln",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    args_override_self = true
)]
#[command(
    after_help = "Begin with:\n  kiln train              trains a CNN on MNIST, on the GPU if there is one\n  kiln eval RUN           measures what it learned\n  kiln predict RUN x.png  reads a picture"
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Reads the command line. The examples of `kiln study` are written for the program `kiln-study`.
    pub fn read() -> Self {
        let named = |command: clap::Command| match command.get_after_help() {
            Some(help) => {
                let help = help.to_string().replace("kiln-study ", "kiln study ");
                command.after_help(help)
            }
            None => command,
        };
        let study = |study: clap::Command| study.mut_subcommands(named);
        let command = Self::command().mut_subcommand("study", study);
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Train a model from a recipe
    Train(Box<Train>),
    /// Evaluate a trained model on test images
    Eval(Eval),
    /// Predict the class of pictures, or their masks
    Predict(Predict),
    /// Search the fields of a recipe: each trial of a study is a run
    Tune(Box<Tune>),
    /// Write a run or a study as one HTML page
    Report(Report),
    /// List the devices of this machine
    Devices(Devices),
    /// List the models of the zoo, show one layer by layer, fetch trained weights
    Models(Models),
    /// List, fetch and describe data sets
    #[command(
        subcommand,
        after_help = "Examples:\n  kiln data list\n  kiln data fetch fashion-mnist\n  kiln data info digits --sheet digits.png"
    )]
    Data(Data),
    /// Work with hyperparameter studies: create, run, plot, share with Optuna
    #[command(
        subcommand,
        after_help = "Examples, after kiln tune --study mnist-fc --storage sqlite:///tune.db ...:\n  kiln study best --storage sqlite:///tune.db --study mnist-fc\n  kiln study plot --storage sqlite:///tune.db --study mnist-fc --out plots.html"
    )]
    Study(kiln_study::Command),
}

impl Command {
    /// The option that says where the command writes, if it has one.
    pub fn place_option(&self) -> Option<&'static str> {
        match self {
            // A run that goes on stays where it is.
            Self::Train(args) => args.resume.is_none().then_some("--run-dir"),
            Self::Tune(_) => Some("--runs"),
            Self::Eval(_) | Self::Predict(_) | Self::Report(_) => Some("--out"),
            Self::Devices(_) | Self::Models(_) | Self::Data(_) | Self::Study(_) => None,
        }
    }
}

#[derive(ClapArgs)]
#[command(
    after_help = "Examples:\n  kiln train\n  kiln train --data fashion-mnist --epochs 10 --batch-size 128\n  kiln train --set optimizer.name=sgd --set optimizer.lr=0.1 --set optimizer.momentum=0.9\n  kiln train --data cifar10 --model resnet18 --set model.stem=cifar --set augment.crop=4 --set augment.hflip=0.5\n  kiln train --data image-folder --data-dir photos --set data.size=[224,224] --model resnet18 --weights IMAGENET1K_V1 --allow-head-mismatch --set model.freeze=true\n  kiln train --task segmentation --model unet --data-dir cells --set data.crop_size=[256,256]\n  kiln train --recipe mnist.toml --device wgpu:1\n  kiln train --set clip=norm:1.0 --grad-health\n  kiln train --resume runs/2026-11-22_131502-cnn-mnist\n  kiln train --set schedule.name=constant --epochs 5 --run-dir run; kiln train --resume run --epochs 10\n\nEvery key of a recipe: kiln train --keys"
)]
pub struct Train {
    #[command(flatten)]
    pub recipe_args: RecipeArgs,
    /// Seed of weights, order, augmentation and dropout (recipe: seed)
    #[arg(long, value_name = "N")]
    pub seed: Option<String>,
    /// Measure the gradients of each layer every N steps, plot them and say what they tell (recipe: grad_health)
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "10")]
    pub grad_health: Option<String>,
    /// Folder for this run; it must not exist [default: a new one under --runs]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub run_dir: Option<PathBuf>,
    /// Folder of all runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,
    /// Continue a run from its last checkpoint; with --epochs, one that was to be shorter, finished or not
    #[arg(long, value_name = "RUN", conflicts_with = "recipe")]
    pub resume: Option<PathBuf>,
    /// How to show progress
    #[arg(long, value_name = "STYLE", value_enum, default_value_t)]
    pub progress: ProgressStyle,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    /// List every key of a recipe, with its default and what it allows, and stop
    #[arg(long)]
    pub keys: bool,
}

/// What a recipe is made of, beside its file.
#[derive(ClapArgs)]
pub struct RecipeArgs {
    /// Read the recipe from a TOML file [default: the defaults that `kiln train --keys` lists]
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Change a key of the recipe, such as optimizer.lr=0.01, after the flags below; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Task: classification or segmentation (recipe: task)
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// Data set: auto, or one as `kiln data list` lists it (recipe: data.name)
    #[arg(long, value_name = "NAME")]
    pub data: Option<String>,
    /// Read the data set's files from this folder (recipe: data.dir)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Never download; use what is on the disk (recipe: data.download=false)
    #[arg(long)]
    pub offline: bool,
    /// Model: one as `kiln models` lists it (recipe: model.name)
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Begin with the weights of a file (FILE#KEY: those below a key of it), or with those of this name, fetched if need be (recipe: model.weights)
    #[arg(long, value_name = "FILE|NAME")]
    pub weights: Option<PathBuf>,
    /// Take weights for another number of classes too; the last layer begins anew (recipe: model.allow_head_mismatch=true)
    #[arg(long)]
    pub allow_head_mismatch: bool,
    /// Device: auto, or one as `kiln devices` lists it (recipe: device)
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Passes over the training data, or auto (recipe: epochs)
    #[arg(long, value_name = "N")]
    pub epochs: Option<String>,
    /// Images in a training step (recipe: batch_size)
    #[arg(long, value_name = "N")]
    pub batch_size: Option<String>,
    /// Learning rate (recipe: optimizer.lr)
    #[arg(long, value_name = "LR")]
    pub lr: Option<String>,
}

#[derive(ClapArgs)]
#[command(
    after_help = "Example:\n  kiln tune --recipe mnist.toml --space space.toml --study mnist-fc --storage sqlite:///tune.db --trials 100 --timeout 600 --jobs 2\n\nA space file has an entry for each parameter; any key of a recipe can be searched:\n  \"optimizer.lr\" = { log = [1e-5, 1e-1] }\n  n_layers = { int = [1, 3] }\n  n_units_l = { int = [4, 128], log = true, repeat = \"n_layers\", sets = \"model.hidden\" }\n  optimizer = { choice = [\"adam\", \"rmsprop\", \"sgd\"], sets = \"optimizer.name\" }\n  momentum = { float = [0.0, 0.9], sets = \"optimizer.momentum\", when = { optimizer = \"sgd\" } }\n\nThe same command continues a study; several processes and machines may share one through its storage.\nkiln study works with the study afterwards: best, trials, importance, plot."
)]
pub struct Tune {
    #[command(flatten)]
    pub recipe_args: RecipeArgs,
    /// What is searched: a TOML file
    #[arg(long, value_name = "FILE")]
    pub space: PathBuf,
    /// Name of the study; one that exists is continued
    #[arg(long, value_name = "NAME")]
    pub study: String,
    #[arg(
        long,
        value_name = "URL",
        help = format!(
            "URL of the storage: {STORAGE_URLS} [default: $OPTUNA_STORAGE, otherwise memory, lost at the end]"
        )
    )]
    pub storage: Option<String>,
    /// Stop when the study has this many finished trials, earlier ones included
    #[arg(long, short = 'n', value_name = "N")]
    pub trials: Option<u64>,
    /// No trial starts after this time: 600, 90s, 15m or 2h
    #[arg(long, value_name = "TIME", value_parser = kiln_study::parse_time)]
    pub timeout: Option<std::time::Duration>,
    /// Trials that train at once; 0 is one per core
    #[arg(long, short, value_name = "N", default_value_t = 1)]
    pub jobs: usize,
    #[command(flatten)]
    pub search: kiln_study::SearchArgs,
    #[command(flatten)]
    pub heartbeat: kiln_study::HeartbeatArgs,
    /// What is optimized, measured on the validation images after each epoch
    #[arg(long, value_enum, default_value_t)]
    pub metric: MetricChoice,
    /// What becomes of a trial whose loss turns NaN or infinite
    #[arg(long, value_name = "OUTCOME", value_enum, default_value_t)]
    pub on_diverged: DivergedChoice,
    /// Folder of all runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,
    /// Print no line per trial
    #[arg(long, short)]
    pub quiet: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
#[command(
    after_help = "Examples:\n  kiln report runs/2026-11-22_131502-cnn-mnist\n  kiln report mnist-fc --storage sqlite:///tune.db --out mnist-fc.html"
)]
pub struct Report {
    /// Folder of a run, or the name of a study with --storage
    #[arg(value_name = "RUN|STUDY")]
    pub target: String,
    #[arg(
        long,
        value_name = "URL",
        help = format!("URL of the study's storage: {STORAGE_URLS} [default: $OPTUNA_STORAGE]")
    )]
    pub storage: Option<String>,
    /// File to write [default: report.html in the run's folder, or STUDY.html]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
pub enum MetricChoice {
    /// Share of right answers, maximized
    #[default]
    #[value(name = "valid_accuracy", alias = "valid-accuracy")]
    Accuracy,
    /// Mean loss, minimized
    #[value(name = "valid_loss", alias = "valid-loss")]
    Loss,
    /// Mean Dice coefficient of the classes, maximized (segmentation)
    #[value(name = "valid_dice", alias = "valid-dice")]
    Dice,
    /// Mean intersection over union of the classes, maximized (segmentation)
    #[value(name = "valid_iou", alias = "valid-iou")]
    Iou,
}

#[derive(Clone, Copy, Default, ValueEnum)]
pub enum DivergedChoice {
    /// It failed; the sampler learns nothing from it
    #[default]
    Fail,
    /// It has the worst value, so that the sampler avoids its neighbourhood
    Worst,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressStyle {
    /// The dashboard in a terminal, lines elsewhere
    #[default]
    Auto,
    /// The dashboard
    Dashboard,
    /// Lines on stderr
    Plain,
    /// Nothing
    None,
}

#[derive(ClapArgs)]
#[command(
    after_help = "Examples:\n  kiln eval runs/2026-11-22_131502-cnn-mnist\n  kiln eval RUN --data digits --json\n  kiln eval RUN --data image-folder --data-dir photos\n  kiln eval RUN --list\n\nClasses are matched by name. Of a folder, the pictures in its test, val, valid or validation are evaluated, or all of them if it has none of these. An evaluation on other data is kept under the run's evaluations."
)]
pub struct Eval {
    /// Folder of a finished run
    pub run: PathBuf,
    /// Evaluate on the test images of another data set
    #[arg(long, value_name = "NAME")]
    pub data: Option<String>,
    /// Evaluate on the data set's files in this folder
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Names of the model's classes in the order of its outputs, for weights trained elsewhere: one a line, a JSON list, or
    /// torchvision's class_to_idx [default: the run's]
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// Never download; use what is on the disk
    #[arg(long)]
    pub offline: bool,
    /// Device: auto, or one as `kiln devices` lists it
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// Write evaluation.json, confusion.png and, for segmentation, overlays.png into this folder [default: the run's, for
    /// other data one under its evaluations]
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// List the evaluations that the run holds, and stop
    #[arg(long, conflicts_with_all = ["data", "data_dir", "classes", "out"])]
    pub list: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
#[command(
    after_help = "Examples:\n  kiln predict runs/2026-11-22_131502-cnn-mnist seven.png photo.jpg\n  kiln predict RUN *.png --top 1 --json\n  kiln predict RUN photographed-seven.jpg --frame\n  kiln predict RUN cells/image/3.png --out masks"
)]
pub struct Predict {
    /// Folder of a finished run
    pub run: PathBuf,
    /// Pictures of any size and colour: PNG, JPEG, WebP, GIF, TIFF or BMP
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// How many classes to show for each picture
    #[arg(long, value_name = "K", default_value_t = 3)]
    pub top: usize,
    /// Whether dark and light change places: auto looks at the border where pictures are framed, and is no elsewhere
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub invert: InvertChoice,
    /// Frame every picture as MNIST's digits are: cut out the ink, fit it into 20x20 pixels and centre it [default: only
    /// pictures of other sizes than 28x28, for runs on MNIST, EMNIST or Digits]
    #[arg(long)]
    pub frame: bool,
    /// Names of the model's classes in the order of its outputs, for weights trained elsewhere: one a line, a JSON list, or
    /// torchvision's class_to_idx [default: the run's]
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// Write masks and overlays into this folder (segmentation) [default: predictions in the run's]
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Device: auto, or one as `kiln devices` lists it
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
pub enum InvertChoice {
    /// If the border is lighter than the rest
    #[default]
    Auto,
    /// Always
    Yes,
    /// Never
    No,
}

#[derive(ClapArgs)]
#[command(after_help = "Example:\n  kiln devices --json")]
pub struct Devices {
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  kiln models\n  kiln models resnet50 --input 3x224x224\n  kiln models resnet18 --input 3x32x32 --stem cifar --classes 10 --json\n  kiln models fetch resnet18"
)]
pub struct Models {
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
    /// Show this model layer by layer
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Channels, height and width of an image [default: those of the model's source]
    #[arg(long, value_name = "CxHxW", value_parser = image_size)]
    pub input: Option<[usize; 3]>,
    /// Number of classes [default: that of the model's source]
    #[arg(long, value_name = "N", requires = "name")]
    pub classes: Option<usize>,
    /// Normalization: batch, layer, instance, group:N, group-size:N, rms or none
    #[arg(long, value_name = "NORM", requires = "name")]
    pub norm: Option<String>,
    /// Stem of a ResNet or DenseNet: imagenet or cifar
    #[arg(long, value_name = "STEM", requires = "name")]
    pub stem: Option<String>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// Download weights that were trained on ImageNet
    #[command(
        after_help = "Examples:\n  kiln models fetch resnet18\n  kiln models fetch resnet50 --weights IMAGENET1K_V1 --dir weights"
    )]
    Fetch(FetchModel),
}

#[derive(ClapArgs)]
pub struct FetchModel {
    /// The model
    pub name: String,
    /// Which weights, by torchvision's name [default: the latest]
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: Option<String>,
    /// Put the file into this folder [default: models in Kiln's cache]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Fetch from this address instead of download.pytorch.org/models
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `3x224x224`
fn image_size(text: &str) -> Result<[usize; 3], String> {
    let axes: Option<Vec<usize>> = text
        .split(['x', 'X', '×'])
        .map(|n| n.parse().ok())
        .collect();
    let axes = axes.and_then(|axes| <[usize; 3]>::try_from(axes).ok());
    match axes {
        Some(axes) if !axes.contains(&0) => Ok(axes),
        _ => Err("give channels, height and width, such as 3x224x224".into()),
    }
}

#[derive(Subcommand)]
pub enum Data {
    /// List the data sets and where they are
    #[command(after_help = "Example:\n  kiln data list")]
    List {
        /// Print the result as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Download a data set into the cache
    #[command(after_help = "Example:\n  kiln data fetch fashion-mnist")]
    Fetch {
        /// mnist, fashion-mnist, kmnist, cifar10 or cifar100
        name: String,
        /// Print the result as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Counts, class balance, mean and standard deviation
    #[command(
        after_help = "Examples:\n  kiln data info digits --sheet digits.png\n  kiln data info mnist --data-dir ~/mnist --json\n  kiln data info mask-folder --data-dir cells --sheet cells.png"
    )]
    Info(Info),
}

#[derive(ClapArgs)]
pub struct Info {
    /// auto, or a data set as `kiln data list` lists it
    pub name: String,
    /// Read the files from this folder
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Never download; use what is on the disk
    #[arg(long)]
    pub offline: bool,
    /// Seed of the digits or shapes that Kiln draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Scale the pictures of a folder to this size
    #[arg(long, value_name = "HEIGHT,WIDTH", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub size: Option<Vec<u16>>,
    /// Write a picture of the first images of the training split; masks beside their images
    #[arg(long, value_name = "PNG")]
    pub sheet: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}
