//! What stands in for a release: a program that writes its environment down, and a server to download it from.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Values that mean something to a shell, to YAML, to a template, to the runner or to git.
pub const HOSTILE: &str = "one $(touch pwned) `touch pwned` \"'\\\n::set-output name=conclusion::forged\n::add-path::/tmp\n\
                       ${{ secrets.KEY }} $[[ inputs.as ]] {{ 7*7 }}\nEOF\nghadelimiter_x\n- { a: b } # no comment\t\u{202e}é %0A;|&<>";

const PROBE: &str = r#"#!/bin/sh
test "$*" = ci || exit 9
cat /proc/$$/environ >"@/${GITHUB_JOB:-$CI_JOB_NAME}"
[ -z "$GITHUB_OUTPUT" ] || echo conclusion=success >>"$GITHUB_OUTPUT"
[ -z "$CODEFORGE_REPORT_DIR" ] || { mkdir -p "$CODEFORGE_REPORT_DIR" && echo CODEFORGE_GATE_WORD=sha256:none >"$CODEFORGE_REPORT_DIR/outputs.env"; }
"#;

/// A program in place of codeforge that writes its environment down, as it came.
pub fn probe(folder: &Path) -> (PathBuf, PathBuf) {
    let (program, seen) = (folder.join("probe"), folder.join("seen"));
    std::fs::create_dir_all(&seen).unwrap();
    std::fs::set_permissions(&seen, std::fs::Permissions::from_mode(0o777)).unwrap();
    let text = PROBE.replace("@", seen.to_str().unwrap());
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (program, seen)
}

/// The environment that the probe wrote down.
pub fn environment(file: &Path) -> BTreeMap<String, String> {
    let bytes = std::fs::read(file).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    text.split('\0').filter_map(|pair| pair.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

/// A release server: answers with what is in a folder, and counts.
pub struct Releases {
    pub url: String,
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Releases {
    /// Serves a folder.
    pub fn serve(folder: &Path) -> Self {
        use std::io::{BufRead, BufReader};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/releases", listener.local_addr().unwrap());
        let asked: std::sync::Arc<std::sync::Mutex<Vec<String>>> = std::sync::Arc::default();
        let (folder, told) = (folder.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let path = lines.next().unwrap().unwrap().split(' ').nth(1).unwrap().to_owned();
                for line in lines {
                    if line.unwrap().is_empty() {
                        break;
                    }
                }
                told.lock().unwrap().push(path.clone());
                let answer = match std::fs::read(folder.join(path.trim_start_matches("/releases/"))) {
                    Ok(body) => [
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())
                            .into_bytes(),
                        body,
                    ]
                    .concat(),
                    Err(_) => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
                };
                let _ = stream.write_all(&answer);
            }
        });
        Self { url, asked }
    }

    /// How many requests there were since the last question.
    pub fn asked(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap()).len()
    }
}

/// Puts a program up as release 1.2.3; gives its digest.
pub fn release(folder: &Path, program: &[u8]) -> String {
    use sha2::Digest;
    let name = format!("codeforge-1.2.3-{}-linux.gz", std::env::consts::ARCH);
    let place = folder.join("v1.2.3");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("program"), program).unwrap();
    #[expect(clippy::disallowed_methods, reason = "tests start programs as people do")]
    let packed = std::process::Command::new("gzip").arg("-c").arg(place.join("program")).output().unwrap().stdout;
    std::fs::write(place.join(name), packed).unwrap();
    sha2::Sha256::digest(program).iter().map(|byte| format!("{byte:02x}")).collect()
}
