//! [`GradClip`]: clipping as a setting.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{AdaptiveGradClip, AutoClip, ClipError, Clipper, NormType};

/// How gradients are clipped, as a recipe writes it: a string, in serde too.
///
/// | text | what |
/// |---|---|
/// | `none` | nothing (the default) |
/// | `norm:MAX` | the global L2 norm to `MAX`: [`clip_grad_norm`](crate::clip_grad_norm) |
/// | `norm:MAX,P` | the global norm of order `P`, a positive number or `inf` |
/// | `param-norm:MAX` | each parameter by itself: [`clip_grad_norm_per_parameter`](crate::clip_grad_norm_per_parameter) |
/// | `value:LIMIT` | each value to `[-LIMIT, LIMIT]`: [`clip_grad_value`](crate::clip_grad_value) |
/// | `agc:FACTOR`, `agc:FACTOR,EPS` | each unit by its weights, all layers but the last: [`AdaptiveGradClip`]; `EPS` is 0.001 if left out |
/// | `auto:PERCENTILE` | the global L2 norm to a percentile of all so far: [`AutoClip`] |
///
/// ```
/// use kiln_clip::{GradClip, NormType};
/// let clip: GradClip = "norm:1.0".parse()?;
/// assert_eq!(clip, GradClip::Norm { max_norm: 1.0, norm_type: NormType::L2 });
/// assert_eq!(clip.to_string(), "norm:1");
/// let error = "norm:-1".parse::<GradClip>().unwrap_err().to_string();
/// assert!(error.starts_with("clip = 'norm:-1' is not allowed: the largest norm must be a positive number"));
/// # Ok::<(), kiln_clip::ClipError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GradClip {
    /// Not at all.
    #[default]
    None,
    /// By the global norm.
    Norm {
        /// The largest norm.
        max_norm: f64,
        /// Its order.
        norm_type: NormType,
    },
    /// Each parameter by its own L2 norm, as Burn does.
    ParamNorm {
        /// The largest norm of a parameter's gradient.
        max_norm: f64,
    },
    /// Each value.
    Value {
        /// The largest absolute value.
        clip_value: f64,
    },
    /// Each unit by the norm of its weights.
    Agc {
        /// The largest ratio.
        clipping: f64,
        /// The least norm of a unit's weights.
        eps: f64,
    },
    /// By a percentile of the norms so far.
    Auto {
        /// From 0 to 100.
        percentile: f64,
    },
}

impl GradClip {
    /// What does it, with the state that it needs.
    ///
    /// # Errors
    ///
    /// [`ClipError::Setting`] for a number out of range; a parsed setting has none.
    pub fn init(&self) -> Result<Clipper, ClipError> {
        self.check()?;
        Ok(Clipper::new(*self))
    }

    /// Whether nothing is clipped.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    fn check(&self) -> Result<(), ClipError> {
        let positive = |value: f64, what: &str| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(format!("{what} must be a positive number")),
        };
        let checked = match *self {
            Self::None => Ok(()),
            Self::Norm { max_norm, .. } | Self::ParamNorm { max_norm } => {
                positive(max_norm, "the largest norm")
            }
            Self::Value { clip_value } => positive(clip_value, "the largest value"),
            Self::Agc { clipping, eps } => {
                return AdaptiveGradClip::new(clipping, eps).map(|_| ());
            }
            Self::Auto { percentile } => return AutoClip::new(percentile).map(|_| ()),
        };
        checked.map_err(|problem| ClipError::Setting {
            given: self.to_string(),
            problem,
        })
    }
}

impl fmt::Display for GradClip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Norm {
                max_norm,
                norm_type: NormType::L2,
            } => write!(f, "norm:{max_norm}"),
            Self::Norm {
                max_norm,
                norm_type,
            } => write!(f, "norm:{max_norm},{norm_type}"),
            Self::ParamNorm { max_norm } => write!(f, "param-norm:{max_norm}"),
            Self::Value { clip_value } => write!(f, "value:{clip_value}"),
            Self::Agc { clipping, eps } if *eps == AGC_EPS => write!(f, "agc:{clipping}"),
            Self::Agc { clipping, eps } => write!(f, "agc:{clipping},{eps}"),
            Self::Auto { percentile } => write!(f, "auto:{percentile}"),
        }
    }
}

/// The paper's.
const AGC_EPS: f64 = 1e-3;

impl FromStr for GradClip {
    type Err = ClipError;

    fn from_str(text: &str) -> Result<Self, ClipError> {
        let wrong = |problem: String| ClipError::Setting {
            given: text.into(),
            problem,
        };
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind.trim(), Some(rest)),
            None => (text.trim(), None),
        };
        let numbers = rest.map_or(Ok(Vec::new()), |rest| {
            let parse = |part: &str| {
                let part = part.trim();
                part.parse::<f64>()
                    .map_err(|_| wrong(format!("'{part}' is not a number")))
            };
            rest.split(',').map(parse).collect()
        })?;
        let clip = match (kind, &numbers[..]) {
            ("none", []) => Self::None,
            ("norm", &[max_norm]) => Self::Norm {
                max_norm,
                norm_type: NormType::L2,
            },
            ("norm", &[max_norm, p]) => Self::Norm {
                max_norm,
                norm_type: NormType::new(p)
                    .map_err(|_| wrong("the order of the norm must be above 0".into()))?,
            },
            ("param-norm", &[max_norm]) => Self::ParamNorm { max_norm },
            ("value", &[clip_value]) => Self::Value { clip_value },
            ("agc", &[clipping]) => Self::Agc {
                clipping,
                eps: AGC_EPS,
            },
            ("agc", &[clipping, eps]) => Self::Agc { clipping, eps },
            ("auto", &[percentile]) => Self::Auto { percentile },
            ("norm" | "param-norm" | "value" | "agc" | "auto", []) => {
                return Err(wrong(format!("'{kind}' needs a number")));
            }
            ("none" | "norm" | "param-norm" | "value" | "agc" | "auto", _) => {
                return Err(wrong(format!("'{kind}' does not take so many numbers")));
            }
            _ => return Err(wrong(format!("'{kind}' is no way to clip"))),
        };
        match clip.check() {
            Ok(()) => Ok(clip),
            Err(ClipError::Setting { problem, .. }) => Err(wrong(problem)),
            Err(other) => Err(other),
        }
    }
}

impl TryFrom<String> for GradClip {
    type Error = ClipError;

    fn try_from(text: String) -> Result<Self, ClipError> {
        text.parse()
    }
}

impl From<GradClip> for String {
    fn from(clip: GradClip) -> Self {
        clip.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_survives_a_round_trip_through_text() {
        for text in [
            "none",
            "norm:1",
            "norm:0.5,inf",
            "norm:2,3",
            "param-norm:1",
            "value:0.5",
            "agc:0.01",
            "agc:0.02,0.1",
            "auto:10",
        ] {
            let clip: GradClip = text.parse().unwrap();
            assert_eq!(clip.to_string(), text);
            let json = serde_json::to_string(&clip).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<GradClip>(&json).unwrap(), clip);
        }
    }

    #[test]
    fn a_setting_that_is_none_is_refused_with_the_reason_and_what_is_allowed() {
        for (text, reason) in [
            ("norm", "'norm' needs a number"),
            ("norm:", "'' is not a number"),
            ("norm:nan", "the largest norm must be a positive number"),
            ("norm:0", "the largest norm must be a positive number"),
            ("norm:1,0", "the order of the norm must be above 0"),
            ("norm:1,2,3", "'norm' does not take so many numbers"),
            ("none:1", "'none' does not take so many numbers"),
            ("value:-1", "the largest value must be a positive number"),
            ("agc:0", "the factor must be a positive number"),
            ("agc:0.1,0", "eps must be a positive number"),
            (
                "auto:101",
                "the percentile must be between 0 and 100 inclusive",
            ),
            ("global:1", "'global' is no way to clip"),
            ("1.0", "'1.0' is no way to clip"),
        ] {
            let error = text.parse::<GradClip>().unwrap_err().to_string();
            let expected = format!(
                "clip = '{text}' is not allowed: {reason}; {}",
                ClipError::ALLOWED
            );
            assert_eq!(error, expected);
        }
        assert!(
            GradClip::Value {
                clip_value: f64::NAN
            }
            .init()
            .is_err()
        );
    }
}
