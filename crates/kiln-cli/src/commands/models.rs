//! `kiln models`

use std::path::{Path, PathBuf};

use kiln::data::catalog::cache_dir;
use kiln::data::fetch::{Fetcher, FileSpec};
use kiln::device::{Chosen, auto, select};
use kiln::zoo::{
    LayerRow, ModelInfo, Pretrained, Settings, Summary, Task, create, create_segmenter, model_info,
    models,
};
use serde::Serialize;

use super::Result;
use crate::args::{FetchModel, Models, ModelsCommand};
use crate::output;

pub fn run(args: Models) -> Result<()> {
    match (&args.command, &args.name) {
        (Some(ModelsCommand::Fetch(args)), _) => fetch(args),
        (None, Some(name)) => show(name, &args),
        (None, None) => list(&args),
    }
}

#[derive(Serialize)]
struct Listing {
    models: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    summary: &'static str,
    task: Task,
    input: [usize; 3],
    num_classes: usize,
    parameters: Option<usize>,
    macs: Option<u64>,
    source: &'static str,
    url: &'static str,
    weights: Vec<&'static str>,
}

impl Line {
    fn new(info: &'static ModelInfo, input: Option<[usize; 3]>, on: &Chosen) -> Self {
        let input = input.unwrap_or(info.input);
        // An image may be too small for one of them.
        let summary = info.summarize(input, &on.device).ok();
        Self {
            name: info.name,
            summary: info.summary,
            task: info.task,
            input,
            num_classes: info.num_classes,
            parameters: summary.as_ref().map(Summary::parameters),
            macs: summary.as_ref().map(Summary::macs),
            source: info.source,
            url: info.url,
            weights: Pretrained::of(info.name)
                .iter()
                .map(|weights| weights.name)
                .collect(),
        }
    }
}

/// Shapes and counts need no device, but a model lies on one: the CPU where there is that choice.
fn on_paper() -> Result<Chosen> {
    let cpu = select("flex").or_else(|_| select("ndarray"));
    Ok(cpu.or_else(|_| auto())?)
}

fn list(args: &Models) -> Result<()> {
    let on = on_paper()?;
    let lines = models().iter().map(|info| Line::new(info, args.input, &on));
    if args.json {
        output::json(&Listing {
            models: lines.collect(),
        })?;
        return Ok(());
    }
    let header = [
        "name",
        "parameters",
        "multiply-adds",
        "input",
        "classes",
        "what",
        "from",
    ];
    let mut rows = vec![header.map(String::from).to_vec()];
    for line in lines {
        rows.push(vec![
            line.name.into(),
            line.parameters.map_or("-".into(), |n| scaled(n as f64)),
            line.macs.map_or("too small".into(), |n| scaled(n as f64)),
            line.input.map(|axis| axis.to_string()).join("x"),
            line.num_classes.to_string(),
            line.summary.into(),
            line.source.into(),
        ]);
    }
    output::text(&output::table(&rows))?;
    Ok(())
}

/// `11.69 M`
fn scaled(number: f64) -> String {
    let (factor, unit) = match number {
        1e9.. => (1e9, " G"),
        1e6.. => (1e6, " M"),
        1e3.. => (1e3, " k"),
        _ => return number.to_string(),
    };
    format!("{:.2}{unit}", number / factor)
}

#[derive(Serialize)]
struct Described<'a> {
    name: &'a str,
    input: [usize; 3],
    num_classes: usize,
    parameters: usize,
    macs: u64,
    layers: &'a [LayerRow],
}

fn show(name: &str, args: &Models) -> Result<()> {
    // A name that is no line of the list, such as densenet-bc-64-12, has no source to ask.
    let info = model_info(name).ok();
    let input = args
        .input
        .or(info.map(|info| info.input))
        .unwrap_or([3, 32, 32]);
    let num_classes = args
        .classes
        .or(info.map(|info| info.num_classes))
        .unwrap_or(10);
    let settings = Settings {
        input,
        num_classes,
        norm: args.norm.as_deref().map(str::parse).transpose()?,
        stem: args.stem.as_deref().map(str::parse).transpose()?,
        ..Settings::default()
    };
    let device = on_paper()?.device;
    let summary = match create(name, &settings, &device) {
        Ok(model) => model.summary(input),
        Err(kiln::zoo::ZooError::OtherTask { .. }) => {
            create_segmenter(name, &settings, &device)?.summary(input)
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        output::json(&Described {
            name,
            input,
            num_classes,
            parameters: summary.parameters(),
            macs: summary.macs(),
            layers: &summary.layers,
        })?;
        return Ok(());
    }
    let image = input.map(|axis| axis.to_string()).join("x");
    let mut text = format!("{name}, one image of {image}, {num_classes} classes\n");
    if let Some(info) = info {
        text.push_str(&format!(
            "{}; {}: {}\n",
            info.summary, info.source, info.url
        ));
    }
    text.push_str(&format!("\n{summary}"));
    for weights in Pretrained::of(name) {
        text.push_str(&format!(
            "\nweights {} ({} % on ImageNet): kiln models fetch {name} --weights {}",
            weights.name, weights.accuracy, weights.name
        ));
    }
    output::text(&text)?;
    Ok(())
}

#[derive(Serialize)]
struct Fetched {
    model: &'static str,
    weights: &'static str,
    file: String,
}

fn fetch(args: &FetchModel) -> Result<()> {
    let weights = pretrained(&args.name, args.weights.as_deref())?;
    let file = fetch_file(weights, args.dir.as_deref(), args.mirror.as_deref(), false)?;
    let file = file.display().to_string();
    if args.json {
        output::json(&Fetched {
            model: weights.model,
            weights: weights.name,
            file,
        })?;
        return Ok(());
    }
    output::text(&format!("{} {} is in {file}", weights.model, weights.name))?;
    Ok(())
}

/// The published weights of a model by their name; the latest without one.
pub(super) fn pretrained(model: &str, name: Option<&str>) -> Result<&'static Pretrained> {
    let info = model_info(model)?;
    let known = Pretrained::of(info.name);
    let is_named = |weights: &&Pretrained| match name {
        Some(name) => weights.name.eq_ignore_ascii_case(name),
        None => true,
    };
    if let Some(weights) = known.iter().copied().rfind(is_named) {
        return Ok(weights);
    }
    let names: Vec<&str> = known.iter().map(|weights| weights.name).collect();
    Err(match names.is_empty() {
        true => {
            let names = models().iter().map(|model| model.name);
            let with: Vec<&str> = names
                .filter(|name| !Pretrained::of(name).is_empty())
                .collect();
            format!(
                "no weights are published for {}; there are for {}",
                info.name,
                with.join(", ")
            )
        }
        false => format!(
            "{} has no weights named '{}'; there are {}",
            info.name,
            name.unwrap_or_default(),
            names.join(", ")
        ),
    }
    .into())
}

/// Downloads weights into a folder, Kiln's cache without one, unless they are there.
pub(super) fn fetch_file(
    weights: &Pretrained,
    folder: Option<&Path>,
    mirror: Option<&str>,
    offline: bool,
) -> Result<PathBuf> {
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => cache_dir()
            .ok_or("there is no cache folder; name one with --dir")?
            .join("models"),
    };
    let path = folder.join(weights.file_name());
    if offline && !path.exists() {
        let (model, name) = (weights.model, weights.name);
        return Err(format!(
            "{} is not there, and nothing may be downloaded; kiln models fetch {model} --weights {name} brings it",
            path.display()
        )
        .into());
    }
    let address = mirror.unwrap_or(Pretrained::ADDRESS).trim_end_matches('/');
    let file = FileSpec {
        name: weights.file_name(),
        urls: vec![format!("{address}/{}", weights.file_name())],
        size: FileSpec::UNKNOWN_SIZE,
        sha256: weights.sha256_prefix.into(),
    };
    Fetcher::new().progress(true).fetch(&file, &folder)?;
    Ok(path)
}
