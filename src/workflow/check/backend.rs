//! What a backend's file may say, and what a step must say of its backend.

use super::super::schema::codes;
use super::super::schema::document::{At, Node, Yaml};
use super::super::schema::library::nearest;
use super::checker::Checker;
use super::workflow;

/// What stands for a value within a text.
pub const PLACEHOLDERS: [&str; 6] = ["prompt", "prompt_file", "model", "base_url", "api_key", "home"];
/// Programs that take a program's text as an argument, and the options that it follows.
const INTERPRETERS: [(&str, &[&str]); 16] = [
    ("sh", &["-c"]),
    ("bash", &["-c"]),
    ("dash", &["-c"]),
    ("ash", &["-c"]),
    ("zsh", &["-c"]),
    ("ksh", &["-c"]),
    ("fish", &["-c"]),
    ("su", &["-c"]),
    ("python", &["-c"]),
    ("python3", &["-c"]),
    ("perl", &["-e", "-E"]),
    ("ruby", &["-e"]),
    ("node", &["-e", "-p", "--eval", "--print"]),
    ("php", &["-r"]),
    ("lua", &["-e"]),
    ("eval", &[]),
];

/// What a step must know of its backend.
#[derive(Debug, Default, Clone)]
pub struct BackendFacts {
    /// It asks for no models.
    pub plain: bool,
    /// It has a command of its own.
    pub has_command: bool,
}

impl BackendFacts {
    pub(super) fn of(root: &Node) -> Self {
        Self {
            plain: root.get("dialect").and_then(Node::text) == Some("none"),
            has_command: root.get("command").is_some_and(|command| !command.items().is_empty()),
        }
    }
}

/// Placeholders of a text: column (in characters), name.
pub fn placeholders(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(open) = text.get(from..).and_then(|rest| rest.find('{')).map(|at| from + at) {
        from = open + 1;
        let rest = text.get(from..).unwrap_or_default();
        let Some(close) = rest.find('}') else { break };
        let name = rest.get(..close).unwrap_or_default();
        let word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        // `${name}` is somebody else's.
        if word && !text.get(..open).is_some_and(|before| before.ends_with('$')) {
            found.push((text.get(..open).map_or(0, |before| before.chars().count()), name));
        }
    }
    found
}

/// A text with placeholders.
pub(super) fn text(checker: &mut Checker<'_>, node: &Node, text: &str) {
    for (column, name) in placeholders(text) {
        if PLACEHOLDERS.contains(&name) {
            continue;
        }
        let place = |line, column| checker.document.inside(node, line, column, name.chars().count() + 2);
        let before: String = text.chars().take(column).collect();
        let at =
            place(before.matches('\n').count() + 1, before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()));
        let near = nearest(name, PLACEHOLDERS);
        let problem =
            checker.error(codes::UNKNOWN_PLACEHOLDER, at, format!("there is nothing that `{{{name}}}` stands for"));
        problem.label = near.map(|near| format!("did you mean `{{{near}}}`?"));
        problem.help = Some(format!("placeholders: {}", PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ")));
    }
}

/// Checks a backend's tree.
pub(super) fn check(checker: &mut Checker<'_>, root: &Node) {
    let command = root.get("command").map(Node::items).unwrap_or_default();
    program_texts(checker, command);
    workflow::env(checker, root.get("env"));
    let plain = root.get("dialect").and_then(Node::text) == Some("none");
    if command.is_empty() && !plain && root.get("dialect").is_some() {
        let at = root.key("command").map_or_else(|| checker.document.at(&["dialect"]), |key| key.at);
        checker.error(codes::MISSING_KEY, at, "a backend that asks for models has a `command`").help =
            Some("command: [my-agent, --message, \"{prompt}\"]".into());
    }
    for folder in root.get("show").map(Node::one_or_many).unwrap_or_default() {
        show(checker, folder);
    }
    for (key, _) in root.get("files").map(Node::entries).unwrap_or_default() {
        let beneath = !key.text.starts_with('/') && key.text.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !beneath {
            checker
                .error(codes::BAD_NAME, key.at, format!("`{}` is no place beneath the home folder", key.text))
                .help = Some("write `.config/agent/config.json`".into());
        }
    }
    if let Some(stream) = root.get("stream") {
        pointers(checker, stream);
    }
}

/// A value would become part of a program's text.
fn program_texts(checker: &mut Checker<'_>, command: &[Node]) {
    let words: Vec<&str> = command.iter().map(|word| word.text().unwrap_or_default()).collect();
    for (at, word) in words.iter().enumerate() {
        let name = word.rsplit('/').next().unwrap_or_default();
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let known = |given: &str| given == name || given == word.rsplit('/').next().unwrap_or_default();
        let Some((_, options)) = INTERPRETERS.iter().find(|(program, _)| known(program)) else { continue };
        let is_option = |word: &str| {
            options.iter().any(|option| {
                let bundled = option.len() == 2
                    && word.starts_with('-')
                    && !word.starts_with("--")
                    && option.chars().nth(1).is_some_and(|letter| word.ends_with(letter));
                word == *option || bundled
            })
        };
        for (place, node) in command.iter().enumerate().skip(at + 1) {
            let follows = words.get(place - 1).is_some_and(|before| is_option(before)) || options.is_empty();
            let inline = options.iter().any(|option| {
                option.starts_with("--") && words.get(place).is_some_and(|word| word.starts_with(&format!("{option}=")))
            });
            let text = words.get(place).copied().unwrap_or_default();
            if (follows || inline)
                && let Some((column, name)) =
                    placeholders(text).into_iter().find(|(_, name)| PLACEHOLDERS.contains(name))
            {
                let line = text.chars().take(column).filter(|c| *c == '\n').count() + 1;
                let in_line =
                    text.chars().take(column).collect::<String>().rsplit('\n').next().map_or(0, |t| t.chars().count());
                let at = checker.document.inside(node, line, in_line, name.len() + 2);
                let message = format!("`{{{name}}}` would become part of a program's text");
                checker.error(codes::PLACEHOLDER_IN_SHELL, at, message).help = Some(format!(
                    "untrusted text would become code; pass it as a variable: `env: {{ VALUE: \"{{{name}}}\" }}`, and write \"$VALUE\""
                ));
            }
        }
    }
}

fn show(checker: &mut Checker<'_>, folder: &Node) {
    let Some(text) = folder.text() else { return };
    let whole = text.trim_end_matches('/');
    if ["/var/run", "/run", "", "/var"].contains(&whole) || whole.ends_with(".sock") {
        checker.error(codes::DOCKER_SOCKET, folder.at, format!("`{text}` is, or holds, a daemon's socket")).help =
            Some("whoever reaches it is root on the host; nothing in a sandbox gets it".into());
    } else if !(text.starts_with('/') || text.starts_with("~/")) || text.split('/').any(|part| part == "..") {
        checker.error(codes::BAD_NAME, folder.at, format!("`{text}` is not a whole path")).help =
            Some("write it from `/` or `~/`".into());
    }
}

/// JSON Pointers begin with `/`.
fn pointers(checker: &mut Checker<'_>, stream: &Node) {
    let mut check = |node: &Node, text: &str, at: At| {
        let _ = node;
        if !text.is_empty() && !text.starts_with('/') {
            checker.error(codes::BAD_SCHEMA, at, format!("`{text}` is not a JSON Pointer")).help =
                Some(format!("write `/{}`", text.replace('.', "/")));
        }
    };
    for (_, picks) in stream.entries() {
        let items = match &picks.value {
            Yaml::List(items) => items.as_slice(),
            _ => std::slice::from_ref(picks),
        };
        for pick in items {
            if let Some(text) = pick.text() {
                check(pick, text, pick.at);
            }
            if let Some(at) = pick.get("at")
                && let Some(text) = at.text()
            {
                check(at, text, at.at);
            }
            for (key, _) in pick.get("when").map(Node::entries).unwrap_or_default() {
                check(pick, &key.text, key.at);
            }
        }
    }
}

/// What a step says of its backend; whether another program than the agent that is built in does its work.
pub(super) fn step(checker: &mut Checker<'_>, name: &str, at: At, node: &Node) -> bool {
    let Some(backend) = node.get("backend") else {
        if let Some(command) = node.key("command") {
            checker
                .error(codes::EXCLUSIVE_KEYS, command.at, "`command:` is for a backend: the agent takes none")
                .help = Some("write `backend: exec` beside it, or `run:` instead of it".into());
        }
        return false;
    };
    let Some(text) = backend.text().filter(|text| *text != "native") else { return false };
    let Some(facts) = checker.known.backends.get(text).cloned() else { return true };
    let own = ["command", "run"].iter().find_map(|key| node.key(key));
    let takes_own = facts.plain && !facts.has_command;
    match own {
        Some(key) if !takes_own => {
            let why = if facts.plain { "has a command of its own" } else { "is an agent, and takes a prompt" };
            checker.error(codes::EXCLUSIVE_KEYS, key.at, format!("the backend `{text}` {why}")).help =
                Some("`backend: exec` takes any command".into());
        }
        None if takes_own => {
            checker
                .error(codes::MISSING_KEY, at, format!("step `{name}` does not say which command `{text}` runs"))
                .help = Some("add `command: [ruff, format, .]`, or `run:` for shell text".into());
        }
        _ => {}
    }
    if node.key("command").is_some()
        && let Some(run) = node.key("run")
    {
        checker.error(codes::EXCLUSIVE_KEYS, run.at, "a step has a `command` or a `run`, not both");
    }
    if !facts.plain && node.get("mode").is_none() {
        checker
            .error(codes::MISSING_KEY, at, format!("step `{name}` does not say in which mode `{text}` works"))
            .help = Some("add `mode: coder`: the mode's prompt and model are what the backend gets".into());
    }
    let command_only: &[&str] = if takes_own { &["mode", "prompt", "scenario", "model"] } else { &[] };
    for key in command_only.iter().chain(&["tools", "output", "max_steps", "max_turns", "stop"]) {
        if let Some(key) = node.key(key) {
            checker.error(codes::EXCLUSIVE_KEYS, key.at, format!("the backend `{text}` has no use for `{}`", key.text));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::placeholders;

    #[test]
    fn placeholders_are_lower_case_words_in_braces() {
        assert_eq!(placeholders("a {prompt} b {x_y}"), [(2, "prompt"), (13, "x_y")]);
        assert_eq!(placeholders("{\"a\": {}} ${home} {A} {a b} {"), []);
        assert_eq!(placeholders("{{model}}"), [(1, "model")]);
    }
}
