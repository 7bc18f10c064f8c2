//! What is read, and what is not.

use super::*;
use crate::model::account::Spend;
use crate::model::id::TreeId;
use crate::model::patch::{FILE, Put};
use proptest::prelude::*;
use serde_json::json;

fn account() -> Account {
    Account {
        run: RunId::from("7f3k9m2q"),
        workflow: "fix".into(),
        repo: "/src".into(),
        base: None,
        policy: "p".into(),
        driver: "native".into(),
        notes: vec![],
        started_ms: 1,
        ended_ms: Some(2),
        ending: Some(Ending::Done),
        reason: String::new(),
        steps: vec![],
        spend: Spend::default(),
        budget_usd: None,
        by_model: vec![],
        final_gates: vec![],
        delivered: None,
    }
}

fn patch() -> Patch {
    let put = Put { path: b"a.py".to_vec(), old: None, mode: FILE, content: b"x = 1\n".to_vec() };
    Patch { base: TreeId("a".repeat(40)), tree: TreeId("b".repeat(40)), files: vec![put] }
}

fn part() -> Part {
    let (patch, patch_sha256) = Part::packed(Some(&patch().encode()));
    Part {
        run: RunId::from("7f3k9m2q"),
        claims: Claims {
            repository: Some("acme/widgets".into()),
            event: "pull_request".into(),
            workflow: "fix".into(),
            workflow_hash: "1".repeat(64),
            inputs_hash: "2".repeat(64),
            policy: "p".into(),
            policy_hash: "3".repeat(64),
            kind: DeliverKind::PullRequest,
            when: DeliverWhen::GatesPassed,
            gates: BTreeMap::from([("tests".to_owned(), "4".repeat(32))]),
            branch: Some("codeforge/fix/x".into()),
        },
        commit: "c".repeat(40),
        head: None,
        started_ms: 1,
        ending: Ending::Done,
        reason: String::new(),
        patch,
        patch_sha256,
        inputs: BTreeMap::new(),
        steps: json!({}),
        findings: vec![],
        comment: None,
        account: Box::new(account()),
    }
}

fn text() -> String {
    Artifact::new(vec![part()]).write().unwrap()
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(&text()).unwrap();
    change(&mut value);
    Artifact::read(value.to_string().as_bytes()).unwrap_err().to_string()
}

#[test]
fn an_artifact_is_read_as_it_was_written() {
    let taken = Artifact::read(text().as_bytes()).unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].part, part());
    assert_eq!(taken[0].patch, Some(patch()));
    assert_eq!(taken[0].hash(), part().patch_sha256);
}

#[test]
fn what_this_version_did_not_write_is_told_and_not_taken() {
    type Forge = Box<dyn FnOnce(&mut Value)>;
    let cases: Vec<(&str, Forge)> = vec![
        ("version 2", Box::new(|it| it["codeforge_artifact"] = json!(2))),
        ("not an artifact", Box::new(|it| *it = json!({ "version": "1" }))),
        ("not an artifact", Box::new(|it| *it = json!([1, 2]))),
        ("unknown field", Box::new(|it| it["runs"][0]["verdict"] = json!("pass"))),
        ("unknown field", Box::new(|it| it["runs"][0]["claims"]["approved"] = json!(true))),
        ("invalid type", Box::new(|it| it["runs"][0]["started_ms"] = json!("yesterday"))),
        ("unknown variant", Box::new(|it| it["runs"][0]["claims"]["kind"] = json!("merge"))),
        ("hash names", Box::new(|it| it["runs"][0]["patch_sha256"] = json!("0".repeat(64)))),
        ("hash names", Box::new(|it| it["runs"][0]["patch"] = Value::Null)),
        ("base 64", Box::new(|it| it["runs"][0]["patch"] = json!("§"))),
        ("commit's id", Box::new(|it| it["runs"][0]["commit"] = json!("--upload-pack=x"))),
        ("run's id", Box::new(|it| it["runs"][0]["run"] = json!("../../x"))),
        ("a name in it", Box::new(|it| it["runs"][0]["claims"]["workflow"] = json!("fix\u{0}"))),
        (
            "twice",
            Box::new(|it| {
                let again = it["runs"][0].clone();
                it["runs"].as_array_mut().unwrap().push(again);
            }),
        ),
        ("too long", Box::new(|it| it["runs"][0]["comment"] = json!("x".repeat(70_000)))),
        ("too large", Box::new(|it| it["runs"][0]["steps"] = json!("x".repeat(5 << 20)))),
    ];
    for (words, change) in cases {
        let said = refused(change);
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = Artifact::read(&vec![b' '; LARGEST + 1]).unwrap_err().to_string();
    assert!(said.contains("32 MiB"), "{said}");
    let whole = text();
    let said = Artifact::read(&whole.as_bytes()[..whole.len() / 2]).unwrap_err().to_string();
    assert!(said.contains("cut off"), "{said}");
}

#[test]
fn claims_that_differ_are_named() {
    let own = part().claims;
    assert!(own.against(&own).is_empty());
    let forged = Claims { kind: DeliverKind::PushToBranch, branch: Some("main".into()), ..own.clone() };
    let told = forged.against(&own);
    assert_eq!(told[0], "its delivery is `push-to-branch`, and should be `pull_request`");
    assert_eq!(told[1], "its branch is `main`, and should be `codeforge/fix/x`");
}

#[test]
fn a_word_is_read_as_it_was_written_and_a_half_one_is_none() {
    let gates = BTreeMap::from([
        ("lint".to_owned(), (Verdict::Fail, "l".repeat(32))),
        ("tests".to_owned(), (Verdict::Pass, "t".repeat(32))),
    ]);
    let word = Word { patch: "a".repeat(64), gates };
    assert_eq!(Word::read(&word.to_string()).unwrap(), std::slice::from_ref(&word));
    let two = [word.clone(), Word { patch: "b".repeat(64), gates: BTreeMap::new() }];
    assert_eq!(Word::read(&Word::line(&two)).unwrap(), two);
    assert_eq!(Word::read("").unwrap(), []);
    let hash = "a".repeat(64);
    for bad in [
        "pass",
        "sha256:",
        "sha256:aa",
        &format!("sha256:{hash} tests=pass"),
        &format!("sha256:{hash} tests:x"),
        &format!("sha256:{hash} tests=ok:1"),
        &format!("sha256:{hash} t=pass:1 t=pass:1"),
        &format!("sha256:{hash}\nx"),
    ] {
        assert!(Word::read(bad).is_err(), "{bad}");
    }
}

proptest! {
    /// Whatever is done to an artifact's text: no panic, and no other change under the old hash.
    #[test]
    fn a_mangled_artifact_never_passes_under_another_changes_word(at in any::<prop::sample::Index>(), byte: u8, drop in 0usize..4) {
        let said = part().patch_sha256;
        let mut bytes = text().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.drain(at..(at + drop).min(bytes.len()));
        if let Ok(taken) = Artifact::read(&bytes) {
            for run in taken {
                prop_assert_eq!(run.hash() == said, run.patch == Some(patch()));
            }
        }
    }
}
