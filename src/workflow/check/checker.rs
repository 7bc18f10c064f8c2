//! The walk's findings → diagnostics, and the checks of single texts.

use super::super::schema::document::{At, Document, Node};
use super::super::schema::library::nearest;
use super::super::schema::{codes, stop, values};
use super::shape::Visitor;
use super::{Known, expressions};
use crate::model::diagnostic::{Diagnostic, Severity};
use crate::model::serve::SecretAt;
use crate::model::tool::TOOLS;

/// Collects the problems of one document.
pub(super) struct Checker<'a> {
    pub(super) document: &'a Document,
    pub(super) known: &'a Known,
    pub(super) builtin: bool,
    /// Gates of this document itself.
    pub(super) own_gates: Vec<String>,
    /// Models and scenarios of this document itself (a configuration).
    pub(super) found: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    pub(super) fn error(&mut self, code: &'static str, at: At, message: impl Into<String>) -> &mut Diagnostic {
        self.push(code, Severity::Error, at, message)
    }

    pub(super) fn warn(&mut self, code: &'static str, at: At, message: impl Into<String>) -> &mut Diagnostic {
        self.push(code, Severity::Warning, at, message)
    }

    fn push(&mut self, code: &'static str, severity: Severity, at: At, message: impl Into<String>) -> &mut Diagnostic {
        let index = self.found.len();
        self.found.push(self.document.diagnostic(code, severity, at, message));
        &mut self.found[index]
    }

    /// A name that is none of those known, with the nearest and the list.
    pub(super) fn unknown(&mut self, code: &'static str, what: &str, name: &str, at: At, known: &[&str], list: &str) {
        let near = nearest(name, known.iter().copied());
        let problem = self.error(code, at, format!("unknown {what} `{name}`"));
        problem.label = near.map(|near| format!("did you mean `{near}`?"));
        problem.help = Some(match known.len() {
            0 => list.to_owned(),
            1..=24 => format!(
                "{what}s: {}{}",
                known.join(", "),
                if list.is_empty() { String::new() } else { format!(" ({list})") }
            ),
            _ => format!("there are {} {what}s {list}", known.len()),
        });
    }

    fn reference(&mut self, kind: &str, node: &Node, name: &str) -> bool {
        fn strs(list: &[String]) -> Vec<&str> {
            list.iter().map(String::as_str).collect()
        }
        let known = self.known;
        let (code, what, names, list): (_, _, Vec<&str>, _) = match kind {
            "mode" => {
                (codes::UNKNOWN_MODE, "mode", known.modes.keys().map(String::as_str).collect(), "codeforge modes list")
            }
            "backend" => {
                let mut names: Vec<&str> = known.backends.keys().map(String::as_str).collect();
                names.push("native");
                (codes::UNKNOWN_BACKEND, "backend", names, "codeforge backends list")
            }
            "policy" => (codes::UNKNOWN_POLICY, "policy", strs(&known.policies), "codeforge policies list"),
            "tool" => (codes::UNKNOWN_TOOL, "tool", TOOLS.to_vec(), ""),
            "scenario" => (codes::UNKNOWN_SCENARIO, "scenario", strs(&known.scenarios), ""),
            "model" => {
                (codes::UNKNOWN_MODEL, "model", strs(&known.models), "models are named in .codeforge/config.yml")
            }
            _ => return false,
        };
        if !names.contains(&name) {
            self.unknown(code, what, name, node.at, &names, list);
        }
        true
    }

    /// A gate's name; with `?` at its end it need not be defined.
    fn gate(&mut self, node: &Node, name: &str) {
        // Built-in workflows name gates that each repository defines for itself; compiling says where one is missing.
        if name.ends_with('?') || self.builtin {
            return;
        }
        let names: Vec<String> = self.own_gates.iter().chain(&self.known.gates).cloned().collect();
        if !names.iter().any(|gate| gate == name) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let list = "gates are defined in `gates:` here or in .codeforge/config.yml";
            self.unknown(codes::UNKNOWN_GATE, "gate", name, node.at, &names, list);
        }
    }
}

/// Characters that names are made of.
pub(super) fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    first && name.len() <= 64 && name.chars().all(rest)
}

impl Visitor for Checker<'_> {
    fn unknown_key(&mut self, at: At, key: &str, known: &[&str], path: &[&str]) {
        let translation = match key {
            "continue-on-error" | "continue_on_error" => Some("write `on_failure: continue`"),
            "allow_failure" => Some("write `on_failure: continue`"),
            "cancel-in-progress" | "cancel_in_progress" => Some("write `on_conflict: cancel`"),
            "timeout-minutes" => Some("write `timeout: 10m`"),
            "runs-on" => Some("leave it out: `sandbox:` says where tools run"),
            "script" => Some("write `run:`"),
            "uses" => Some("write `mode:` for an agent, `run:` for a command"),
            "jobs" | "stages" => Some("write `steps:`"),
            "rules" | "only" | "except" if path.is_empty() => Some("write `on:` for triggers, `if:` at a step"),
            "<<" => Some("YAML 1.2 has no merge keys: write the keys out"),
            _ => None,
        };
        if let Some(translation) = translation {
            self.error(codes::FOREIGN_SYNTAX, at, format!("`{key}` is written otherwise here")).help =
                Some(translation.into());
            return;
        }
        let near = nearest(key, known.iter().copied());
        let place = if path.is_empty() { String::new() } else { format!(" in `{}`", path.join(".")) };
        let problem = self.error(codes::UNKNOWN_KEY, at, format!("unknown key `{key}`{place}"));
        problem.label = near.map(|near| format!("did you mean `{near}`?"));
        problem.help = Some(format!("keys: {}", known.join(", ")));
    }

    fn missing_key(&mut self, at: At, key: &str, path: &[&str]) {
        let place = if path.is_empty() { String::new() } else { format!(" in `{}`", path.join(".")) };
        self.error(codes::MISSING_KEY, at, format!("the key `{key}` is missing{place}"));
    }

    fn both(&mut self, at: At, key: &str, other: &str) {
        self.error(codes::EXCLUSIVE_KEYS, at, format!("`{key}` and `{other}` are names of the same key")).help =
            Some("keep one of them".into());
    }

    fn wrong_type(&mut self, node: &Node, at: At, expected: &str) {
        let problem = self.error(codes::WRONG_TYPE, at, format!("expected {expected}, found {}", node.kind()));
        let scalar = !matches!(node.kind(), "a list" | "a map" | "nothing");
        if scalar && expected.starts_with("text") {
            problem.help = Some("put it in quotes".into());
        }
    }

    fn unknown_value(&mut self, node: &Node, words: &[String]) {
        let text = node.text().unwrap_or_default();
        let near = nearest(text, words.iter().map(String::as_str));
        let problem = self.error(codes::UNKNOWN_VALUE, node.at, format!("`{text}` is none of {}", words.join(", ")));
        problem.label = near.map(|near| format!("did you mean `{near}`?"));
    }

    fn out_of_range(&mut self, node: &Node, min: Option<f64>, max: Option<f64>) {
        let range = match (min, max) {
            (Some(min), Some(max)) => format!("from {min} to {max}"),
            (Some(min), None) => format!("of {min} or more"),
            (None, Some(max)) => format!("of at most {max}"),
            (None, None) => String::new(),
        };
        self.error(codes::OUT_OF_RANGE, node.at, format!("expected a number {range}"));
    }

    fn text(&mut self, kind: &str, node: &Node, text: &str, path: &[&str]) {
        if let Some(at) = text.find("${{") {
            let column = text.get(..at).map_or(0, |before| before.chars().count());
            let at = self.document.inside(node, 1, column, 3);
            self.error(codes::FOREIGN_SYNTAX, at, "`${{ … }}` is written otherwise here").help = Some(match kind {
                "shell" => "commands are never templated: values reach them as variables, such as $INPUT_TASK".into(),
                "expression" => "write the expression without braces".into(),
                _ => "write `{{ … }}`".into(),
            });
            return;
        }
        if self.reference(kind, node, text) {
            return;
        }
        let at = node.at;
        match kind {
            "gate" => self.gate(node, text),
            "name" if !is_name(text) => {
                self.error(codes::BAD_NAME, at, format!("`{text}` cannot be a name")).help =
                    Some("names are made of a-z, 0-9, `-` and `_`, at most 64 of them".into());
            }
            "duration" => {
                if let Err(message) = values::duration_ms(text) {
                    self.error(codes::BAD_DURATION, at, message).help = Some("write 90s, 10m, 1h30m or 30d".into());
                }
            }
            "size" => {
                if let Err(message) = values::size_bytes(text) {
                    self.error(codes::BAD_SIZE, at, message).help = Some("write 512MiB, 2GiB or 4GB".into());
                }
            }
            "glob" => {
                if let Err(error) = globset::Glob::new(text) {
                    self.error(codes::BAD_GLOB, at, format!("`{text}` is not a glob: {}", error.kind()));
                }
            }
            "tool-glob" => {
                let known = text.contains('*') || TOOLS.contains(&text);
                if !known {
                    self.unknown(codes::UNKNOWN_TOOL, "tool", text, at, &TOOLS, "or a glob such as `git_*`");
                }
            }
            "regex" => super::memory::pattern(self, node, text),
            "cron" => {
                if let Err(message) = values::check_cron(text) {
                    self.error(codes::BAD_CRON, at, message).help = Some("`H 2 * * *` is once a night".into());
                }
            }
            "date" if text.parse::<jiff::civil::Date>().is_err() => {
                self.error(codes::BAD_DATE, at, format!("`{text}` is not a day")).help =
                    Some("write year, month and day: 2026-11-24".into());
            }
            "timezone" if jiff::tz::TimeZoneDatabase::bundled().get(text).is_err() => {
                self.error(codes::BAD_TIMEZONE, at, format!("`{text}` is not a time zone")).help =
                    Some("write an IANA name: UTC, Europe/Berlin, America/New_York".into());
            }
            "url" if !(text.starts_with("http://") || text.starts_with("https://")) => {
                self.error(codes::BAD_URL, at, format!("`{text}` is not a web address")).help =
                    Some("it begins with https:// or http://".into());
            }
            "account" if !crate::text::is_account(text.strip_prefix('@').unwrap_or(text)) => {
                self.error(codes::BAD_PERSON, at, format!("`{text}` is not an account")).help =
                    Some("write `ann` or `organisation/team`, or `codeowners` among the reviewers".into());
            }
            "person" if !crate::text::is_person(text) => {
                self.error(codes::BAD_PERSON, at, format!("`{text}` is not a name with a mail address")).help =
                    Some("write `Ann Example <ann@example.com>`".into());
            }
            "label" if text.trim() != text || text.is_empty() || text.chars().any(|c| c.is_control() || c == ',') => {
                self.error(codes::BAD_LABEL, at, format!("`{}` is not a label", text.escape_debug())).help =
                    Some("write one line without a comma, and without blanks at its ends".into());
            }
            "secret" => {
                let name = text.strip_prefix("env://").unwrap_or_default();
                let fine = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if text.starts_with("cmd://") || text.starts_with("exec://") {
                    self.error(codes::HOST_COMMAND, at, "a repository's file cannot run a command on the host").help =
                        Some("put the key into the environment and write `env://NAME`".into());
                } else if !fine {
                    // Whatever stands here may be the key itself: it is not shown.
                    let index = self.found.len();
                    self.error(codes::SECRET_IN_FILE, at, "expected a reference to a key, not the key itself").help =
                        Some("put the key into the environment and write `env://NAME`".into());
                    if let Some(problem) = self.found.get_mut(index) {
                        problem.source_line = String::new();
                    }
                }
            }
            "host-secret" if SecretAt::parse(text).is_none() => {
                if text.starts_with("cmd://") || text.starts_with("exec://") {
                    self.error(codes::HOST_COMMAND, at, "a key is not asked of a command").help =
                        Some("write `env://NAME` or `file:///path`".into());
                } else {
                    // Whatever stands here may be the key itself: it is not shown.
                    let problem = self.error(
                        codes::SECRET_IN_FILE,
                        at,
                        "expected a reference to a secret, not the secret itself",
                    );
                    problem.help = Some("write `env://NAME` or `file:///path`".into());
                    problem.source_line = String::new();
                }
            }
            "stop" => {
                if let Err(error) = stop::parse(text) {
                    let at = self.document.inside(node, 1, error.column, 1);
                    self.error(codes::BAD_STOP, at, error.message);
                }
            }
            "shell" if text.contains("{{") || text.contains("{%") => {
                let at = text.find("{{").or_else(|| text.find("{%")).unwrap_or(0);
                let before = text.get(..at).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count());
                let at = self.document.inside(node, line, column, 2);
                self.error(codes::TEMPLATED_COMMAND, at, "commands are never templated").help = Some(
                    "untrusted text would become code; values reach a command as variables: \"$INPUT_TASK\", \"$EVENT_CHANGE_NUMBER\"".into(),
                );
            }
            "backend-text" => super::backend::text(self, node, text),
            "template" => expressions::template(self, node, text),
            "expression" => expressions::expression(self, node, text),
            _ => {}
        }
        let _ = path;
    }
}
