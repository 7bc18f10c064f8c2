//! One repository of a forge that is asked over HTTP: what all adapters have of it, and how they ask.

use super::http::{Answer, Ask, Failed, Http, Kind, address, read};
use super::marks::Marks;
use super::remote::GitRemote;
use super::token::{Header, TokenSource};
use super::{Tools, parse};
use crate::port::forge::{ForgeAt, ForgeError, Place};
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// How a forge is spoken to.
pub(super) struct Manner {
    /// What stands before the parts of an address: `repos`, owner, name.
    pub(super) root: Vec<String>,
    /// Headers of every request.
    pub(super) headers: HeaderMap,
    /// How a token stands in one.
    pub(super) header: Header,
    /// What kind of answer is asked for, where the forge wants that said.
    pub(super) accept: Option<&'static str>,
    /// The name that goes with the token for git.
    pub(super) user: &'static str,
    /// What a push takes, as the workflow file or the token's page spells it.
    pub(super) pushes: &'static str,
}

/// A connection.
pub(super) struct Connection {
    pub(super) http: Arc<Http>,
    pub(super) api: Url,
    pub(super) place: Place,
    /// The repository's page, without a slash at its end.
    pub(super) page: String,
    pub(super) marks: Marks,
    pub(super) remote: GitRemote,
    pub(super) own: OnceCell<Option<String>>,
    root: Vec<String>,
    accept: Option<&'static str>,
}

impl Connection {
    pub(super) fn new(
        at: &ForgeAt,
        tokens: Arc<dyn TokenSource>,
        tools: Tools,
        manner: Manner,
    ) -> Result<Self, ForgeError> {
        let api = parse("the API's address", &at.api)?;
        let git = parse("the repository's address", &at.git_url)?;
        let settings = tools.settings.clone();
        let http = Arc::new(Http::new(&api, manner.headers, (tokens, manner.header), tools)?);
        let host = git.host_str().unwrap_or_default().to_owned();
        let page = git.as_str().trim_end_matches('/').trim_end_matches(".git").to_owned();
        let remote = GitRemote::new(Arc::clone(&http), git, manner.user, &settings, manner.pushes)?;
        Ok(Self {
            http,
            api,
            place: Place { kind: at.kind, repository: at.repository.clone(), host },
            page,
            marks: Marks::new(at),
            remote,
            own: OnceCell::new(),
            root: manner.root,
            accept: manner.accept,
        })
    }

    /// An address of the repository's.
    pub(super) fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> Result<Url, ForgeError> {
        let all: Vec<&str> = self.root.iter().map(String::as_str).chain(parts.iter().copied()).collect();
        address(&self.api, &all, query)
    }

    /// A request that reads.
    pub(super) fn reading<'a>(&self, url: Url, doing: &'a str, needs: &'a str) -> Ask<'a> {
        Ask { needs: Some(needs), accept: self.accept, ..Ask::read(url, doing) }
    }

    /// Reads what is at an address of the repository's.
    pub(super) async fn get(
        &self,
        parts: &[&str],
        query: &[(&str, &str)],
        doing: &str,
        needs: &str,
    ) -> Result<Answer, ForgeError> {
        let ask = self.reading(self.url(parts, query)?, doing, needs);
        self.http.ask(&ask).await.map_err(Failed::into_inner)
    }

    /// Changes what is at an address of the repository's. A body of `null` is none.
    pub(super) async fn write(
        &self,
        method: Method,
        parts: &[&str],
        body: Value,
        doing: &str,
        needs: &str,
        kind: Kind,
    ) -> Result<Answer, Failed> {
        let body = Some(body).filter(|body| !body.is_null());
        let reading = self.reading(self.url(parts, &[])?, doing, needs);
        self.http.ask(&Ask { method, body, kind, ..reading }).await
    }

    /// Takes something away that may be gone already.
    pub(super) async fn delete(&self, parts: &[&str], doing: &str, needs: &str) -> Result<(), ForgeError> {
        match self
            .write(Method::DELETE, parts, Value::Null, doing, needs, Kind::Again)
            .await
            .map_err(Failed::into_inner)
        {
            Ok(_) | Err(ForgeError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Our own account's name, by `/user`; `None`: the token may not ask.
    pub(super) async fn own<U: DeserializeOwned>(
        &self,
        needs: &str,
        name: fn(U) -> String,
    ) -> Result<Option<&str>, ForgeError> {
        let asked = self.own.get_or_try_init(|| async {
            let doing = "asking who we are";
            let ask = self.reading(address(&self.api, &["user"], &[])?, doing, needs);
            match self.http.ask(&ask).await.map_err(Failed::into_inner) {
                Ok(answer) => Ok(Some(name(read(doing, &answer.body)?))),
                Err(ForgeError::Refused { .. } | ForgeError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        Ok(asked.await?.as_deref())
    }
}

/// `owner/name`, taken apart for an address.
pub(super) fn owner_and_name(repository: &str) -> Result<(String, String), ForgeError> {
    let parts = repository.split_once('/').filter(|(_, name)| !name.contains('/'));
    let (owner, name) = parts
        .ok_or_else(|| ForgeError::Unsupported(format!("`{repository}` is not a repository; write owner/name")))?;
    Ok((owner.to_owned(), name.to_owned()))
}
