//! `kiln data`

use kiln::data::catalog::cache_dir;
use kiln::data::folder::FolderOptions;
use kiln::data::info::{Picture, Summary, contact_sheet, mask_sheet};
use kiln::data::{DATA_SETS, DataSet, Load};
use kiln::tune::printable;
use kiln::zoo::machine_memory;
use serde::Serialize;

use super::Result;
use crate::args::{Data, Info};
use crate::output;

/// Images in a row of a contact sheet, which has a row for each class.
const SHEET: usize = 20;
/// Rows and columns of a contact sheet with masks.
const MASK_SHEET: (usize, usize) = (8, 6);
/// Shorter sides than this are enlarged on a sheet, so that something can be seen.
const SMALL: usize = 24;

pub fn run(command: Data) -> Result<()> {
    match command {
        Data::List { json } => list(json),
        Data::Fetch { name, json } => fetch(&name, json),
        Data::Info(args) => info(args),
    }
}

#[derive(Serialize)]
struct Listing {
    data_sets: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    task: &'static str,
    summary: &'static str,
    train_len: usize,
    test_len: usize,
    available: String,
}

fn list(json: bool) -> Result<()> {
    let lines = DATA_SETS.iter().map(|set| Line {
        name: set.name,
        task: match set.has_masks() {
            true => "segmentation",
            false => "classification",
        },
        summary: set.summary,
        train_len: set.len.0,
        test_len: set.len.1,
        available: available(set),
    });
    if json {
        output::json(&Listing {
            data_sets: lines.collect(),
        })?;
        return Ok(());
    }
    let header = ["name", "train", "test", "where", "what"];
    let mut rows = vec![header.map(String::from).to_vec()];
    for line in lines {
        rows.push(vec![
            line.name.into(),
            count(line.train_len),
            count(line.test_len),
            line.available,
            line.summary.into(),
        ]);
    }
    output::text(&output::table(&rows))?;
    Ok(())
}

/// The number of images; a folder's is not known before it is read.
fn count(images: usize) -> String {
    match images {
        0 => "-".into(),
        images => images.to_string(),
    }
}

fn available(set: &DataSet) -> String {
    if set.is_drawn() {
        return "drawn when needed".into();
    }
    if set.is_folder() || !set.is_fetched() {
        return "--data-dir DIR".into();
    }
    match cache_dir().map(|cache| cache.join(set.name)) {
        Some(folder) if folder.is_dir() => folder.display().to_string(),
        _ => format!("not here yet: kiln data fetch {}", set.name),
    }
}

#[derive(Serialize)]
struct Fetched<'a> {
    name: &'a str,
    /// None for what is drawn, or a folder of the user's.
    dir: Option<std::path::PathBuf>,
}

fn fetch(name: &str, json: bool) -> Result<()> {
    let dir = Load::new(name).progress(true).fetch()?;
    if json {
        output::json(&Fetched { name, dir })?;
        return Ok(());
    }
    match dir {
        Some(folder) => output::text(&format!("{name} is in {}", folder.display()))?,
        None if DataSet::find(name)?.is_folder() => output::text(&format!(
            "{name} is a folder of yours; there is nothing to fetch"
        ))?,
        None if DataSet::find(name)?.by_hand().is_some() => {
            let steps = DataSet::find(name)?.by_hand().unwrap_or_default();
            output::text(&format!("{name} is not fetched; {steps}"))?
        }
        None => output::text(&format!(
            "{name} is drawn when needed; there is nothing to fetch"
        ))?,
    }
    Ok(())
}

#[derive(Serialize)]
struct Described {
    origin: String,
    train: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<Summary>,
    test: Summary,
}

fn info(args: Info) -> Result<()> {
    let mut load = Load::new(&args.name)
        .offline(args.offline)
        .progress(true)
        .seed(args.seed);
    if let Some(folder) = &args.data_dir {
        load = load.data_dir(folder);
    }
    let size = match args.size.as_deref() {
        None => None,
        Some(&[height, width]) => Some([height.into(), width.into()]),
        Some(_) => return Err("--size takes HEIGHT,WIDTH".into()),
    };
    load = load.folder(FolderOptions {
        size,
        memory: machine_memory(),
        ..FolderOptions::default()
    });
    let masks = args.name != "auto" && DataSet::find(&args.name)?.has_masks();
    let (described, note, sheet) = match masks {
        true => {
            let loaded = load.run_masks()?;
            let sheet = args.sheet.is_some().then(|| {
                let (rows, columns) = MASK_SHEET;
                mask_sheet(
                    &loaded.train,
                    rows.min(loaded.train.len().div_ceil(columns)),
                    columns,
                )
            });
            let described = Described {
                origin: loaded.origin.to_string(),
                train: Summary::of_masks(&loaded.train),
                valid: loaded.valid.as_ref().map(Summary::of_masks),
                test: Summary::of_masks(&loaded.test),
            };
            (described, loaded.note, sheet)
        }
        false => {
            let loaded = load.run()?;
            let sheet = args
                .sheet
                .is_some()
                .then(|| contact_sheet(&loaded.train, SHEET));
            let described = Described {
                origin: loaded.origin.to_string(),
                train: Summary::of(&loaded.train),
                valid: loaded.valid.as_ref().map(Summary::of),
                test: Summary::of(&loaded.test),
            };
            (described, loaded.note, sheet)
        }
    };
    if let Some(note) = &note {
        output::note(note);
    }
    if let (Some(file), Some(sheet)) = (&args.sheet, sheet) {
        let sheet: Picture = sheet?;
        let [_, height, width] = described.train.shape;
        sheet
            .enlarge(SMALL / height.min(width).max(1))
            .write_png(file)?;
        output::note(&format!("written: {}", file.display()));
    }
    match args.json {
        true => output::json(&described)?,
        false => output::text(&text(&described))?,
    }
    Ok(())
}

fn text(described: &Described) -> String {
    let [channels, height, width] = described.train.shape;
    let mut text = format!(
        "{}: images of {channels}x{height}x{width} in {} classes ({})\n\n",
        described.train.name,
        described.train.class_counts.len(),
        printable(&described.origin)
    );
    let valid = described.valid.as_ref().map(|valid| ("valid", valid));
    let splits: Vec<(&str, &Summary)> = [("train", &described.train)]
        .into_iter()
        .chain(valid)
        .chain([("test", &described.test)])
        .collect();
    let names = splits.iter().map(|(name, _)| name.to_string());
    let mut rows = vec![std::iter::once(String::new()).chain(names).collect()];
    let row = |name: &str, value: &dyn Fn(&Summary) -> String| -> Vec<String> {
        let values = splits.iter().map(|(_, split)| value(split));
        std::iter::once(name.to_string()).chain(values).collect()
    };
    let numbers = |values: &[f64]| {
        let each: Vec<String> = values.iter().map(|v| format!("{v:.4}")).collect();
        each.join(" ")
    };
    // With masks, a class is counted in pixels.
    let counted: usize = described.train.class_counts.iter().map(|(_, n)| n).sum();
    let per_image = counted / described.train.len.max(1);
    rows.push(row("images", &|s| s.len.to_string()));
    rows.push(row("mean", &|s| numbers(&s.mean)));
    rows.push(row("std", &|s| numbers(&s.std)));
    for (i, (class, _)) in described.train.class_counts.iter().enumerate() {
        rows.push(row(&format!("class {class}"), &|s| {
            let count = s.class_counts[i].1;
            format!(
                "{count} ({:.1} %)",
                count as f64 * 100.0 / (s.len * per_image).max(1) as f64
            )
        }));
    }
    text.push_str(&output::table(&rows));
    text
}
