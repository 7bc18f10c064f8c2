//! The image, built from the Dockerfile's own instructions on a Debian made here, and run as strangers run it: not root,
//! nothing to write to but two folders, no capability.

mod common;

use codeforge::model::forge::ForgeKind;
use common::forge_server::{ForgeServer, TOKEN};
use common::{ModelServer, Reply, Rule, ok, spoken};
use serde_json::json;
use std::path::Path;
use std::process::Command;

#[expect(clippy::disallowed_methods, reason = "tests start programs as people do")]
fn start(program: &str) -> Command {
    Command::new(program)
}

/// Removes the image again.
struct Image(String);

impl Drop for Image {
    fn drop(&mut self) {
        let _ = start("docker").args(["rmi", "--force", &self.0]).output();
    }
}

impl Image {
    /// From the program under test, without what only a debugger reads.
    fn build() -> Self {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let context = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(context.path().join("dist")).unwrap();
        std::fs::create_dir_all(context.path().join("docker")).unwrap();
        for file in ["docker/Dockerfile", "docker/collect", "docker/codeforge-once"] {
            std::fs::copy(project.join(file), context.path().join(file)).unwrap();
        }
        let program = context.path().join("dist/codeforge-amd64");
        ok(start("strip").arg("-o").arg(&program).arg(env!("CARGO_BIN_EXE_codeforge")));
        let image = Self(format!("codeforge-image:test-{}", std::process::id()));
        let mut build = start("docker");
        build.env("DOCKER_BUILDKIT", "0").args([
            "build",
            "--network",
            "host",
            "--build-arg",
            "BASE=codeforge-debian:1",
        ]);
        build.args(["--tag", &image.0, "--file"]).arg(context.path().join("docker/Dockerfile")).arg(context.path());
        ok(&mut build);
        image
    }

    /// Starts a container, walled in.
    fn run(&self) -> Command {
        let mut command = start("docker");
        command.args(["run", "--rm", "--read-only", "--network", "host", "--cap-drop", "ALL"]);
        command.args([
            "--security-opt",
            "no-new-privileges",
            "--tmpfs",
            "/tmp",
            "--tmpfs",
            "/work:uid=10001,gid=10001",
        ]);
        command
    }
}

const MEND: &str = r#"
name: mend
on: { schedule: [{ cron: "0 4 * * *" }] }
steps:
  work: { mode: coder, prompt: "Mend it", gates: [tests] }
deliver: { as: pull_request, branch: "codeforge/nightly", title: "Mended" }
"#;
const CONFIG: &str = "gates:\n  tests: { run: \"grep -q mended app.txt\", on_fail: retry }\n  lint: { run: \"test -f app.txt\", on_fail: fail }\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_image_runs_once_as_nobody_with_nothing_to_write_to() {
    let image = tokio::task::block_in_place(Image::build);
    let sized = ok(start("docker").args(["history", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", &image.0]));
    let base = sized.lines().filter(|line| !line.contains("codeforge-amd64") && !line.starts_with("0B ")).count();
    assert!(base <= 3, "the system, the script: {sized}");

    // What is in it: no package manager, no second user, git that speaks HTTPS, a program that starts.
    let look = "id -u; touch /usr/x /etc/x 2>&1 | grep -c Read-only; codeforge --version; git ls-remote https://127.0.0.1:1/x 2>&1; \
                ls /usr/bin/apt /usr/bin/dpkg /bin/bash 2>&1 | grep -c 'No such'; grep -c CapEff:.0000000000000000 /proc/self/status; \
                find / -xdev -perm /6000 -type f 2>/dev/null | wc -l; touch /work/y /tmp/y && echo written";
    let said = ok(image.run().args([&image.0, "sh", "-c", look]));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0], lines[1]), ("10001", "2"), "{said}");
    assert!(lines[2].starts_with("codeforge ") && lines[3].contains("onnect"), "{said}");
    assert_eq!(lines[4..], ["3", "1", "0", "written"], "{said}");
    let health = ok(start("docker").args([
        "image",
        "inspect",
        "--format",
        "{{.Config.Healthcheck.Test}} {{.Config.User}}",
        &image.0,
    ]));
    assert_eq!(health.trim(), "[CMD codeforge --version] 10001:10001");

    // A run as a CronJob makes it: clone, work, push, pull request. Secrets are files; the wall is the container.
    let files = [(".codeforge/workflows/mend.yml", MEND), (".codeforge/config.yml", CONFIG), ("app.txt", "broken\n")];
    let forge = ForgeServer::with(ForgeKind::Github, &files).await;
    let edit = json!({ "path": "app.txt", "old": "broken", "new": "mended" });
    let server = ModelServer::start(vec![
        Rule::when().turn(0).reply(Reply::call("edit_file", edit).usage(1000, 100)).always(),
        Rule::when().reply(Reply::call("finish", json!({ "summary": "Mended" })).usage(1000, 10)).always(),
    ])
    .await;
    let secrets = tempfile::tempdir().unwrap();
    for (name, value) in [("forge-token", TOKEN), ("llm-api-key", "sk-test-0123456789")] {
        std::fs::write(secrets.path().join(name), value).unwrap();
    }
    std::fs::set_permissions(secrets.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let once = |token: &str, more: &[(&str, &str)]| {
        let mut command = image.run();
        command.arg("--volume").arg(format!("{}:/secrets:ro", secrets.path().display()));
        let (repository, api) = (forge.git_url(), forge.api());
        let mut variables = vec![
            ("CODEFORGE_REPOSITORY", repository.as_str()),
            ("CODEFORGE_FORGE", "github"),
            ("CODEFORGE_FORGE_API", &api),
            ("CODEFORGE_WORKFLOW", "mend"),
            ("CODEFORGE_MODEL", "scripted-1"),
            ("CODEFORGE_LLM_BASE_URL", server.url()),
            ("CODEFORGE_LLM_PRICE_INPUT", "1"),
            ("CODEFORGE_LLM_PRICE_OUTPUT", "1"),
            ("CODEFORGE_FORGE_TOKEN_FILE", token),
            ("CODEFORGE_LLM_API_KEY_FILE", "/secrets/llm-api-key"),
        ];
        variables.extend(more);
        for (name, value) in variables {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        tokio::task::block_in_place(|| command.arg(&image.0).output().unwrap())
    };
    // Without a wall that can be had here, and without a word that none is wanted, nothing runs.
    let refused = once("/secrets/forge-token", &[]);
    assert_eq!(refused.status.code(), Some(5), "{}", spoken(&refused));
    assert!(forge.memory().changes.is_empty() && server.asked().is_empty());
    let done = once("/secrets/forge-token", &[("CODEFORGE_SANDBOX", "none")]);
    assert_eq!(done.status.code(), Some(0), "{}", spoken(&done));
    assert_eq!(forge.file("codeforge/nightly", "app.txt").as_deref(), Some("mended\n"), "{}", spoken(&done));
    assert_eq!(forge.memory().changes.len(), 1);
    assert!(!spoken(&done).contains(TOKEN) && !spoken(&done).contains("sk-test"));

    let wrong = once("/secrets/llm-api-key", &[("CODEFORGE_SANDBOX", "none")]);
    assert!(wrong.status.code() == Some(5) && spoken(&wrong).contains("cannot be cloned"), "{}", spoken(&wrong));
    let told = once("/secrets/forge-token", &[("CODEFORGE_REPOSITORY", "https://me:secret@127.0.0.1/x")]);
    assert!(told.status.code() == Some(2) && !spoken(&told).contains("secret@"), "{}", spoken(&told));
    let none = once("/secrets/nothing", &[]);
    assert!(none.status.code() == Some(2) && spoken(&none).contains("/secrets/nothing"), "{}", spoken(&none));
}
