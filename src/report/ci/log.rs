//! A run's log in CI: groups where the runner folds them, one line for each thing that happened, and an end that says
//! why. Pure: it is told the time.
//!
//! What a command prints and what a model says are not in it, whatever the verbosity; what a gate printed when it failed
//! is, cleaned and clipped, and on GitHub with the runner's ear closed (`::stop-commands::`). No line of it but our own
//! marks is a runner's command.

use super::parts;
use crate::model::account::{Account, Ending, StepStatus};
use crate::model::journal::{Input, RowBody, Verdict};
use crate::model::plan::StepKind;
use crate::model::progress::Progress;
use crate::report::plain::Lines;
use crate::report::{line, numbers};
use std::collections::{HashMap, VecDeque};

/// Whose runner reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// GitHub's (Gitea's and Forgejo's read the same).
    Github,
    /// GitLab's.
    Gitlab,
    /// None that reads anything.
    Plain,
}

/// Lines of a step that wait while another step's group is open; the oldest go first.
const WAITING: usize = 400;

/// The fold.
#[derive(Debug)]
pub struct Log {
    reader: Reader,
    lines: Lines,
    /// What makes GitHub's runner listen again: nobody can guess it.
    token: String,
    /// Steps by the key of their effects.
    keys: HashMap<String, String>,
    modes: HashMap<String, String>,
    /// The step whose group is open, and the group's name for GitLab.
    open: Option<(String, String)>,
    waiting: VecDeque<Waiting>,
    groups: u32,
}

#[derive(Debug)]
struct Waiting {
    step: String,
    lines: VecDeque<String>,
    dropped: u64,
    ended: bool,
}

impl Log {
    /// A log for a runner. `verbosity`: 1 tells tool calls too. `token`: random, of letters and digits.
    pub fn new(reader: Reader, verbosity: i8, token: &str) -> Self {
        Self {
            reader,
            lines: Lines::new(verbosity.min(1)),
            token: token.chars().filter(char::is_ascii_alphanumeric).collect(),
            keys: HashMap::new(),
            modes: HashMap::new(),
            open: None,
            waiting: VecDeque::new(),
            groups: 0,
        }
    }

    /// The lines that an observation adds. `now_s`: seconds since 1970.
    pub fn lines(&mut self, progress: &Progress, now_s: i64) -> Vec<String> {
        let (step, ended) = self.whose(progress);
        let told = self.lines.lines(progress);
        let told = self.guarded(told);
        let mut out = Vec::new();
        if self.reader == Reader::Plain {
            return told;
        }
        match step {
            None if told.is_empty() => {}
            None => {
                self.close(now_s, &mut out);
                out.extend(told);
            }
            Some(step) => self.add(&step, told, ended, now_s, &mut out),
        }
        out
    }

    /// The step that an observation belongs to, and whether it is over with it.
    fn whose(&mut self, progress: &Progress) -> (Option<String>, bool) {
        match progress {
            Progress::StepEnded { step, .. } => (Some(step.to_string()), true),
            Progress::ModelText { step, .. } | Progress::Output { step, .. } => (Some(step.to_string()), false),
            Progress::Note(_) => (None, false),
            Progress::Recorded(row) => match &row.body {
                RowBody::Intent(effect) => {
                    let step = effect.step.as_ref().map(ToString::to_string);
                    if let Some(step) = &step {
                        self.keys.insert(effect.key.0.clone(), step.clone());
                    }
                    (step, false)
                }
                RowBody::Input(input) => (self.whose_input(input), false),
            },
        }
    }

    fn whose_input(&mut self, input: &Input) -> Option<String> {
        match input {
            Input::Started { plan, .. } => {
                for step in plan.steps.values() {
                    let mode = match &step.kind {
                        StepKind::Agent(spec) => spec.mode.clone(),
                        StepKind::Run { .. } => "run".to_owned(),
                    };
                    self.modes.insert(step.id.to_string(), mode);
                }
                None
            }
            Input::Recalled { step, .. } | Input::Asked { step, .. } | Input::AskRefused { step, .. } => {
                Some(step.to_string())
            }
            Input::DeadlinePassed { step } => step.as_ref().map(ToString::to_string),
            other => other.key().and_then(|key| self.keys.get(&key.0)).cloned(),
        }
    }

    /// Lines of a step: into its open group, or kept until it is its turn.
    fn add(&mut self, step: &str, told: Vec<String>, ended: bool, now_s: i64, out: &mut Vec<String>) {
        if told.is_empty() && !ended {
            return;
        }
        let mine = self.open.as_ref().is_none_or(|(open, _)| open == step);
        if !mine {
            self.wait(step, told, ended);
            return;
        }
        let has_lines = !told.is_empty() || self.waiting.iter().any(|it| it.step == step);
        if self.open.is_none() && has_lines {
            self.begin(step, now_s, out);
        }
        out.extend(told);
        if ended {
            self.close(now_s, out);
            // Whose turn it is now; steps that have ended meanwhile are told as a whole.
            while let Some(next) = self.waiting.front().map(|it| (it.step.clone(), it.ended)) {
                self.begin(&next.0, now_s, out);
                if !next.1 {
                    break;
                }
                self.close(now_s, out);
            }
        }
    }

    fn wait(&mut self, step: &str, told: Vec<String>, ended: bool) {
        let at = self.waiting.iter().position(|it| it.step == step && !it.ended);
        let at = at.unwrap_or_else(|| {
            self.waiting.push_back(Waiting { step: step.into(), lines: VecDeque::new(), dropped: 0, ended: false });
            self.waiting.len() - 1
        });
        let Some(waiting) = self.waiting.get_mut(at) else { return };
        waiting.ended |= ended;
        for text in told {
            if waiting.lines.len() >= WAITING {
                waiting.lines.pop_front();
                waiting.dropped += 1;
            }
            waiting.lines.push_back(text);
        }
    }

    /// Opens a step's group and says what waited for it.
    fn begin(&mut self, step: &str, now_s: i64, out: &mut Vec<String>) {
        self.groups += 1;
        let mode = self.modes.get(step).map(|mode| format!(" ({})", line(mode, 40))).unwrap_or_default();
        let title = format!("{}{mode}", line(step, 64));
        let name = format!("codeforge_{}", self.groups);
        match self.reader {
            Reader::Github => out.push(format!("::group::{}", title.replace('%', "%25"))),
            Reader::Gitlab => out.push(format!("\x1b[0Ksection_start:{now_s}:{name}\r\x1b[0K{title}")),
            Reader::Plain => {}
        }
        self.open = Some((step.to_owned(), name));
        if let Some(at) = self.waiting.iter().position(|it| it.step == step)
            && let Some(waiting) = self.waiting.remove(at)
        {
            if waiting.dropped > 0 {
                out.push(format!("… {} lines before this are in the trajectory", waiting.dropped));
            }
            out.extend(waiting.lines);
        }
    }

    fn close(&mut self, now_s: i64, out: &mut Vec<String>) {
        let Some((_, name)) = self.open.take() else { return };
        match self.reader {
            Reader::Github => out.push("::endgroup::".to_owned()),
            Reader::Gitlab => out.push(format!("\x1b[0Ksection_end:{now_s}:{name}\r\x1b[0K")),
            Reader::Plain => {}
        }
    }

    /// Makes sure that no line is a command, and closes the runner's ear around what others printed.
    fn guarded(&self, told: Vec<String>) -> Vec<String> {
        let mut out = Vec::with_capacity(told.len());
        let mut deaf = false;
        for text in told {
            let text = crate::text::inert_ci(&text);
            let foreign = text.starts_with("  | ") && self.reader == Reader::Github && !self.token.is_empty();
            if foreign != deaf {
                let word = if foreign { "stop-commands::" } else { "" };
                out.push(format!("::{word}{}{}", self.token, if foreign { "" } else { "::" }));
                deaf = foreign;
            }
            out.push(text);
        }
        if deaf {
            out.push(format!("::{}::", self.token));
        }
        out
    }

    /// The end of the log: what waited, then at most ten lines that say how it ended, why, and what to change.
    /// `whole`: where all of it can be read.
    pub fn end(&mut self, account: &Account, whole: Option<&str>, now_s: i64) -> Vec<String> {
        let mut out = Vec::new();
        self.close(now_s, &mut out);
        while let Some(next) = self.waiting.front().map(|it| it.step.clone()) {
            self.begin(&next, now_s, &mut out);
            self.close(now_s, &mut out);
        }
        let last = closing(account, whole);
        if self.reader == Reader::Github && account.ending != Some(Ending::Done) {
            // The job's own mark: it stands on its page whoever opens it.
            let first = last.first().map(String::as_str).unwrap_or_default();
            let text = first.replace('%', "%25");
            out.push(format!("::error title=CodeForge::{text}"));
            out.extend(last.into_iter().skip(1));
        } else {
            out.extend(last);
        }
        out
    }
}

/// The last lines: at most ten, the first says how it ended and why.
fn closing(account: &Account, whole: Option<&str>) -> Vec<String> {
    let (_, word) = parts::verdict(account);
    let reason =
        if account.reason.trim().is_empty() { String::new() } else { format!(": {}", line(&account.reason, 600)) };
    let mut out = vec![format!("{} {word}{reason}", line(&account.workflow, 60))];
    if account.ending != Some(Ending::Done) {
        let failed = account.steps.iter().filter(|step| step.status == StepStatus::Failed).take(2);
        out.extend(failed.filter_map(|step| {
            let error = line(step.error.as_deref()?, 400);
            (!account.reason.contains(&error)).then(|| format!("step {}: {error}", step.id))
        }));
        let gates = parts::gates(account);
        for story in gates.iter().filter(|story| story.last.verdict != Verdict::Pass).take(2) {
            let last = story.last.output.lines().rev().find(|text| !text.trim().is_empty()).unwrap_or_default();
            let (gate, detail) = (line(&story.last.gate, 60), line(&story.last.detail, 80));
            out.push(format!("gate {gate} after {}: {detail}: {}", story.of, line(last, 200)));
        }
        for (call, times, ruling) in parts::denials(account).into_iter().take(2) {
            let (place, reason) = (line(&parts::rule(ruling), 120), line(&ruling.reason, 100));
            out.push(format!("denied ×{times}: {} ({place}: {reason})", line(call, 120)));
        }
        out.push(line(&super::summary::advice(account).replace("**", ""), 400));
    } else if let Some(delivered) = account.delivered.as_ref().filter(|delivered| delivered.changed) {
        out.push(format!("change: {}", parts::size(&delivered.changes.files)));
    }
    let tokens =
        if account.spend.calls > 0 { format!(" · {}", numbers::tokens(&account.spend)) } else { String::new() };
    out.push(format!(
        "cost: {}{tokens}",
        if account.spend.calls > 0 { numbers::cost(&account.spend) } else { "nothing: no model was asked".into() }
    ));
    if let Some(whole) = whole {
        out.push(format!("all of it: {}", line(whole, 300)));
    }
    out
}
