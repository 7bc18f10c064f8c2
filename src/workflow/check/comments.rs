//! Commands of comments: whose names they are, and where short words lead.

use super::super::schema::document::{Node, Yaml};
use super::super::schema::{RESERVED, codes};
use super::checker::{Checker, is_name};

/// A workflow's own command and how it is approved.
pub(super) fn command(checker: &mut Checker<'_>, root: &Node) {
    let name = root.get("on").and_then(|on| on.get("command")).and_then(|command| command.get("name"));
    if let Some((node, text)) = name.and_then(|node| Some((node, node.text()?)))
        && RESERVED.contains(&text)
    {
        checker.error(codes::RESERVED_COMMAND, node.at, format!("`{text}` is answered by the program itself")).help =
            Some(format!("take another name; reserved are {}", RESERVED.join(", ")));
    }
    let is_on = |key: &str| root.get(key).is_some_and(|node| node.value == Yaml::Bool(true));
    if is_on("independent_approval")
        && !is_on("quote")
        && let Some(key) = root.key("independent_approval")
    {
        checker
            .error(codes::EXCLUSIVE_KEYS, key.at, "`independent_approval` has nothing to approve without `quote`")
            .help = Some("add `quote: true`: the price is named first, and the run waits for a yes".into());
    }
}

/// The configuration's `comments`.
pub(super) fn settings(checker: &mut Checker<'_>, node: Option<&Node>) {
    let Some(node) = node else { return };
    if let Some((mention, text)) = node.get("mention").and_then(|mention| Some((mention, mention.text()?))) {
        let name = text.strip_prefix('@').unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.starts_with(['-', '_']) || !name.chars().all(plain) {
            checker.error(codes::BAD_NAME, mention.at, format!("`{text}` cannot be a mention")).help =
                Some("write `@` and an account's name: \"@codeforge\"".into());
        }
    }
    for (key, command) in node.get("aliases").map(Node::entries).unwrap_or_default() {
        if !is_name(&key.text) {
            checker.error(codes::BAD_NAME, key.at, format!("`/{}` cannot be a short word", key.text)).help =
                Some("write it without the slash, of a-z, 0-9, `-` and `_`".into());
        }
        leads(checker, command);
    }
    if let Some(command) = node.get("free_text") {
        leads(checker, command);
    }
}

fn leads(checker: &mut Checker<'_>, node: &Node) {
    let Some(name) = node.text() else { return };
    let mut names: Vec<&str> = checker.known.commands.iter().map(String::as_str).collect();
    names.extend(RESERVED);
    if !names.contains(&name) {
        let list = "commands are named in `on.command` of workflows";
        checker.unknown(codes::UNKNOWN_COMMAND, "command", name, node.at, &names, list);
    }
}
