//! `kiln models`

use kiln::zoo::models;
use serde::Serialize;

use super::Result;
use crate::args::Models;
use crate::output;

#[derive(Serialize)]
struct Json {
    models: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    summary: &'static str,
}

pub fn run(args: Models) -> Result<()> {
    let lines = models().iter().map(|model| Line {
        name: model.name,
        summary: model.summary,
    });
    if args.json {
        output::json(&Json {
            models: lines.collect(),
        })?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = lines
        .map(|l| vec![l.name.into(), l.summary.into()])
        .collect();
    output::text(&output::table(&rows))?;
    Ok(())
}
