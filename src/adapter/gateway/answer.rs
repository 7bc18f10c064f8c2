//! From a question to an HTTP response: in one piece, or as events while the model speaks.

use super::Shared;
use super::dialect::{Asked, Dialect, Events, Fault, Kind};
use super::request::{document, refusal};
use crate::model::chat::ChatAnswer;
use crate::port::gateway::{Desk, Question, Refusal};
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::stream;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Asks the desk and words what it says.
pub(super) async fn answer(
    shared: &Shared,
    desk: Arc<dyn Desk>,
    token: String,
    dialect: Dialect,
    asked: Asked,
    place: OwnedSemaphorePermit,
) -> Response {
    if !asked.stream {
        return match desk.ask(&token, asked.question.clone(), &|_| {}).await {
            Ok(answer) => document(StatusCode::OK, &dialect.whole(&asked, &answer, &shared.stamp())),
            Err(refused) => refusal(dialect, &refused.into()),
        };
    }
    let events = dialect.events(&asked, &shared.stamp());
    let mut listening = Listening::begin(desk, token, asked.question);
    let first = listening.next(shared.times.patience).await;
    if let Heard::Done(Err(refused)) = first {
        return refusal(dialect, &refused.into());
    }
    let (sent, ping) = (String::new(), shared.times.ping);
    let mut telling = Telling { listening, events, sent, ping, over: false, _place: place };
    let begun = telling.events.start() + &telling.tell(first);
    let rest = stream::unfold(telling, |mut telling| async move {
        if telling.over {
            return None;
        }
        let heard = telling.listening.next(telling.ping).await;
        let text = telling.tell(heard);
        Some((text, telling))
    });
    let all =
        futures::StreamExt::map(futures::StreamExt::chain(stream::once(std::future::ready(begun)), rest), |text| {
            Ok::<_, Infallible>(Bytes::from(text))
        });
    let mut response = Response::new(Body::from_stream(all));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What there is to tell.
enum Heard {
    /// More text.
    More(String),
    /// Nothing for a while.
    Nothing,
    /// The end.
    Done(Result<ChatAnswer, Refusal>),
}

type Asking = Pin<Box<dyn Future<Output = Result<ChatAnswer, Refusal>> + Send>>;

/// A question on its way.
struct Listening {
    asking: Asking,
    heard: mpsc::UnboundedReceiver<String>,
    /// The end, where text that was heard before it had still to be told.
    end: Option<Result<ChatAnswer, Refusal>>,
}

impl Listening {
    fn begin(desk: Arc<dyn Desk>, token: String, question: Question) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let asking = Box::pin(async move {
            let hear = move |text: &str| {
                // Nobody listens any more: the call goes on all the same, it is paid for.
                let _ = tell.send(text.to_owned());
            };
            desk.ask(&token, question, &hear).await
        });
        Self { asking, heard, end: None }
    }

    async fn next(&mut self, within: Duration) -> Heard {
        if let Some(end) = self.end.take() {
            return Heard::Done(end);
        }
        let mut text = tokio::select! {
            biased;
            Some(text) = self.heard.recv() => text,
            end = &mut self.asking => {
                self.end = Some(end);
                String::new()
            }
            () = tokio::time::sleep(within) => return Heard::Nothing,
        };
        while let Ok(more) = self.heard.try_recv() {
            text.push_str(&more);
        }
        match self.end.take() {
            Some(end) if text.is_empty() => Heard::Done(end),
            end => {
                self.end = end;
                Heard::More(text)
            }
        }
    }
}

/// An answer that is being told.
struct Telling {
    listening: Listening,
    events: Box<dyn Events>,
    /// The text that was told.
    sent: String,
    ping: Duration,
    over: bool,
    /// Among the questions at once.
    _place: OwnedSemaphorePermit,
}

impl Telling {
    fn tell(&mut self, heard: Heard) -> String {
        match heard {
            Heard::Nothing => self.events.ping(),
            Heard::More(text) => {
                self.sent.push_str(&text);
                self.events.text(&text)
            }
            Heard::Done(end) => {
                self.over = true;
                match end {
                    Ok(answer) => self.finish(&answer),
                    Err(refused) => self.events.fail(&refused.into()),
                }
            }
        }
    }

    fn finish(&mut self, answer: &ChatAnswer) -> String {
        // What was told cannot be taken back: an answer that broke off and was asked for anew begins differently.
        let Some(rest) = answer.text.strip_prefix(self.sent.as_str()) else {
            let again = "the model's answer broke off and another one was made: ask again";
            return self.events.fail(&Fault::new(Kind::Failed(503), again));
        };
        let mut out = if rest.is_empty() { String::new() } else { self.events.text(rest) };
        out.push_str(&self.events.finish(answer));
        out
    }
}
