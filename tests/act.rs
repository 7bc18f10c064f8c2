//! The GitHub action, run by a real runner of GitHub's workflows (`act`), on the host and in containers.

mod common;

use common::TestRepo;
use common::act::{Act, action};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Values that mean something to a shell, to YAML, to a template, to the runner or to git.
const HOSTILE: &str = "one $(touch pwned) `touch pwned` \"'\\\n::set-output name=conclusion::forged\n::add-path::/tmp\n\
                       ${{ secrets.KEY }} $[[ inputs.as ]] {{ 7*7 }}\nEOF\nghadelimiter_x\n- { a: b } # no comment\t\u{202e}é %0A;|&<>";

/// A program in place of codeforge that writes its environment down, as it came.
fn probe(folder: &Path) -> (PathBuf, PathBuf) {
    let (program, seen) = (folder.join("probe"), folder.join("seen"));
    std::fs::create_dir_all(&seen).unwrap();
    std::fs::set_permissions(&seen, std::fs::Permissions::from_mode(0o777)).unwrap();
    let text = format!(
        "#!/bin/sh\ntest \"$*\" = ci || exit 9\ncat /proc/$$/environ >{}/$GITHUB_JOB\necho conclusion=success >>\"$GITHUB_OUTPUT\"\n",
        seen.display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (program, seen)
}

fn environment(file: &Path) -> BTreeMap<String, String> {
    let bytes = std::fs::read(file).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    text.split('\0').filter_map(|pair| pair.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

/// The inputs that are given to the program, from `action.yml`.
fn inputs() -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("action.yml")).unwrap();
    let action: Value = serde_yaml::from_str(&text).unwrap();
    let own = ["version", "mirror", "github-token"];
    action["inputs"].as_object().unwrap().keys().filter(|name| !own.contains(&name.as_str())).cloned().collect()
}

#[test]
fn what_users_and_events_say_reaches_the_program_whole_and_nothing_else() {
    let inputs = inputs();
    let given: String =
        inputs.iter().map(|name| format!("          {name}: ${{{{ github.event.comment.body }}}}\n")).collect();
    let workflow = format!(
        "on: issue_comment\npermissions: {{}}\njobs:\n  given:\n    runs-on: ubuntu-latest\n    steps:\n      - id: it\n        uses: \
         acme/codeforge@v1\n        with:\n{given}  none:\n    runs-on: ubuntu-latest\n    env: {{ CODEFORGE_MAX_COST_USD: '0.25' }}\n    \
         steps:\n      - uses: acme/codeforge@v1\n        with: {{ phase: gate, model: m }}\n"
    );
    let payload = json!({ "action": "created", "comment": { "body": HOSTILE } });
    for docker in [false, true] {
        let repo = TestRepo::with(&[("a.txt", "a\n"), (".github/workflows/it.yml", &workflow)]);
        let (folder, action) = (tempfile::tempdir().unwrap(), action());
        let (program, seen) = probe(folder.path());
        let mut act = Act::new(&repo, action.path());
        act.env("CODEFORGE_BINARY", program.to_str().unwrap())
            .secret("KEY", "k-3f9a27")
            .secret("GITHUB_TOKEN", "t-90ab12");
        if docker {
            // The probe writes there: the one folder that is not read-only.
            act.in_docker().mount_writable(folder.path());
        }
        let ran = act.run("it.yml", "issue_comment", &payload);
        ran.ok();
        let given = environment(&seen.join("given"));
        for name in &inputs {
            let variable = format!("CODEFORGE_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(given[&variable], HOSTILE, "{name}, docker: {docker}");
        }
        assert_eq!(given["CODEFORGE_FORGE_TOKEN"], "t-90ab12", "the job's own token");
        assert_eq!(ran.output("given", "it", "conclusion").as_deref(), Some("success"), "nothing was forged");
        assert!(!given["PATH"].starts_with("/tmp"), "{}", given["PATH"]);
        // What a job's own variables say holds where an input says nothing; a gate gets no token.
        let none = environment(&seen.join("none"));
        assert_eq!((none["CODEFORGE_MAX_COST_USD"].as_str(), none["CODEFORGE_MODEL"].as_str()), ("0.25", "m"));
        assert_eq!((none["CODEFORGE_FORGE_TOKEN"].as_str(), none["CODEFORGE_PROMPT"].as_str()), ("", ""));
        assert!(!repo.has("pwned") && !folder.path().join("pwned").exists());
    }
}

/// A release server: answers with what is in a folder, and counts.
struct Releases {
    url: String,
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Releases {
    fn serve(folder: &Path) -> Self {
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

    fn asked(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap()).len()
    }
}

/// Puts a program up as release 1.2.3; gives its digest.
fn release(folder: &Path, program: &[u8]) -> String {
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

fn table(digest: &str, url: &str) -> String {
    format!("# words\n# from {url}\n{digest}  codeforge-1.2.3-{}-linux\n", std::env::consts::ARCH)
}

#[test]
fn the_action_downloads_its_program_and_starts_no_other() {
    let workflow = "on: push\npermissions: {}\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - id: it\n        uses: acme/codeforge@v1\n  \
                    mirror:\n    runs-on: ubuntu-latest\n    steps:\n      - id: it\n        uses: acme/codeforge@v1\n        with: { mirror: \"${{ vars.MIRROR }}\" }\n";
    let repo = TestRepo::with(&[("a.txt", "a\n"), (".github/workflows/it.yml", workflow)]);
    let (folder, action, files) = (tempfile::tempdir().unwrap(), action(), tempfile::tempdir().unwrap());
    let (program, seen) = probe(folder.path());
    let digest = release(files.path(), &std::fs::read(&program).unwrap());
    let (server, other) = (Releases::serve(files.path()), tempfile::tempdir().unwrap());
    release(other.path(), b"#!/bin/sh\ntouch /tmp/pwned-by-a-mirror\n");
    let bad = Releases::serve(other.path());
    std::fs::write(action.path().join("action/checksums.txt"), table(&digest, &server.url)).unwrap();

    let ran = Act::new(&repo, action.path()).var("MIRROR", &bad.url).run("it.yml", "push", &json!({}));
    ran.failed();
    assert_eq!(ran.output("one", "it", "conclusion").as_deref(), Some("success"), "{}", ran.log());
    assert!(ran.said("one").contains("codeforge 1.2.3: downloaded, digest checked"), "{}", ran.log());
    assert!(seen.join("one").exists() && !seen.join("mirror").exists());
    assert_eq!((server.asked(), bad.asked()), (1, 1));
    let told = ran.annotations("mirror").join("\n");
    assert!(told.contains("is not the released program"), "{told}");
    assert!(!Path::new("/tmp/pwned-by-a-mirror").exists());
}

#[test]
fn a_cached_program_is_checked_again_and_bad_values_are_named_not_echoed() {
    let (folder, action, files, cache) =
        (tempfile::tempdir().unwrap(), action(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (program, _) = probe(folder.path());
    let digest = release(files.path(), &std::fs::read(&program).unwrap());
    let server = Releases::serve(files.path());
    let install = |version: &str, mirror: &str, binary: &str| -> (i32, String) {
        #[expect(clippy::disallowed_methods, reason = "tests start programs as people do")]
        let mut command = std::process::Command::new("sh");
        command.arg(action.path().join("action/install.sh")).env_clear().env("PATH", std::env::var("PATH").unwrap());
        command.env("RUNNER_TOOL_CACHE", cache.path()).env("INSTALL_VERSION", version).env("INSTALL_MIRROR", mirror);
        command.env("CODEFORGE_BINARY", binary);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };

    // This checkout is no release: it says so, and that a version of the table or a digest is needed.
    let (code, said) = install("", &server.url, "");
    assert!(code == 2 && said.contains("is not a release"), "{said}");
    let (code, said) = install("1.2.3", &server.url, "");
    assert!(code == 2 && said.contains("does not know that version"), "{said}");
    assert_eq!(server.asked(), 0);

    // Pinned by digest: downloaded once, then from the cache, and not from a cache that somebody changed.
    let pinned = format!("v1.2.3@sha256:{digest}");
    let (code, said) = install(&pinned, &server.url, "");
    assert_eq!(code, 0, "{said}");
    let found = PathBuf::from(said.lines().last().unwrap());
    assert!(found.starts_with(cache.path()) && server.asked() == 1);
    let (code, said) = install(&pinned, &server.url, "");
    assert!(code == 0 && said.contains("from the runner's cache") && server.asked() == 0, "{said}");
    std::fs::write(&found, "#!/bin/sh\ntouch pwned\n").unwrap();
    let (code, said) = install(&pinned, &server.url, "");
    assert!(
        code == 0 && server.asked() == 1 && std::fs::read(&found).unwrap() == std::fs::read(&program).unwrap(),
        "{said}"
    );

    // The table's own address and version are what nothing else was said about.
    std::fs::write(action.path().join("action/checksums.txt"), table(&digest, &server.url)).unwrap();
    std::fs::remove_file(&found).unwrap();
    assert_eq!((install("", "", "").0, server.asked()), (0, 1));
    std::fs::remove_file(&found).unwrap();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, said) = install("", &format!("http://{nowhere}/gone"), "");
    assert!(code == 5 && said.contains("could not be fetched"), "{said}");

    // A bomb, or a page in place of a file, is no program.
    let wrong = format!("1.2.3@sha256:{}", "0".repeat(64));
    let (code, said) = install(&wrong, &server.url, "");
    assert!(code == 4 && said.contains("wrong digest") && !found.exists(), "{said}");
    assert_eq!(std::fs::read_dir(found.parent().unwrap()).unwrap().count(), 0, "nothing is left of it");

    for (version, mirror, binary) in [
        ("1.2.3\n::add-path::/evil", "", ""),
        ("../../evil", "", ""),
        ("1.2.3@sha256:evil", "", ""),
        ("", "file:///evil", ""),
        ("", "https://evil\n::add-path::/evil", ""),
        ("", "-o/evil", ""),
        ("", "", "/evil\nprogram=/evil"),
        ("", "", "/evil/codeforge"),
    ] {
        let (code, said) = install(version, mirror, binary);
        assert_eq!(code, 2, "{version:?} {mirror:?} {binary:?}: {said}");
        assert!(
            said.starts_with("::error title=CodeForge: ") && said.lines().count() == 1 && !said.contains("evil"),
            "{said}"
        );
    }
}
