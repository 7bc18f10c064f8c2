//! Names, marks and secrets that mean no good.

use crate::story::*;

everywhere! {
    only_our_own_branches_are_pushed_to => only_ours;
    a_forged_mark_is_not_ours => forged_marks;
    secrets_leave_in_no_form => secrets;
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
    let hidden: String = TOKEN.chars().flat_map(|c| [c, '\u{200b}']).collect();
    let wide: Vec<u8> = TOKEN.encode_utf16().flat_map(u16::to_le_bytes).collect();
    story.write("b.txt", "b\n");
    let base = story.delivery(DeliverKind::PullRequest);
    for leak in [TOKEN, &reversed, &hex, &hidden] {
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
    for content in [TOKEN.as_bytes(), hex.as_bytes(), &[b"\0\x01\x02", TOKEN.as_bytes()].concat(), &wide] {
        story.write("leak.bin", content);
        let error = story.publish(DeliverKind::PullRequest).await.unwrap_err().to_string();
        assert!(error.contains("leak.bin") && !error.contains(TOKEN), "{error}");
    }
    assert_eq!((story.server.tip(BRANCH), story.writes()), (None, 0), "nothing left");
}
