//! What a push has to keep, asked before anything is paid for; and what a token must be able to do.

use crate::common::forge_server::gitlab;
use crate::story::*;
use codeforge::port::forge::{NewCommit, RuleAbout};
use serde_json::{Value, json};

everywhere! {
    a_push_that_starts_no_checks_is_known_beforehand => starts;
}

async fn starts(kind: ForgeKind) {
    let server = ForgeServer::start(kind).await;
    let usual = if kind == ForgeKind::Local { Right::Unknown } else { Right::Yes };
    assert_eq!(adapter(&server.at()).0.starts_checks().await.unwrap(), usual, "{kind:?}");
    let mut at = server.at();
    let (account, word) = match kind {
        ForgeKind::Github => ("github-actions[bot]", "create-github-app-token"),
        ForgeKind::Gitea => ("gitea-actions", "CODEFORGE_FORGE_TOKEN"),
        // The token says it itself.
        ForgeKind::Gitlab => {
            at.token = "glcbt-64_0123456789".to_owned().into();
            ("", "project access token")
        }
        ForgeKind::Local => return,
    };
    server.memory().acts_as = Some(account.to_owned());
    let of_a_job = adapter(&at).0.starts_checks().await.unwrap();
    assert!(matches!(&of_a_job, Right::No(what) if what.contains(word)), "{kind:?}: {of_a_job:?}");
}

/// What holds for a branch, as it is about.
async fn about(server: &ForgeServer, branch: &str) -> Vec<RuleAbout> {
    let (forge, _) = adapter(&server.at());
    forge.push_rules(branch).await.unwrap().into_iter().map(|rule| rule.about).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gitlabs_protected_branches_and_push_rules_are_told() {
    use RuleAbout::{Branch, Form, Signature, Unsure};
    let server = ForgeServer::start(ForgeKind::Gitlab).await;
    let branch = "codeforge/fix/1";
    assert_eq!(about(&server, branch).await, [], "a GitLab without push rules");
    let level = |level: u64| json!({ "access_level": level, "user_id": null, "group_id": null });
    let protected = |name: &str, levels: &[Value], force: bool| {
        let merge = [json!({ "access_level": 40 })];
        json!({ "id": 1, "name": name, "push_access_levels": levels, "merge_access_levels": merge, "allow_force_push": force })
    };
    let us = gitlab::account(BOT);
    // The token's account is a Developer.
    for (case, protections, wanted) in [
        (
            "not this branch",
            vec![protected("main", &[level(40)], false), protected("*-stable", &[level(40)], false)],
            vec![],
        ),
        ("Maintainers", vec![protected("codeforge/*", &[level(40)], true)], vec![Branch]),
        ("nobody", vec![protected("*", &[level(0)], true)], vec![Branch]),
        (
            "a deploy key",
            vec![protected("*", &[json!({ "access_level": 30, "deploy_key_id": 1 })], true)],
            vec![Branch],
        ),
        ("Developers, without force", vec![protected("codeforge/*", &[level(30)], false)], vec![Branch]),
        ("Developers", vec![protected("codeforge/*", &[level(30)], true)], vec![]),
        ("we", vec![protected("*", &[json!({ "access_level": null, "user_id": us })], true)], vec![]),
        (
            "somebody else",
            vec![protected("*", &[json!({ "access_level": null, "user_id": us + 1 })], true)],
            vec![Branch],
        ),
        ("a group", vec![protected("*", &[json!({ "access_level": null, "group_id": 3 })], true)], vec![Unsure]),
        // Of several the one that allows most counts.
        ("both", vec![protected("*", &[level(0)], false), protected("codeforge/*", &[level(30)], true)], vec![]),
    ] {
        server.memory().protections = protections;
        assert_eq!(about(&server, branch).await, wanted, "{case}");
    }
    // Pages are read to their end.
    server.memory().page = 1;
    server.memory().protections =
        vec![protected("main", &[level(40)], false), protected("codeforge/*", &[level(40)], false)];
    assert_eq!(about(&server, branch).await, [Branch]);
    server.memory().protections.clear();
    // A project that never had any, one that has all but none on, and one with some.
    server.memory().push_rule = Some(Value::Null);
    assert_eq!(about(&server, branch).await, []);
    server.memory().push_rule = Some(json!({
        "id": 1, "commit_message_regex": "", "branch_name_regex": null, "deny_delete_tag": true, "member_check": false,
        "prevent_secrets": false, "max_file_size": 0, "commit_committer_check": null, "reject_unsigned_commits": null,
    }));
    assert_eq!(about(&server, branch).await, []);
    server.memory().push_rule = Some(json!({
        "commit_message_regex": "^[A-Z]\u{1b}[31m", "max_file_size": 10, "reject_unsigned_commits": true,
        "reject_non_dco_commits": true,
    }));
    assert_eq!(about(&server, branch).await, [Signature, Form, Form, Form]);
    let (forge, _) = adapter(&server.at());
    let words: Vec<String> = forge.push_rules(branch).await.unwrap().into_iter().map(|rule| rule.words).collect();
    assert_eq!(words[2], "messages must fit `^[A-Z]`");
    assert!(words[1].contains("delivery.sign_off") && words[3].contains("10 MB"), "{words:?}");
    // Who may not ask is told what it takes; what cannot be read is no rule that does not hold.
    server.fail(Fault::status("GET", "/push_rule", 403));
    assert_eq!(about(&server, branch).await, [Unsure]);
    server.fail(Fault::status("GET", "/protected_branches", 403));
    let refused = forge.push_rules(branch).await.unwrap_err().to_string();
    assert!(refused.contains("role Maintainer"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giteas_branch_protections_are_told() {
    use RuleAbout::{Branch, Form, Signature, Unsure};
    let server = ForgeServer::start(ForgeKind::Gitea).await;
    let rule = |name: &str, more: Value| {
        let mut rule = json!({
            "rule_name": name, "branch_name": name, "enable_push": true, "enable_force_push": true,
            "push_whitelist_usernames": null, "push_whitelist_teams": [], "protected_file_patterns": "",
        });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let branch = "codeforge/1";
    let listed = |names: &[&str], teams: &[&str]| json!({ "enable_push_whitelist": true, "push_whitelist_usernames": names, "push_whitelist_teams": teams });
    let closed = || json!({ "enable_push": false });
    for (case, rules, wanted) in [
        ("none", vec![], vec![]),
        ("another", vec![rule("main", closed()), rule("*", closed()), rule("codeforge", closed())], vec![]),
        ("nobody may", vec![rule("codeforge/*", closed())], vec![Branch]),
        ("by its name, whatever its case", vec![rule("CodeForge/1", closed())], vec![Branch]),
        ("the first that fits", vec![rule("codeforge/1", json!({})), rule("**", closed())], vec![]),
        ("no force", vec![rule("codeforge/*", json!({ "enable_force_push": false }))], vec![Branch]),
        ("we are listed", vec![rule("codeforge/*", listed(&["ann", BOT], &["core"]))], vec![]),
        ("somebody else is", vec![rule("codeforge/*", listed(&["ann"], &[]))], vec![Branch]),
        ("a team is", vec![rule("codeforge/*", listed(&["ann"], &["core"]))], vec![Unsure]),
        ("signatures", vec![rule("codeforge/*", json!({ "require_signed_commits": true }))], vec![Signature]),
        ("files", vec![rule("codeforge/*", json!({ "protected_file_patterns": "*.lock;ci/*" }))], vec![Form]),
        // An older version knows neither the rule's new name nor force pushes.
        ("old", vec![json!({ "branch_name": "codeforge/*", "enable_push": true })], vec![Branch]),
    ] {
        server.memory().protections = rules;
        assert_eq!(about(&server, branch).await, wanted, "{case}");
    }
    server.memory().protections = vec![rule("codeforge/*", closed())];
    assert_eq!(about(&server, "codeforge/fix/1").await, [], "a star ends at a slash");
    server.fail(Fault::status("GET", "/branch_protections", 403));
    let refused = adapter(&server.at()).0.push_rules(branch).await.unwrap_err().to_string();
    assert!(refused.contains("admin access"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_commit_that_is_refused_names_what_it_takes() {
    let server = ForgeServer::start(ForgeKind::Github).await;
    let (forge, _) = adapter(&server.at());
    let parent = server.commit_by("ann", "topic", "main", &[("b.txt", Some("b\n"))]);
    let (additions, deletions) = ([("c.txt".to_owned(), b"c\n".to_vec())], []);
    let commit = NewCommit {
        branch: "topic",
        parent: &parent,
        title: "Add c",
        body: "",
        additions: &additions,
        deletions: &deletions,
    };
    // GraphQL refuses with a status of 200.
    let error = |kind: &str| json!({ "data": null, "errors": [{ "type": kind, "message": "scripted" }] });
    for fault in [
        Fault::status("POST", "/graphql", 200).answering(error("FORBIDDEN")),
        Fault::status("POST", "/graphql", 403).saying("Resource not accessible by integration"),
    ] {
        server.fail(fault);
        let refused = forge.commit_on_branch(&commit).await.unwrap_err();
        let ForgeError::Refused { needs: Some(needs), .. } = &refused else { panic!("{refused}") };
        assert_eq!(needs, "permissions: contents: write");
    }
    server.fail(Fault::status("POST", "/graphql", 200).answering(error("RATE_LIMITED")));
    assert!(matches!(forge.commit_on_branch(&commit).await, Err(ForgeError::RateLimited { .. })));
    assert_eq!(server.tip("topic").unwrap(), parent);
    let made = forge.commit_on_branch(&commit).await.unwrap();
    assert_eq!(server.tip("topic").unwrap(), made);
    // The branch is elsewhere now.
    let moved = forge.commit_on_branch(&commit).await.unwrap_err();
    assert!(matches!(&moved, ForgeError::Moved { name, .. } if name == "topic"), "{moved}");
}
