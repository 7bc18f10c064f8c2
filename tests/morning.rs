//! A morning in the life of a busy repository: a night with three time tables, then a day of 200 events with 20 commands
//! among them. The real `codeforge serve`, killed twice; real git, real HTTP; the forge is a fake that remembers and tells,
//! the model answers by a script, at once.
//!
//! What is there in the end is compared with what ought to be, as one text that people can read.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up fails")]
mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::hooks::{self, HOOK_SECRET, Hook};
use common::forge_server::{BOT, Fault, TOKEN};
use common::town::{MODEL_KEY, Plan, Town, tally, where_it_is_two};
use common::{Reply, Rule, Script};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Workflows of the repository.
const WORKFLOWS: [(&str, &str); 7] = [
    // Each change is looked at by a command, without a model.
    (
        "check",
        "on: { pull_request: {} }\nconcurrency: { group: \"{{ event.change.number }}\", on_conflict: cancel }
steps: { work: { run: \"test -f README.md\" } }\ndeliver: none\n",
    ),
    // A look that takes its time: what becomes of it is told while it runs.
    (
        "vet",
        "on: { pull_request: { paths: [\"long/**\"] } }\nsteps: { work: { run: \"sleep 12\" } }\ndeliver: none\n",
    ),
    // An issue with a label becomes a change. The second step leaves time for a crash.
    (
        "build",
        "on: { issues: { types: [labeled], labels: [agent] } }\ninputs: { task: { type: string, required: true } }
steps:\n  work: { mode: coder, prompt: \"Build this: {{ inputs.task }}\" }\n  pack: { needs: [work], run: \"sleep 6; echo packed >> made.txt\" }
deliver: { as: pull_request, title: Build what was asked for, branch: codeforge/build/made }\n",
    ),
    (
        "fix",
        "on: { command: { name: fix, access: write } }\ninputs: { task: { type: string, required: true } }
quote: true\nindependent_approval: true
steps: { work: { mode: coder, prompt: \"Mend this: {{ inputs.task }}\", max_steps: 4 } }
deliver: { as: push-to-branch, title: Mend what was asked for }\n",
    ),
    ("slow", "on: { command: { name: slow, access: write } }\nsteps: { work: { run: \"sleep 100\" } }\ndeliver: none\n"),
    ("flaky", "on: { command: { name: flaky, access: write } }\nsteps: { work: { run: \"false\" } }\ndeliver: none\n"),
    // Only what touches documents.
    (
        "docs",
        "on: { push: { branches: [main], paths: [\"docs/**\"] } }\nsteps: { work: { run: \"ls docs\" } }\ndeliver: none\n",
    ),
];

/// One that comes to the trusted branch in the course of the day.
const ASK: &str =
    "name: ask\non: { command: { name: ask, access: read } }\ninputs: { task: { type: string, required: true } }
steps: { answer: { mode: architect, prompt: \"Answer this: {{ inputs.task }}\" } }\ndeliver: comment\n";

const CONFIG: &str =
    "gates:\n  tests: { run: \"true\" }\n  lint: { run: \"true\" }\ncomments: { aliases: { review: review } }\n";

/// Three time tables, due at night.
fn nights(zone: &str) -> [(&'static str, String); 3] {
    let at = |hour: u8| format!("on: {{ schedule: [{{ cron: \"0 {hour} * * *\", timezone: {zone} }}] }}\n");
    let look = "policy: plan-readonly\nsteps: { look: { mode: reviewer, prompt: \"Look at the night.\", output: { schema: review } } }
deliver: { as: report, title: The night }\n";
    let tidy = "steps: { work: { run: \"echo tidy > TIDY\" } }
deliver: { as: pull_request, title: Tidy up, branch: codeforge/tidy/up }\n";
    let count = "steps: { work: { run: \"ls | wc -l\" } }\ndeliver: none\n";
    [("nightly", at(2) + look), ("tidy", at(1) + tidy), ("count", at(0) + count)]
}

/// What the model says. Each call costs a cent.
fn script() -> Script {
    let says = |who: &str, what: &str, reply: Reply| Rule::when().system(who).user(what).reply(reply.cost(0.01));
    let finish = |output: Value| Reply::call("finish", json!({ "summary": "Done.", "output": output }));
    let review = |findings: Value| {
        let approved = findings.as_array().is_some_and(Vec::is_empty);
        finish(json!({ "approved": approved, "summary": "Looked.", "findings": findings }))
    };
    let shouts = json!([{ "severity": "high", "file": "src/a.txt", "line": 2, "what": "The second line shouts" }]);
    let writes = |path: &str, content: &str| Reply::call("write_file", json!({ "path": path, "content": content }));
    let (coder, reviewer) = ("You are the coder", "You are the reviewer");
    vec![
        says(reviewer, "Look at the night", review(json!([]))),
        says(coder, "Build this", writes("made.txt", "made\n")).turn(0),
        says(coder, "Build this", Reply::call("finish", json!({ "summary": "Built." }))).turn(1),
        says(coder, "Build this", writes("made.txt", "made again\n")).turn(0),
        says(coder, "Build this", Reply::call("finish", json!({ "summary": "Built." }))).turn(1),
        says(reviewer, "Review this change", review(shouts)),
        says("You are the architect", "Answer this", Reply::call("finish", json!({ "summary": "Because." }))),
        says(coder, "Mend this", writes("src/a.txt", "one\nmended\nthree\n")).turn(0),
        says(coder, "Mend this", Reply::call("finish", json!({ "summary": "Mended." }))).turn(1),
        says(reviewer, "Review this change", review(json!([]))),
    ]
}

fn plan() -> Plan {
    let mut plan = Town::of(ForgeKind::Github).file(".codeforge/config.yml", CONFIG).model(script()).hasty();
    for (name, text) in WORKFLOWS {
        plan = plan.workflow(name, text);
    }
    for (name, text) in nights(&where_it_is_two()) {
        plan = plan.workflow(name, &text);
    }
    plan.member("rita", "read").serve("limits: { workers: 3, per_repository: 3 }")
}

/// The day so far: names for what has numbers, and how much happened.
struct Day {
    town: Town,
    /// Changes and issues by their numbers.
    names: BTreeMap<u64, &'static str>,
    /// Comments that give commands, with what they are called in the end.
    commands: Vec<(u64, String)>,
    /// Answers to what is no event of the repository's people: said again, forged, of no interest.
    beside: BTreeMap<&'static str, Vec<u16>>,
    chats: usize,
    /// Commits that no branch has any more.
    gone: BTreeMap<String, String>,
}

impl Day {
    fn number(&self, name: &str) -> u64 {
        *self.names.iter().find(|(_, there)| **there == name).expect("a name").0
    }

    async fn opens(&mut self, who: &str, name: &'static str, files: &[(&str, &str)]) {
        let number = self.town.person(who).opens_change(&format!("topic-{name}"), files).await;
        self.names.insert(number, name);
    }

    async fn reports(&mut self, who: &str, name: &'static str) {
        let number = self.town.person(who).opens_issue(&format!("About {name}"), "Please.").await;
        self.names.insert(number, name);
    }

    /// Somebody gives a command; returns once it is decided about.
    async fn gives(&mut self, who: &str, name: &str, text: &str) -> u64 {
        let id = self.town.person(who).comments(self.number(name), text).await;
        self.commands.push((id, format!("{who} on {name}: {text}")));
        self.town.decides().await;
        id
    }

    /// People talk.
    async fn chat(&mut self, who: &str, name: &str, times: usize) {
        for _ in 0..times {
            self.chats += 1;
            let text = format!("{} (remark {})", ["I see.", "Why not?", "Let us wait."][self.chats % 3], self.chats);
            self.town.person(who).comments(self.number(name), &text).await;
        }
    }

    fn answered(&mut self, what: &'static str, status: u16) {
        self.beside.entry(what).or_default().push(status);
    }

    /// Hooks that were sent before are sent again, as they were or under new ids.
    async fn again(&mut self, hooks: &[Hook], new_ids: bool) {
        for hook in hooks {
            let mut hook = hook.clone();
            if new_ids {
                hook.id = format!("replayed-{}", hook.id);
            }
            let status = self.town.hooks.send(&hook).await;
            self.answered("said again", status);
        }
    }

    /// What is not signed, or not with the secret, or was changed on the way.
    async fn forges(&mut self, times: usize) {
        let like = self.town.hooks.sent().into_iter().rfind(|hook| hook.event == "issue_comment").unwrap();
        for n in 0..times {
            let body = String::from_utf8(like.body.clone()).unwrap().replace("remark", &format!("/codeforge fix {n}"));
            let mut forged = Hook { id: format!("forged-{n}"), body: body.into_bytes(), ..like.clone() };
            let signed = |hook: &Hook, secret: &str| hooks::headers(ForgeKind::Github, secret, hook);
            let headers = match n % 4 {
                0 => signed(&forged, "another secret"),
                1 => signed(&forged, HOOK_SECRET).into_iter().filter(|(name, _)| !name.contains("signature")).collect(),
                2 => {
                    let old = |(name, value): (&'static str, String)| match name {
                        "x-hub-signature-256" => ("x-hub-signature", value.replace("sha256", "sha1")),
                        name => (name, value),
                    };
                    signed(&forged, HOOK_SECRET).into_iter().map(old).collect()
                }
                _ => {
                    let before = signed(&forged, HOOK_SECRET);
                    forged.body.push(b' ');
                    before
                }
            };
            let status = self.town.hooks.post(&headers, forged.body).await;
            self.answered("forged", status);
        }
    }

    /// What a forge tells of that nothing comes of.
    async fn others(&mut self, times: usize) {
        for n in 0..times {
            let event = ["star", "watch", "fork", "ping"][n % 4].to_owned();
            let repository = json!({ "full_name": "acme/widgets" });
            let body = json!({ "repository": repository, "sender": { "login": "eve" }, "n": n }).to_string();
            let (id, by, answers) = (format!("other-{n}"), "eve".to_owned(), Vec::new());
            let hook = Hook { id, event, kind: String::new(), body: body.into_bytes(), by, answers };
            let headers = hooks::headers(ForgeKind::Github, HOOK_SECRET, &hook);
            let status = self.town.hooks.post(&headers, hook.body).await;
            self.answered("of no interest", status);
        }
    }

    /// What people's own hooks tell.
    fn told(&self) -> Vec<Hook> {
        self.town.hooks.sent().into_iter().filter(|hook| hook.by != BOT).collect()
    }

    /// There are so many jobs of this workflow, the newest is in this state, and nothing else is at work.
    async fn until_the(&self, place: usize, workflow: &str, state: &str) {
        let look = || async {
            let jobs = self.town.jobs().await;
            let of: Vec<_> = jobs.iter().filter(|job| job.workflow == workflow).collect();
            let others = jobs.iter().filter(|job| ["waiting", "running"].contains(&job.state.as_str())).count();
            let busy = others > usize::from(state == "running");
            (of.len() == place && of.last().is_some_and(|job| job.state == state) && !busy).then_some(())
        };
        self.town.until(&format!("{workflow} {place} is {state}"), look).await;
    }

    /// A job of this workflow is in this state, and newer than those that were there.
    async fn until(&self, workflow: &str, state: &str) {
        let fits = |job: &common::town::JobRow| job.workflow == workflow && job.state == state;
        self.town.job(&format!("{workflow} is {state}"), fits).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_morning_in_the_life() {
    let town = plan().start().await;
    let (names, commands, beside) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    let mut day = Day { town, names, commands, beside, chats: 0, gone: BTreeMap::new() };

    // At night.
    let tables = "SELECT count(*) FROM notes WHERE name LIKE 'tick/%'";
    let known = || async { (day.town.count(tables).await == 3).then_some(()) };
    day.town.until("three time tables are known", known).await;
    day.town.a_night_passes().await;

    // People come in.
    day.reports("ann", "parser").await;
    day.reports("tess", "question").await;
    day.reports("eve", "rant").await;
    day.opens("ann", "a", &[("src/a.txt", "one\nTWO\nthree\n")]).await;
    day.opens("bob", "b", &[("src/b.txt", "b\n")]).await;
    let fork = day.town.person("eve").opens_fork("topic-c", &[("src/a.txt", "evil\n")]).await;
    day.names.insert(fork, "c");
    for (who, name, label) in [("tess", "question", "question"), ("tess", "rant", "wontfix"), ("ann", "a", "ready")] {
        day.town.person(who).labels(day.number(name), label).await;
    }
    day.chat("ann", "parser", 12).await;
    day.chat("bob", "a", 12).await;
    day.chat("eve", "rant", 12).await;
    day.others(8).await;
    day.forges(8).await;
    day.town.settles().await;
    day.town.person("ann").pushes("topic-a", &[("docs/a.md", "a\n")]).await;
    day.town.person("bob").pushes("topic-b", &[("src/b.txt", "bb\n")]).await;
    day.town.person("bob").pushes("experiment", &[("x.txt", "x\n")]).await;
    day.town.settles().await;

    // An issue is to be built, and the server dies in the middle of it, with much that it has not looked at.
    day.town.person("ann").labels(day.number("parser"), "agent").await;
    let build = day.town.job("the build runs", |job| job.workflow == "build" && job.state == "running").await;
    let log = day.town.state().join("jobs").join(&build.id).join("log");
    let packs = || async { std::fs::read_to_string(&log).ok().filter(|text| text.contains("pack: command begins")) };
    day.town.until("the second step is at work", packs).await;
    day.chat("bob", "parser", 9).await;
    day.opens("ann", "d", &[("src/d.txt", "d\n")]).await;
    day.town.kill();
    day.chat("tess", "question", 5).await;
    day.town.person("ann").labels(day.number("d"), "draft").await;
    let ask = [("docs/ask.md", "Ask.\n"), (".codeforge/workflows/ask.yml", ASK)];
    day.town.person("root").pushes("main", &ask).await;
    day.town.starts().await;
    day.town.redelivers().await;
    day.town.settles().await;

    // Commands, by those who may and those who may not.
    day.gives("ann", "a", "/codeforge help").await;
    day.gives("ann", "a", "Hello!\n\n/CodeForge review").await;
    day.town.settles().await;
    for (who, text) in [("eve", "/codeforge review"), ("eve", "/codeforge fix it all"), ("rita", "/codeforge fix it")] {
        day.gives(who, "a", text).await;
    }
    day.gives("rita", "a", "/codeforge status").await;
    day.gives("tess", "b", "/codeforge satus").await;
    for quoted in ["> /codeforge fix it", "```\n/codeforge fix it\n```", "`/codeforge fix it`", "- /codeforge fix it"] {
        day.town.person("ann").comments(day.number("a"), quoted).await;
    }
    let bot = day.town.person("dependabot[bot]");
    for n in 0..10 {
        bot.comments(day.number("b"), &format!("/codeforge review\n\nBump {n}.")).await;
    }

    // What runs is ended by a push, and by a command.
    day.gives("bob", "d", "/codeforge slow").await;
    day.until("slow", "running").await;
    day.town.person("ann").pushes("topic-d", &[("src/d.txt", "dd\n")]).await;
    day.until("slow", "cancelled").await;
    day.town.settles().await;
    day.gives("bob", "b", "/codeforge slow").await;
    day.until("slow", "running").await;
    day.gives("ann", "b", "/codeforge cancel").await;
    day.town.settles().await;
    day.gives("bob", "b", "/codeforge flaky").await;
    day.town.settles().await;
    day.gives("bob", "b", "/codeforge retry").await;
    day.town.settles().await;
    day.gives("rita", "b", "/codeforge explain").await;
    let chats: Vec<Hook> = day.told().into_iter().filter(|hook| hook.event == "push").collect();
    day.again(&chats[..4], true).await;

    // What was wanted once is wanted again: a label is set once more; a change goes back to a head that it had, is closed
    // while that is looked at, and opened again.
    day.town.person("ann").unlabels(day.number("parser"), "agent").await;
    day.town.person("ann").labels(day.number("parser"), "agent").await;
    day.town.settles().await;
    day.opens("ann", "e", &[("long/e.txt", "1\n")]).await;
    let first = day.town.forge.tip("topic-e").unwrap();
    day.until_the(1, "vet", "running").await;
    let other = day.town.person("bob").pushes("topic-e", &[("long/e.txt", "2\n")]).await;
    day.gone.insert(other, "topic-e#other".to_owned());
    day.until_the(2, "vet", "running").await;
    day.town.person("ann").pushes_back("topic-e", &first).await;
    day.until_the(3, "vet", "running").await;
    day.town.person("ann").closes(day.number("e")).await;
    day.until_the(3, "vet", "cancelled").await;
    day.town.person("ann").reopens(day.number("e")).await;
    day.town.settles().await;

    // A price, a yes, a run; the server dies when the commit is pushed and nobody has told it so.
    day.gives("ann", "a", "/codeforge fix the second line").await;
    day.gives("ann", "a", "/codeforge approve").await;
    let before = day.town.forge.tip("topic-a");
    day.town.settles().await;
    day.town.forge.fail(Fault::slow("POST", "/git-receive-pack", Duration::from_secs(60)));
    let yes = day.gives("bob", "a", "/codeforge approve max=0.05").await;
    let pushed = || async { (day.town.forge.tip("topic-a") != before).then_some(()) };
    day.town.until("the repair is pushed", pushed).await;
    let seen = || async { (!day.town.comment(yes).reactions.is_empty()).then_some(()) };
    day.town.until("the yes is seen", seen).await;
    day.chat("bob", "d", 8).await;
    day.town.kill();
    day.town.forge.memory().clear_faults();
    day.chat("ann", "a", 6).await;
    day.town.person("ann").labels(day.number("a"), "mended").await;
    day.town.starts().await;
    day.town.redelivers().await;
    day.town.settles().await;

    // The rest of the day.
    day.gives("bob", "b", "/codeforge fix more").await;
    day.gives("bob", "b", "/codeforge deny").await;
    let remark = day.town.person("ann").comments(day.number("a"), "I wonder.").await;
    day.town.person("ann").edits(remark, "I wonder why.").await;
    day.town.person("bob").edits(remark, "/codeforge fix what ann says").await;
    day.town.person("ann").edits(remark, "I wonder.\n\n/codeforge ask why?").await;
    day.commands.push((remark, "ann on a: (edited) /codeforge ask why?".to_owned()));
    day.town.settles().await;
    day.gives("bob", "a", "/review").await;
    day.town.settles().await;
    day.town.person("root").pushes("release", &[("RELEASE", "1\n")]).await;
    day.town.person("ann").retargets(day.number("d"), "release").await;
    day.town.person("ann").unlabels(day.number("d"), "draft").await;
    day.town.person("bob").closes(day.number("b")).await;
    day.town.person("eve").closes(fork).await;
    day.town.person("root").pushes("main", &[("src/c.txt", "c\n")]).await;
    day.chat("rita", "d", 7).await;
    let all: Vec<Hook> = day.told();
    let given = day.commands.clone();
    let is_command = |hook: &&Hook| {
        let body: Value = serde_json::from_slice(&hook.body).unwrap();
        given.iter().any(|(id, _)| body["comment"]["id"] == json!(id))
    };
    let commands: Vec<Hook> = all.iter().filter(is_command).cloned().collect();
    day.again(&commands[..20], false).await;
    day.others(8).await;
    day.forges(8).await;
    day.town.settles().await;

    // What came of it.
    let (events, beside) = (day.told().len(), day.beside.values().map(Vec::len).sum::<usize>());
    assert_eq!((events + beside, day.commands.len()), (200, 20), "{events} and {beside}");
    let state = end(&day).await;
    insta::assert_snapshot!(state, @r#"
    Beside what people did
      forged: {"401": 16}
      of no interest: {"200": 16}
      said again: {"202": 24}

    Branches
      codeforge/build/made CodeForge: Build what was asked for
      codeforge/tidy/up    CodeForge: Tidy up
      experiment           bob: by bob
      main                 Test: first → root: by root → root: by root
      release              root: by root
      topic-a              ann: by ann → ann: by ann → CodeForge: Mend what was asked for
      topic-b              bob: by bob → bob: by bob
      topic-c              eve: by eve
      topic-d              ann: by ann → ann: by ann
      topic-e              ann: by ann

    Changes
      a      topic-a → main by ann: open, "A change" [ready, mended]
      b      topic-b → main by bob: closed, "A change"
      c      topic-c → main by eve: closed, "A change"
      d      topic-d → release by ann: open, "A change"
      e      topic-e → main by ann: open, "A change"
      ours   codeforge/build/made → main by codeforge-bot: open draft, "Build what was asked for"
      ours   codeforge/tidy/up → main by codeforge-bot: open draft, "Tidy up"

    Our comments, each with its first line
      a      ask                ### CodeForge ask — no findings
      a      command/approve    ### CodeForge — approved
      a      command/help       ### CodeForge — what you can ask for
      a      command/status     ### CodeForge — 3 jobs, all ended
      a      fix                ✅ **fix** done · job `JOB` on `topic-a#2` · asked by ann · $0.020 · [result](https://forge.example/acme/widgets/pull/a)
      a      review             ### CodeForge review — no findings, 1 resolved since `topic-a#2`
      b      command/cancel     ### CodeForge — cancelled
      b      command/deny       ### CodeForge — denied
      b      command/explain    ### ❌ CodeForge flaky `JOB` — failure
      b      command/retry      ### CodeForge — retried
      b      command/unknown    ### CodeForge — no command `satus`
      b      fix                ⏹️ **fix** cancelled · job `JOB` on `topic-b#2` · asked by bob
      b      flaky              ❌ **flaky** failure · job `JOB` on `topic-b#2` · asked by bob · $0
      b      slow               ⏹️ **slow** cancelled · job `JOB` on `topic-b#2` · asked by bob
      d      slow               ⏹️ **slow** cancelled · job `JOB` on `topic-d#1` · asked by bob

    Our remarks
      a      src/a.txt:2, resolved: **High**: The second line shouts

    Commands, and how we showed that they were heard
      eyes  ann on a: /codeforge help
      eyes  ann on a: Hello!  /CodeForge review
            eve on a: /codeforge review
            eve on a: /codeforge fix it all
            rita on a: /codeforge fix it
      eyes  rita on a: /codeforge status
            tess on b: /codeforge satus
      eyes  bob on d: /codeforge slow
      eyes  bob on b: /codeforge slow
      eyes  ann on b: /codeforge cancel
      eyes  bob on b: /codeforge flaky
      eyes  bob on b: /codeforge retry
      eyes  rita on b: /codeforge explain
      eyes  ann on a: /codeforge fix the second line
      eyes  ann on a: /codeforge approve
      eyes  bob on a: /codeforge approve max=0.05
      eyes  bob on b: /codeforge fix more
      eyes  bob on b: /codeforge deny
      eyes  ann on a: (edited) /codeforge ask why?
      eyes  bob on a: /review

    Checks
      topic-a#1          codeforge/check: success
      topic-a#2          codeforge/check: success
      topic-a#2          codeforge/fix: success
      topic-a#2          codeforge/review: success
      topic-a#3          codeforge/ask: success
      topic-a#3          codeforge/review: success
      topic-b#1          codeforge/check: success
      topic-b#2          codeforge/check: success
      topic-b#2          codeforge/fix: error
      topic-b#2          codeforge/flaky: failure
      topic-b#2          codeforge/slow: error
      topic-d#1          codeforge/check: success
      topic-d#1          codeforge/slow: error
      topic-d#2          codeforge/check: success
      topic-e#1          codeforge/check: success
      topic-e#1          codeforge/vet: success
      topic-e#other      codeforge/check: success
      topic-e#other      codeforge/vet: error

    Jobs
      ask      a  ann   done success       0.010000
      build    –  ann   done success       0.020000
      build    –  ann   done success       0.020000
      check    a  ann   done success       0.000000
      check    a  ann   done success       0.000000
      check    b  bob   done success       0.000000
      check    b  bob   done success       0.000000
      check    d  ann   done success       0.000000
      check    d  ann   done success       0.000000
      check    e  ann   done success       0.000000
      check    e  bob   done success       0.000000
      count    –  –     done success       0.000000
      docs     –  root  done success       0.000000
      fix      a  ann   done success       0.020000  yes by bob
      fix      b  bob   cancelled          –         bob said no
      flaky    b  bob   done failure       0.000000  step `work`: its command ended with exit code 1
      flaky    b  bob   done failure       0.000000  step `work`: its command ended with exit code 1
      nightly  –  –     done success       0.010000
      review   a  ann   done success       0.010000
      review   a  bob   done success       0.010000
      slow     b  bob   cancelled          –         cancelled by ann
      slow     d  bob   cancelled          –         change d was pushed to: its head is topic-d#2 now, and this was for another commit
      tidy     –  –     done success       0.000000
      vet      e  ann   cancelled          –         change e was closed by ann
      vet      e  ann   cancelled          –         change e was pushed to: its head is topic-e#other now, and this was for another commit
      vet      e  ann   done success       0.000000
      vet      e  bob   cancelled          –         change e was pushed to: its head is topic-e#1 now, and this was for another commit

    Jobs by state
      cancelled: 6
      done: 21
    "#);
    assert_eq!(day.town.count("SELECT count(*) FROM deliveries WHERE state <> 'handled'").await, 0);
    // No call was paid for twice, whatever died.
    day.town.model.finished();
    let paid: f64 = day.town.jobs().await.iter().filter_map(|job| job.cost.parse::<f64>().ok()).sum();
    assert!((paid - 0.01 * day.town.model.asked().len() as f64).abs() < 1e-9, "{paid}");
    let log = day.town.log();
    for secret in [TOKEN, MODEL_KEY, HOOK_SECRET] {
        assert!(!log.contains(secret) && !day.town.said().contains(secret));
    }
}

/// The state in the end, once nothing moves any more.
async fn end(day: &Day) -> String {
    // What is shown beside the work has no mark of its own: so many looks must agree.
    let looks = std::cell::RefCell::new((String::new(), 0));
    let quiet = || async {
        let now = state(day).await;
        let mut looks = looks.borrow_mut();
        let same = if now == looks.0 { looks.1 + 1 } else { 0 };
        *looks = (now.clone(), same);
        (same == 30).then_some(now)
    };
    day.town.until("nothing moves any more", quiet).await
}

/// Branches, changes, comments, reactions, checks, jobs: everything by name, nothing by number.
async fn state(day: &Day) -> String {
    let town = &day.town;
    let jobs = town.jobs().await;
    let mut commits = commits(town);
    commits.extend(day.gone.clone());
    let plain = |text: &str| {
        let mut text = text.to_owned();
        for job in &jobs {
            text = text.replace(&job.id, "JOB");
        }
        for (id, name) in &commits {
            text = text.replace(id, name).replace(&id[..10], name).replace(&id[..7], name);
        }
        for (number, name) in &day.names {
            text = text.replace(&format!("change {number} "), &format!("change {name} "));
            text = text.replace(&format!("pull/{number})"), &format!("pull/{name})"));
        }
        text
    };
    let name = |number: u64| day.names.get(&number).copied().unwrap_or("ours").to_owned();
    let mut out = String::new();
    let mut part = |title: &str, mut lines: Vec<String>, sorted: bool| {
        if sorted {
            lines.sort();
        }
        let _ = writeln!(
            out,
            "{title}\n{}",
            lines.iter().map(|line| format!("  {}\n", line.trim_end())).collect::<String>()
        );
    };

    let answers = day.beside.iter().map(|(what, answers)| {
        let words: Vec<String> = answers.iter().map(u16::to_string).collect();
        format!("{what}: {:?}", tally(words.iter().map(String::as_str)))
    });
    part("Beside what people did", answers.collect(), true);

    let branches = town.forge.branches().into_keys().map(|branch| {
        let range = if branch == "main" { branch.clone() } else { format!("main..{branch}") };
        let log = town.forge.git(&["log", "--reverse", "--format=%an: %s", &range]);
        format!("{branch:<20} {}", log.lines().collect::<Vec<_>>().join(" → "))
    });
    part("Branches", branches.collect(), true);

    let memory = town.forge.memory();
    let changes = memory.changes.iter().map(|it| {
        let labels = if it.labels.is_empty() { String::new() } else { format!(" [{}]", it.labels.join(", ")) };
        let draft = if it.draft { " draft" } else { "" };
        format!(
            "{:<6} {} → {} by {}: {}{draft}, {:?}{labels}",
            name(it.number),
            it.head,
            it.base,
            it.author,
            it.state,
            it.title
        )
    });
    part("Changes", changes.collect(), true);

    let ours = memory.comments.iter().filter(|comment| comment.author == BOT).map(|comment| {
        let number = comment.thread.split_once(' ').unwrap().1.parse().unwrap();
        let mut lines = comment.body.lines().filter(|line| !line.trim().is_empty());
        let key = lines.next().unwrap().trim_start_matches("<!-- codeforge:").split(' ').next().unwrap_or_default();
        let first = lines.find(|line| !line.starts_with("<!--")).unwrap_or_default();
        format!("{:<6} {key:<18} {}", name(number), plain(first))
    });
    part("Our comments, each with its first line", ours.collect(), true);

    let remarks = memory.remarks.iter().map(|remark| {
        let line = remark.body.lines().find(|line| !line.starts_with("<!--")).unwrap_or_default();
        let resolved = if remark.resolved { ", resolved" } else { "" };
        format!("{:<6} {}:{}{resolved}: {line}", name(remark.change), remark.path, remark.lines.1.unwrap_or_default())
    });
    part("Our remarks", remarks.collect(), true);

    let reactions = day.commands.iter().map(|(id, what)| {
        let comment = memory.comments.iter().find(|comment| comment.id == *id).unwrap();
        format!("{:<5} {}", comment.reactions.join(" "), what.replace('\n', " "))
    });
    part("Commands, and how we showed that they were heard", reactions.collect(), false);

    let mut checks: BTreeMap<String, String> = BTreeMap::new();
    for (commit, check, state) in &memory.statuses {
        checks.insert(format!("{:<18} {check}", commits.get(commit).map_or("?", String::as_str)), state.clone());
    }
    part("Checks", checks.into_iter().map(|(what, state)| format!("{what}: {state}")).collect(), true);
    drop(memory);

    let rows = jobs.iter().map(|job| {
        let change = job.change.and_then(|number| u64::try_from(number).ok()).map_or("–".to_owned(), name);
        let dash = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
        let yes = if job.approved_by.is_empty() { String::new() } else { format!("yes by {}", job.approved_by) };
        let why = if job.conclusion == "success" { yes } else { plain(&job.note) };
        let (by, cost, end) = (dash(&job.actor), dash(&job.cost), format!("{} {}", job.state, job.conclusion));
        format!("{:<8} {change:<2} {by:<5} {end:<18} {cost:<9} {why}", job.workflow)
    });
    part("Jobs", rows.collect(), true);
    let states = tally(jobs.iter().map(|job| job.state.as_str()));
    let again: Vec<&str> = jobs.iter().filter(|job| job.attempts > 1).map(|job| job.workflow.as_str()).collect();
    assert!(["build", "fix"].iter().all(|name| again.contains(name)), "begun twice: {again:?}");
    part("Jobs by state", states.iter().map(|(state, many)| format!("{state}: {many}")).collect(), true);
    out
}

/// Commits beyond `main`, by their branch and place on it.
fn commits(town: &Town) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for branch in town.forge.branches().into_keys().filter(|branch| branch != "main") {
        let ids = town.forge.git(&["rev-list", "--reverse", &format!("main..{branch}")]);
        for (place, id) in ids.lines().enumerate() {
            found.insert(id.to_owned(), format!("{branch}#{}", place + 1));
        }
    }
    for (place, id) in town.forge.git(&["rev-list", "--reverse", "main"]).lines().enumerate() {
        found.insert(id.to_owned(), format!("main#{}", place + 1));
    }
    found
}
