//! Signatures of commits: SSH's in this process, GPG's by the `gpg` program (decision 0040).

use crate::port::repository::{RepositoryError, Signer};
use secrecy::{ExposeSecret, SecretString};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, SshSig};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a signature of git is for, as `ssh-keygen -Y` calls it.
const NAMESPACE: &str = "git";
/// Words of a program that are shown.
const SHOWN: usize = 400;

/// Signs a commit's text. `time_s`: the commit's time, so that a repeated delivery is signed alike.
pub(super) fn sign(signer: &Signer, text: &[u8], time_s: i64) -> Result<String, RepositoryError> {
    match signer {
        Signer::Ssh(key) => ssh(key, text),
        Signer::Gpg { key, home } => gpg(key, home.as_deref(), text, time_s),
    }
}

fn unsigned(why: impl std::fmt::Display) -> RepositoryError {
    RepositoryError::Unsigned(format!("nothing was pushed: the commit could not be signed: {why}"))
}

fn ssh(key: &SecretString, text: &[u8]) -> Result<String, RepositoryError> {
    // What is wrong with a key is said without showing any of it.
    let key = PrivateKey::from_openssh(key.expose_secret().trim()).map_err(|error| {
        unsigned(format!("CODEFORGE_SIGNING_KEY does not lead to a private key in OpenSSH's form ({error})"))
    })?;
    if key.is_encrypted() {
        return Err(unsigned("the SSH key has a passphrase, and nobody is there to type it; give one without"));
    }
    if !matches!(key.algorithm(), Algorithm::Ed25519 | Algorithm::Ecdsa { .. }) {
        return Err(unsigned(format!("an SSH key of the kind {} is not supported; take Ed25519", key.algorithm())));
    }
    let signature = SshSig::sign(&key, NAMESPACE, HashAlg::Sha512, text).map_err(unsigned)?;
    signature.to_pem(LineEnding::LF).map_err(unsigned)
}

#[expect(clippy::disallowed_methods, reason = "an adapter starts the program that holds the keys")]
fn gpg(key: &str, home: Option<&Path>, text: &[u8], time_s: i64) -> Result<String, RepositoryError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@.+_-<> ".contains(c);
    if key.is_empty() || key.starts_with('-') || !key.chars().all(plain) {
        return Err(unsigned("CODEFORGE_SIGNING_KEY is not the id of a GPG key"));
    }
    let mut command = Command::new("gpg");
    // Nothing of our environment but what it needs to be found and to find its keys.
    command.env_clear();
    for name in ["PATH", "HOME", "GNUPGHOME"] {
        if let Some(value) = inherited(name) {
            command.env(name, value);
        }
    }
    if let Some(home) = home {
        command.env("GNUPGHOME", home);
    }
    command.args(["--batch", "--no-tty", "--status-fd=2", "--pinentry-mode=error", "--ignore-time-conflict"]);
    // The signature's own time is the commit's: the same commit each time.
    command.arg(format!("--faked-system-time={time_s}!"));
    command.args(["--armor", "--detach-sign", "--local-user", key, "--output", "-"]);
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => unsigned("there is no program `gpg` (Debian: gnupg)"),
        _ => unsigned(format!("gpg: {error}")),
    };
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(failed)?;
    // A commit's text is small: it fits into the pipe.
    let wrote = child.stdin.take().map(|mut stdin| stdin.write_all(text));
    let output = child.wait_with_output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !said.contains("[GNUPG:] SIG_CREATED ") || wrote.is_none_or(|done| done.is_err()) {
        let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("[GNUPG:]")).collect();
        let words = crate::text::clean(&lines.join(" "));
        return Err(unsigned(format!("gpg: {}", words.chars().take(SHOWN).collect::<String>().trim())));
    }
    String::from_utf8(output.stdout).map_err(unsigned)
}

#[expect(clippy::disallowed_methods, reason = "a program is started with a part of our environment")]
fn inherited(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_key_is_said_without_showing_it() {
        let said = |signer: &Signer| sign(signer, b"x", 0).unwrap_err().to_string();
        let text = said(&Signer::Ssh("sk-not-a-key-4711".to_owned().into()));
        assert!(text.contains("CODEFORGE_SIGNING_KEY") && !text.contains("4711"), "{text}");
        for key in ["", "--output=/etc/passwd", "a;b"] {
            assert!(said(&Signer::Gpg { key: key.into(), home: None }).contains("not the id"), "{key}");
        }
    }
}
