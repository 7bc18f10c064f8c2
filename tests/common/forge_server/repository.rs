//! Git over HTTP: `git http-backend`, with a token and protected branches.

use super::{Inner, JOB_TOKEN, TOKEN};
use crate::common::git;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

/// Protected branches are refused as a forge refuses them: by a hook.
const HOOK: &str = r#"#!/bin/sh
while read -r old new ref; do
  if [ -f protected ] && grep -qx "$ref" protected; then
    echo "GH006: Protected branch update failed for $ref." >&2
    exit 1
  fi
done
"#;

pub(super) fn set_up(bare: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for (name, value) in [("http.receivepack", "true"), ("uploadpack.allowAnySHA1InWant", "true")] {
        assert!(git().arg("-C").arg(bare).args(["config", name, value]).status().unwrap().success());
    }
    let hook = bare.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, HOOK).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
}

pub(super) async fn serve(
    inner: &Inner,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let right = ["x-access-token", "oauth2"]
        .iter()
        .any(|user| given == format!("Basic {}", base64(&format!("{user}:{TOKEN}"))));
    let minted = inner.memory().app.as_ref().is_some_and(|app| {
        app.tokens().iter().any(|token| given == format!("Basic {}", base64(&format!("x-access-token:{token}"))))
    });
    // The token of a GitLab job reads its project, and nothing more.
    let of_a_job = given == format!("Basic {}", base64(&format!("gitlab-ci-token:{JOB_TOKEN}")))
        && !path.ends_with("git-receive-pack")
        && !query.contains("git-receive-pack");
    if !right && !minted && !of_a_job {
        let refused = Response::builder().status(401).header("www-authenticate", "Basic realm=\"git\"");
        return refused.body(Body::from("Authentication failed")).unwrap();
    }
    let protected: Vec<String> =
        inner.memory().protected.iter().map(|branch| format!("refs/heads/{branch}\n")).collect();
    std::fs::write(inner.bare().join("protected"), protected.concat()).unwrap();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut command = git();
    command.arg("http-backend").env("GIT_PROJECT_ROOT", inner.folder.path()).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("PATH_INFO", path).env("QUERY_STRING", query).env("REQUEST_METHOD", method.as_str());
    command.env("CONTENT_TYPE", header("content-type")).env("CONTENT_LENGTH", body.len().to_string());
    command
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("REMOTE_USER", "bot")
        .env("REMOTE_ADDR", "127.0.0.1");
    command.env("GIT_PROTOCOL", header("git-protocol"));
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&body);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output.stdout
    })
    .await
    .unwrap();
    let end = output.windows(4).position(|part| part == b"\r\n\r\n").expect("a CGI answer");
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            name => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).unwrap()
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            out.push(if place <= chunk.len() {
                char::from(ALPHABET[((bits >> (18 - 6 * place)) & 63) as usize])
            } else {
                '='
            });
        }
    }
    out
}
