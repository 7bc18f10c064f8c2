//! Recorded answers of models: played back without a network, or recorded from one.
//!
//! A cassette is JSON Lines. Its first line is a header, every further line one question and its answer:
//!
//! ```json
//! {"codeforge_cassette":1,"match":"fingerprint"}
//! {"fingerprint":"…","conversation":"…","turn":0,"messages":["system 5f…","user 9a…"],"last":"…","answer":{…}}
//! ```
//!
//! Messages stand there as hashes, but for the first 500 characters of the last one: enough to say where a request
//! differs from what was recorded.

use crate::model::chat::{ChatAnswer, ChatRequest, Message, ModelError, ModelFault};
use crate::model::id::short_hash;
use crate::port::model::ChatModel;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The format that this version reads and writes.
const VERSION: u32 = 1;
/// How many characters of a request's last message are kept.
const HEAD: usize = 500;
/// How many characters a listener is given at once.
const PIECE: usize = 40;

/// How a request finds its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Matching {
    /// By everything that is asked: messages, tools and output schema.
    #[default]
    Fingerprint,
    /// By how the conversation began (system messages and first user message) and its turn. For cassettes whose
    /// tool results differ from run to run.
    Ordinal,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    codeforge_cassette: u32,
    #[serde(default, rename = "match")]
    matching: Matching,
}

/// One question and its answer.
#[derive(Debug, Serialize, Deserialize)]
struct Interaction {
    #[serde(flatten)]
    asked: Asked,
    answer: ChatAnswer,
}

/// A question, as much of it as is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    /// [`ChatRequest::fingerprint`].
    fingerprint: String,
    /// Hash of the system messages and the first user message.
    conversation: String,
    /// How many answers the conversation held before this one.
    turn: usize,
    /// Hash of the tools and the output schema.
    tools: String,
    /// For each message, its role and the hash of its content.
    messages: Vec<String>,
    /// How the last message begins.
    last: String,
}

impl Asked {
    fn of(request: &ChatRequest) -> Self {
        Self {
            fingerprint: request.fingerprint(),
            conversation: conversation(request),
            turn: turn(request),
            tools: hash(&(&request.tools, &request.output_schema)),
            messages: request.messages.iter().map(digest).collect(),
            last: request.messages.last().map(|message| head(message, HEAD)).unwrap_or_default(),
        }
    }

    fn key(&self, matching: Matching) -> Key {
        match matching {
            Matching::Fingerprint => (self.fingerprint.clone(), 0),
            Matching::Ordinal => (self.conversation.clone(), self.turn),
        }
    }
}

/// What must be the same for an answer to fit.
type Key = (String, usize);

fn hash(value: &impl Serialize) -> String {
    short_hash(serde_json::to_string(value).unwrap_or_default().as_bytes(), 16)
}

fn conversation(request: &ChatRequest) -> String {
    let first = request.messages.iter().position(|message| matches!(message, Message::User { .. }));
    let opening: Vec<&Message> = request.messages.iter().take(first.map_or(usize::MAX, |at| at + 1)).collect();
    hash(&opening)
}

fn turn(request: &ChatRequest) -> usize {
    request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count()
}

fn role(message: &Message) -> &'static str {
    match message {
        Message::System { .. } => "system",
        Message::User { .. } => "user",
        Message::Assistant { .. } => "assistant",
        Message::Tool { .. } => "tool",
    }
}

fn digest(message: &Message) -> String {
    format!("{} {}", role(message), hash(message))
}

fn head(message: &Message, most: usize) -> String {
    let (Message::System { text }
    | Message::User { text }
    | Message::Assistant { text, .. }
    | Message::Tool { text, .. }) = message;
    text.chars().take(most).collect()
}

/// Plays a cassette: the n-th request of a kind gets the n-th recorded answer to it. Nothing is sent anywhere.
#[derive(Debug)]
pub struct Player {
    matching: Matching,
    recorded: Vec<Interaction>,
    /// For each key, where its answers are.
    places: HashMap<Key, Vec<usize>>,
    /// For each key, how many answers were given.
    given: Mutex<HashMap<Key, usize>>,
}

impl Player {
    /// Reads a cassette's file.
    ///
    /// # Errors
    /// What is wrong with it, with its path and the line.
    pub fn open(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cassette {}: {error}", path.display()))?;
        Self::from_text(&text).map_err(|error| format!("cassette {}: {error}", path.display()))
    }

    /// Reads a cassette's text.
    ///
    /// # Errors
    /// What is wrong with it, with the line.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut lines = text.split_inclusive('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, first) = lines.next().ok_or("it is empty")?;
        let header: Header = serde_json::from_str(first).map_err(|error| {
            format!("line 1 is no cassette's header, such as {{\"codeforge_cassette\":{VERSION}}}: {error}")
        })?;
        if header.codeforge_cassette != VERSION {
            let found = header.codeforge_cassette;
            return Err(format!("line 1: it has format {found}, this version reads format {VERSION}: record it again"));
        }
        let mut recorded = Vec::new();
        for (at, line) in lines {
            match serde_json::from_str::<Interaction>(line) {
                Ok(interaction) => recorded.push(interaction),
                // The recorder was stopped while it wrote: that answer was never whole.
                Err(error) if error.is_eof() && !line.ends_with('\n') => {}
                Err(error) => return Err(format!("line {}: {error}", at + 1)),
            }
        }
        let mut places: HashMap<Key, Vec<usize>> = HashMap::new();
        for (at, interaction) in recorded.iter().enumerate() {
            places.entry(interaction.asked.key(header.matching)).or_default().push(at);
        }
        Ok(Self { matching: header.matching, recorded, places, given: Mutex::default() })
    }

    /// The answer to a request, and one fewer left.
    fn take(&self, asked: &Asked) -> Result<ChatAnswer, String> {
        let key = asked.key(self.matching);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let count = given.entry(key.clone()).or_default();
        let places = self.places.get(&key).map(Vec::as_slice).unwrap_or_default();
        match places.get(*count).and_then(|at| self.recorded.get(*at)) {
            Some(found) => {
                *count += 1;
                Ok(found.answer.clone())
            }
            None if places.is_empty() => Err(self.difference(asked)),
            None => Err(format!("this was asked {} times when it was recorded, and now once more", places.len())),
        }
    }

    /// How a request differs from the recorded one that is most like it.
    fn difference(&self, asked: &Asked) -> String {
        let same = |recorded: &Asked| recorded.messages.iter().zip(&asked.messages).take_while(|(a, b)| a == b).count();
        // Among those that agree for as long, the one of the same length is meant.
        let near = self.recorded.iter().map(|interaction| &interaction.asked).max_by_key(|recorded| {
            (same(recorded), std::cmp::Reverse(recorded.messages.len().abs_diff(asked.messages.len())))
        });
        let Some(near) = near else { return "the cassette holds no answers".to_owned() };
        let at = same(near);
        let (was, is) = (near.messages.get(at), asked.messages.get(at));
        let role = |digest: &str| digest.split(' ').next().unwrap_or_default().to_owned();
        // A message's text was kept where it was once the last of a request.
        let text = |digest: &String| {
            let known = self
                .recorded
                .iter()
                .map(|interaction| &interaction.asked)
                .find(|recorded| recorded.messages.last() == Some(digest));
            known.map_or_else(|| "(not kept)".to_owned(), |recorded| format!("{:?}", recorded.last))
        };
        match (was, is) {
            (None, None) => "its tools or its output schema differ from the recorded ones".to_owned(),
            (Some(was), None) => format!(
                "it ends after message {at}, where the recorded request goes on with a {} message: {}",
                role(was),
                text(was)
            ),
            (None, Some(is)) => {
                format!("it has a {} message {} where the recorded request ends", role(is), at + 1)
            }
            (Some(was), Some(is)) => format!(
                "message {} ({}) differs from the recorded one ({}): recorded {}",
                at + 1,
                role(is),
                role(was),
                text(was)
            ),
        }
    }
}

#[async_trait]
impl ChatModel for Player {
    async fn ask(
        &self,
        request: &ChatRequest,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError> {
        let asked = Asked::of(request);
        match self.take(&asked) {
            Ok(mut answer) => {
                let letters: Vec<char> = answer.text.chars().collect();
                for piece in letters.chunks(PIECE) {
                    heard(&piece.iter().collect::<String>());
                    tokio::task::yield_now().await;
                }
                request.model.name.clone_into(&mut answer.bill.model);
                Ok(answer)
            }
            Err(why) => {
                let last: String = asked.last.chars().take(200).collect();
                Err(ModelError {
                    fault: ModelFault::Unmatched,
                    message: format!(
                        "the cassette has no answer to turn {} of this conversation: {why}; now the last message is \
                         {last:?}. Record the cassette again.",
                        asked.turn
                    ),
                    status: None,
                    requests: 0,
                    bill: None,
                })
            }
        }
    }
}

/// Passes questions on to a model, and keeps every answer.
pub struct Recorder {
    inner: Arc<dyn ChatModel>,
    file: Arc<Mutex<std::fs::File>>,
}

impl Recorder {
    /// Records what `inner` answers at the end of a file, which is made where there is none.
    ///
    /// # Errors
    /// Why the file cannot be written, or that it is no cassette.
    pub fn open(inner: Arc<dyn ChatModel>, path: &Path) -> Result<Self, String> {
        let file = prepare(path).map_err(|error| format!("cassette {}: {error}", path.display()))?;
        Ok(Self { inner, file: Arc::new(Mutex::new(file)) })
    }
}

/// A file that ends with a whole line, ready for the next.
fn prepare(path: &Path) -> Result<std::fs::File, String> {
    let words = |error: std::io::Error| error.to_string();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(words)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(words)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(words)?;
    if text.trim().is_empty() {
        file.set_len(0).map_err(words)?;
        file.seek(SeekFrom::Start(0)).map_err(words)?;
        let header = Header { codeforge_cassette: VERSION, matching: Matching::Fingerprint };
        let line = serde_json::to_string(&header).map_err(|error| error.to_string())?;
        file.write_all(format!("{line}\n").as_bytes()).map_err(words)?;
    } else {
        Player::from_text(&text)?;
        // A last line without its end is either whole, or was cut while it was written.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        let rest = text.get(whole..).unwrap_or_default();
        if serde_json::from_str::<serde_json::Value>(rest).is_ok() {
            file.seek(SeekFrom::End(0)).map_err(words)?;
            file.write_all(b"\n").map_err(words)?;
        } else {
            file.set_len(whole as u64).map_err(words)?;
            file.seek(SeekFrom::End(0)).map_err(words)?;
        }
    }
    file.sync_data().map_err(words)?;
    Ok(file)
}

#[async_trait]
impl ChatModel for Recorder {
    async fn ask(
        &self,
        request: &ChatRequest,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError> {
        let answer = self.inner.ask(request, heard).await?;
        let interaction = Interaction { asked: Asked::of(request), answer: answer.clone() };
        let file = Arc::clone(&self.file);
        let written = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            let mut line = serde_json::to_vec(&interaction)?;
            line.push(b'\n');
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(&line)?;
            file.sync_data()
        });
        // The answer is paid for: it is not lost to a full disk.
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "an answer could not be recorded: the cassette is incomplete"),
            Err(error) => tracing::error!(%error, "an answer could not be recorded: the cassette is incomplete"),
        }
        Ok(answer)
    }
}
