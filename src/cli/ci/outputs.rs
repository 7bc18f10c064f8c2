//! What is left for the steps and people after us: outputs, and a folder of reports.

use super::settings::Settings;
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::model::account::Ending;
use crate::model::ci::{CiJob, Conclusion, Home};
use crate::text;
use serde_json::{Map, Value};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The longest value in a dotenv file, in bytes: GitLab takes 5 KiB of all together.
const DOTENV_VALUE: usize = 1000;

/// The outputs. All keys are always there; what there is not is empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    values: Vec<(&'static str, String)>,
}

impl Default for Outputs {
    fn default() -> Self {
        let empty = |key: &&'static str| (*key, String::new());
        Self { values: KEYS.iter().map(empty).collect() }
    }
}

/// All outputs, in their order.
pub const KEYS: [&str; 14] = [
    "conclusion",
    "final-message",
    "structured-output",
    "run-id",
    "branch-name",
    "pull-request-url",
    "patch-file",
    "artifact",
    "gate-word",
    "total-cost-usd",
    "input-tokens",
    "output-tokens",
    "cache-read-tokens",
    "cache-write-tokens",
];

impl Outputs {
    /// Sets one of [`KEYS`].
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        if let Some((_, slot)) = self.values.iter_mut().find(|(name, _)| *name == key) {
            *slot = value.into();
        }
    }

    /// One of [`KEYS`].
    pub fn get(&self, key: &str) -> &str {
        self.values.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    }

    /// In GitHub's form. The delimiter is random: no value can end itself and begin another.
    fn github(&self, random: &dyn Fn() -> u64) -> String {
        let mut out = String::new();
        for (key, value) in &self.values {
            let delimiter = loop {
                let delimiter = format!("codeforge_{:016x}{:016x}", random(), random());
                if !value.contains(&delimiter) {
                    break delimiter;
                }
            };
            out.push_str(&format!("{key}<<{delimiter}\n{value}\n{delimiter}\n"));
        }
        out
    }

    /// As a dotenv file: one line a value; a line end within it is written `\n`, and what is too long is cut or, where
    /// half of it would be nothing, left out. `outputs.json` has all of it.
    fn dotenv(&self) -> String {
        let mut out = String::new();
        for (key, value) in &self.values {
            let value = value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "");
            let value = match (value.len() > DOTENV_VALUE, *key) {
                // The gate's word is taken whole or not at all by the job that delivers.
                (false, _) | (true, "gate-word") => value,
                (true, "structured-output") => String::new(),
                (true, _) => text::cap(&value, DOTENV_VALUE).replace('\n', " "),
            };
            out.push_str(&format!("CODEFORGE_{}={value}\n", key.replace('-', "_").to_uppercase()));
        }
        out
    }

    fn json(&self) -> Value {
        let fields: Map<String, Value> =
            self.values.iter().map(|(key, value)| ((*key).to_owned(), Value::String(value.clone()))).collect();
        Value::Object(fields)
    }
}

/// Where reports go.
#[derive(Debug, Clone)]
pub struct Reports {
    /// The folder.
    pub folder: PathBuf,
    home: Home,
    outputs: Option<PathBuf>,
    summary: Option<PathBuf>,
}

impl Reports {
    /// Of a job whose checkout is at `root`. Where no job could be read, files go where a plain container's do.
    pub fn new(job: Option<&CiJob>, settings: Option<&Settings>, root: &Path) -> Self {
        let temp = job.and_then(|job| job.temp.as_ref()).map(|temp| temp.join("codeforge/report"));
        let given = settings.and_then(|settings| settings.report_dir.clone());
        Self {
            folder: given.or(temp).unwrap_or_else(|| root.join("codeforge-report")),
            home: job.map_or(Home::Container, |job| job.home),
            outputs: job.and_then(|job| job.outputs_file.clone()),
            summary: job.and_then(|job| job.summary_file.clone()),
        }
    }

    /// A folder within, for one of several runs.
    pub fn within(&self, name: &str) -> Self {
        Self { folder: self.folder.join(name), ..self.clone() }
    }

    /// Writes a file of the folder.
    ///
    /// # Errors
    /// The environment's: exit code 5.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf, CliError> {
        let path = self.folder.join(name);
        let written = std::fs::create_dir_all(&self.folder).and_then(|()| {
            // Reports are nobody's change: the folder ignores itself.
            let ignore = self.folder.join(".gitignore");
            if !ignore.exists() {
                std::fs::write(ignore, "*\n")?;
            }
            std::fs::write(&path, content)
        });
        written.map_err(|error| cannot_write(&path, &error))?;
        Ok(path)
    }

    /// Writes the outputs everywhere they are looked for.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn outputs(&self, outputs: &Outputs, cx: &Context<'_>) -> Result<(), CliError> {
        self.write("outputs.json", &format!("{:#}\n", outputs.json()))?;
        if self.home != Home::Github {
            self.write("outputs.env", &outputs.dotenv())?;
        }
        match &self.outputs {
            Some(file) => append(file, &outputs.github(&|| cx.world.random())),
            None => Ok(()),
        }
    }

    /// Writes the summary, and adds it to the home's own.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn summary(&self, markdown: &str) -> Result<(), CliError> {
        self.write("summary.md", markdown)?;
        match &self.summary {
            Some(file) => append(file, markdown),
            None => Ok(()),
        }
    }
}

fn append(file: &Path, content: &str) -> Result<(), CliError> {
    let opened = OpenOptions::new().create(true).append(true).open(file);
    let written = opened.and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|error| cannot_write(file, &error))
}

fn cannot_write(file: &Path, error: &std::io::Error) -> CliError {
    CliError::new(Ending::Unavailable, format!("{} cannot be written: {error}", file.display()))
}

/// What an ending is called in the output `conclusion`.
pub fn conclusion(ending: Ending) -> Conclusion {
    match ending {
        Ending::Done => Conclusion::Success,
        Ending::Failed | Ending::Cancelled => Conclusion::Failure,
        Ending::Misconfigured => Conclusion::Misconfigured,
        Ending::Limit => Conclusion::Limit,
        Ending::Denied => Conclusion::Denied,
        Ending::Unavailable => Conclusion::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What GitHub's runner makes of a file of outputs.
    fn github(text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut lines = text.split('\n');
        while let Some(line) = lines.next() {
            if line.is_empty() {
                continue;
            }
            let (key, delimiter) = line.split_once("<<").expect("a key with its delimiter");
            let value: Vec<&str> = lines.by_ref().take_while(|line| *line != delimiter).collect();
            found.push((key.to_owned(), value.join("\n")));
        }
        found
    }

    proptest! {
        #[test]
        fn a_value_is_one_value_whatever_is_in_it(value in "(\\PC|\n|\r|<<|EOF|=|conclusion|codeforge_){0,60}", seed: u64) {
            let mut outputs = Outputs::default();
            outputs.set("final-message", value.clone());
            outputs.set("conclusion", "success");
            let read = github(&outputs.github(&|| seed));
            prop_assert_eq!(read.len(), KEYS.len());
            prop_assert_eq!(&read[0], &("conclusion".to_owned(), "success".to_owned()));
            prop_assert_eq!(&read[1], &("final-message".to_owned(), value));
            let dotenv = outputs.dotenv();
            prop_assert_eq!(dotenv.lines().count(), KEYS.len());
            prop_assert!(dotenv.lines().all(|line| line.starts_with("CODEFORGE_")));
            prop_assert!(dotenv.len() < 5 * 1024);
        }
    }
}
