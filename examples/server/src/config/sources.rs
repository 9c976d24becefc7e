//! Where values come from: the command line, else the environment, else `.env` in the working directory, else the file
//! that `--config` names. The first source that has a setting has it whole: lists are not added up over sources.
//!
//! - An empty variable counts as not set, as container tools cannot leave one out; so does an empty array of a file.
//! - Nothing is written back into the process's environment: what `.env` says is known here alone.
//! - A refusal is one line that names the flag, the variable or key and its file when the value came from there, the
//!   value unless it may hold a secret, and what is accepted.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Display;

use super::files;
use super::settings::{CONFIG, SERVE};
use super::spec::{Secrecy, Setting, Shape, Spec};

/// The file of variables that is read where the process was started.
pub(crate) const DOT_ENV: &str = ".env";

/// What is wrong with the configuration, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(super) String);

/// What the command line says, by the flags' names.
pub(crate) type Flags = HashMap<&'static str, Vec<String>>;

/// All sources, read once.
pub(crate) struct Sources {
    flags: Flags,
    environment: HashMap<String, OsString>,
    dot_env: HashMap<String, String>,
    file: Option<files::File>,
}

/// The kinds of sources, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Flags,
    Environment,
    DotEnv,
    File,
}

const SOURCES: [Source; 4] = [Source::Flags, Source::Environment, Source::DotEnv, Source::File];

/// What a source says of a setting.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    spec: &'static Spec,
    /// One, or of a list one for each item.
    pub(crate) texts: Vec<String>,
    source: Source,
    /// The file's, when it stands in one.
    path: Option<String>,
}

impl Given {
    /// The value on one line, a list's with commas.
    pub(crate) fn text(&self) -> String {
        self.texts.join(",")
    }

    /// Where it came from, in words.
    pub(crate) fn origin(&self) -> String {
        let variable = self.spec.variable.unwrap_or_default();
        match self.source {
            Source::Flags => format!("flag --{}", self.spec.name),
            Source::Environment => format!("environment, {variable}"),
            Source::DotEnv => format!("{DOT_ENV}, {variable}"),
            Source::File => format!("file {}", self.path.as_deref().unwrap_or_default()),
        }
    }

    pub(crate) fn refuse(&self, detail: impl Display) -> ConfigError {
        let text = self.text();
        let value = match self.spec.secrecy {
            Secrecy::Public => format!(" {:?}", shortened(&text, text.contains("://") && text.contains('@'))),
            Secrecy::Url => format!(" {:?}", shortened(&text, may_hold_password(&text))),
            Secrecy::Secret => String::new(),
        };
        let variable = self.spec.variable.unwrap_or_default();
        let origin = match self.source {
            // The flag is named anyway.
            Source::Flags => String::new(),
            Source::Environment => format!(" (from {variable})"),
            Source::DotEnv => format!(" (from {variable} in {DOT_ENV})"),
            Source::File => {
                format!(" (from {} in {})", self.spec.key(), self.path.as_deref().unwrap_or_default())
            }
        };
        ConfigError(format!("--{}{value}{origin}: {detail}", self.spec.name))
    }
}

/// Whether there may be a password in what was given for a URL, which need not be one: a list of `name=value`, or a URL
/// with a slash left out.
fn may_hold_password(text: &str) -> bool {
    text.contains(['@', '=']) || (text.contains("://") && !text.starts_with("sqlite://"))
}

/// As much of a value as fits in a line, and of one that may hold a password the scheme alone.
fn shortened(text: &str, is_secret: bool) -> String {
    if is_secret {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let is_scheme =
            |scheme: &&str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        return scheme.filter(is_scheme).map_or_else(|| "…".to_owned(), |scheme| format!("{scheme}://…"));
    }
    if text.chars().count() > 100 {
        return text.chars().take(100).chain(['…']).collect();
    }
    text.to_owned()
}

impl Sources {
    /// The command line, and this process's surroundings for what it leaves out.
    ///
    /// # Errors
    /// When a file cannot be read, or says what no setting can be.
    pub(crate) fn of_process(flags: Flags) -> Result<Self, ConfigError> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let dot_env = files::dot_env_here()?;
        Self::new(flags, environment.collect(), dot_env.as_deref())
    }

    /// The command line alone, for commands that nothing else can set.
    pub(crate) fn of_flags(flags: Flags) -> Self {
        Self { flags, environment: HashMap::new(), dot_env: HashMap::new(), file: None }
    }

    /// These sources, and the configuration file that one of them names.
    ///
    /// # Errors
    /// When a file cannot be read, or says what no setting can be.
    pub(crate) fn new(
        flags: Flags,
        environment: HashMap<String, OsString>,
        dot_env: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let dot_env = dot_env.map(files::read_dot_env).transpose()?.unwrap_or_default();
        let mut sources = Self { flags, environment, dot_env, file: None };
        if let Some(given) = sources.find(&CONFIG.spec)? {
            let path = given.text();
            let text = std::fs::read_to_string(&path)
                .map_err(|error| given.refuse(format_args!("the file cannot be read: {error}")))?;
            sources.file = Some(files::File::read(&path, &text)?);
        }
        Ok(sources)
    }

    /// What holds for this setting, when a source has it.
    ///
    /// # Errors
    /// When the value is no text.
    pub(crate) fn find(&self, spec: &'static Spec) -> Result<Option<Given>, ConfigError> {
        for source in SOURCES {
            if let Some(given) = self.at(source, spec)? {
                return Ok(Some(given));
            }
            let others = SERVE.iter().filter(|other| spec.together.contains(&other.name));
            for other in others {
                if self.at(source, other)?.is_some() {
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// The setting's value, or its default; nothing when it has neither.
    ///
    /// # Errors
    /// When the value is not accepted.
    pub(crate) fn optional<T>(&self, setting: &'static Setting<T>) -> Result<Option<T>, ConfigError> {
        if let Some(given) = self.find(&setting.spec)? {
            return (setting.read)(&given.text()).map(Some).map_err(|error| given.refuse(error));
        }
        let default = setting.spec.default.map(setting.read).transpose();
        default.map_err(|error| ConfigError(format!("--{}: {error}", setting.spec.name)))
    }

    /// The value of a setting that has a default.
    ///
    /// # Errors
    /// When the value is not accepted.
    pub(crate) fn value<T>(&self, setting: &'static Setting<T>) -> Result<T, ConfigError> {
        let value = self.optional(setting)?;
        value.ok_or_else(|| ConfigError(format!("--{} is needed and has no default", setting.spec.name)))
    }

    /// A refusal of what holds for this setting, for a reason that lies in other settings too.
    pub(crate) fn refuse(&self, spec: &'static Spec, detail: impl Display) -> ConfigError {
        match self.find(spec) {
            Ok(Some(given)) => given.refuse(detail),
            Ok(None) => ConfigError(format!("--{}: {detail}", spec.name)),
            Err(error) => error,
        }
    }

    /// What was read beside the command line and the environment.
    pub(crate) fn files(&self) -> Vec<&str> {
        let dot_env = (!self.dot_env.is_empty()).then_some(DOT_ENV);
        dot_env.into_iter().chain(self.file.as_ref().map(|file| file.path.as_str())).collect()
    }

    /// Variables that look like a misspelt setting, each with the setting's. Others with such a prefix may be somebody
    /// else's: container platforms name variables after services.
    pub(crate) fn misspelt(&self) -> Vec<(String, &'static str)> {
        let known: Vec<&str> = SERVE.iter().filter_map(|spec| spec.variable).collect();
        let names = self.environment.keys().chain(self.dot_env.keys());
        let foreign = names.filter(|name| name.starts_with("WEBHOOK_") && !known.contains(&name.as_str()));
        let near = foreign.filter_map(|name| {
            let (nearest, distance) = files::nearest(name, known.iter().copied())?;
            (distance <= 3).then(|| (name.clone(), nearest))
        });
        let mut found: Vec<_> = near.collect();
        found.sort();
        found
    }

    fn at(&self, source: Source, spec: &'static Spec) -> Result<Option<Given>, ConfigError> {
        let given = |texts| Given { spec, texts, source, path: None };
        match source {
            Source::Flags => Ok(self.flags.get(spec.name).map(|texts| given(texts.clone()))),
            Source::Environment => {
                let value = spec.variable.and_then(|name| self.environment.get(name));
                let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
                let Some(text) = value.to_str() else {
                    let lossy = value.to_string_lossy().into_owned();
                    return Err(given(vec![lossy]).refuse("the value is not UTF-8 text"));
                };
                Ok(Some(given(items(spec, text))))
            }
            Source::DotEnv => {
                let text = spec.variable.and_then(|name| self.dot_env.get(name));
                Ok(text.filter(|text| !text.is_empty()).map(|text| given(items(spec, text))))
            }
            Source::File => {
                let Some(file) = &self.file else { return Ok(None) };
                let texts = file.values.get(spec.name);
                Ok(texts.map(|texts| Given { path: Some(file.path.clone()), ..given(texts.clone()) }))
            }
        }
    }
}

/// The items of a list; any other value is one.
pub(super) fn items(spec: &Spec, text: &str) -> Vec<String> {
    match spec.shape {
        Shape::One | Shape::Switch => vec![text.to_owned()],
        Shape::List => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        }
    }
}
