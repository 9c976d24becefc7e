//! What is known of a setting: its names, its default, how it is shown, and how its text is read.
//!
//! One [`Setting`] is one row of the table in [`settings`](super::settings). Everything that has to name settings is
//! made from these rows: the command line with its help, what [`sources`](super::sources) looks for in the environment
//! and in files, what `check-config` prints, and `docs/configuration.md`. Nothing here reads a value from anywhere.

use std::fmt;

/// A setting of any type: its names and what is said of it.
#[derive(Debug)]
pub(crate) struct Spec {
    /// The flag's name without dashes before it.
    pub(crate) name: &'static str,
    /// The environment's name, for what an environment can set.
    pub(crate) variable: Option<&'static str>,
    /// Whether a configuration file can set it.
    pub(crate) in_file: bool,
    /// What stands for the value in the help: `DURATION`.
    pub(crate) value: &'static str,
    /// The text that holds when nothing is given.
    pub(crate) default: Option<&'static str>,
    pub(crate) shape: Shape,
    pub(crate) secrecy: Secrecy,
    /// Other settings that are one with this: where a source has any of them, no lower source is asked for the rest.
    pub(crate) together: &'static [&'static str],
    /// Why it is refused, for one that this version knows by name alone.
    pub(crate) unbuilt: Option<&'static str>,
    /// What it does, in a sentence or two without a full stop at the end.
    pub(crate) about: &'static str,
}

/// How often a setting has a value, and whether it needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Once.
    One,
    /// `true` or `false`; the flag alone is `true`.
    Switch,
    /// Any number of times; between commas in a variable, an array in a file.
    List,
}

/// What of a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    Public,
    /// A URL that may hold a password.
    Url,
    /// Nothing of it.
    Secret,
}

impl Spec {
    /// A public setting with one value, known to the command line alone.
    pub(crate) const fn flag(name: &'static str, value: &'static str, about: &'static str) -> Self {
        Self {
            name,
            variable: None,
            in_file: false,
            value,
            default: None,
            shape: Shape::One,
            secrecy: Secrecy::Public,
            together: &[],
            unbuilt: None,
            about,
        }
    }

    /// The same for a setting of the service: a variable and a key of a file name it too.
    pub(crate) const fn service(
        name: &'static str,
        variable: &'static str,
        value: &'static str,
        about: &'static str,
    ) -> Self {
        Self { variable: Some(variable), in_file: true, ..Self::flag(name, value, about) }
    }

    pub(crate) const fn default(self, text: &'static str) -> Self {
        Self { default: Some(text), ..self }
    }

    pub(crate) const fn shape(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    pub(crate) const fn secrecy(self, secrecy: Secrecy) -> Self {
        Self { secrecy, ..self }
    }

    pub(crate) const fn together(self, names: &'static [&'static str]) -> Self {
        Self { together: names, ..self }
    }

    pub(crate) const fn unbuilt(self, why: &'static str) -> Self {
        Self { unbuilt: Some(why), ..self }
    }

    pub(crate) const fn outside_files(self) -> Self {
        Self { in_file: false, ..self }
    }

    /// Its name in a file.
    pub(crate) fn key(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// A setting whose texts are read as `T`.
pub(crate) struct Setting<T> {
    pub(crate) spec: Spec,
    /// Reads a text, a list's with commas between its items. The error says what is accepted and repeats no secret.
    pub(crate) read: fn(&str) -> Result<T, String>,
}

impl<T> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setting(--{})", self.spec.name)
    }
}
