//! Pushes for real: git's own `http-backend` behind a web server that asks for a name and a password (lighttpd), and
//! nothing of ours on the other side.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use codeforge::adapter::git::{self, Force};
use codeforge::model::forge::ForgeKind;
use codeforge::port::forge::{Forge, ForgeAt, ForgeError};
use common::forge_server::holds;
use common::{TestRepo, clean, ok};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;

const TOKEN: &str = "real-token-8f0d52c1b7";
const BRANCH: &str = "refs/heads/codeforge/fix";

/// Refuses what a forge refuses, and writes down who pushed what.
const HOOK: &str = r#"#!/bin/sh
while read -r old new ref; do
  echo "$REMOTE_USER $ref" >>"$GIT_PROJECT_ROOT/pushes.log"
  if [ "$ref" = refs/heads/main ]; then echo "GH006: Protected branch update failed for $ref." >&2; exit 1; fi
done
"#;

struct WebServer {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl WebServer {
    /// Serves a bare copy of a repository.
    async fn of(repo: &TestRepo) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let bare = folder.path().join("acme/widgets.git");
        ok(common::git().args(["clone", "--quiet", "--bare"]).arg(repo.path()).arg(&bare));
        for (name, value) in [("http.receivepack", "true"), ("uploadpack.allowAnySHA1InWant", "true")] {
            ok(common::git().arg("-C").arg(&bare).args(["config", name, value]));
        }
        let hook = bare.join("hooks/pre-receive");
        std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
        std::fs::write(&hook, HOOK).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(folder.path().join("users"), format!("x-access-token:{TOKEN}\n")).unwrap();
        // A port that is free now: lighttpd takes no listener of others.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let backend = PathBuf::from(ok(common::git().arg("--exec-path")).trim()).join("git-http-backend");
        let conf = format!(
            "server.bind = \"127.0.0.1\"\nserver.port = {port}\nserver.document-root = \"{root}\"\n\
             server.errorlog = \"{root}/error.log\"\nserver.modules = (\"mod_auth\", \"mod_authn_file\", \"mod_alias\", \
             \"mod_setenv\", \"mod_cgi\", \"mod_accesslog\")\naccesslog.filename = \"{root}/access.log\"\n\
             auth.backend = \"plain\"\nauth.backend.plain.userfile = \"{root}/users\"\n\
             auth.require = (\"/\" => (\"method\" => \"basic\", \"realm\" => \"git\", \"require\" => \"valid-user\"))\n\
             alias.url = (\"/\" => \"{backend}/\")\nsetenv.set-environment = (\"GIT_PROJECT_ROOT\" => \"{root}\", \
             \"GIT_HTTP_EXPORT_ALL\" => \"1\", \"GIT_CONFIG_COUNT\" => \"1\", \"GIT_CONFIG_KEY_0\" => \"safe.directory\", \
             \"GIT_CONFIG_VALUE_0\" => \"*\")\ncgi.assign = (\"\" => \"\")\n",
            root = folder.path().display(),
            backend = backend.display(),
        );
        std::fs::write(folder.path().join("lighttpd.conf"), conf).unwrap();
        let program =
            ["/usr/sbin/lighttpd", "/usr/local/sbin/lighttpd"].into_iter().find(|path| Path::new(path).exists());
        let mut command = clean(program.expect("lighttpd is there: scripts/setup installs it"));
        command.arg("-D").arg("-f").arg(folder.path().join("lighttpd.conf"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { folder, port, child };
        common::eventually("lighttpd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok()).await;
        server
    }

    fn forge(&self, token: &str) -> Arc<dyn Forge> {
        common::published::adapter(&ForgeAt {
            kind: ForgeKind::Github,
            api: format!("http://127.0.0.1:{}", self.port),
            repository: "acme/widgets".into(),
            token: token.to_owned().into(),
            git_url: format!("http://127.0.0.1:{}/acme/widgets.git", self.port),
            marker_key: None,
        })
    }

    fn git(&self, arguments: &[&str]) -> String {
        let bare = self.folder.path().join("acme/widgets.git");
        ok(common::git().arg("-C").arg(bare).args(arguments)).trim().to_owned()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_takes_our_pushes_and_refuses_what_it_should() {
    let repo = TestRepo::with(&[("a.txt", "one\n")]);
    let server = WebServer::of(&repo).await;
    let main = repo.head();
    // 30 MB that do not get smaller.
    let mut noise = Vec::with_capacity(30 << 20);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while noise.len() < 30 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    repo.write("big.bin", &noise);
    let big = repo.commit("big");
    let repository = git::open_with(repo.path(), Force::Copy).unwrap();
    let pack = repository.pack(&big, std::slice::from_ref(&main)).unwrap();
    assert!(pack.len() > 30_000_000);
    // A wrong token: nothing is there, and nothing is said of it.
    let error = server.forge("wrong-token-4711").remote().push(BRANCH, None, &big, pack.clone()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Refused { .. }) && !error.to_string().contains("4711"), "{error}");
    let forge = server.forge(TOKEN);
    let remote = forge.remote();
    let begun = std::time::Instant::now();
    remote.push(BRANCH, None, &big, pack.clone()).await.unwrap();
    println!("{} bytes pushed in {:?}", pack.len(), begun.elapsed());
    assert_eq!(server.git(&["rev-parse", BRANCH]), big);
    server.git(&["fsck", "--strict"]);
    // Again: it is there, and that is no error.
    remote.push(BRANCH, None, &big, pack).await.unwrap();
    // A protected branch, by the server's own hook, in its own words.
    repo.git(&["checkout", "--quiet", "--detach", &main]);
    repo.write("b.txt", "b\n");
    let next = repo.commit("next");
    let pack = || repository.pack(&next, std::slice::from_ref(&main)).unwrap();
    let error = remote.push("refs/heads/main", Some(&main), &next, pack()).await.unwrap_err();
    assert!(matches!(&error, ForgeError::Refused { message, .. } if message.contains("GH006")), "{error}");
    // Not a fast-forward: with the right lease it is ours to replace, with an old one it is not.
    let error = remote.push(BRANCH, Some(&main), &next, pack()).await.unwrap_err();
    assert!(matches!(&error, ForgeError::Moved { message, .. } if message.contains(&big)), "{error}");
    let error = remote.push(BRANCH, None, &next, pack()).await.unwrap_err();
    assert!(matches!(error, ForgeError::Moved { .. }), "{error}");
    remote.push(BRANCH, Some(&big), &next, pack()).await.unwrap();
    assert_eq!(server.git(&["rev-parse", BRANCH]), next);
    // A shallow clone pushes on top of the one commit that it has.
    let shallow = TestRepo::empty();
    let pack = remote.fetch(std::slice::from_ref(&next), &[], 1).await.unwrap();
    let of = git::open_with(shallow.path(), Force::Copy).unwrap();
    of.take_pack(&pack).unwrap();
    std::fs::write(shallow.path().join(".git/shallow"), format!("{next}\n")).unwrap();
    shallow.git(&["reset", "--quiet", "--hard", &next]);
    shallow.write("c.txt", "c\n");
    let last = shallow.commit("on a shallow clone");
    let of = git::open_with(shallow.path(), Force::Copy).unwrap();
    let pack = of.pack(&last, std::slice::from_ref(&next)).unwrap();
    remote.push(BRANCH, Some(&next), &last, pack).await.unwrap();
    assert_eq!(server.git(&["rev-list", "--count", BRANCH]), "3");
    // As whom it was, and where the token is not: in no repository, in no log of the server.
    let pushes = std::fs::read_to_string(server.folder.path().join("acme/widgets.git/../../pushes.log")).unwrap();
    assert!(pushes.lines().all(|line| line.starts_with("x-access-token ")), "{pushes}");
    assert!(!holds(repo.path(), TOKEN) && !holds(shallow.path(), TOKEN));
    for log in ["access.log", "error.log", "pushes.log"] {
        let text = std::fs::read(server.folder.path().join(log)).unwrap_or_default();
        assert!(!text.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "{log}");
    }
}
