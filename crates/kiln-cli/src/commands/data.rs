//! `kiln data`

use kiln::data::catalog::cache_dir;
use kiln::data::info::{Summary, contact_sheet};
use kiln::data::{DATA_SETS, Load};
use serde::Serialize;

use super::Result;
use crate::args::{Data, Info};
use crate::output;

/// Images of a contact sheet: 20 rows of 20.
const SHEET: usize = 20;

pub fn run(command: Data) -> Result<()> {
    match command {
        Data::List { json } => list(json),
        Data::Fetch { name } => fetch(&name),
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
    summary: &'static str,
    train_len: usize,
    test_len: usize,
    available: String,
}

fn list(json: bool) -> Result<()> {
    let lines = DATA_SETS.iter().map(|set| Line {
        name: set.name,
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
            line.train_len.to_string(),
            line.test_len.to_string(),
            line.available,
            line.summary.into(),
        ]);
    }
    output::text(&output::table(&rows))?;
    Ok(())
}

fn available(set: &kiln::data::DataSet) -> String {
    if set.is_drawn() {
        return "drawn when needed".into();
    }
    match cache_dir().map(|cache| cache.join(set.name)) {
        Some(folder) if folder.is_dir() => folder.display().to_string(),
        _ => format!("not here yet: kiln data fetch {}", set.name),
    }
}

fn fetch(name: &str) -> Result<()> {
    match Load::new(name).progress(true).fetch()? {
        Some(folder) => output::text(&format!("{name} is in {}", folder.display()))?,
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
    let loaded = load.run()?;
    if let Some(note) = &loaded.note {
        output::note(note);
    }
    if let Some(file) = &args.sheet {
        let first = loaded.train.slice(0..SHEET * SHEET);
        contact_sheet(&first, SHEET)?.write_png(file)?;
        output::note(&format!("written: {}", file.display()));
    }
    let described = Described {
        origin: loaded.origin.to_string(),
        train: Summary::of(&loaded.train),
        test: Summary::of(&loaded.test),
    };
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
        described.origin
    );
    let header = ["", "train", "test"].map(String::from).to_vec();
    let mut rows = vec![header];
    let both = [&described.train, &described.test];
    let row = |name: &str, value: &dyn Fn(&Summary) -> String| {
        let mut row = vec![name.to_string()];
        row.extend(both.map(value));
        row
    };
    let numbers = |values: &[f64]| {
        let each: Vec<String> = values.iter().map(|v| format!("{v:.4}")).collect();
        each.join(" ")
    };
    rows.push(row("images", &|s| s.len.to_string()));
    rows.push(row("mean", &|s| numbers(&s.mean)));
    rows.push(row("std", &|s| numbers(&s.std)));
    for (i, (class, _)) in described.train.class_counts.iter().enumerate() {
        rows.push(row(&format!("class {class}"), &|s| {
            let count = s.class_counts[i].1;
            format!(
                "{count} ({:.1} %)",
                count as f64 * 100.0 / s.len.max(1) as f64
            )
        }));
    }
    text.push_str(&output::table(&rows));
    text
}
