//! Fetching, by the git program: what a runner's checkout is fetched with is what it can be fetched with again
//! (logins that the checkout left in its configuration, proxies, partial clones, ssh).
//!
//! The token goes in a variable of the child's environment, never on its command line or into a file. No system or
//! global configuration counts, no hook runs, nothing is asked, and only plain protocols are spoken.

use crate::port::checkout::{Depth, Fetch, FetchError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Variables of ours that git may see.
const PASSED: [&str; 13] = [
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];
/// Characters of git's words that are shown.
const SHOWN: usize = 600;
/// Where the machines that we know keep their certificates.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// An address without the name and the password in it.
pub(super) fn bare(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{}", path.map(|path| format!("/{path}")).unwrap_or_default())
        }
        None => url.to_owned(),
    }
}

/// A variable by its name.
pub type Env = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

pub(super) fn fetch(env: &Env, root: &Path, git_dir: &Path, shallow: bool, order: &Fetch) -> Result<(), FetchError> {
    let from = order.url.as_deref().unwrap_or("origin");
    let named = order.url.as_deref().map_or("origin".to_owned(), bare);
    let unreachable = |why: String| FetchError::Unreachable(format!("{named} could not be fetched from: {why}"));
    let mut git = program(env);
    git.current_dir(root).arg("--git-dir").arg(git_dir);
    for setting in [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "safe.bareRepository=explicit",
        // A runner's checkout is often somebody else's folder; nothing of it is run.
        "safe.directory=*",
        "gc.auto=0",
        "maintenance.auto=false",
        "fetch.writeCommitGraph=false",
        "fetch.fsckObjects=true",
        "protocol.allow=never",
        // Those that run a program by name too: the checkout's own configuration could allow them.
        "protocol.ext.allow=never",
        "protocol.fd.allow=never",
        "protocol.https.allow=always",
        "protocol.http.allow=always",
        "protocol.ssh.allow=always",
        "protocol.file.allow=always",
        // A redirect would take the token to another host.
        "http.followRedirects=initial",
        "http.lowSpeedLimit=1000",
        "http.lowSpeedTime=60",
    ] {
        git.arg("-c").arg(setting);
    }
    git.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force"]);
    match (shallow, order.depth) {
        (true, Depth::Commits(depth)) => {
            git.arg(format!("--depth={depth}"));
        }
        (true, Depth::Whole) => {
            git.arg("--unshallow");
        }
        (false, _) => {}
    }
    git.arg("--").arg(from);
    for want in &order.wants {
        let full = want.what.starts_with("refs/") && git2::Reference::is_valid_name(&want.what);
        let commit = matches!(want.what.len(), 40 | 64) && want.what.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !full && !commit {
            return Err(FetchError::NoSuch(format!("`{}` is no full name of a ref and no commit id", want.what)));
        }
        git.arg(format!("+{}:refs/codeforge/ci/{}", want.what, want.keep_as));
    }
    // Keeps its file until git has read it.
    let bundle = certificates(env, order).map_err(&unreachable)?;
    if let Some(bundle) = &bundle {
        git.env("GIT_SSL_CAINFO", bundle.path());
    } else if let Some(file) = passed(env, "SSL_CERT_FILE") {
        git.env("GIT_SSL_CAINFO", file);
    }
    login(&mut git, order);
    let output = git.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => unreachable("there is no `git` program in PATH; install git".to_owned()),
        _ => unreachable(error.to_string()),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = crate::text::clean(&String::from_utf8_lossy(&output.stderr));
    let secret = order.login.as_ref().map(|(_, token)| token.expose_secret().to_owned());
    let said = crate::text::redact(&said, &secret.iter().map(String::as_str).collect::<Vec<_>>());
    let words: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words: String = words.join("; ").chars().take(SHOWN).collect();
    let low = words.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| low.contains(part));
    let why = format!("{named}: {words}");
    Err(if has(&["couldn't find remote ref", "not our ref", "no such remote ref", "upload-pack: not our"]) {
        FetchError::NoSuch(why)
    } else if has(&[
        "authentication failed",
        "could not read username",
        "permission denied",
        "access denied",
        "error: 401",
        "error: 403",
        "repository not found",
        "not found",
        "terminal prompts disabled",
    ]) {
        FetchError::Refused(why)
    } else {
        FetchError::Unreachable(why)
    })
}

#[expect(clippy::disallowed_methods, reason = "git is started here, with an environment of our own")]
fn program(env: &Env) -> Command {
    let mut git = Command::new("git");
    git.env_clear();
    for name in PASSED {
        if let Some(value) = env(name) {
            git.env(name, value);
        }
    }
    for (name, value) in [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", ""),
        ("SSH_ASKPASS", ""),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("LC_ALL", "C"),
    ] {
        git.env(name, value);
    }
    git.stdin(Stdio::null());
    git
}

fn passed(env: &Env, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// The token, for the address and no other.
fn login(git: &mut Command, order: &Fetch) {
    let (Some((user, token)), Some(url)) = (&order.login, &order.url) else { return };
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return;
    }
    let key = format!("http.{url}.extraHeader");
    let header = format!("Authorization: Basic {}", STANDARD.encode(format!("{user}:{}", token.expose_secret())));
    git.env("GIT_CONFIG_COUNT", "2");
    // An empty one takes away what the checkout left: a server refuses two.
    git.env("GIT_CONFIG_KEY_0", &key).env("GIT_CONFIG_VALUE_0", "");
    git.env("GIT_CONFIG_KEY_1", &key).env("GIT_CONFIG_VALUE_1", header);
}

/// The machine's certificates and the extra ones in one file: git takes no second one.
fn certificates(env: &Env, order: &Fetch) -> Result<Option<tempfile::NamedTempFile>, String> {
    let Some(extra) = &order.extra_ca else { return Ok(None) };
    let own = std::fs::read(extra).map_err(|error| format!("CODEFORGE_EXTRA_CA {}: {error}", extra.display()))?;
    let machine = passed(env, "SSL_CERT_FILE").map(std::path::PathBuf::from);
    let machine = machine.into_iter().chain(BUNDLES.map(Into::into)).find_map(|file| std::fs::read(file).ok());
    let written = tempfile::NamedTempFile::new().and_then(|mut file| {
        file.write_all(&machine.unwrap_or_default())?;
        file.write_all(b"\n")?;
        file.write_all(&own)?;
        file.flush()?;
        Ok(file)
    });
    written.map(Some).map_err(|error| format!("writing a bundle of certificates: {error}"))
}
