//! One line for each thing that happened, JSON or text, on standard error. A thread of its own writes; where whoever
//! reads is too slow, lines are dropped and counted: the log never holds a webhook up.
//!
//! What comes from outside stands in values only, escaped. Bodies and secrets are in no line.

use crate::model::job::Job;
use crate::port::clock::Clock;
use crate::text;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

/// Lines that wait for the writer, at most.
const WAITING: usize = 16 * 1024;
/// How long lines gather.
const GATHER: Duration = Duration::from_millis(5);
/// The longest value that is written whole, in bytes.
const LONGEST: usize = 2000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// Somebody should look at it some day.
    Warn,
    /// Something does not work: the operator's to mend.
    Alarm,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Alarm => "alarm",
        }
    }
}

enum Message {
    Line(String),
    /// Everything before is written by the time this is answered.
    Flush(SyncSender<()>),
}

/// The log.
pub struct Log {
    lines: SyncSender<Message>,
    json: bool,
    dropped: AtomicU64,
    clock: Arc<dyn Clock>,
}

/// A line on its way; [`Line::write`] sends it.
#[must_use = "a line that is not written says nothing"]
pub struct Line<'a> {
    log: &'a Log,
    text: String,
}

impl Log {
    /// A log to `out`: JSON, or text for people.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(out: Box<dyn Write + Send>, json: bool, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        std::thread::Builder::new().name("log".into()).spawn(move || write(&waiting, out))?;
        Ok(Self { lines, json, dropped: AtomicU64::new(0), clock })
    }

    /// Begins a line: `event` is its name, the same for the same thing.
    pub fn line(&self, level: Level, event: &'static str) -> Line<'_> {
        let at = jiff::Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or_default();
        let mut text = String::with_capacity(256);
        let level = level.word();
        // Writing to a text cannot fail.
        let _ = if self.json {
            write!(text, r#"{{"at":"{at:.3}","level":"{level}","event":"{event}""#)
        } else {
            write!(text, "{at:.3} {level:<5} {event}")
        };
        Line { log: self, text }
    }

    /// Begins a line about what is as it should be.
    pub fn info(&self, event: &'static str) -> Line<'_> {
        self.line(Level::Info, event)
    }

    /// Begins a line that somebody should look at some day.
    pub fn warn(&self, event: &'static str) -> Line<'_> {
        self.line(Level::Warn, event)
    }

    /// Begins a line about something that does not work.
    pub fn alarm(&self, event: &'static str) -> Line<'_> {
        self.line(Level::Alarm, event)
    }

    /// Waits until everything so far is written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.lines.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    fn send(&self, line: String) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if self.lines.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else if dropped > 0 && self.dropped.compare_exchange(dropped, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.warn("log_lines_dropped").number("count", dropped).write();
        }
    }
}

impl Line<'_> {
    /// Adds a text; what is not there adds nothing.
    pub fn text<'v>(mut self, name: &str, value: impl Into<Option<&'v str>>) -> Self {
        if let Some(value) = value.into() {
            let value = text::cap(&text::clean(value), LONGEST);
            self.put(name, &Value::String(value.to_string()).to_string());
        }
        self
    }

    /// Adds a number.
    pub fn number(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.put(name, &value.to_string());
        self
    }

    /// Adds a number that may not be there.
    fn numbered(self, name: &str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }

    fn put(&mut self, name: &str, value: &str) {
        // Writing to a text cannot fail.
        let _ = if self.log.json {
            write!(self.text, r#","{name}":{value}"#)
        } else {
            write!(self.text, " {name}={value}")
        };
    }

    /// Writes the line.
    pub fn write(self) {
        let Self { log, mut text } = self;
        text.push_str(if log.json { "}\n" } else { "\n" });
        log.send(text);
    }
}

/// What a line of the loops is about: by these ids one thing is followed from its webhook to what was handed over. What is
/// not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The line's name: `decided`, `job_made`, `job_begun`, `job_ended`; `None`: `jobs`.
    pub event: Option<&'static str>,
    /// A delivery's id, as the webhook's line has it.
    pub delivery: Option<String>,
    /// Its number in the database (`codeforge queue deliveries`).
    pub number: Option<i64>,
    /// The repository.
    pub repository: Option<String>,
    /// The workflow.
    pub workflow: Option<String>,
    /// The job.
    pub job: Option<String>,
    /// The job's run: its journal's id.
    pub run: Option<String>,
    /// Which attempt of the job's it is.
    pub attempt: Option<u32>,
    /// How the run ended.
    pub conclusion: Option<String>,
    /// What was handed over.
    pub url: Option<String>,
}

impl About {
    /// A job, and the run that it begins or goes on with.
    pub fn job(job: &Job) -> Self {
        Self {
            repository: Some(job.new.repository.name.clone()),
            workflow: Some(job.new.workflow.clone()),
            job: Some(job.id.clone()),
            run: Some(job.run(job.rounds).0),
            attempt: Some(job.attempts).filter(|attempt| *attempt > 0),
            delivery: job.delivery_id.clone(),
            number: job.delivery,
            ..Self::default()
        }
    }

    /// In a line of this name.
    #[must_use]
    pub fn named(mut self, event: &'static str) -> Self {
        self.event = Some(event);
        self
    }

    /// Adds what is known to a line.
    pub fn on(self, line: Line<'_>) -> Line<'_> {
        let line = line.text("delivery", self.delivery.as_deref()).numbered("number", self.number);
        let line = line.text("repository", self.repository.as_deref()).text("workflow", self.workflow.as_deref());
        let line = line.text("job", self.job.as_deref()).text("run", self.run.as_deref());
        let line = line.numbered("attempt", self.attempt).text("conclusion", self.conclusion.as_deref());
        line.text("url", self.url.as_deref())
    }
}

/// Writes what waits; many lines at once where many come: after some were written, the next ones gather for a moment, so
/// that not each of them wakes this thread.
fn write(waiting: &Receiver<Message>, mut out: Box<dyn Write + Send>) {
    let mut block = String::new();
    let mut asked = Vec::new();
    while let Ok(first) = waiting.recv() {
        let mut next = Ok(first);
        while let Ok(message) = next {
            match message {
                Message::Line(line) => block.push_str(&line),
                Message::Flush(done) => asked.push(done),
            }
            next = if block.len() < 64 * 1024 { waiting.try_recv() } else { Err(TryRecvError::Empty) };
        }
        // A log that cannot be written is nothing that anybody could be told of.
        let _ = out.write_all(block.as_bytes());
        let _ = out.flush();
        block.clear();
        for done in asked.drain(..) {
            let _ = done.send(());
        }
        std::thread::sleep(GATHER);
    }
}
