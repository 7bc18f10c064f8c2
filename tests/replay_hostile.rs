//! Cassettes hold no secret, and whatever a cassette holds, it is named and brings nothing down.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

mod common;

use common::recorded::{Recorded, finished, project, with_model};
use common::{ModelServer, Reply, Rule, codeforge, git, ok, spoken};
use proptest::prelude::*;
use serde_json::{Value, json};

const CANARY: &str = "cnry-7Qx/9+\"Zk\\w4v8";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_the_environment_gets_into_a_cassette() {
    let repo = project();
    repo.write("mine.txt", format!("my own {CANARY}\n"));
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let unicode: String = CANARY.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
    let file = repo.path().join("out.sh");
    repo.write(
        "out.sh",
        format!(
            "cat mine.txt; tail -c 20 mine.txt | head -c 19 | base64; echo {hex}; tail -c 20 mine.txt | head -c 19 | od -An -tx1; \
             printf '%s\\n' '{unicode}'\n"
        ),
    );
    let printed = ok(git().args(["-c", "alias.x=!sh out.sh", "x"]).current_dir(repo.path()));
    assert!(printed.contains(CANARY) && file.exists());
    let encoded = printed.lines().nth(1).unwrap().to_owned();
    let server = ModelServer::start(vec![
        Rule::when().turn(0).reply(
            Reply::call("shell", json!({ "command": "sh out.sh" }))
                .and_call("shell", json!({ "command": format!("echo '{CANARY}'") }))
                .saying(&format!("The key is {CANARY}, or {encoded}, or {hex}.")),
        ),
        Rule::when()
            .turn(1)
            .reply(Reply::malformed("shell", &format!("{{\"command\": \"echo {unicode}\"")).saying("Again.")),
        Rule::when().turn(2).reply(Reply::call("write_file", json!({ "path": "value.txt", "content": "right\n" }))),
        Rule::when().turn(3).reply(Reply::call("finish", json!({ "summary": format!("Done: {unicode}") }))),
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    let cassette = folder.path().join("secret.jsonl");
    let task = format!("task=Use {CANARY}");
    let mut command =
        with_model(repo.codeforge(&["run", "mend", "--sandbox", "none", "-i", &task, "--record"]), &server);
    command.arg(&cassette).env("SERVICE_TOKEN", CANARY);
    let output = finished(command).await;
    assert!(output.status.success(), "{}\n{:#?}", spoken(&output), server.unmatched());
    let asked = server.requests().last().unwrap().to_string();
    assert!(asked.contains(&hex) && asked.contains(&encoded), "the run itself had it: {asked}");

    let text = std::fs::read_to_string(&cassette).unwrap();
    let json = serde_json::to_string(CANARY).unwrap();
    let spaced: String = CANARY.bytes().map(|byte| format!(" {byte:02x}")).collect();
    for form in [
        CANARY,
        json.trim_matches('"'),
        encoded.trim_end_matches('='),
        &hex,
        &spaced,
        &unicode,
        &unicode.replace('\\', "\\\\"),
    ] {
        assert!(!text.contains(form), "{form} is in the cassette");
    }
    assert!(!codeforge::text::contains_secret(&text, &[CANARY]));
    assert!(text.contains("The key is ***, or ***"), "{text}");
    assert!(text.contains("it holds a secret"), "the file that was not committed is left out");
    // What is left still goes through.
    let mut replay = codeforge();
    ok(replay.arg("replay").arg(&cassette));
    let output = repo.codeforge(&["replay", "--assert", cassette.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", spoken(&output));
    assert!(spoken(&output).contains("the recording lacks `mine.txt` (it holds a secret)"), "{}", spoken(&output));
}

/// The line of a text (from 1) that contains a part.
fn line_with(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with {part}")) + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_with_its_line_and_no_cassette_brings_it_down() {
    let recorded = Recorded::new().await;
    let text = recorded.text();
    let half = line_with(&text, "\"answered\"");
    let cut: String = text
        .lines()
        .enumerate()
        .map(|(at, line)| if at + 1 == half { format!("{}\n", &line[..line.len() / 2]) } else { format!("{line}\n") })
        .collect();
    let without = |part: &str| -> String {
        let at = line_with(&text, part) - 1;
        text.lines().enumerate().filter(|(it, _)| *it != at).map(|(_, line)| format!("{line}\n")).collect()
    };
    let prepared = line_with(&text, "\"prepared\"");
    for (damaged, wanted) in [
        (cut, format!(":{half}: a damaged line: ")),
        (
            text.replace("\"type\":\"prepared\"", "\"type\":\"teleported\""),
            format!(
                ":{prepared}: a row that this version ({}) cannot read: unknown variant `teleported`",
                env!("CARGO_PKG_VERSION")
            ),
        ),
        (
            text.replacen("{\"row\":", "{\"wave\":", 1),
            ":2: a line of an unknown kind (`wave`): recorded by version".into(),
        ),
        (
            text.replace("\"body\":\"You are the mender. Work with care", "\"body\":\"Work as you like"),
            format!(":{}: the text `", line_with(&text, "\"body\":\"You are the mender")),
        ),
        (without("\"prepared\""), format!(":{prepared}: row ")),
        (
            without("\"end\":"),
            ": its last line is missing: it was cut; write it again with `codeforge runs export ".into(),
        ),
        (without("\"body\":\"You are the mender"), "names the text `".into()),
        (
            text.replacen("\"codeforge_cassette\":2", "\"codeforge_cassette\":7", 1),
            ":1: cassette format 7 is not known".into(),
        ),
        ("nonsense\n".into(), ":1: not a cassette of a run".into()),
        (String::new(), " is empty".into()),
    ] {
        std::fs::write(recorded.cassette(), damaged).unwrap();
        for more in [&[][..], &["--assert"]] {
            let output = recorded.replay(more);
            let said = spoken(&output);
            assert_eq!(output.status.code(), Some(2), "{wanted}\n{said}");
            assert!(said.contains(&format!("mend.jsonl{wanted}")) || said.contains(&wanted), "{wanted}\n{said}");
            assert!(said.contains("record the run again") || said.contains("codeforge run …"), "{said}");
        }
    }
    tokio::task::spawn_blocking(move || no_mutation_panics(&text)).await.unwrap();
}

/// Lines lost, doubled, swapped, cut; values replaced by others.
fn no_mutation_panics(text: &str) {
    let original: Vec<&str> = text.lines().collect();
    let whole = codeforge::cassette::read(text, "tape").unwrap();
    let values = prop_oneof![
        Just(json!(null)),
        Just(json!(0)),
        Just(json!(u64::MAX)),
        Just(json!(i64::MIN)),
        Just(json!(-1)),
        Just(json!("")),
        Just(json!("code")),
        Just(json!([])),
        Just(json!({})),
        Just(json!(true)),
    ];
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(kind in 0..6, at in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), value in values)| {
        let mut lines: Vec<String> = original.iter().map(|line| (*line).to_owned()).collect();
        let (at, with) = (at.index(lines.len()), other.index(lines.len()));
        match kind {
            0 => { lines.remove(at); }
            1 => lines.insert(with, original[at].to_owned()),
            2 => lines.swap(at, with),
            3 => { let line = &mut lines[at]; let cut = (0..=other.index(line.len() + 1)).rev().find(|cut| line.is_char_boundary(*cut)).unwrap(); line.truncate(cut); }
            _ => {
                let mut line: Value = serde_json::from_str(&lines[at]).unwrap();
                let mut places = Vec::new();
                leaves(&line, String::new(), &mut places);
                let place = &places[other.index(places.len())];
                *line.pointer_mut(place).unwrap() = value;
                lines[at] = line.to_string();
            }
        }
        if let Ok(recording) = codeforge::cassette::read(&lines.join("\n"), "tape") {
            let folded = codeforge::engine::refold(&recording.rows);
            let account = folded.ok().map(|folded| codeforge::run::account(&folded.state));
            let side = |recording| codeforge::cassette::Side { recording, account: account.as_ref() };
            let compared = codeforge::cassette::compare(side(&recording), side(&whole));
            let _ = codeforge::report::replay::render("tape", &compared, false);
            let _ = codeforge::engine::Playback::of(&recording);
        }
    });
}

/// The places of all values within a value, as JSON pointers.
fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(value, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                leaves(value, format!("{at}/{place}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}
