//! The log of a job, as the runners of GitHub and GitLab read it.

use crate::common::{TestRepo, spoken};
use crate::machines::Runner;
use crate::told::account_of;
use codeforge::model::account::StepStatus;
use codeforge::model::journal::Row;
use codeforge::model::progress::Progress;
use codeforge::report::ci::log::{Log, Reader};

/// GitLab's runner: which sections it would open and close.
fn sections(lines: &[String]) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut seen = Vec::new();
    for line in lines {
        for part in line.split("\x1b[0K").filter(|part| part.ends_with('\r')) {
            let mut fields = part.trim_end().split(':');
            match (fields.next().unwrap(), fields.next().unwrap().parse::<i64>().is_ok(), fields.next().unwrap()) {
                ("section_start", true, name) => {
                    assert!(!seen.contains(&name.to_owned()), "a section is opened twice: {line:?}");
                    open.push(name.to_owned());
                    seen.push(name.to_owned());
                }
                ("section_end", true, name) => assert_eq!(open.pop().as_deref(), Some(name), "{line:?}"),
                other => panic!("{other:?} in {line:?}"),
            }
        }
    }
    assert!(open.is_empty(), "sections stay open: {open:?}");
    seen
}

/// What a run of the real binary did, as its watcher saw it.
fn observed(rows: &[Row]) -> Vec<Progress> {
    rows.iter().cloned().map(Progress::Recorded).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_output_that_speaks_to_the_runner_is_in_no_line_of_the_log() {
    let hostile = "printf '::add-mask::x\\n##[set-env name=A]b\\n\\033[31m::error::red\\n\\377\\376 x\\n\
                   ::stop-commands::guess\\nsection_end:1:codeforge_1\\r\\033[0K\\n'; head -c 10000000 /dev/zero | tr '\\0' a; echo; exit 1";
    let repo = TestRepo::with(&[("a.txt", "a\n"), ("gate.sh", hostile)]);
    repo.write(
        ".codeforge/workflows/w.yml",
        "name: w\nsandbox: { driver: native }\ngates:\n  loud: { run: \"sh gate.sh\", on_fail: fail }\nsteps:\n  \
         left: { run: \"sh gate.sh || true\" }\n  right: { run: \"sh gate.sh || true\", needs: [left], gates: [loud] }\ndeliver: none\n",
    );
    repo.commit("workflow");
    let output = repo.codeforge(&["run", "w"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", spoken(&output));
    let rows = rows(&repo).await;
    let account = account_of(&repo);
    let output = Progress::Output { step: "left".into(), text: "::add-mask::y\n".into() };
    let said = Progress::ModelText { step: "left".into(), text: "::add-mask::z\n".into() };
    // As the engine says it: the end of a step before the end of the run.
    let ended = ["left", "right"].map(|step| Progress::StepEnded {
        step: step.into(),
        status: StepStatus::Failed,
        duration_ms: 1,
    });
    for reader in [Reader::Github, Reader::Gitlab, Reader::Plain] {
        let mut log = Log::new(reader, 2, "s3cr3t");
        let mut lines: Vec<String> = Vec::new();
        for progress in observed(&rows).iter().chain([&output, &said]).chain(&ended) {
            lines.extend(log.lines(progress, 1_764_000_000));
        }
        let before = lines.len();
        lines.extend(log.end(&account, Some("trajectory.jsonl"), 1_764_000_001));
        let last = &lines[before..];
        let text = lines.join("\n");
        assert!(lines.iter().all(|line| line.len() < 2000 && !line.contains('\n')), "{reader:?}\n{text}");
        assert!(text.contains("gate loud did not pass"), "{reader:?}\n{text}");
        for stranger in ["add-mask::y", "add-mask::z"] {
            assert!(!text.contains(stranger), "{reader:?}\n{text}");
        }
        let mut runner = Runner::default();
        lines.iter().for_each(|line| runner.read(line));
        let commands: Vec<&str> = runner.acted.iter().map(|(name, ..)| name.as_str()).collect();
        match reader {
            Reader::Github => {
                assert!(
                    commands.iter().all(|name| ["group", "endgroup", "error"].contains(name)),
                    "{commands:?}\n{text}"
                );
                let (opened, closed) =
                    ["group", "endgroup"].map(|name| commands.iter().filter(|it| **it == name).count()).into();
                assert!(opened == closed && opened >= 2, "{text}");
                assert!(runner.deaf.is_none(), "the runner listens at the end\n{text}");
                assert_eq!(commands.iter().filter(|name| **name == "error").count(), 1);
            }
            Reader::Gitlab => {
                assert!(sections(&lines).len() >= 2, "{text}");
                assert!(commands.is_empty(), "{text}");
            }
            Reader::Plain => assert!(commands.is_empty() && !text.contains('\x1b'), "{text}"),
        }
        let closing: Vec<&String> =
            last.iter().filter(|line| !line.contains("endgroup") && !line.contains("section_")).collect();
        assert!(closing.len() <= 10, "{closing:#?}");
        let closing: String = closing.into_iter().cloned().collect::<Vec<_>>().join("\n");
        for told in ["w failed", "gate loud", "Next:", "cost: nothing", "trajectory.jsonl"] {
            assert!(closing.contains(told), "{reader:?}: no {told:?}\n{closing}");
        }
    }
}

/// The only run's journal.
async fn rows(repo: &TestRepo) -> Vec<Row> {
    let opened = codeforge::adapter::git::open(repo.path()).unwrap();
    let clock = std::sync::Arc::new(codeforge::adapter::clock::SystemClock);
    let store = codeforge::adapter::sqlite::open(opened.state_dir(), clock).await.unwrap();
    let run = store.runs(10).await.unwrap().remove(0).0.id;
    store.rows(&run).await.unwrap()
}
