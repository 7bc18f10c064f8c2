//! Tokens that a server lends to its runs (decision 0051): a run has one end of a pair of sockets as its standard input,
//! and asks there when it needs a token, or when the forge refused the one that it had. One line of JSON each way.
//!
//! Whatever tokens are made of stays with the server; no variable and no file holds one.

use crate::port::forge::Login;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::sync::PoisonError;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// The longest line, in bytes.
const LINE: u64 = 64 << 10;

/// What a run asks for.
#[derive(Serialize, Deserialize)]
struct Wanted {
    /// The token that the forge refused, where one was.
    refused: Option<String>,
}

/// What it is answered.
#[derive(Serialize, Deserialize)]
enum Answer {
    Lent { token: String, until_ms: Option<i64> },
    Not { why: String },
}

/// A token, and until when it is good, in milliseconds since 1970.
pub type Lent = (SecretString, Option<i64>);

/// A run's end of it.
pub struct Lender {
    asking: Mutex<End>,
    given: std::sync::Mutex<Vec<String>>,
}

enum End {
    /// As it came. A runtime is needed for more.
    Fresh(Option<Socket>),
    Open(BufReader<UnixStream>),
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lender")
    }
}

impl Lender {
    /// Takes the socket from standard input, which is empty from then on: no program that this process starts has it.
    ///
    /// # Errors
    /// The system's.
    pub fn of_stdin() -> io::Result<Self> {
        let socket = Socket::from(io::stdin().as_fd().try_clone_to_owned()?);
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        socket.set_nonblocking(true)?;
        Ok(Self { asking: Mutex::new(End::Fresh(Some(socket))), given: std::sync::Mutex::default() })
    }

    /// Asks for a token; `refused`: for another one than this.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn ask(&self, refused: Option<&str>) -> Result<Lent, String> {
        let mut end = self.asking.lock().await;
        let answer = end.ask(&Wanted { refused: refused.map(str::to_owned) }).await;
        match answer.map_err(|error| format!("the server that started this run does not answer: {error}"))? {
            Answer::Not { why } => Err(why),
            Answer::Lent { token, until_ms } => {
                self.given.lock().unwrap_or_else(PoisonError::into_inner).push(token.clone());
                Ok((token.into(), until_ms))
            }
        }
    }

    /// All that were lent so far: none of them must leave.
    pub fn given(&self) -> Vec<String> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl End {
    async fn ask(&mut self, wanted: &Wanted) -> io::Result<Answer> {
        if let Self::Fresh(socket) = self {
            let gone = || io::Error::other("there is no socket");
            *self = Self::Open(BufReader::new(UnixStream::from_std(socket.take().ok_or_else(gone)?)?));
        }
        match self {
            Self::Fresh(_) => Err(io::Error::other("there is no socket")),
            Self::Open(open) => {
                write(open.get_mut(), wanted).await?;
                read(open).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
        }
    }
}

/// The server's end of it, and the one that its run is given.
///
/// # Errors
/// The system's.
pub fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = Socket::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// Answers a run until it is gone. `lend`: a token, and another one than a refused one.
pub async fn lend<F: Future<Output = Result<Login, String>>>(
    socket: UnixStream,
    lend: impl Fn(Option<SecretString>) -> F,
) {
    let mut socket = BufReader::new(socket);
    while let Ok(Some(Wanted { refused })) = read(&mut socket).await {
        let answer = match lend(refused.map(SecretString::from)).await {
            Ok(Login { token, until_ms, .. }) => Answer::Lent { token: token.expose_secret().to_owned(), until_ms },
            Err(why) => Answer::Not { why },
        };
        if write(socket.get_mut(), &answer).await.is_err() {
            return;
        }
    }
}

async fn write(socket: &mut UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    socket.write_all(&line).await
}

/// `None`: the other end is gone.
async fn read<T: for<'a> Deserialize<'a>>(socket: &mut BufReader<UnixStream>) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    socket.take(LINE).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_for_is_lent_until_the_run_is_gone() {
        let (ours, theirs) = pair().unwrap();
        let server = tokio::spawn(lend(ours, |refused| async move {
            match refused.as_ref().map(ExposeSecret::expose_secret) {
                None => Ok(Login { user: "x".into(), token: "one".to_owned().into(), until_ms: Some(7) }),
                Some("one") => Ok(Login { user: "x".into(), token: "two".to_owned().into(), until_ms: None }),
                Some(other) => Err(format!("no `{other}`")),
            }
        }));
        let socket = Socket::from(theirs);
        socket.set_nonblocking(true).unwrap();
        let lender = Lender { asking: Mutex::new(End::Fresh(Some(socket))), given: std::sync::Mutex::default() };
        let (token, until) = lender.ask(None).await.unwrap();
        assert_eq!((token.expose_secret(), until), ("one", Some(7)));
        assert_eq!(lender.ask(Some("one")).await.unwrap().0.expose_secret(), "two");
        assert_eq!(lender.ask(Some("three")).await.unwrap_err(), "no `three`");
        assert_eq!(lender.given(), ["one", "two"]);
        drop(lender);
        server.await.unwrap();
    }
}
