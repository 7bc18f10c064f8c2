//! A change's page: a Markdown file that a person reads, and may write in.
//!
//! ```text
//! # Title
//!
//! - Branch: codeforge/fix/work-7
//! - Into: main
//! - State: open
//!
//! <!-- section: body -->
//! …
//! <!-- section: end -->
//!
//! <!-- section: comment {"id":1,"author":"codeforge",…} -->
//! ### codeforge wrote
//!
//! …
//! <!-- section: end -->
//! ```
//!
//! What stands outside of sections is somebody's own, and is kept as it is. A line of a text that looks like a section's
//! stands behind a backslash.

use crate::port::forge::LineSide;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

const OPEN: &str = "<!-- section: ";
const END: &str = "<!-- section: end -->";

/// A change's page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Page {
    pub(super) title: String,
    /// `Branch`, `Into`, `State`, …: names and values in their order.
    pub(super) facts: Vec<(String, String)>,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Body(String),
    Comment(About, String),
    Remark(About, Spot, String),
    /// A person's own words.
    Loose(String),
}

/// Who wrote something, and when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) id: u64,
    pub(super) author: String,
    pub(super) created_ms: i64,
    pub(super) updated_ms: i64,
}

/// Where a remark stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spot {
    pub(super) path: String,
    pub(super) commit: String,
    pub(super) start_line: Option<u64>,
    pub(super) line: u64,
    pub(super) old_side: bool,
    pub(super) resolved: bool,
}

impl Spot {
    pub(super) fn side(side: LineSide) -> bool {
        side == LineSide::Old
    }

    /// For people: `src/a.rs:3-5, resolved`.
    fn words(&self) -> String {
        let lines = self.start_line.map_or_else(|| self.line.to_string(), |start| format!("{start}-{}", self.line));
        let side = if self.old_side { ", as it was" } else { "" };
        let resolved = if self.resolved { ", resolved" } else { "" };
        format!("`{}`:{lines}{side}{resolved}", self.path)
    }
}

#[derive(Serialize, Deserialize)]
struct Both {
    #[serde(flatten)]
    about: About,
    #[serde(flatten)]
    spot: Spot,
}

impl Page {
    pub(super) fn fact(&self, name: &str) -> &str {
        self.facts.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// A fact that holds several words.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.fact(name).split(", ").map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }

    /// Sets a fact; an empty one is taken away.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let value = one_line(value);
        match self.facts.iter_mut().find(|(known, _)| known == name) {
            Some((_, there)) => *there = value,
            None => self.facts.push((name.to_owned(), value)),
        }
        self.facts.retain(|(_, value)| !value.is_empty());
    }

    pub(super) fn body(&self) -> &str {
        self.parts
            .iter()
            .find_map(|part| if let Part::Body(text) = part { Some(text.as_str()) } else { None })
            .unwrap_or("")
    }

    pub(super) fn set_body(&mut self, text: &str) {
        for part in &mut self.parts {
            if let Part::Body(there) = part {
                *there = text.to_owned();
                return;
            }
        }
        self.parts.insert(0, Part::Body(text.to_owned()));
    }

    /// The next free number of a comment or remark.
    pub(super) fn next_id(&self) -> u64 {
        let ids = self.parts.iter().filter_map(|part| match part {
            Part::Comment(about, _) | Part::Remark(about, ..) => Some(about.id),
            Part::Body(_) | Part::Loose(_) => None,
        });
        ids.max().unwrap_or(0) + 1
    }

    pub(super) fn write(&self) -> String {
        let mut out = format!("# {}\n\n", one_line(&self.title));
        for (name, value) in &self.facts {
            let _ = writeln!(out, "- {name}: {value}");
        }
        for part in &self.parts {
            let (head, title, text) = match part {
                Part::Body(text) => ("body".to_owned(), None, text),
                Part::Comment(about, text) => {
                    (format!("comment {}", json(about)), Some(format!("{} wrote", one_line(&about.author))), text)
                }
                Part::Remark(about, spot, text) => {
                    let both = Both { about: about.clone(), spot: spot.clone() };
                    let title = format!("{} on {}", one_line(&about.author), one_line(&spot.words()));
                    (format!("remark {}", json(&both)), Some(title), text)
                }
                Part::Loose(text) => {
                    let _ = write!(out, "\n{}\n", text.trim_matches('\n'));
                    continue;
                }
            };
            let _ = write!(out, "\n{OPEN}{head} -->\n");
            if let Some(title) = title {
                let _ = write!(out, "### {title}\n\n");
            }
            for line in text.replace("\r\n", "\n").trim_end_matches('\n').split('\n') {
                let mark = if line.trim_start_matches('\\').starts_with(OPEN) { "\\" } else { "" };
                let _ = writeln!(out, "{mark}{line}");
            }
            let _ = writeln!(out, "{END}");
        }
        out
    }

    pub(super) fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut lines = text.lines().peekable();
        if let Some(title) = lines.peek().and_then(|line| line.strip_prefix("# ")) {
            page.title = title.to_owned();
            lines.next();
        }
        while let Some(line) = lines.peek() {
            if line.trim().is_empty() {
                lines.next();
                continue;
            }
            let Some((name, value)) = line.strip_prefix("- ").and_then(|fact| fact.split_once(": ")) else { break };
            page.facts.push((name.to_owned(), value.to_owned()));
            lines.next();
        }
        let mut loose = Vec::new();
        while let Some(line) = lines.next() {
            let head = line.strip_prefix(OPEN).and_then(|head| head.strip_suffix(" -->"));
            let Some(head) = head.filter(|head| *head != "end") else {
                if line != END {
                    loose.push(line);
                }
                continue;
            };
            page.keep(&mut loose);
            let mut inner: Vec<&str> = Vec::new();
            for line in lines.by_ref() {
                if line == END {
                    break;
                }
                inner.push(match line.strip_prefix('\\') {
                    Some(rest) if line.trim_start_matches('\\').starts_with(OPEN) => rest,
                    _ => line,
                });
            }
            let titled = |inner: &[&str]| inner.get(2..).unwrap_or_default().join("\n");
            let part = match head.split_once(' ') {
                None if head == "body" => Some(Part::Body(inner.join("\n"))),
                Some(("comment", about)) => {
                    serde_json::from_str(about).ok().map(|about| Part::Comment(about, titled(&inner)))
                }
                Some(("remark", both)) => serde_json::from_str::<Both>(both)
                    .ok()
                    .map(|both| Part::Remark(both.about, both.spot, titled(&inner))),
                _ => None,
            };
            // A section that was spoilt is somebody's words.
            page.parts.push(part.unwrap_or_else(|| Part::Loose(inner.join("\n"))));
        }
        page.keep(&mut loose);
        page
    }

    fn keep(&mut self, loose: &mut Vec<&str>) {
        let text = loose.join("\n");
        loose.clear();
        if !text.trim().is_empty() {
            self.parts.push(Part::Loose(text.trim_matches('\n').to_owned()));
        }
    }
}

/// JSON that cannot end the comment that it stands in.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default().replace("--", "-\\u002d").replace('>', "\\u003e")
}

fn one_line(text: &str) -> String {
    let text = crate::text::clean(text);
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_was_written_whatever_its_texts_hold() {
        let about = |id| About { id, author: "codeforge".into(), created_ms: 1, updated_ms: 2 };
        let nasty =
            "# not the title\n- State: merged\n<!-- section: end -->\n\\<!-- section: comment {} -->\n### x\n\nend";
        let spot = Spot {
            path: "a-->b--c".into(),
            commit: "c".into(),
            start_line: Some(2),
            line: 3,
            old_side: false,
            resolved: true,
        };
        let mut page = Page { title: "A change".into(), ..Page::default() };
        page.set("Branch", "codeforge/a");
        page.set("State", "open\n- State: merged");
        page.parts = vec![
            Part::Body(nasty.into()),
            Part::Comment(about(1), nasty.into()),
            Part::Loose("A person's own words.\n\n- State: x".into()),
            Part::Remark(about(2), spot, format!("{nasty}\n\n")),
        ];
        let text = page.write();
        let mut expected = page.clone();
        if let Some(Part::Remark(_, _, text)) = expected.parts.last_mut() {
            *text = nasty.into();
        }
        let read = Page::read(&text);
        assert_eq!(read, expected, "{text}");
        assert_eq!((read.fact("State"), read.next_id()), ("open - State: merged", 3));
        assert_eq!(read.write(), text);
    }
}
