//! Renovate's settings.

use super::Carried;
use super::pr_agent::instructed;
use crate::cli::init::config::{quoted, workflow_text};
use crate::scout::Tree;
use crate::workflow::schema::document::{Document, Node, Yaml};
pub(super) fn renovate(tree: &Tree<'_>) -> Result<Carried, String> {
    const NAMES: [&str; 9] = [
        "renovate.json",
        "renovate.json5",
        ".github/renovate.json",
        ".github/renovate.json5",
        ".gitlab/renovate.json",
        ".gitlab/renovate.json5",
        ".renovaterc",
        ".renovaterc.json",
        ".renovaterc.json5",
    ];
    let file = NAMES.iter().copied().find(|name| tree.paths.iter().any(|path| path == name));
    let file = file.ok_or_else(|| format!("there is none of {}", NAMES.join(", ")))?;
    let text = (tree.read)(file).ok_or_else(|| format!("{file} cannot be read"))?;
    // JSON5 without its comments is YAML.
    let (document, problems) = Document::parse(file, &uncommented(&text));
    if let Some(problem) = problems.first() {
        return Err(format!("{file}:{}: {}", problem.place.line, problem.message));
    }
    let mut carried = Carried::default();
    let (mut times, mut zone) = (Vec::new(), None);
    let (mut words, mut labels) = (String::new(), Vec::new());
    let list =
        |node: &Node| -> Vec<String> { node.one_or_many().iter().filter_map(Node::text).map(str::to_owned).collect() };
    for (key, value) in document.root.entries() {
        let from = format!("{file}:{} {}", key.at.line, key.text);
        match key.text.as_str() {
            "$schema" | "extends" => {
                for preset in list(value) {
                    match preset.as_str() {
                        "schedule:daily" => times.push("H 3 * * *".to_owned()),
                        "schedule:weekly" => times.push("H 3 * * 1".to_owned()),
                        "schedule:monthly" => times.push("H 3 1 * *".to_owned()),
                        "config:recommended" | "config:base" | "config:js-app" | "config:js-lib" => {}
                        _ if key.text == "$schema" => {}
                        other => carried.leave(format!("{from} {other}"), "presets of Renovate are not read"),
                    }
                }
            }
            "schedule" => {
                for entry in list(value) {
                    match cron(&entry) {
                        Some(cron) => {
                            carried.took(
                                format!("{from} {entry}"),
                                format!("on.schedule `{cron}` of workflow `dependency-update`"),
                            );
                            times.push(cron);
                        }
                        None => carried.leave(format!("{from} {entry}"), "write it as a cron line in on.schedule"),
                    }
                }
            }
            "timezone" => {
                zone = value.text().map(str::to_owned);
                carried.took(&from, "on.schedule.timezone");
            }
            "labels" | "addLabels" => {
                labels.extend(list(value));
                carried.took(&from, "deliver.labels of workflow `dependency-update`");
            }
            "ignoreDeps" => {
                words.push_str(&format!("Leave these dependencies alone: {}.\n", list(value).join(", ")));
                carried.took(&from, "the prompt of workflow `dependency-update`");
            }
            "ignorePaths" => {
                words.push_str(&format!("Leave these paths alone: {}.\n", list(value).join(", ")));
                carried.took(&from, "the prompt of workflow `dependency-update`");
            }
            "prConcurrentLimit" => {
                if let Yaml::Int(most) = value.value {
                    carried.config.push(format!("delivery:\n  open_changes_limit: {most}"));
                    carried.took(&from, "delivery.open_changes_limit");
                }
            }
            "baseBranches" | "baseBranchPatterns" => match list(value).as_slice() {
                [one] => carried.base_branch = carried.plain(&from, "base-branch", one),
                _ => carried.leave(&from, "one trusted branch is what a run works on"),
            },
            "automerge" | "platformAutomerge" => carried.leave(&from, "nothing is ever merged by us"),
            "packageRules" => packages(file, value, &mut words, &mut carried),
            _ => carried.leave(&from, "has no counterpart"),
        }
    }
    match workflow_text("dependency-update") {
        Some(text) => {
            let text = update(&text, &times, zone.as_deref(), &labels, &words);
            carried.workflows.push(("dependency-update".to_owned(), text));
        }
        None => carried.leave(file, "this version has no workflow `dependency-update`"),
    }
    Ok(carried)
}

/// Rules that switch packages off, or hold them below a version.
fn packages(file: &str, rules: &Node, words: &mut String, carried: &mut Carried) {
    for rule in rules.items() {
        let from = format!("{file}:{} packageRules", rule.at.line);
        let names = ["matchPackageNames", "matchPackagePatterns", "matchDepNames", "packageNames"];
        let names: Vec<String> = names
            .iter()
            .filter_map(|key| rule.get(key))
            .flat_map(|node| node.one_or_many().iter().filter_map(Node::text).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let off = rule.get("enabled").is_some_and(|node| node.value == Yaml::Bool(false));
        let below = rule.get("allowedVersions").and_then(Node::text);
        if names.is_empty() || !(off || below.is_some()) {
            carried.leave(from, "say it in the prompt of workflow `dependency-update`");
            continue;
        }
        match below {
            Some(below) => words.push_str(&format!("Hold {} at {below}.\n", names.join(", "))),
            None => words.push_str(&format!("Leave {} alone.\n", names.join(", "))),
        }
        carried.took(from, "the prompt of workflow `dependency-update`");
    }
}

/// The shipped workflow with another time table, labels, and words in its prompt.
fn update(text: &str, times: &[String], zone: Option<&str>, labels: &[String], words: &str) -> String {
    let zone = zone.map(|zone| format!(", timezone: {}", quoted(zone))).unwrap_or_default();
    let entries: Vec<String> = times.iter().map(|cron| format!("{{ cron: {}{zone} }}", quoted(cron))).collect();
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("  schedule:") && !entries.is_empty() {
            out.push_str(&format!("  schedule: [{}]\n", entries.join(", ")));
        } else if line.starts_with("  labels:") && !labels.is_empty() {
            continue;
        } else {
            out.push_str(line);
            out.push('\n');
        }
        if line.starts_with("deliver:") && line.trim_end() == "deliver:" && !labels.is_empty() {
            let all: Vec<String> = labels.iter().map(|label| quoted(label)).collect();
            out.push_str(&format!("  labels: [{}]\n", all.join(", ")));
        }
    }
    if words.is_empty() { out } else { instructed(&out, words) }
}

/// Renovate's words for times, as far as they are times: `before 5am on monday`, `every weekend`, cron lines.
fn cron(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let fields: Vec<&str> = text.split_whitespace().collect();
    if let [minute, hour, day, month, weekday] = fields.as_slice()
        && [minute, hour, day, month, weekday]
            .iter()
            .all(|field| field.chars().all(|c| c.is_ascii_digit() || "*,-/".contains(c)))
    {
        // Renovate's minute is always `*`: a whole hour.
        let minute = if *minute == "*" { "H" } else { minute };
        let hour = if *hour == "*" { "H" } else { hour.split(['-', ',']).next().unwrap_or("H") };
        return Some(format!("{minute} {hour} {day} {month} {weekday}"));
    }
    let day = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
        .iter()
        .position(|day| text.contains(day))
        .map(|day| day.to_string());
    let before = text.split("before ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let hour =
        before.and_then(|word| word.strip_suffix("am")?.parse::<u32>().ok()).filter(|hour| (1..=12).contains(hour));
    let hour = hour.map_or(3, |hour| hour.saturating_sub(1) % 12);
    let weekday = match (text.as_str(), day) {
        (_, Some(day)) => day,
        (text, None) if text.contains("weekend") => "6".to_owned(),
        (text, None) if text.contains("weekday") => "1-5".to_owned(),
        (text, None) if text.contains("first day of the month") || text.contains("monthly") => {
            return Some(format!("H {hour} 1 * *"));
        }
        (text, None) if text.starts_with("before ") || text.contains("every day") || text == "daily" => "*".to_owned(),
        _ => return None,
    };
    Some(format!("H {hour} * * {weekday}"))
}

/// JSON5 without comments; lines stay where they are.
fn uncommented(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => {
                out.push(c);
                out.extend(chars.next());
            }
            (Some(open), _) => {
                if c == open {
                    quote = None;
                }
                out.push(c);
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                out.push(c);
            }
            (None, '/') if chars.peek() == Some(&'/') => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            (None, '/') if chars.peek() == Some(&'*') => {
                let mut last = ' ';
                chars.next();
                for c in chars.by_ref() {
                    if c == '\n' {
                        out.push('\n');
                    }
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            // YAML has no tabs to indent with.
            (None, '\t') => out.push_str("  "),
            (None, c) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renovates_words_are_times() {
        for (text, wanted) in [
            ("before 5am on monday", Some("H 4 * * 1")),
            ("every weekend", Some("H 3 * * 6")),
            ("* 0-4 * * 1", Some("H 0 * * 1")),
            ("before 4am", Some("H 3 * * *")),
            ("before 12am on the first day of the month", Some("H 11 1 * *")),
            ("after 10pm", None),
            ("at any time", None),
        ] {
            assert_eq!(cron(text).as_deref(), wanted, "{text}");
        }
    }
}
