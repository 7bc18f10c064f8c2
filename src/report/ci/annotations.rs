//! Findings as marks at their lines: GitHub's workflow commands, plain lines elsewhere.

use super::sorted;
use crate::model::finding::{Finding, Level, Standing};
use crate::report::line;

/// GitHub shows so many of each kind for a step.
const OF_A_KIND: usize = 10;
/// The longest message, in characters.
const LONGEST: usize = 2000;

/// A mark at a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// How much it matters.
    pub level: Level,
    /// The file; `None`: it is about the run.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u64>,
    /// A few words.
    pub title: String,
    /// What is wrong; may have lines.
    pub message: String,
}

/// The marks for open findings, the worst first. A kind of which there are more than GitHub shows ends with one that
/// says how many.
pub fn annotations(findings: &[Finding]) -> Vec<Annotation> {
    let open: Vec<&Finding> =
        sorted(findings).into_iter().filter(|finding| finding.standing != Standing::Resolved).collect();
    let mut all = Vec::new();
    for level in [Level::High, Level::Medium, Level::Low] {
        let of: Vec<&&Finding> = open.iter().filter(|finding| finding.level == level).collect();
        let room = if of.len() > OF_A_KIND { OF_A_KIND - 1 } else { OF_A_KIND };
        all.extend(of.iter().take(room).map(|finding| annotation(finding)));
        if of.len() > room {
            let more = of.len() - room;
            all.push(Annotation {
                level,
                file: None,
                line: None,
                title: "CodeForge".into(),
                message: format!("{more} more findings of this kind: the job's summary has all of them."),
            });
        }
    }
    all
}

fn annotation(finding: &Finding) -> Annotation {
    let rule = finding.rule.as_ref().map(|rule| format!(" {}", line(rule, 80))).unwrap_or_default();
    let mut message = finding.what.clone();
    if let Some(suggestion) = &finding.suggestion {
        message.push_str("\nSuggestion: ");
        message.push_str(suggestion);
    }
    Annotation {
        level: finding.level,
        file: Some(finding.file.clone()),
        line: finding.line,
        title: format!("CodeForge{rule}"),
        message,
    }
}

impl Annotation {
    /// As a workflow command of GitHub's runner, without a line end. Values are escaped as the runner unescapes them.
    pub fn github(&self) -> String {
        let command = match self.level {
            Level::High => "error",
            Level::Medium => "warning",
            Level::Low => "notice",
        };
        let mut properties = Vec::new();
        if let Some(file) = &self.file {
            properties.push(format!("file={}", property(file)));
            if let Some(line) = self.line {
                properties.push(format!("line={line}"));
            }
        }
        properties.push(format!("title={}", property(&self.title)));
        format!("::{command} {}::{}", properties.join(","), data(&self.message))
    }

    /// As a line for people.
    pub fn plain(&self) -> String {
        let word = match self.level {
            Level::High => "error",
            Level::Medium => "warning",
            Level::Low => "notice",
        };
        let place = self.file.as_ref().map_or_else(String::new, |file| {
            let number = self.line.map(|line| format!(":{line}")).unwrap_or_default();
            format!(" {}{number}", line(file, 200))
        });
        format!("{word}{place}: {}", line(&self.message, 500))
    }
}

/// Cleaned, within the length, and inert once it is unescaped: what it says is shown in the log.
fn safe(text: &str) -> String {
    let cleaned = crate::text::inert_ci(&crate::text::invisible(&crate::text::clean(text)));
    if cleaned.chars().count() <= LONGEST {
        return cleaned.trim().to_owned();
    }
    format!("{}…", cleaned.trim().chars().take(LONGEST - 1).collect::<String>())
}

/// As the value of a command.
fn data(text: &str) -> String {
    safe(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As the value of a command's property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
