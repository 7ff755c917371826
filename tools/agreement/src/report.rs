//! What the comparison of a file found, case by case.

use std::any::Any;
use std::fmt::{self, Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

/// Why a case could not be compared.
#[derive(Debug)]
pub enum Problem {
    /// Kiln lacks an option that the case uses; that does not count as a difference.
    Skipped(String),
    /// The file lacks something, or Kiln refused what the peer takes.
    Failed(String),
}

impl Problem {
    /// The reason in words.
    pub fn into_message(self) -> String {
        match self {
            Self::Skipped(reason) | Self::Failed(reason) => reason,
        }
    }
}

impl<T: Display> From<T> for Problem {
    fn from(message: T) -> Self {
        Self::Failed(message.to_string())
    }
}

/// What a comparison returns.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// The comparisons of one case.
#[derive(Debug, Default)]
pub struct Checks {
    worst: f64,
    place: String,
    count: usize,
}

impl Checks {
    /// The largest error over its tolerance so far.
    pub fn worst(&self) -> f64 {
        self.worst
    }

    /// Where that error is, with what was computed and what was expected.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Compares within an absolute tolerance; equal infinities and two NaN agree.
    pub fn close(&mut self, place: impl Display, got: f64, want: f64, tolerance: f64) {
        let same = got == want || (got.is_nan() && want.is_nan());
        let error = if same {
            0.0
        } else {
            (got - want).abs() / tolerance
        };
        self.record(place, error, || format!("got {got:e}, expected {want:e}"));
    }

    /// Compares within a tolerance relative to the expected value.
    pub fn close_relative(&mut self, place: impl Display, got: f64, want: f64, tolerance: f64) {
        let size = want.abs().max(f64::MIN_POSITIVE);
        self.close(place, got, want, tolerance * size);
    }

    /// Compares two lists within an absolute tolerance.
    pub fn all_close(&mut self, place: impl Display, got: &[f64], want: &[f64], tolerance: f64) {
        if got.len() != want.len() {
            self.exact(format!("length of {place}"), &got.len(), &want.len());
        }
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            self.close(format_args!("{place}[{i}]"), got, want, tolerance);
        }
    }

    /// Requires equality.
    pub fn exact<T: PartialEq + Debug + ?Sized>(&mut self, place: impl Display, got: &T, want: &T) {
        let error = if got == want { 0.0 } else { f64::INFINITY };
        self.record(place, error, || format!("got {got:?}, expected {want:?}"));
    }

    /// Requires `got` to be at least `limit`.
    pub fn at_least(&mut self, place: impl Display, got: f64, limit: f64) {
        let error = if got >= limit { 0.0 } else { f64::INFINITY };
        self.record(place, error, || {
            format!("got {got}, expected at least {limit}")
        });
    }

    /// Requires that there are no differences: those given are told.
    pub fn none(&mut self, place: impl Display, differences: &[String]) {
        let error = if differences.is_empty() {
            0.0
        } else {
            f64::INFINITY
        };
        self.record(place, error, || differences.join("; "));
    }

    fn record(&mut self, place: impl Display, error: f64, detail: impl FnOnce() -> String) {
        self.count += 1;
        // NaN, where only one of two is a number, must not pass.
        let error = if error.is_nan() { f64::INFINITY } else { error };
        if error > self.worst {
            self.worst = error;
            self.place = format!("{place}: {}", detail());
        }
    }
}

/// One case of a file.
#[derive(Debug)]
pub struct Case {
    /// Its name in the file.
    pub id: String,
    /// Whether it is reported only (`"exotic": true` in the file).
    pub exotic: bool,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a case.
#[derive(Debug)]
pub enum Outcome {
    /// It was compared.
    Compared {
        /// The largest error over its tolerance; at most 1 agrees.
        worst: f64,
        /// Where that error is, with what was computed and what was expected; empty if there is none.
        place: String,
        /// How many numbers or other values were compared.
        count: usize,
    },
    /// Kiln lacks what it needs.
    Skipped(String),
    /// It could not be compared.
    Failed(String),
}

impl Case {
    /// Whether this case is a disagreement.
    pub fn differs(&self) -> bool {
        match &self.outcome {
            Outcome::Compared { worst, .. } => *worst > 1.0,
            Outcome::Skipped(_) => false,
            Outcome::Failed(_) => true,
        }
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (&self.outcome, self.differs()) {
            (Outcome::Skipped(_), _) => "skipped",
            (_, false) => "ok",
            (_, true) if self.exotic => "exotic",
            (Outcome::Failed(_), _) => "FAILED",
            (_, true) => "DIFFERS",
        };
        write!(f, "{verdict:8} {:40} ", self.id)?;
        match &self.outcome {
            Outcome::Compared { worst, place, .. } => {
                write!(f, "worst error / tolerance {worst:.2e}")?;
                match self.differs() {
                    true => write!(f, " at {place}"),
                    false => Ok(()),
                }
            }
            Outcome::Skipped(reason) | Outcome::Failed(reason) => f.write_str(reason),
        }
    }
}

/// The cases of one file.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of the file.
    pub cases: Vec<Case>,
}

impl Report {
    /// Compares one case. Its name is the `id` or the `name` in `json`, otherwise `name`. A panic within is a failure of this
    /// case alone.
    pub fn case(
        &mut self,
        name: impl Display,
        json: &Value,
        compare: impl FnOnce(&mut Checks) -> Result<()>,
    ) {
        let given = json["id"].as_str().or(json["name"].as_str());
        let mut checks = Checks::default();
        let result = catch_unwind(AssertUnwindSafe(|| compare(&mut checks)));
        let outcome = match result {
            Err(panic) => Outcome::Failed(message(&*panic)),
            Ok(Err(Problem::Failed(reason))) => Outcome::Failed(reason),
            Ok(Err(Problem::Skipped(reason))) => Outcome::Skipped(reason),
            Ok(Ok(())) if checks.count == 0 => Outcome::Failed("nothing was compared".into()),
            Ok(Ok(())) => Outcome::Compared {
                worst: checks.worst,
                place: checks.place,
                count: checks.count,
            },
        };
        self.cases.push(Case {
            id: given.map_or_else(|| name.to_string(), str::to_owned),
            exotic: json["exotic"] == true,
            outcome,
        });
    }

    /// Cases that differ, without the exotic ones.
    pub fn differing(&self) -> impl Iterator<Item = &Case> {
        self.cases
            .iter()
            .filter(|case| case.differs() && !case.exotic)
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or(panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
