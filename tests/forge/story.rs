//! A forge, a clone of its repository, and the end of a run in it.

pub use crate::common::forge_server::{BOT, FakeIssue, Fault, ForgeServer, TOKEN};
pub use crate::common::published::{BRANCH, Desk as Story, KEY, NOW_MS, check, clocked as adapter};
pub use crate::common::{TestRepo, spoken};
pub use codeforge::adapter::clock::SystemClock;
pub use codeforge::adapter::fake::FakeClock;
pub use codeforge::adapter::forge::{self, Settings};
pub use codeforge::adapter::git::{self, Force};
pub use codeforge::engine::publish::{How, PublishError, Signing};
pub use codeforge::model::delivery::Delivery;
pub use codeforge::model::event::Issue;
pub use codeforge::model::finding::{Finding, Level, Standing};
pub use codeforge::model::forge::{Access, CheckState, ForgeKind, Right};
pub use codeforge::model::id::StepId;
pub use codeforge::model::plan::DeliverKind;
pub use codeforge::port::forge::{
    Check, Forge, ForgeAt, ForgeError, LineSide, NewChange, NewReview, Protection, Remark, Said, Sticky, Thread,
};
pub use std::collections::BTreeMap;
pub use std::sync::Arc;
pub use std::time::Duration;

pub const KINDS: [ForgeKind; 4] = [ForgeKind::Github, ForgeKind::Gitlab, ForgeKind::Gitea, ForgeKind::Local];
pub fn finding(file: &str, line: Option<u64>, fingerprint: &str) -> Finding {
    Finding {
        fingerprint: fingerprint.into(),
        level: Level::High,
        file: file.into(),
        line,
        end_line: None,
        rule: Some("CWE-89".into()),
        what: "It is wrong, says @ann.".into(),
        suggestion: None,
        step: StepId::from("review"),
        standing: Standing::New,
    }
}

impl Story {
    /// How many requests changed something; of a local forge: how much is written down.
    pub fn writes(&self) -> usize {
        if !self.server.is_remote() {
            return size(&self.server.bare().join("codeforge"));
        }
        let asked = self.server.asked();
        asked.iter().filter(|asked| asked.method != "GET" && !asked.path.ends_with("graphql")).count()
    }

    /// About a change by `ann`: a file changed in its middle, one renamed and changed, one new, one gone.
    pub async fn about_new(kind: ForgeKind) -> Self {
        let long: String = (1..=30).map(|n| format!("line {n}\n")).collect();
        let server = ForgeServer::with(
            kind,
            &[("src/a.txt", "one\ntwo\nthree\n"), ("old name.txt", &long), ("gone.txt", "x\ny\n"), ("far.txt", &long)],
        )
        .await;
        let renamed = long.replace("line 15\n", "line fifteen\nline fifteen and a half\n");
        server.commit_by(
            "ann",
            "topic",
            "main",
            &[
                ("src/a.txt", Some("one\nTWO\nthree\n")),
                ("old name.txt", None),
                ("new/näme.txt", Some(&renamed)),
                ("gone.txt", None),
                ("added.txt", Some("a\nb\n")),
                ("far.txt", Some(&long.replace("line 2\n", "LINE 2\n"))),
            ],
        );
        let number = server.open("ann", "topic", "");
        Self::about(server, number)
    }
}

fn size(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
        it if it.is_dir() => size(&entry.path()),
        it => usize::try_from(it.len()).unwrap(),
    };
    entries.flatten().map(of).sum()
}

/// Our account.
pub fn us(kind: ForgeKind) -> &'static str {
    if kind == ForgeKind::Local { "codeforge" } else { BOT }
}
