//! plot: one figure, or all of them on one page.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::terminator::TerminatorArgs;
use super::{CliResult, Failure, StudyArgs};
use kiln_plot::Figure;
use kiln_tune::error::{Error, Result};
use kiln_tune::importance::{PedAnovaEvaluator, for_objective};
use kiln_tune::plot as plots;
use kiln_tune::study::Study;

/// Settings of `plot`.
#[derive(Debug, Args)]
pub struct Plot {
    /// What to draw
    #[arg(value_enum, default_value_t = Kind::All)]
    kind: Kind,
    #[command(flatten)]
    study: StudyArgs,
    /// File to write: .html is interactive and works offline; .svg and .png are pictures
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Which objective of several, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    objective: usize,
    /// Only these parameters [default: the first 5 by name of complete trials]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    params: Vec<String>,
    #[command(flatten)]
    terminator: TerminatorArgs,
}

/// A plot by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Every plot on one page; one that cannot be drawn says why
    All,
    /// Value of each trial and best value so far
    #[value(alias = "optimization-history")]
    History,
    /// Reported values of each trial
    #[value(alias = "intermediate-values")]
    Intermediate,
    /// Value over each parameter
    Slice,
    /// Value over each pair of parameters
    Contour,
    /// One line per trial through its parameters
    #[value(alias = "parallel-coordinate")]
    Parallel,
    /// Importance of each parameter
    #[value(alias = "param-importances", alias = "importances")]
    Importance,
    /// Share of trials at most as large as a value
    Edf,
    /// Rank of the value over each pair of parameters
    Rank,
    /// When each trial ran
    Timeline,
    /// Values of several objectives
    #[value(alias = "pareto-front")]
    Pareto,
    /// What is left to gain after each trial, and the error of the values; takes a while
    #[value(alias = "terminator-improvement")]
    Terminator,
}

impl Plot {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        let study = self.study.load()?;
        let ending = self
            .out
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default()
            .to_ascii_lowercase();
        let allowed: &[&str] = if self.kind == Kind::All {
            &["html", "htm"]
        } else {
            &["html", "htm", "svg", "png"]
        };
        if !allowed.contains(&ending.as_str()) {
            let allowed = if self.kind == Kind::All {
                "all plots are saved as one .html page"
            } else {
                "a plot is saved as .html, .svg or .png"
            };
            return Err(Failure::Usage(format!(
                "{allowed}, but --out is {}",
                self.out.display()
            )));
        }
        let n = study.directions().len();
        if self.objective >= n {
            return Err(Failure::Usage(format!(
                "--objective must be less than {n}, the number of objectives, but got {}",
                self.objective
            )));
        }
        let params = match self.params.is_empty() {
            true => plots::first_params(&study, self.objective)?,
            false => self.params.clone(),
        };
        let params: Vec<&str> = params.iter().map(String::as_str).collect();
        if self.kind == Kind::All {
            let figures = plots::all(&study, self.objective, &params)?;
            if figures.is_empty() {
                return Err(Error::NoTrials(format!(
                    "study {:?} has no trial to draw yet",
                    study.name()
                ))
                .into());
            }
            let title = format!("Study {}", study.name());
            kiln_plot::save_report(&title, &figures, &self.out).map_err(Error::from)?;
        } else if self.kind == Kind::Terminator {
            let e = self.terminator.evaluators(Some(0))?;
            let figure = plots::terminator_improvement(
                &study,
                &*e.improvement,
                Some(&*e.error),
                e.min_n_trials,
            )?;
            figure.save(&self.out).map_err(Error::from)?;
        } else {
            let figure = draw(self.kind, &study, self.objective, &params)?;
            figure.save(&self.out).map_err(Error::from)?;
        }
        writeln!(out, "{}", self.out.display())?;
        Ok(())
    }
}

fn draw(kind: Kind, study: &Study, objective: usize, params: &[&str]) -> Result<Figure> {
    match kind {
        Kind::All | Kind::Terminator => Err(Error::invalid("this plot has settings of its own")),
        Kind::History => plots::optimization_history(&[study], objective),
        Kind::Intermediate => plots::intermediate_values_of(study, objective),
        Kind::Slice => plots::slice(study, objective, params),
        Kind::Contour => plots::contour(study, objective, params),
        Kind::Parallel => plots::parallel_coordinate(study, objective, params),
        Kind::Importance => {
            let several = study.is_multi_objective().then_some(objective);
            plots::param_importances(&for_objective(
                study,
                &PedAnovaEvaluator::default(),
                None,
                several,
            )?)
        }
        Kind::Edf => plots::edf(&[study], objective),
        Kind::Rank => plots::rank(study, objective, params),
        Kind::Timeline => plots::timeline(study),
        Kind::Pareto => plots::pareto_front(study),
    }
}
