//! [`Setting`]: a change of one key of a recipe.

use std::path::Path;

use serde::Deserialize;
use toml::Value;

use super::{Recipe, RecipeError};

/// A change of one key of a [`Recipe`], as `--set KEY=VALUE` or a flag of the program makes it.
///
/// Text is written as a user types it, and what is not TOML is a string; a value that the program has already, such as a
/// path, travels as it is.
///
/// ```
/// use kiln_train::{Recipe, Setting};
///
/// let mut recipe = Recipe::default();
/// recipe.apply(&Setting::from("optimizer.lr=0.01"))?;
/// recipe.apply(&Setting::path("data.dir", "photos # 2024".as_ref())?)?;
/// assert_eq!(recipe.optimizer.lr, Some(0.01));
/// assert_eq!(recipe.data.dir, Some("photos # 2024".into()));
/// # Ok::<(), kiln_train::RecipeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// `KEY=VALUE`, as it was typed.
    Assignment(String),
    /// A key, and its value as it was typed.
    Typed(String, String),
    /// A key, and a string.
    Text(String, String),
}

impl From<&str> for Setting {
    fn from(assignment: &str) -> Self {
        Self::from(assignment.to_owned())
    }
}

impl From<String> for Setting {
    fn from(assignment: String) -> Self {
        Self(Kind::Assignment(assignment))
    }
}

impl Setting {
    /// The value of a key as it is typed after `--set KEY=`: `7`, `auto`, `[64, 32]`.
    pub fn typed(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self(Kind::Typed(key.into(), value.into()))
    }

    /// A string, whatever it looks like.
    pub fn text(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self(Kind::Text(key.into(), text.into()))
    }

    /// A path.
    ///
    /// # Errors
    ///
    /// [`RecipeError::NotUtf8`] if it is not UTF-8, which is all that a recipe can hold.
    pub fn path(key: impl Into<String>, path: &Path) -> Result<Self, RecipeError> {
        let key = key.into();
        match path.to_str() {
            Some(text) => Ok(Self::text(key, text)),
            None => Err(RecipeError::NotUtf8 {
                key,
                path: path.into(),
            }),
        }
    }

    /// The key that it changes.
    pub fn key(&self) -> &str {
        match &self.0 {
            Kind::Assignment(text) => text
                .split_once('=')
                .map_or(text.as_str(), |(key, _)| key)
                .trim(),
            Kind::Typed(key, _) | Kind::Text(key, _) => key,
        }
    }
}

impl Recipe {
    /// The defaults for the task that the settings name, with the settings over them.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn from_settings(settings: &[Setting]) -> Result<Self, RecipeError> {
        let mut named = Self::default();
        for setting in settings.iter().filter(|setting| setting.key() == "task") {
            named.apply(setting)?;
        }
        let mut recipe = Self::for_task(named.task);
        settings
            .iter()
            .try_for_each(|setting| recipe.apply(setting))?;
        Ok(recipe)
    }

    /// Changes one key.
    ///
    /// Only the value's kind is checked here, since several changes may belong together;
    /// [`validate`](Self::validate) checks the whole.
    ///
    /// # Errors
    ///
    /// If there is no `=`, the key is unknown or the value is of the wrong kind.
    pub fn apply(&mut self, setting: &Setting) -> Result<(), RecipeError> {
        match &setting.0 {
            Kind::Assignment(assignment) => match assignment.split_once('=') {
                Some((key, text)) => self.assign_typed(key.trim(), text.trim()),
                None => Err(RecipeError::NoValue(assignment.clone())),
            },
            Kind::Typed(key, text) => self.assign_typed(key, text),
            Kind::Text(key, text) => self.assign(key, Value::String(text.clone())),
        }
    }

    /// Sets a key to what is typed: TOML or, where that is not what the key takes, the text itself, so that neither
    /// `optimizer.name=adam` nor `data.dir=2024` needs quotes.
    fn assign_typed(&mut self, key: &str, text: &str) -> Result<(), RecipeError> {
        let string = Value::String(text.into());
        let parsed = toml::de::ValueDeserializer::parse(text);
        let Some(value) = parsed.and_then(Value::deserialize).ok() else {
            return self.assign(key, string);
        };
        let is_string = value.is_str();
        match self.assign(key, value) {
            Err(RecipeError::Value {
                key,
                value,
                allowed,
            }) if !is_string => self.assign(&key, string).map_err(|_| RecipeError::Value {
                key,
                value,
                allowed,
            }),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(setting: Setting) -> Option<String> {
        let mut recipe = Recipe::default();
        recipe.apply(&setting).unwrap();
        let written = Recipe::from_toml(&recipe.to_toml()).unwrap();
        assert_eq!(written, recipe);
        recipe
            .data
            .dir
            .map(|dir| dir.into_os_string().into_string().unwrap())
    }

    #[test]
    fn paths_are_taken_as_they_are() {
        for name in [
            "cafe\u{301}",
            "\u{1112}\u{1161}\u{11ab}",
            "a b",
            " a ",
            "a\tb\nc",
            "it's",
            "\"quoted\"",
            "'quoted'",
            "\"half",
            "back\\slash",
            "C:\\new\\table",
            "2024",
            "1979-05-27",
            "true",
            "nan",
            "[1]",
            "{}",
            "a=b",
            "a # b",
            "5 # b",
            "\"a\" # b",
            "\u{1b}[2J",
            "\u{202e}gpj",
            "\u{1f468}\u{200d}\u{1f469}",
            "$HOME",
            "%s",
            "\u{0}",
        ] {
            let given = Setting::path("data.dir", name.as_ref()).unwrap();
            assert_eq!(dir(given).as_deref(), Some(name), "{name:?}");
        }
    }

    #[test]
    fn what_is_typed_is_toml_or_else_the_text_itself() {
        for (text, expected) in [
            ("cafe\u{301}", "cafe\u{301}"),
            ("/photos/cafe\u{301} #1", "/photos/cafe\u{301} #1"),
            ("\"a b\"", "a b"),
            ("'a\\b'", "a\\b"),
            ("2024", "2024"),
            ("1979-05-27", "1979-05-27"),
            ("true", "true"),
            ("[1]", "[1]"),
            ("5 # five", "5 # five"),
            ("\"a\" # b", "\"a\" # b"),
            ("a=b", "a=b"),
            ("\"half", "\"half"),
        ] {
            let given = Setting::from(format!("data.dir = {text}"));
            assert_eq!(dir(given).as_deref(), Some(expected), "{text}");
            assert_eq!(
                dir(Setting::typed("data.dir", text)).as_deref(),
                Some(expected)
            );
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_as_it_was_read() {
        let refused = |text: &str| {
            let mut recipe = Recipe::default();
            recipe.apply(&text.into()).unwrap_err().to_string()
        };
        assert!(refused("seed=-1").starts_with("seed = -1 is not allowed"));
        assert!(refused("seed=1\nbatch_size=2").contains("is not allowed"));
        assert!(refused("batch_size=1 # one").contains("batch_size = \"1 # one\""));
        assert!(refused("model.hidden=64").starts_with("model.hidden = 64 is not allowed"));
        assert!(refused("optimizer.lr").contains("write KEY=VALUE"));
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_no_text_is_refused_and_never_panics() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(OsStr::from_bytes(b"photos\xff"));
        let error = Setting::path("data.dir", path).unwrap_err().to_string();
        assert!(
            error.contains("data.dir") && error.contains("not UTF-8"),
            "{error}"
        );
        let mut recipe = Recipe::default();
        recipe.data.dir = Some(path.into());
        assert!(matches!(
            recipe.validate(),
            Err(RecipeError::NotUtf8 { .. })
        ));
        recipe.apply(&"seed=1".into()).unwrap();
        assert!(!recipe.to_toml().is_empty());
    }

    #[test]
    fn the_task_among_the_settings_chooses_the_defaults() {
        let settings = ["batch_size=2", "task = \"segmentation\""].map(Setting::from);
        let recipe = Recipe::from_settings(&settings).unwrap();
        assert_eq!((recipe.model.name.as_str(), recipe.batch_size), ("unet", 2));
    }
}
