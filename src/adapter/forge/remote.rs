//! Git's own protocol over HTTPS, spoken by ourselves: what a delivery takes is one request.
//!
//! No child process and no configuration ever holds the token, and the server itself compares the ref's old value: a
//! push cannot overwrite what came meanwhile. Reading is protocol version 2, pushing is version 0 (there is no other).

use super::Settings;
use super::http::{Answer, Http, bare};
use super::token::Fresh;
use crate::model::forge::Right;
use crate::port::forge::{ForgeError, Login, Remote};
use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;

/// The id of what is not there.
const NOTHING: &str = "0000000000000000000000000000000000000000";
/// Bytes of one packet.
const PACKET: usize = 65_516;
/// Words of a server that are shown.
const SHOWN: usize = 600;

/// One repository, fetched from and pushed to.
pub(super) struct GitRemote {
    http: Arc<Http>,
    url: Url,
    /// The name that goes with the token.
    user: &'static str,
    total: Duration,
    attempts: u32,
    /// What a push takes, as the workflow file or the token's page spells it.
    needs: &'static str,
}

enum Service {
    Upload,
    Receive,
}

impl GitRemote {
    pub(super) fn new(
        http: Arc<Http>,
        url: Url,
        user: &'static str,
        settings: &Settings,
        needs: &'static str,
    ) -> Result<Self, ForgeError> {
        let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && local) {
            return Err(ForgeError::Unsupported(format!(
                "the repository is pushed to over https only, and `{}` is not such an address",
                bare(&url)
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ForgeError::Unsupported(
                "the repository's address holds a name or a password; give the token in CODEFORGE_FORGE_TOKEN instead"
                    .into(),
            ));
        }
        Ok(Self { http, url, user, total: settings.git_total, attempts: settings.attempts, needs })
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        url
    }

    async fn post(&self, service: &Service, body: &[u8], doing: &str) -> Result<Answer, (ForgeError, bool)> {
        let name = match service {
            Service::Upload => "git-upload-pack",
            Service::Receive => "git-receive-pack",
        };
        let build = |token: &Fresh| {
            let request =
                self.http.client().post(self.at(name)).header(CONTENT_TYPE, format!("application/x-{name}-request"));
            let request = match service {
                Service::Upload => request.header("git-protocol", "version=2"),
                Service::Receive => request,
            };
            // `basic_auth` marks the header as secret: no log shows it.
            Ok(request
                .header(ACCEPT, format!("application/x-{name}-result"))
                .basic_auth(self.user, Some(token.text()))
                .timeout(self.total)
                .body(body.to_vec()))
        };
        self.http.authorized(&build, doing).await
    }

    /// Sends a request that does nothing but read, again where that failed in passing.
    async fn read(&self, body: &[u8], doing: &str) -> Result<Vec<u8>, ForgeError> {
        let mut failed = 0;
        loop {
            let error = match self.post(&Service::Upload, body, doing).await {
                Ok(answer) if answer.status == 200 => return Ok(answer.body),
                Ok(answer) => self.refused(answer.status, &answer.body, doing),
                Err((error, _)) => error,
            };
            failed += 1;
            if failed >= self.attempts || !matches!(error, ForgeError::Unavailable { .. }) {
                return Err(error);
            }
            self.http.pause_after(failed).await;
        }
    }

    fn refused(&self, status: u16, body: &[u8], doing: &str) -> ForgeError {
        let doing = doing.to_owned();
        let message = words(&String::from_utf8_lossy(body), status);
        match status {
            401 | 403 => ForgeError::Refused { doing, message, needs: Some(self.needs.to_owned()) },
            404 => ForgeError::NotFound {
                doing,
                hint: format!("`{}` is not there, or the token may not know of it", bare(&self.url)),
            },
            429 => ForgeError::RateLimited { doing, after: None },
            500.. => ForgeError::Unavailable { doing, message },
            _ => ForgeError::Contract { doing, message },
        }
    }

    async fn at_ref(&self, name: &str) -> Result<Option<String>, ForgeError> {
        // A prefix also finds what only begins with it.
        Ok(self.refs(name).await?.into_iter().find(|(found, _)| found == name).map(|(_, id)| id))
    }

    /// Whether the token may push, asked without pushing: the server says so before anything is sent.
    pub(super) async fn may_push(&self) -> Result<Right, ForgeError> {
        let mut url = self.at("info/refs");
        url.set_query(Some("service=git-receive-pack"));
        let build = |token: &Fresh| {
            Ok(self.http.client().get(url.clone()).basic_auth(self.user, Some(token.text())).timeout(self.total))
        };
        let doing = "asking whether the token may push";
        let answer = self.http.authorized(&build, doing).await.map_err(|(error, _)| error)?;
        Ok(match answer.status {
            200 => Right::Yes,
            401 | 403 | 404 => Right::No(self.needs.to_owned()),
            _ => Right::Unknown,
        })
    }
}

#[async_trait]
impl Remote for GitRemote {
    async fn refs(&self, prefix: &str) -> Result<Vec<(String, String)>, ForgeError> {
        let mut body = packet("command=ls-refs\n");
        body.extend(packet("object-format=sha1"));
        body.extend_from_slice(b"0001");
        body.extend(packet(&format!("ref-prefix {prefix}\n")));
        body.extend_from_slice(b"0000");
        let doing = "reading the repository's branches";
        let answer = self.read(&body, doing).await?;
        let mut refs = Vec::new();
        for line in packets(&answer, doing)? {
            let line = String::from_utf8_lossy(line);
            if let Some(error) = line.strip_prefix("ERR ") {
                return Err(contract(doing, error));
            }
            // `unborn HEAD …` has no id.
            if let Some((id, name)) = line.trim_end().split_once(' ')
                && id.len() == 40
            {
                let name = name.split(' ').next().unwrap_or(name);
                refs.push((name.to_owned(), id.to_owned()));
            }
        }
        Ok(refs)
    }

    async fn push(&self, name: &str, old: Option<&str>, new: &str, pack: Vec<u8>) -> Result<(), ForgeError> {
        let doing = format!("pushing to `{name}`");
        let is_id = |id: &str| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id != NOTHING;
        if !name.starts_with("refs/heads/") || name.contains(['\0', '\n', ' ']) || !is_id(new) || !old.is_none_or(is_id)
        {
            return Err(ForgeError::Unsupported(format!(
                "{doing}: only whole names of branches and commit ids are pushed"
            )));
        }
        let agent = concat!("codeforge/", env!("CARGO_PKG_VERSION"));
        let asked = format!("report-status side-band-64k agent={agent}");
        let mut body = packet(&format!("{} {new} {name}\0{asked}", old.unwrap_or(NOTHING)));
        body.extend_from_slice(b"0000");
        body.extend(pack);
        let mut failed = 0;
        loop {
            let sent = self.http.in_turn(self.post(&Service::Receive, &body, &doing)).await;
            let (error, lost) = match sent {
                Ok(answer) if answer.status == 200 => match report(&answer.body, name, &doing)? {
                    Ok(()) => return Ok(()),
                    // Somebody may have been faster, or it was us, and the answer was lost.
                    Err(why) => match self.at_ref(name).await? {
                        Some(there) if there == new => return Ok(()),
                        there if there.as_deref() != old => return Err(moved(name, there.as_deref(), &why)),
                        _ => return Err(ForgeError::Refused { doing, message: why, needs: None }),
                    },
                },
                Ok(answer) => (self.refused(answer.status, &answer.body, &doing), answer.status >= 500),
                Err((error, sent)) => (error, sent),
            };
            if lost {
                match self.at_ref(name).await? {
                    Some(there) if there == new => return Ok(()),
                    there if there.as_deref() != old => return Err(moved(name, there.as_deref(), "")),
                    _ => {}
                }
            }
            failed += 1;
            if failed >= self.attempts || !matches!(error, ForgeError::Unavailable { .. }) {
                return Err(error);
            }
            self.http.pause_after(failed).await;
        }
    }

    async fn fetch(&self, wants: &[String], haves: &[String], depth: u32) -> Result<Vec<u8>, ForgeError> {
        let doing = "fetching commits";
        let mut body = packet("command=fetch\n");
        body.extend(packet("object-format=sha1"));
        body.extend_from_slice(b"0001");
        for word in ["no-progress\n", "ofs-delta\n"] {
            body.extend(packet(word));
        }
        if depth > 0 {
            body.extend(packet(&format!("deepen {depth}\n")));
        }
        for (word, ids) in [("want", wants), ("have", haves)] {
            for id in ids {
                body.extend(packet(&format!("{word} {id}\n")));
            }
        }
        body.extend(packet("done\n"));
        body.extend_from_slice(b"0000");
        let answer = self.read(&body, doing).await?;
        let mut pack = Vec::new();
        let mut inside = false;
        for line in packets(&answer, doing)? {
            match (inside, line.split_first()) {
                (false, _) if line.starts_with(b"packfile") => inside = true,
                (false, _) if line.starts_with(b"ERR ") => {
                    return Err(contract(doing, &String::from_utf8_lossy(line.get(4..).unwrap_or_default())));
                }
                (true, Some((1, data))) => pack.extend_from_slice(data),
                (true, Some((3, why))) => return Err(contract(doing, &String::from_utf8_lossy(why))),
                _ => {}
            }
        }
        if pack.is_empty() { Err(contract(doing, "the server sent no pack")) } else { Ok(pack) }
    }

    async fn login(&self) -> Result<Option<Login>, ForgeError> {
        let Fresh { token, until_ms } = self.http.token().await?;
        Ok(Some(Login { user: self.user.to_owned(), token, until_ms }))
    }

    async fn renew(&self, refused: &SecretString) -> bool {
        self.http.renew(&Fresh { token: refused.clone(), until_ms: None }).await
    }
}

fn moved(name: &str, there: Option<&str>, why: &str) -> ForgeError {
    let there = there.map_or_else(|| "it is gone".to_owned(), |id| format!("it is at {id} now"));
    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
    ForgeError::Moved { name: name.to_owned(), message: format!("{there}{why}") }
}

fn contract(doing: &str, why: &str) -> ForgeError {
    ForgeError::Contract { doing: doing.to_owned(), message: words(why, 200) }
}

/// What a server said, in a line.
fn words(text: &str, status: u16) -> String {
    let clean = crate::text::invisible(&crate::text::clean(text));
    // A page for people says nothing here.
    let line = if clean.trim_start().starts_with('<') { String::new() } else { clean.trim().replace('\n', " ") };
    let cut = line.floor_char_boundary(SHOWN);
    match line.get(..cut).unwrap_or_default().trim() {
        "" => format!("it gave no reason ({status})"),
        line => format!("{line} ({status})").replace(" (200)", ""),
    }
}

/// One packet: its length in four digits, then its bytes.
fn packet(text: &str) -> Vec<u8> {
    debug_assert!(text.len() < PACKET);
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

/// The packets of an answer; those that only mark an end are left out.
fn packets<'a>(mut bytes: &'a [u8], doing: &str) -> Result<Vec<&'a [u8]>, ForgeError> {
    let mut found = Vec::new();
    let broken = || contract(doing, "the server's answer is not git's protocol");
    while !bytes.is_empty() {
        let length = bytes.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
        let length = length.and_then(|digits| usize::from_str_radix(digits, 16).ok()).ok_or_else(broken)?;
        if length < 4 {
            bytes = bytes.get(4..).unwrap_or_default();
            continue;
        }
        found.push(bytes.get(4..length).ok_or_else(broken)?);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(found)
}

/// What became of a push; the inner error: why it was refused, in the server's words.
fn report(answer: &[u8], name: &str, doing: &str) -> Result<Result<(), String>, ForgeError> {
    let (mut status, mut said) = (Vec::new(), String::new());
    for line in packets(answer, doing)? {
        match line.split_first() {
            Some((1, data)) => status.extend_from_slice(data),
            Some((2 | 3, text)) => said.push_str(&String::from_utf8_lossy(text)),
            _ => status.extend(packet(&String::from_utf8_lossy(line))),
        }
    }
    let mut unpacked = false;
    for line in packets(&status, doing)? {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        if line == "unpack ok" {
            unpacked = true;
        } else if let Some(why) = line.strip_prefix("unpack ") {
            return Ok(Err(words(&format!("{why} {said}"), 200)));
        } else if line == format!("ok {name}") && unpacked {
            return Ok(Ok(()));
        } else if let Some(why) = line.strip_prefix(&format!("ng {name} ")) {
            return Ok(Err(words(&format!("{why}. {said}"), 200)));
        }
    }
    if said.is_empty() {
        return Err(contract(doing, "the server did not say what became of the push"));
    }
    Ok(Err(words(&said, 200)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_with_and_without_bands() {
        let name = "refs/heads/codeforge/a";
        let plain = [packet("unpack ok\n"), packet(&format!("ok {name}\n")), b"0000".to_vec()].concat();
        assert_eq!(report(&plain, name, "").unwrap(), Ok(()));
        let mut inner = packet("unpack ok\n");
        inner.extend(packet(&format!("ng {name} pre-receive hook declined\n")));
        let mut banded = packet("\u{2}GH006: Protected branch\n");
        banded.extend(packet(&format!("\u{1}{}", String::from_utf8(inner).unwrap())));
        let refused = report(&banded, name, "").unwrap().unwrap_err();
        assert!(refused.contains("hook declined") && refused.contains("GH006"), "{refused}");
        // An answer that breaks off is not a yes.
        assert!(report(&packet("unpack ok\n"), name, "").is_err());
        assert!(packets(b"00zz", "").is_err() && packets(b"0009ab", "").is_err());
    }
}
