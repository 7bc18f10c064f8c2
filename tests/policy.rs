//! The presets, held against calls as agents make them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use codeforge::model::policy::{Decision, Limits, Policy, Rule};
use codeforge::model::tool::{Ruling, TOOLS, ToolCall};
use codeforge::policy::{Scope, explain, judge, shell};
use serde_json::{Value, json};

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
        _ => Vec::new(),
    }
}

fn decision(value: &Value) -> Decision {
    serde_json::from_value(value.clone()).unwrap()
}

fn policy(text: &str) -> Policy {
    let yaml: Value = serde_yaml::from_str(text).unwrap();
    let lines: Vec<usize> =
        text.lines().enumerate().filter(|(_, l)| l.starts_with("  - ")).map(|(n, _)| n + 1).collect();
    let rules = yaml["rules"].as_array().unwrap().iter().zip(lines);
    Policy {
        name: yaml["name"].as_str().unwrap().to_owned(),
        file: "p.yml".to_owned(),
        description: String::new(),
        rules: rules
            .map(|(rule, line)| Rule {
                tools: texts(rule.get("tool")),
                paths: texts(rule.get("path")),
                commands: texts(rule.get("command")),
                decision: decision(&rule["decision"]),
                reason: rule.get("reason").and_then(Value::as_str).map(str::to_owned),
                line,
            })
            .collect(),
        default: decision(&yaml["default"]),
        default_line: 99,
        protected_paths: texts(yaml.get("protected_paths")),
        require_gates: Vec::new(),
        rollback_on_fail: false,
        limits: Limits::default(),
        exec_mode: None,
    }
}

fn preset(name: &str) -> Policy {
    policy(&std::fs::read_to_string(format!("{}/workflows/policies/{name}.yml", env!("CARGO_MANIFEST_DIR"))).unwrap())
}

fn ruling(policy: &Policy, tool: &str, args: Value, read_only: bool) -> Ruling {
    let offered: Vec<String> = TOOLS.iter().map(ToString::to_string).collect();
    let scope = Scope {
        offered: &offered,
        read_only,
        blocked_commands: &["make deploy *".to_owned()],
        protected_paths: &["deploy/**".to_owned()],
        workspace: "/workspace",
        can_ask: false,
        operator_commands: &[],
    };
    let call = ToolCall { id: "1".into(), name: tool.into(), args, malformed: None };
    let ruling = explain(policy, &call, &scope).ruling;
    assert_eq!(judge(policy, &call, &scope).is_ok(), ruling.decision == Decision::Allow);
    ruling
}

fn sh(policy: &Policy, text: &str) -> Ruling {
    ruling(policy, "shell", json!({ "command": text }), false)
}

#[test]
fn the_safe_preset_lets_work_through_and_nothing_beside_it() {
    let safe = preset("headless-safe-sandbox");
    for text in [
        "cargo test",
        "cargo test --lib parse -- --nocapture",
        "cd crates/x && cargo test 2>&1 | tail -20",
        "timeout 60 cargo test",
        "RUST_BACKTRACE=1 cargo test",
        "env RUST_LOG=debug cargo test",
        "python -m pytest -q tests/test_a.py",
        "pytest -k 'a and b'",
        "sh -c 'cargo test'",
        "bash -c \"cargo test | head\"",
        "ls -la src/*.rs",
        "git status && git diff --stat",
        "git -C sub log -3",
        "for f in a b; do wc -l \"$f\"; done",
        "find . -name '*.rs' -exec grep -n x {} +",
        "grep -rn 'a b' src | sort | uniq -c",
        "cat <<'EOF' > notes.txt\ncurl is only text here\nEOF",
        "echo \"$(git rev-parse HEAD)\"",
        "/usr/bin/git status",
        "npm test",
        "npm run test:unit -- --ci",
        "go test ./...",
        "make test",
        "cargo test > /tmp/out.txt 2>&1; tail /tmp/out.txt",
        "if [ -f a ]; then cat a; fi",
        "set -euo pipefail; cargo test",
        "i=0; while [ $i -lt 3 ]; do i=$((i+1)); echo $i; done",
        "check() { cargo clippy; }; check",
        "ls src | xargs wc -l",
        "cat .github/workflows/ci.yml",
        "cargo test \\\n  --lib",
        "command -v cargo",
        "export A=1; cargo test",
        "sed -n '1,20p' src/a.rs",
        "(cd a && npm test)",
        "git diff -- .github",
    ] {
        let ruling = sh(&safe, text);
        assert_eq!(ruling.decision, Decision::Allow, "{text}: {} {}", ruling.reason, ruling.advice);
    }
    for text in [
        "cargo test; curl x",
        "cargo test && curl x",
        "cargo test | sh",
        "curl x",
        "c\\url x",
        "\"cu\"rl x",
        "$(echo curl) x",
        "cargo test $(curl x)",
        "cargo test \"`curl x`\"",
        "cargo test <<E\n$(curl x)\nE",
        "cargo test ${x:-$(curl x)}",
        "echo $(($(curl x)))",
        "cat <(curl x)",
        "sh -c 'curl x'",
        "sh -c \"$x\"",
        "bash -lc 'cargo test'",
        "echo curl x | sh",
        "sh <<E\ncurl x\nE",
        "eval 'curl x'",
        "eval \"$x\"",
        ". ./x",
        "source x",
        "env A=b curl x",
        "env -i curl x",
        "env -S 'curl x'",
        "env PATH=. cargo test",
        "PATH=.:$PATH cargo test",
        "LD_PRELOAD=./x.so cargo test",
        "GIT_SSH_COMMAND=x git status",
        "IFS=x; cargo test",
        "export PATH=/tmp",
        "timeout 5 curl x",
        "nohup curl x",
        "nice -n 5 curl x",
        "time curl x",
        "command curl x",
        "exec curl x",
        "builtin eval 'curl x'",
        "xargs curl < a",
        "echo a | xargs -I{} sh -c '{}'",
        "find . -exec curl {} \\;",
        "find . -delete",
        "find . -name x $y",
        "stdbuf -oL curl x",
        "setsid curl x",
        "busybox wget x",
        "busybox sh -c 'wget x'",
        "sudo cargo test",
        "su -c 'cargo test'",
        "watch curl x",
        "parallel curl ::: x",
        "git push",
        "git -C . push",
        "git -c alias.s='!curl x' s",
        "git -c core.pager=x log",
        "git push origin codeforge/x",
        "git log --output=.github/x",
        "git grep -Ox y",
        "git diff --ext-diff",
        "make SHELL=./x test",
        "alias ls=curl; ls",
        "trap 'curl x' EXIT",
        "hash -p ./x ls",
        "f() { curl x; }; f",
        "cargo() { curl x; }; cargo test",
        "false && f() { ls; }; f",
        "f; f() { ls; }",
        "if true; then curl x; fi",
        "case a in a) curl x;; esac",
        "while curl x; do :; done",
        "! curl x",
        "{ curl x; }",
        "((curl x))",
        "( (curl x) )",
        "[[ a && curl ]]",
        "cargo test & curl x",
        "cargo test &> f curl x",
        "cargo test |& curl x",
        "c{u,}rl x",
        "/bin/cu?l x",
        "~/x",
        "./cargo test",
        "/tmp/cargo test",
        "echo x > .github/workflows/ci.yml",
        "echo x > ./.GitHub/x",
        "cd .github && echo x > workflows/a.yml",
        "tee .gitlab-ci.yml",
        "cp a .github/b",
        "sed -i s/a/b/ AGENTS.md",
        "rm -rf .github",
        "rm -rf .git",
        "echo x >> .git/config",
        "echo x > deploy/a",
        "echo x > \"$f\"",
        "echo x > ../out",
        "echo x > /etc/passwd",
        "cat .env",
        "cat ./a/../.env",
        "cat < .env",
        "git show HEAD:.env",
        "cat .e*",
        "cat secrets/x",
        "grep x --file=.env",
        "cat /workspace/.env",
        "exec 3<>/dev/tcp/host/80",
        "env",
        "printenv",
        "make deploy now",
        "cat <<EOF",
        "echo 'x",
        "x='a[$(curl x)]'; echo $((x))",
        "set -k; ls",
        "read PATH",
        "echo ${x@P}",
        "echo $'\\x41'",
        "cat <<A $(cat <<B)\nA\nB\n",
        "cu\\\nrl x",
        "",
        "A=1",
        "cat <<E\nx\\\nE\ncurl x\nE",
        "!(curl x)",
        "coproc curl x",
        "function f { ls; }",
        "printf -v x y",
        "ls\0x",
        "ls\rcurl",
    ] {
        let ruling = sh(&safe, text);
        assert_eq!(ruling.decision, Decision::Deny, "{text}: {}", ruling.reason);
        assert!(!ruling.reason.is_empty() && ruling.advice.contains(" was not run. "), "{text}: {}", ruling.advice);
    }
}

#[test]
fn a_denial_says_which_rule_and_what_would_allow_it() {
    let policy = policy(
        "name: mine\nrules:\n  - { tool: finish, decision: allow }\n  - { tool: shell, command: \"git push *\", decision: deny, reason: git push is for delivery only }\n  - { tool: shell, command: \"ls *\", decision: ask }\ndefault: deny\n",
    );
    let push = sh(&policy, "ls; git -C . push origin HEAD:main");
    assert_eq!(
        push.advice,
        "`shell: git push origin HEAD:main` was not run. Rule 2 of policy mine (p.yml:4): git push is for delivery only. You can finish with `finish`; the change is delivered for you."
    );
    assert_eq!(
        push.allow_with.unwrap(),
        "- { tool: shell, command: \"git push origin HEAD:main\", decision: allow }  # above line 4"
    );
    let asked = sh(&policy, "ls");
    assert_eq!((asked.decision, asked.by.rule), (Decision::Deny, Some(3)));
    assert!(asked.reason.contains("nobody to ask"), "{}", asked.reason);
    assert_eq!(sh(&policy, "cargo test").by.line, 99);
}

#[test]
fn files_are_judged_by_where_their_paths_lead() {
    let safe = preset("headless-safe-sandbox");
    let call = |tool: &str, args: Value, read_only| ruling(&safe, tool, args, read_only).decision;
    let write = |path: &str| call("write_file", json!({ "path": path }), false);
    assert_eq!(write("src/a.rs"), Decision::Allow);
    assert_eq!(write("/workspace/src/a.rs"), Decision::Allow);
    for path in [
        ".github/x",
        "./src/../.GITHUB/x",
        "/workspace/.github/x",
        "../x",
        "/etc/x",
        ".git/hooks/x",
        "sub/.git/config",
        "deploy/x",
        "Agents.md",
        ".env",
        "a/.env",
    ] {
        assert_eq!(write(path), Decision::Deny, "{path}");
    }
    assert_eq!(call("write_file", json!({}), false), Decision::Deny);
    assert_eq!(call("write_file", json!({ "path": "a" }), true), Decision::Deny);
    assert_eq!(call("read_file", json!({ "path": ".github/x" }), true), Decision::Allow);
    assert_eq!(call("browse", json!({}), false), Decision::Deny);
    let patch = |text: &str| call("apply_patch", json!({ "patch": text }), false);
    assert_eq!(patch("--- a/src/a\n+++ b/src/a\n@@ -1 +1 @@\n-a\n+b\n"), Decision::Allow);
    assert_eq!(patch("diff --git a/src/a b/src/b\nrename from src/a\nrename to .github/b\n"), Decision::Deny);
    assert_eq!(patch("--- a/src/a\n+++ \"b/\\056github/x\"\n"), Decision::Deny);
}

#[test]
fn the_other_presets_differ_where_they_say() {
    let (plan, free, own) =
        (preset("plan-readonly"), preset("headless-permissive-sandbox"), preset("trusted-mount-autonomous"));
    assert_eq!(sh(&plan, "ls").decision, Decision::Deny);
    assert_eq!(ruling(&plan, "write_file", json!({ "path": "a" }), false).decision, Decision::Deny);
    assert_eq!(sh(&free, "./run.sh && python x.py").decision, Decision::Allow);
    for text in ["/opt/x/curl a", "git $x", "strace curl a", "python x.py; wget a", "echo x > .npmrc"] {
        assert_eq!(sh(&free, text).decision, Decision::Deny, "{text}");
    }
    assert!(sh(&own, "git reset --hard HEAD").by.rule.is_some());
    assert_eq!(sh(&own, "git reset --hard HEAD").decision, Decision::Deny);
}

#[test]
fn commands_are_listed_with_what_they_wrap() {
    for (text, expected) in [
        ("a; b | c && d || e & f", vec!["a", "b", "c", "d", "e", "f"]),
        (
            "timeout -s KILL 5 env A=b nice -5 a x",
            vec!["timeout -s KILL 5 env A=b nice -5 a x", "env A=b nice -5 a x", "nice -5 a x", "a x"],
        ),
        ("a \"$(b $(c))\"", vec!["c", "b …", "a …"]),
        ("f() { a; }; f x; b", vec!["a", "b"]),
        ("sh -c 'a; b' x", vec!["sh -c 'a; b' x", "a", "b"]),
        ("xargs -0 -n 1 a < l", vec!["xargs -0 -n 1 a < l", "a …"]),
        ("git -C x --no-pager log", vec!["git log"]),
        ("a 2>&1 >f <g", vec!["a < g > f"]),
    ] {
        let found: Vec<String> = shell::commands(text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{text}");
    }
}
