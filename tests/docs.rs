//! Documentation that cannot drift: the command line's reference is what the program says of itself, and what people
//! are told to paste is a document without problems.

mod common;

use clap::CommandFactory;
use codeforge::cli::Cli;
use codeforge::model::account::Ending;
use codeforge::model::chat::ModelRef;
use codeforge::model::forge::ForgeKind;
use codeforge::report::diagnostics::render;
use codeforge::workflow::{self, Source};
use codeforge::{plan, report};
use common::forge_server::hooks::{Hooks, What};
use common::forge_server::{BOT, ForgeServer, TOKEN};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

fn describe(command: &mut clap::Command, path: &str, out: &mut String) {
    let _ = writeln!(out, "## `{path}`\n\n```text\n{}\n```\n", command.render_long_help().to_string().trim_end());
    let names: Vec<String> =
        command.get_subcommands().map(|sub| sub.get_name().to_owned()).filter(|name| name != "help").collect();
    for name in names {
        if let Some(sub) = command.find_subcommand_mut(&name) {
            describe(sub, &format!("{path} {name}"), out);
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a switch for the person who changes the command line")]
fn the_command_lines_reference_is_what_it_says_of_itself() {
    let mut text = String::from("# Command line\n\nPrinted by `codeforge --help` and its subcommands.\n\n");
    let mut command = Cli::command().term_width(110);
    command.build();
    describe(&mut command, "codeforge", &mut text);
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let file = root().join("docs/reference/cli.md");
    if std::env::var("UPDATE").is_ok() {
        std::fs::write(&file, &text).unwrap();
    }
    assert!(page("docs/reference/cli.md") == text, "run `UPDATE=1 cargo test --test docs`");
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let text = page("docs/reference/exit-codes.md");
    for ending in [
        Ending::Done,
        Ending::Failed,
        Ending::Misconfigured,
        Ending::Limit,
        Ending::Denied,
        Ending::Unavailable,
        Ending::Cancelled,
    ] {
        assert!(text.contains(&format!("| {} |", ending.exit_code())), "{ending:?}");
    }
}

/// The fenced YAML of a page that names its file in its first line.
fn documents(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if line.trim() != "```yaml" {
            continue;
        }
        let mut block = String::new();
        for line in lines.by_ref() {
            if line.trim() == "```" {
                break;
            }
            block.push_str(line.get(indent..).unwrap_or_default());
            block.push('\n');
        }
        if let Some(file) = block.lines().next().and_then(|line| line.strip_prefix("# ")) {
            found.push((file.to_owned(), block));
        }
    }
    found
}

#[test]
fn what_people_are_told_to_paste_has_no_problems_and_compiles() {
    let mut tried = 0;
    let names = [
        "README.md",
        "docs/quick-start.md",
        "docs/workflows.md",
        "docs/sandbox.md",
        "docs/history.md",
        "docs/costs.md",
        "docs/pricing.md",
        "docs/models.md",
        "docs/quality.md",
    ];
    for name in names {
        let mut sources = workflow::builtin();
        let documents = documents(&page(name));
        for (path, text) in &documents {
            sources.push(Source { path: path.clone(), text: text.clone(), builtin: false });
        }
        let library = workflow::load(&sources, &|_| None);
        let said: String = library.diagnostics.iter().map(|problem| render(problem, false)).collect();
        assert!(said.is_empty(), "{name}:\n{said}");
        for (path, _) in documents.iter().filter(|(path, _)| path.contains("/workflows/")) {
            let workflow = Path::new(path).file_stem().unwrap().to_str().unwrap();
            let request = plan::Request {
                workflow: workflow.into(),
                inputs: library.workflows[workflow]
                    .doc
                    .inputs
                    .keys()
                    .map(|input| (input.to_string(), "x".to_owned()))
                    .collect(),
                models: vec![ModelRef {
                    name: "env".into(),
                    provider: "openai".into(),
                    model: "m".into(),
                    base_url: None,
                    api_key: None,
                    price: None,
                    context_window: 100_000,
                    max_output: 1000,
                    tools: true,
                    ..ModelRef::default()
                }],
                allow_unpriced: true,
                ..plan::Request::default()
            };
            let plan = plan::compile(&library, &request).unwrap_or_else(|problems| {
                panic!("{name}: {}", problems.iter().map(|it| render(it, false)).collect::<String>())
            });
            assert!(report::plan::render(&plan, false).contains("delivers"));
            tried += 1;
        }
        assert!(!documents.is_empty(), "{name} has nothing to paste");
    }
    assert!(tried >= 2);
}

#[test]
fn links_lead_somewhere() {
    let mut missing = Vec::new();
    let listing = |folder: &'static str| {
        let names = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(move |name| format!("{folder}/{}", name.to_string_lossy())).filter(|name| name.ends_with(".md"))
    };
    let names = listing("docs").chain(listing("docs/workflows"));
    let names: Vec<String> = names.chain(["README.md".to_owned()]).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        let text = page(name);
        let folder = root().join(name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !link.contains("://") && !folder.parent().unwrap().join(file).exists() {
                missing.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// A server that a page's script started in the background; killed when dropped.
struct Background(tempfile::TempDir);

impl Drop for Background {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.0.path().join("pid")).unwrap_or_default();
        let _ = common::clean("kill").args(["-9", pid.trim()]).output();
    }
}

/// The server's quick start, pasted into a shell: its own words, but for the port, the token and where the forge is.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_quick_start_works_as_it_is_written() {
    let text = page("docs/serve.md");
    let section = text.split("## Quick start").nth(1).unwrap().split("\n## ").next().unwrap();
    let block =
        |language: &str| section.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap();
    let swapped = |text: &str, pairs: &[(&str, &str)]| {
        pairs.iter().fold(text.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}: {text}");
            text.replace(from, to)
        })
    };
    let forge = ForgeServer::start(ForgeKind::Github).await;
    forge.memory().members.insert("ann".into(), "write".into());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    drop(taken);

    let home = Background(tempfile::tempdir().unwrap());
    let folder = home.0.path();
    let there = format!("name: acme/widgets\n    server: \"{0}\"\n    api: \"{0}\"", forge.api());
    let settings = swapped(block("yaml"), &[("8080", &port), ("name: acme/widgets", &there)]);
    std::fs::write(folder.join("serve.yml"), settings).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_codeforge"), folder.join("codeforge")).unwrap();
    let script = swapped(block("sh"), &[("8080", &port), ("ghp_…", TOKEN)]);
    let script =
        format!("set -e; PATH=$PWD:$PATH\n{script}\nprintf %s $! > pid; printf %s \"$WEBHOOK_SECRET\" > secret\n");
    std::fs::write(folder.join("paste.sh"), script).unwrap();
    let [out, err] = ["out", "err"].map(|name| std::fs::File::create(folder.join(name)).unwrap());
    let mut shell = common::clean("bash");
    shell.arg("paste.sh").current_dir(folder).stdin(std::process::Stdio::null()).stdout(out).stderr(err);
    let status = tokio::task::spawn_blocking(move || shell.status().unwrap()).await.unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let said = format!("{}{}", read("out"), read("err"));
    assert!(status.success(), "{said}");
    for words in ["serve.yml: good; 1 repository", "{\"status\":\"pong\"}", "\"database\""] {
        assert!(said.contains(words), "{words}: {said}");
    }

    // The forge is told the address, and somebody asks for help.
    let hooks = Hooks::of(ForgeKind::Github);
    hooks.go_to(&format!("http://127.0.0.1:{port}"));
    hooks.sign_with(&read("secret"));
    let change = forge.open("ann", "main", "");
    let id = forge.comment_by("ann", &format!("change {change}"), "/codeforge help");
    hooks.tell(&forge, "ann", &What::Comment { id }).await;
    let answered = || {
        let memory = forge.memory();
        let seen = memory.comments.iter().any(|comment| comment.id == id && comment.reactions == ["eyes"]);
        let answer = memory.comments.iter().any(|it| it.author == BOT && it.body.contains("what you can ask for"));
        (seen && answer).then_some(())
    };
    common::eventually("help, and eyes", answered).await;
}
