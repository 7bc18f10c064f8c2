//! A local forge's pages, read and written as a person with an editor would: what the fake remembers is what stands in
//! them.

use super::{FakeChange, FakeComment, FakeIssue, FakeRemark, Memory};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

/// What a forge remembers. Where it is in files, it is read from them first, and what is changed is written back.
pub struct Remembered<'m> {
    memory: MutexGuard<'m, Memory>,
    /// The pages' folder, and what they said.
    pages: Option<(PathBuf, String)>,
}

impl<'m> Remembered<'m> {
    pub(super) fn of(mut memory: MutexGuard<'m, Memory>, bare: Option<PathBuf>) -> Self {
        let pages = bare.map(|bare| {
            let folder = bare.join("codeforge");
            memory.comments.clear();
            load(&folder.join("changes"), &mut memory);
            load_issues(&folder.join("issues"), &mut memory);
            (folder, said(&memory))
        });
        Self { memory, pages }
    }
}

impl Deref for Remembered<'_> {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.memory
    }
}

impl DerefMut for Remembered<'_> {
    fn deref_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }
}

impl Drop for Remembered<'_> {
    fn drop(&mut self) {
        if let Some((folder, before)) = &self.pages
            && said(&self.memory) != *before
        {
            save(&folder.join("changes"), &self.memory);
            save_issues(&folder.join("issues"), &self.memory);
        }
    }
}

fn said(memory: &Memory) -> String {
    format!("{:?}{:?}{:?}{:?}", memory.changes, memory.issues, memory.comments, memory.remarks)
}

fn pages(folder: &Path) -> Vec<(u64, String)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let number = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".md")?.parse::<u64>().ok();
    let mut found: Vec<(u64, String)> = entries
        .flatten()
        .filter_map(|entry| Some((number(&entry.path())?, fs::read_to_string(entry.path()).unwrap())))
        .collect();
    found.sort();
    found
}

fn fact<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let head = text.split("<!-- section: ").next()?;
    head.lines().find_map(|line| line.strip_prefix(&format!("- {name}: ")))
}

fn list(text: &str, name: &str) -> Vec<String> {
    fact(text, name).map(|it| it.split(", ").map(str::to_owned).collect()).unwrap_or_default()
}

fn sections(text: &str) -> Vec<(&str, String)> {
    let inner = |text: &str| {
        text.split("\n<!-- section: end").next().unwrap().replace("\n\\<!-- section: ", "\n<!-- section: ")
    };
    let all = text.split("\n<!-- section: ").skip(1).filter_map(|section| section.split_once(" -->\n"));
    all.filter(|(head, _)| *head != "end").map(|(head, text)| (head, inner(text))).collect()
}

fn load_issues(folder: &Path, memory: &mut Memory) {
    memory.issues.clear();
    for (number, text) in pages(folder) {
        let word = |name: &str| fact(&text, name).unwrap_or_default().to_owned();
        let title = text.lines().next().unwrap().trim_start_matches("# ");
        let mut issue = FakeIssue::new(number, &word("Author"), title, "");
        issue.set_open(word("State") != "closed", &word("Closed by"));
        (issue.labels, issue.assignees) = (list(&text, "Labels"), list(&text, "Assignees"));
        for (head, text) in sections(&text) {
            if head == "body" {
                issue.body = text;
            } else if let Some(json) = head.strip_prefix("comment ") {
                let about: Value = serde_json::from_str(json).unwrap();
                let author = about["author"].as_str().unwrap().to_owned();
                let (thread, body) = (format!("issue {number}"), text.split_once("\n\n").unwrap().1.to_owned());
                let id = about["id"].as_u64().unwrap();
                memory.comments.push(FakeComment { id, thread, author, body, reactions: Vec::new() });
            }
        }
        memory.issues.push(issue);
    }
}

/// A person writes in a page; who closed it nobody asks them to say.
fn save_issues(folder: &Path, memory: &Memory) {
    fs::create_dir_all(folder).unwrap();
    for issue in &memory.issues {
        let mut text = format!("# {}\n\n", issue.title);
        for (name, value) in [
            ("State", issue.state),
            ("Author", issue.author.as_str()),
            ("Labels", &issue.labels.join(", ")),
            ("Assignees", &issue.assignees.join(", ")),
            ("Closed by", issue.closed_by.as_deref().unwrap_or_default()),
        ] {
            if !value.is_empty() {
                writeln!(text, "- {name}: {value}").unwrap();
            }
        }
        section(&mut text, "body", None, &issue.body);
        comments(&mut text, &format!("issue {}", issue.number), memory);
        fs::write(folder.join(format!("{}.md", issue.number)), text).unwrap();
    }
}

fn about(id: u64, author: &str) -> Value {
    let made = 1_790_000_000_000_u64 + id * 1000;
    json!({ "id": id, "author": author, "created_ms": made, "updated_ms": made })
}

fn comments(text: &mut String, thread: &str, memory: &Memory) {
    for comment in memory.comments.iter().filter(|comment| comment.thread == thread) {
        let head = format!("comment {}", about(comment.id, &comment.author)).replace("--", "-\\u002d");
        section(text, &head, Some(&comment.author), &comment.body);
    }
}

fn load(folder: &Path, memory: &mut Memory) {
    memory.changes.clear();
    memory.remarks.clear();
    for (number, text) in pages(folder) {
        let list = |name: &str| list(&text, name);
        let mut change = FakeChange {
            number,
            title: text.lines().next().unwrap().trim_start_matches("# ").to_owned(),
            body: String::new(),
            author: fact(&text, "Author").unwrap_or_default().to_owned(),
            head: fact(&text, "Branch").unwrap().to_owned(),
            base: fact(&text, "Into").unwrap().to_owned(),
            state: match fact(&text, "State").unwrap() {
                "open" => "open",
                "merged" => "merged",
                _ => "closed",
            },
            draft: fact(&text, "Draft") == Some("yes"),
            labels: list("Labels"),
            reviewers: list("Reviewers"),
            assignees: list("Assignees"),
            milestone: None,
            fork: false,
        };
        for (head, text) in sections(&text) {
            let titled = || text.split_once("\n\n").unwrap().1.to_owned();
            let about = |json: &str| serde_json::from_str::<Value>(json).unwrap();
            let word = |value: &Value| value.as_str().unwrap().to_owned();
            if head == "body" {
                change.body = text;
            } else if let Some(json) = head.strip_prefix("comment ") {
                let about = about(json);
                let (thread, author) = (format!("change {number}"), word(&about["author"]));
                let (id, body) = (about["id"].as_u64().unwrap(), titled());
                memory.comments.push(FakeComment { id, thread, author, body, reactions: Vec::new() });
            } else if let Some(json) = head.strip_prefix("remark ") {
                let about = about(json);
                let line = about["line"].as_u64();
                memory.remarks.push(FakeRemark {
                    id: about["id"].as_u64().unwrap(),
                    change: number,
                    author: word(&about["author"]),
                    body: titled(),
                    path: word(&about["path"]),
                    start: about["start_line"].as_u64(),
                    lines: if about["old_side"] == json!(true) { (line, None) } else { (None, line) },
                    resolved: about["resolved"] == json!(true),
                });
            }
        }
        memory.changes.push(change);
    }
}

fn save(folder: &Path, memory: &Memory) {
    fs::create_dir_all(folder).unwrap();
    for (number, _) in pages(folder) {
        if !memory.changes.iter().any(|change| change.number == number) {
            fs::remove_file(folder.join(format!("{number}.md"))).unwrap();
        }
    }
    for change in &memory.changes {
        let path = folder.join(format!("{}.md", change.number));
        let before = fs::read_to_string(&path).unwrap_or_default();
        let mut text = format!("# {}\n\n", change.title);
        for (name, value) in [
            ("Branch", change.head.as_str()),
            ("Into", change.base.as_str()),
            ("State", change.state),
            ("Draft", if change.draft { "yes" } else { "" }),
            ("Author", change.author.as_str()),
            ("Opened", fact(&before, "Opened").unwrap_or_default()),
            ("Labels", &change.labels.join(", ")),
            ("Reviewers", &change.reviewers.join(", ")),
            ("Assignees", &change.assignees.join(", ")),
            ("Milestone", fact(&before, "Milestone").unwrap_or_default()),
        ] {
            if !value.is_empty() {
                writeln!(text, "- {name}: {value}").unwrap();
            }
        }
        section(&mut text, "body", None, &change.body);
        comments(&mut text, &format!("change {}", change.number), memory);
        for remark in memory.remarks.iter().filter(|remark| remark.change == change.number) {
            let mut both = about(remark.id, &remark.author);
            both["path"] = json!(remark.path);
            both["commit"] = json!("");
            both["start_line"] = json!(remark.start);
            both["line"] = json!(remark.lines.0.or(remark.lines.1));
            both["old_side"] = json!(remark.lines.0.is_some());
            both["resolved"] = json!(remark.resolved);
            section(&mut text, &format!("remark {both}"), Some(&remark.author), &remark.body);
        }
        fs::write(path, text).unwrap();
    }
}

fn section(text: &mut String, head: &str, author: Option<&str>, body: &str) {
    let title = author.map(|author| format!("### {author} wrote\n\n")).unwrap_or_default();
    let body = body.replace("\n<!-- section: ", "\n\\<!-- section: ");
    write!(text, "\n<!-- section: {head} -->\n{title}{}\n<!-- section: end -->\n", body.trim_end()).unwrap();
}
