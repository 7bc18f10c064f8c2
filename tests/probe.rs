#![allow(clippy::unwrap_used)]
mod common;
use codeforge::adapter::sandbox::native::{Native, Toolchains};
use codeforge::agent::backend::{self, Values};
use codeforge::model::exec::Command;
use codeforge::model::plan::Resources;
use codeforge::port::sandbox::*;
use common::*;
use std::path::PathBuf;
use std::sync::Arc;

fn relay(listener: std::net::TcpListener, target: String) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(a) = stream else { return };
            let Ok(b) = std::net::TcpStream::connect(&target) else { return };
            let (mut a2, mut b2) = (a.try_clone().unwrap(), b.try_clone().unwrap());
            let (mut a, mut b) = (a, b);
            std::thread::spawn(move || { let _ = std::io::copy(&mut a, &mut b); let _ = b.shutdown(std::net::Shutdown::Write); });
            std::thread::spawn(move || { let _ = std::io::copy(&mut b2, &mut a2); let _ = a2.shutdown(std::net::Shutdown::Write); });
        }
    });
}

#[tokio::test]
async fn probe() {
    let agent = std::env::var("AGENT").unwrap();
    let prompt = std::env::var("PROMPT").unwrap();
    let library = codeforge::workflow::load(&codeforge::workflow::builtin(), &|_| None);
    let spec = library.backends[&agent].doc.to_spec(None);
    let target = std::env::var("TARGET").unwrap();
    let home = PathBuf::from(std::env::var("HOME").unwrap());
    let peers = home.join(".cache/codeforge/peers");
    let path = format!("{0}/aider/venv/bin:{0}/codex/node_modules/.bin:{0}/opencode/node_modules/.bin:{0}/claude-code/node_modules/.bin:/usr/local/bin:/usr/bin:/bin", peers.display());
    let driver = Native::new(PathBuf::from(env!("CARGO_BIN_EXE_codeforge")), Toolchains::discover(&path, Some(&home)));
    let folder = tempfile::tempdir().unwrap();
    let repo = folder.path().join("w");
    std::fs::create_dir_all(&repo).unwrap();
    std::fs::write(repo.join("a.txt"), "broken\n").unwrap();
    ok(git().current_dir(&repo).args(["init", "-q", "-b", "main"]));
    ok(git().current_dir(&repo).args(["add", "-A"]));
    ok(git().current_dir(&repo).args(["commit", "-qm", "i"]));
    for e in walk(&repo) { std::os::unix::fs::chown(e, Some(1000), Some(1000)).unwrap(); }
    let git_dir = folder.path().join("git");
    std::fs::rename(repo.join(".git"), &git_dir).unwrap();
    let order = OpenSandbox {
        run: format!("probe{}", std::process::id()).as_str().into(), name: "s".into(), workspace: repo.clone(), writable: true,
        git_dir: Some(git_dir), git_objects: None, source: None, home: Home::Fresh, image: None,
        resources: Resources::default(), network: false, env: Default::default(), owner: (1000, 1000),
        loopback: Some(Loopback { port: 4141, hand_over: Arc::new(move |l| relay(l, target.clone())) }),
        guest: Some(Guest { programs: spec.programs.clone(), show: vec![] }),
    };
    let sandbox = driver.open(&order).await.unwrap();
    let started = backend::start(&spec, &Values { prompt: &prompt, model: "gpt-5", base_url: "http://127.0.0.1:4141", api_key: "tokentoken", home: "/home/agent" }).unwrap();
    let command = Command { argv: started.argv, env: started.env, home_files: started.files, timeout_ms: 90_000, ..Command::shell("") };
    let begun = std::time::Instant::now();
    let outcome = sandbox.exec(Order::Operator(command), &|t| eprint!("{t}")).await.unwrap();
    let mut reader = backend::Reader::new(&spec.stream);
    reader.push(&outcome.output);
    eprintln!("== {:?} {:?} {:?}\nSAID {:?}\na.txt={}", outcome.status, begun.elapsed(), outcome.dropped, reader.finish(), std::fs::read_to_string(repo.join("a.txt")).unwrap());
    for e in walk(&repo) { if !e.to_string_lossy().contains(".git/") { eprintln!("{}", e.display()); } }
}
fn walk(p: &std::path::Path) -> Vec<PathBuf> { let mut v = vec![p.to_path_buf()]; if p.is_dir() && !p.is_symlink() { for e in std::fs::read_dir(p).unwrap().flatten() { v.extend(walk(&e.path())); } } v }
