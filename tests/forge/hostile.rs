//! Names, marks and secrets that mean no good.

use crate::story::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use codeforge::trigger::Grammar;
use codeforge::workflow;
use pulldown_cmark::{Event as Piece, Parser, Tag, TagEnd};
use regex::Regex;

everywhere! {
    only_our_own_branches_are_pushed_to => only_ours;
    trust_19_no_name_is_an_argument_to_git => names_as_arguments;
    trust_20_a_ref_is_what_its_whole_name_says => confused_refs;
    trust_9_nothing_in_our_output_acts => acting_output;
    trust_48_a_commit_and_a_title_act_on_nobody => acting_commits;
    trust_10_what_cannot_be_seen_is_flagged_in_what_is_proposed => hidden_characters;
    trust_43_a_forged_mark_is_not_ours => forged_marks;
    trust_6_secrets_leave_in_no_form => secrets;
}

async fn only_ours(kind: ForgeKind) {
    let story = Story::of(kind).await;
    story.write("b.txt", "b\n");
    let main = story.server.tip("main");
    for name in [
        "main",
        "+main:x",
        "--force",
        "refs/heads/main",
        "codeforge/",
        "codeforge/a..b",
        "feature/x",
        "codeforge/../main",
    ] {
        let delivery = Delivery { branch: Some(name.into()), ..story.delivery(DeliverKind::Branch) };
        assert!(story.publish_as(&delivery, |_| {}).await.is_err(), "{name}");
    }
    let delivery = Delivery { branch: Some("main".into()), ..story.delivery(DeliverKind::Branch) };
    for prefix in ["", "/", "main"] {
        assert!(story.publish_as(&delivery, |publication| publication.prefix = prefix).await.is_err(), "{prefix:?}");
    }
    let delivery = Delivery { branch: Some("main2".into()), ..delivery };
    // The server has the last word: a rule that nobody told us of.
    if story.server.is_remote() {
        story.server.memory().protected.push(BRANCH.into());
        let error = story.publish(DeliverKind::Branch).await.unwrap_err().to_string();
        assert!(error.contains("GH006"), "{error}");
    }
    assert_eq!((story.server.tip("main"), story.server.tip("main2"), story.server.tip(BRANCH)), (main, None, None));
    // What must not be in a delivery is not pushed either.
    story.server.memory().protected.clear();
    story.write(".github/workflows/ci.yml", "on: push\n");
    assert!(matches!(story.publish(DeliverKind::Branch).await, Err(PublishError::Repository(_))));
    assert!(story.publish_as(&delivery, |publication| publication.prefix = "codeforge/").await.is_err());
    assert_eq!((story.server.tip(BRANCH), story.writes()), (None, 0));
}

/// Every ref of the forge's repository, of whatever kind, and where it is.
fn refs(story: &Story) -> String {
    let bare = story.server.bare();
    crate::common::ok(
        crate::common::git().arg("-C").arg(bare).args(["for-each-ref", "--format=%(refname) %(objectname)"]),
    )
}

/// trust.md 19: names that git reads as something else when they stand where it looks for arguments.
async fn names_as_arguments(kind: ForgeKind) {
    let mut story = Story::about_new(kind).await;
    story.write("b.txt", "b\n");
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("ran");
    let program = format!("ext::touch {}", marker.display());
    let upload = format!("--upload-pack=touch {}", marker.display());
    let names = [
        "+main",
        "--force",
        &program,
        "ext::sh",
        &upload,
        "-d",
        "--delete",
        "--mirror",
        ":main",
        "+topic:main",
        "refs/heads/main",
        "codeforge/x:main",
        "codeforge/x:refs/heads/main",
        "codeforge/x +main",
        "codeforge/x\n+refs/heads/topic:refs/heads/main",
        "HEAD",
        "@",
    ];
    let before = refs(&story);
    for name in names {
        // As our own branch, whatever the prefix of ours is said to be.
        for (form, prefix) in [
            (DeliverKind::PullRequest, "codeforge/"),
            (DeliverKind::Branch, "codeforge/"),
            (DeliverKind::Branch, "-"),
            (DeliverKind::Branch, "refs/"),
            (DeliverKind::Branch, "ext"),
        ] {
            let delivery = Delivery { branch: Some(name.into()), ..story.delivery(form) };
            let done = story.publish_as(&delivery, |publication| publication.prefix = prefix).await;
            assert!(done.is_err(), "{kind:?}: {name:?} under {prefix:?}");
        }
        // As the branch of the change that is pushed to.
        let number = story.event.change.as_ref().unwrap().number;
        for (head, ends) in [(name, false), ("topic", true)] {
            story.event.change.as_mut().unwrap().head.branch = head.into();
            if story.server.is_remote() {
                let mut memory = story.server.memory();
                memory.changes.iter_mut().find(|change| change.number == number).unwrap().head = head.into();
            }
            assert!(ends || story.publish(DeliverKind::PushToBranch).await.is_err(), "{kind:?}: {name:?}");
        }
        // As what is read and pushed by the adapter itself, whoever calls it.
        let tip = story.server.tip("topic").unwrap();
        let pack = story.forge.remote().fetch(std::slice::from_ref(&tip), &[], 0).await.unwrap();
        assert!(story.forge.remote().push(name, None, &tip, pack).await.is_err(), "{kind:?}: {name:?}");
        let found = story.forge.remote().refs(name).await.unwrap_or_default();
        assert!(found.iter().all(|(found, _)| found.starts_with(name)), "{kind:?}: {name:?} finds {found:?}");
    }
    assert_eq!(refs(&story), before, "{kind:?}: the remote is unchanged");
    assert!(!marker.exists(), "{kind:?}: nothing ran");
}

/// trust.md 20: a branch that is named like a whole ref, and tags that are named like branches.
async fn confused_refs(kind: ForgeKind) {
    let about = Story::about_new(kind).await;
    let number = about.event.change.as_ref().unwrap().number;
    let story = Story::at(about.server, "main");
    let server = &story.server;
    let evil = server.commit_by("eve", "evil", "main", &[("src/a.txt", Some("evil\n"))]);
    let lures = ["refs/heads/refs/heads/main", "refs/heads/heads/main", "refs/tags/main", "refs/tags/topic"];
    let ours = format!("refs/tags/{BRANCH}");
    for name in lures.into_iter().chain([ours.as_str()]) {
        crate::common::ok(crate::common::git().arg("-C").arg(server.bare()).args(["update-ref", name, &evil]));
    }
    let (main, topic) = (server.tip("main").unwrap(), server.tip("topic").unwrap());
    // Read.
    assert_eq!(story.forge.tip("main").await.unwrap().as_ref(), Some(&main), "{kind:?}");
    assert_eq!(story.forge.tip("topic").await.unwrap().as_ref(), Some(&topic), "{kind:?}");
    assert_ne!(story.forge.tip("refs/heads/main").await.ok().flatten(), Some(main.clone()), "{kind:?}");
    assert_eq!(story.forge.protection("topic").await.unwrap(), Protection::Open, "{kind:?}");
    let text = story.forge.file_at(&main, "src/a.txt").await.unwrap().unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), "one\ntwo\nthree\n", "{kind:?}");
    assert_eq!(story.forge.subjects("main", 1).await.unwrap(), ["first"], "{kind:?}");
    // Proposed, and brought up to date: on what the branch is, and onto the branch.
    story.write("src/a.txt", "one\nmended\nthree\n");
    let proposed = story.publish(DeliverKind::PullRequest).await.unwrap();
    assert_eq!(server.tip(BRANCH), proposed.commit, "{kind:?}");
    let parents = story.forge.commit(proposed.commit.as_deref().unwrap()).await.unwrap().parents;
    assert_eq!(parents, std::slice::from_ref(&main), "{kind:?}");
    let again = story.publish(DeliverKind::PullRequest).await.unwrap();
    assert_eq!((again.commit, server.tip("main")), (proposed.commit, Some(main)), "{kind:?}");
    // Pushed to.
    let story = Story::about(story.server, number);
    let server = &story.server;
    story.write("src/a.txt", "one\nTWO, mended\nthree\n");
    let pushed = story.publish(DeliverKind::PushToBranch).await.unwrap();
    assert_eq!(server.tip("topic"), pushed.commit, "{kind:?}");
    assert_eq!(server.file("topic", "src/a.txt").as_deref(), Some("one\nTWO, mended\nthree\n"), "{kind:?}");
    let there = refs(&story);
    for name in lures.into_iter().chain([ours.as_str()]) {
        assert!(there.contains(&format!("{name} {evil}\n")), "{kind:?}: {name} is where it was: {there}");
    }
}

/// Everything of ours that people read at the forge: titles, descriptions, comments, remarks.
fn said(story: &Story) -> Vec<(&'static str, String)> {
    let memory = story.server.memory();
    let ours = memory.changes.iter().filter(|change| change.head == BRANCH);
    let mut all: Vec<(&'static str, String)> = Vec::new();
    for change in ours {
        all.extend([("title", change.title.clone()), ("description", change.body.clone())]);
    }
    all.extend(memory.comments.iter().map(|comment| ("comment", comment.body.clone())));
    all.extend(memory.remarks.iter().map(|remark| ("remark", remark.body.clone())));
    all
}

/// What of a Markdown text a forge or a bot would act on, read as they read it: what stands in code is left out.
fn acts(markdown: &str) -> Vec<String> {
    let mention = Regex::new(r"(^|[^\w`])@[A-Za-z0-9_-]").unwrap();
    let closing = Regex::new(
        r"(?i)\b(clos(e[sd]?|ing)|fix(e[sd]|ing)?|resolv(e[sd]?|ing))\b:?\s+(issue\s+)?([\w./-]*[#!]|GH-|https?://)",
    )
    .unwrap();
    let order = Regex::new(r"(?m)^[ \t]*(/[a-z]|bors |@[a-z])").unwrap();
    let skip = Regex::new(r"(?i)\[(skip|no)[ -](ci|actions)\]|\[(ci|actions)[ -]skip\]").unwrap();
    let mut found = Vec::new();
    let (mut text, mut code) = (String::new(), false);
    for piece in Parser::new(markdown) {
        match piece {
            Piece::Start(Tag::CodeBlock(_)) => code = true,
            Piece::End(TagEnd::CodeBlock) => code = false,
            Piece::Text(words) if !code => text.push_str(&words),
            Piece::SoftBreak | Piece::HardBreak | Piece::End(TagEnd::Paragraph | TagEnd::Item | TagEnd::Heading(_)) => {
                text.push('\n');
            }
            Piece::Start(Tag::Image { dest_url, .. }) => found.push(format!("image {dest_url}")),
            Piece::Start(Tag::Link { dest_url, .. }) if dest_url.contains("evil") => {
                found.push(format!("link {dest_url}"))
            }
            _ => {}
        }
    }
    for rule in [mention, closing] {
        found.extend(rule.find_iter(&text).map(|hit| hit.as_str().to_owned()));
    }
    // Bots read the source.
    for rule in [order, skip] {
        found.extend(rule.find_iter(markdown).map(|hit| hit.as_str().to_owned()));
    }
    found
}

/// trust.md 9, and 48 for what is Markdown.
async fn acting_output(kind: ForgeKind) {
    const WORDS: &str = "Thanks @ann and @acme/core. Fixes #1, closes: acme/x#2, resolves https://forge.example/a/b/issues/1.\n\n\
        /merge\n\n/codeforge fix it\n\n@codeforge fix it\n\n@dependabot merge\n\nbors r+\n\n\
        [skip ci] [ci skip]\n\n<!-- codeforge:other -->\n\n![x](https://evil.example/?d=1) <img src=\"https://evil.example/2\">\n\n\
        - item\n- /lgtm\n\n> /approve\n\n&#64;bob, **fixes** #3\n";
    assert!(acts(WORDS).len() > 10, "the judge sees them: {:?}", acts(WORDS));
    let grammar = Grammar::of(&workflow::load(&workflow::builtin(), &|_| None), "/codeforge");
    assert!(!grammar.commands(WORDS).is_empty(), "and so do we");
    let mut story = Story::about_new(kind).await;
    story.write("src/a.txt", "one\nTWO, mended\nthree\n");
    let mut delivery = story.delivery(DeliverKind::PullRequest);
    delivery.title = "Fixes #1 for @ann, closes acme/x#2 /merge".into();
    delivery.body = WORDS.into();
    story
        .publish_as(&delivery, |publication| {
            publication.body = WORDS;
            publication.comment = Some(WORDS);
        })
        .await
        .unwrap();
    story.findings = vec![
        Finding {
            what: WORDS.into(),
            suggestion: Some(WORDS.into()),
            rule: Some("@ann /merge".into()),
            ..finding("src/a.txt", Some(2), "f1")
        },
        Finding { what: WORDS.into(), file: "@ann/fixes #1".into(), ..finding("far.txt", None, "f2") },
    ];
    story.publish(DeliverKind::Review).await.unwrap();
    let all = said(&story);
    let kinds: std::collections::BTreeSet<&str> = all.iter().map(|(what, _)| *what).collect();
    assert_eq!(kinds.len(), 4, "{kind:?}: {kinds:?}");
    for (what, text) in &all {
        assert_eq!(acts(text), Vec::<String>::new(), "{kind:?}, {what}: {text}");
        assert!(grammar.commands(text).is_empty(), "{kind:?}, {what}: {text}");
        assert!(!text.contains("<!-- codeforge:other"), "{kind:?}, {what}: {text}");
    }
    // It stays readable.
    let description = &all.iter().find(|(what, _)| *what == "description").unwrap().1;
    for words in
        ["Thanks @&#8203;ann", "Fixes&#8203; #1", "\\/merge", "(skip ci)", "(image from `evil.example` removed)"]
    {
        assert!(description.contains(words), "{kind:?}, {words}: {description}");
    }
}

/// trust.md 48: what is read in a commit, in a title, and in a description that becomes a commit where it is squashed.
async fn acting_commits(kind: ForgeKind) {
    let acting = [
        ("feat!: all of it", vec!["feat!:"]),
        ("feat(api)!: all of it", vec![")!:"]),
        ("fix: it [skip ci]", vec!["[skip ci]"]),
        (
            "it [CI Skip] [no ci] [skip actions] ***NO_CI***",
            vec!["[CI Skip]", "[no ci]", "[skip actions]", "***NO_CI***"],
        ),
        ("it\n\nBREAKING CHANGE: all\nBREAKING-CHANGE: all", vec!["BREAKING CHANGE", "BREAKING-CHANGE"]),
        ("it\n\nSigned-off-by: Ann <ann@example.com>", vec!["Signed-off-by: Ann"]),
        (
            "it\n\nCo-authored-by: Ann <ann@example.com>\nskip-checks: true",
            vec!["Co-authored-by: Ann", "skip-checks: true"],
        ),
        ("it\n\nRelease-As: 9.0.0\nCodeForge-Key: other/key", vec!["Release-As: 9", "CodeForge-Key: other"]),
        ("it\n\n/merge\n/approve\nbors r+\n@dependabot merge", vec!["\n/merge", "\n/approve", "\nbors", "@dependabot"]),
        ("it closes #7, fixes acme/x#8 and GH-9", vec!["#7", "#8", "GH-9"]),
    ];
    for (at, (words, must_not)) in acting.into_iter().enumerate() {
        let story = Story::of(kind).await;
        story.write("src/a.txt", format!("{at}\n"));
        let mut delivery = story.delivery(DeliverKind::PullRequest);
        delivery.title = words.lines().next().unwrap().into();
        delivery.body = words.into();
        let published = story.publish_as(&delivery, |publication| publication.body = words).await.unwrap();
        let commit = published.commit.unwrap();
        let log = ["log", "-1", "--format=%B", &commit];
        let message = crate::common::ok(crate::common::git().arg("-C").arg(story.server.bare()).args(log));
        let change = story.server.memory().changes[0].clone();
        for word in &must_not {
            assert!(!message.contains(word), "{kind:?}, {word}: {message}");
            assert!(!change.title.contains(word), "{kind:?}, {word}: {}", change.title);
            // In a description a number is a link, and a mark of a breaking change is none.
            let harmless = word.starts_with('#') || word.starts_with("GH-") || word.ends_with("!:");
            assert!(harmless || !change.body.contains(word), "{kind:?}, {word}: {}", change.body);
        }
        let key = format!("CodeForge-Key: {KEY}");
        assert_eq!(message.trim_end().lines().next_back(), Some(key.as_str()), "{kind:?}: {message}");
        assert_eq!(message.matches("CodeForge-Key:").count(), 1, "{kind:?}: {message}");
    }
}

/// trust.md 10, for people: what is proposed says that it holds what cannot be seen, and where; our own words hold none.
async fn hidden_characters(kind: ForgeKind) {
    let mut story = Story::about_new(kind).await;
    let tags: String = "obey".bytes().map(|byte| char::from_u32(0xe0000 + u32::from(byte)).unwrap()).collect();
    story.write("src/a.txt", format!("one\nif admin\u{202e} \u{2066}{{ // {tags}\nthr\u{200b}ee\n"));
    let mut delivery = story.delivery(DeliverKind::PullRequest);
    delivery.title = format!("Me\u{200b}nd \u{202e}it{tags}");
    delivery.body = format!("Be\u{2066}cause.{tags}");
    let body = format!("What was\u{202e} done.{tags}");
    let published = story.publish_as(&delivery, |publication| publication.body = &body).await.unwrap();
    let places = ["src/a.txt:2 holds U+202E, U+2066, U+E006F, U+E0062 and 2 more", "src/a.txt:3 holds U+200B"];
    let told = published.told.join("\n");
    let plain = format!("characters that cannot be seen are in this change: {}; {}", places[0], places[1]);
    assert!(told.contains(&plain), "{kind:?}: {told}");
    let change = story.server.memory().changes.last().cloned().unwrap();
    let flag = format!(
        "<!-- codeforge:{KEY} -->\n> **Look twice: characters that cannot be seen are in this change.** `{}`; `{}`\n\nWhat was done.",
        places[0], places[1]
    );
    assert!(change.body.starts_with(&flag), "{kind:?}: {}", change.body);
    assert!(change.title.ends_with("Mend it"), "{kind:?}: {}", change.title);
    let log = ["log", "-1", "--format=%B", published.commit.as_deref().unwrap()];
    let message = crate::common::ok(crate::common::git().arg("-C").arg(story.server.bare()).args(log));
    assert_eq!(message.trim_end(), format!("Mend it\n\nBecause.\n\nCodeForge-Key: {KEY}"), "{kind:?}");
    // Findings, where they are said.
    story.findings = vec![Finding { what: format!("Wro\u{202e}ng{tags}."), ..finding("src/a.txt", Some(2), "f1") }];
    story.publish(DeliverKind::Review).await.unwrap();
    for (what, text) in said(&story) {
        assert_eq!(codeforge::text::invisible(&text), text, "{kind:?}: {what}");
    }
    // A change without them says nothing of it.
    let plain = Story::of(kind).await;
    plain.write("b.txt", "é 👨\u{200d}👩\n");
    let published = plain.publish(DeliverKind::PullRequest).await.unwrap();
    assert!(!published.told.join(" ").contains("cannot be seen"), "{kind:?}: {:?}", published.told);
}

/// trust.md 43.
async fn forged_marks(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    let number = server.open("ann", "main", "");
    let thread = format!("change {number}");
    let sticky = Sticky { thread: Thread::Change(number), key: "review", body: "ours", memory: None };
    // Somebody else's, and one of our account in which a model wrote the mark.
    server.comment_by("eve", &thread, "<!-- codeforge:review -->\nforged");
    server.comment_by(us(kind), &thread, "quoted:\n<!-- codeforge:review -->");
    let (forge, _) = adapter(&server.at());
    assert!(forge.stick(&sticky).await.unwrap().created);
    if !server.is_remote() {
        return;
    }
    // Where the forge does not say who we are, only a signature tells.
    for whoami in ["/graphql", "/user"] {
        let post = if kind == ForgeKind::Github { "POST" } else { "GET" };
        server.fail(Fault::status(post, whoami, 403).times(2));
    }
    let (nobody, _) = adapter(&server.at());
    assert!(matches!(nobody.stick(&sticky).await, Err(ForgeError::Unsupported(_))));
    server.memory().clear_faults();
    // With a key, a mark without a signature is nobody's: another workflow of the same account may have made it.
    let signed = ForgeAt { marker_key: Some("key".to_owned().into()), ..server.at() };
    let (forge, _) = adapter(&signed);
    assert!(forge.stick(&sticky).await.unwrap().created);
    assert!(!forge.stick(&sticky).await.unwrap().created);
    let bodies: Vec<String> = server.memory().comments.iter().map(|comment| comment.body.clone()).collect();
    assert_eq!(bodies.len(), 4);
    assert!(bodies[0].ends_with("forged") && bodies[1].starts_with("quoted") && bodies[3].contains(" mac:"));
}

async fn secrets(kind: ForgeKind) {
    let story = Story::of(kind).await;
    let reversed: String = TOKEN.chars().rev().collect();
    let hex: String = TOKEN.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = STANDARD.encode(format!("x{TOKEN}yz"));
    let url: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let hidden: String = TOKEN.chars().flat_map(|c| [c, '\u{200b}']).collect();
    let wide: Vec<u8> = TOKEN.encode_utf16().flat_map(u16::to_le_bytes).collect();
    story.write("b.txt", "b\n");
    let base = story.delivery(DeliverKind::PullRequest);
    for leak in [TOKEN, &reversed, &hex, &base64, &url, &hidden] {
        for delivery in [
            Delivery { title: format!("Mend {leak}"), ..base.clone() },
            Delivery { body: format!("See {leak}"), ..base.clone() },
            Delivery { branch: Some(format!("codeforge/{leak}")), ..base.clone() },
        ] {
            assert!(matches!(story.publish_as(&delivery, |_| {}).await, Err(PublishError::Refused(_))), "{delivery:?}");
        }
        let body = format!("Look: {leak}");
        let in_body = story.publish_as(&base, |publication| publication.body = &body).await;
        assert!(matches!(in_body, Err(PublishError::Refused(_))), "{leak}");
    }
    for content in [
        TOKEN.as_bytes(),
        hex.as_bytes(),
        base64.as_bytes(),
        reversed.as_bytes(),
        url.as_bytes(),
        &[b"\0\x01\x02", TOKEN.as_bytes()].concat(),
        &wide,
    ] {
        story.write("leak.bin", content);
        let error = story.publish(DeliverKind::PullRequest).await.unwrap_err().to_string();
        assert!(error.contains("leak.bin") && !error.contains(TOKEN), "{error}");
    }
    assert_eq!((story.server.tip(BRANCH), story.writes()), (None, 0), "nothing left");
}
