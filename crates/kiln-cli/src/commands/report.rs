//! `kiln report`

use std::path::{Path, PathBuf};

use kiln::tune::study::file_name;
use kiln::tune::{Study, storage};
use kiln_study::{show_warnings, storage_url};
use serde::Serialize;

use super::Result;
use crate::args::Report;
use crate::output;

#[derive(Serialize)]
struct Json {
    report: PathBuf,
}

pub fn run(args: Report) -> Result<()> {
    show_warnings();
    // A folder is a run, whatever the environment says about studies.
    let run = Path::new(&args.target);
    let storage = match args.storage.is_none() && run.is_dir() {
        true => None,
        false => storage_url(args.storage.as_deref()),
    };
    let report = match storage {
        None if run.is_dir() => match args.out {
            None => kiln::train::report(run)?,
            Some(out) => {
                kiln::train::report_to(run, &out)?;
                out
            }
        },
        None => {
            return Err(format!(
                "{} is no folder of a run; name one, or a study together with its --storage",
                run.display()
            )
            .into());
        }
        Some(url) => {
            let builder = Study::builder().name(&args.target);
            let study = builder
                .shared_storage(storage::open_existing(&url)?)
                .load()?;
            let out = args.out.unwrap_or_else(|| study_file(&args.target));
            kiln::train::tune::study_report(&study, &out)?;
            out
        }
    };
    match args.json {
        true => output::json(&Json { report })?,
        false => output::text(&report.display().to_string())?,
    }
    Ok(())
}

/// `NAME.html`, and never that of another study.
pub(super) fn study_file(study: &str) -> PathBuf {
    format!("{}.html", file_name(study)).into()
}
