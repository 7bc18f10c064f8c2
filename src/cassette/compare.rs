//! What differs between a recorded run and the same run made again.
//!
//! A text that differs is told once, where it first does: a conversation repeats what was said before.

use super::kept::{Request, Role, hash};
use super::story::{Attempt, Call, Heard, Story};
use super::words::{shown, unified, what, who};
use super::{Recording, normal};
use crate::model::account::{Account, StepAccount};
use crate::model::exec::ExecOutcome;
use crate::model::id::StepId;
use crate::model::journal::{GateResult, Purpose, Verdict};
use crate::model::plan::{Plan, StepKind};
use crate::model::policy::Decision;
use crate::model::recording::{About, Compared, Difference};
use crate::model::tool::{ToolCall, ToolOutcome, ToolSpec};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// One of the two runs.
#[derive(Clone, Copy)]
pub struct Side<'r> {
    /// Its rows and texts.
    pub recording: &'r Recording,
    /// Its account, where its journal can be followed.
    pub account: Option<&'r Account>,
}

/// Compares `now` with what was recorded.
pub fn compare(recorded: Side<'_>, now: Side<'_>) -> Compared {
    let (Some((old_plan, _)), Some((new_plan, _))) = (recorded.recording.started(), now.recording.started()) else {
        return Compared::default();
    };
    let (old, new) = (Story::of(recorded.recording), Story::of(now.recording));
    let mut comparing = Comparing {
        old: recorded.recording,
        new: now.recording,
        told: HashSet::new(),
        at: At::default(),
        out: Compared::default(),
    };
    comparing.definitions(old_plan, new_plan);
    let nothing = BTreeMap::new();
    let steps = old_plan.steps.keys().chain(new_plan.steps.keys().filter(|id| !old_plan.steps.contains_key(*id)));
    for id in steps {
        let (was, is) = (old.steps.get(id).unwrap_or(&nothing), new.steps.get(id).unwrap_or(&nothing));
        comparing.at = At { step: Some(id.clone()), ..At::default() };
        comparing.out.counts.steps += 1;
        match (old_plan.steps.contains_key(id), new_plan.steps.contains_key(id)) {
            (true, false) => comparing.say(About::Decision, "the step is not in the workflow any more"),
            (false, true) => comparing.say(About::Decision, "the step is new: the recording knows nothing of it"),
            _ => {
                comparing.step(id, (old_plan, was), (new_plan, is));
                let find = |side: Side<'_>| side.account?.steps.iter().find(|step| step.id == *id).cloned();
                comparing.ending_of_step(find(recorded).as_ref(), find(now).as_ref());
            }
        }
    }
    comparing.at = At::default();
    comparing.whole(&old, &new, recorded.account, now.account);
    comparing.out
}

/// Where we are.
#[derive(Default)]
struct At {
    step: Option<StepId>,
    iteration: u32,
    attempt: u32,
    turn: u32,
}

struct Comparing<'r> {
    old: &'r Recording,
    new: &'r Recording,
    /// Pairs of texts whose difference was told.
    told: HashSet<(String, String)>,
    at: At,
    out: Compared,
}

impl<'r> Comparing<'r> {
    fn say(&mut self, about: About, message: impl Into<String>) {
        self.show(about, message, String::new());
    }

    fn show(&mut self, about: About, message: impl Into<String>, diff: String) {
        let At { step, iteration, attempt, turn } = &self.at;
        self.out.differences.push(Difference {
            step: step.clone(),
            iteration: *iteration,
            attempt: *attempt,
            turn: *turn,
            about,
            message: message.into(),
            diff,
        });
    }

    /// What the operator wrote of gates: a verdict is worth what was checked.
    fn definitions(&mut self, old: &Plan, new: &Plan) {
        for (name, gate) in &new.gates {
            let Some(was) = old.gates.get(name) else { continue };
            if was.command != gate.command {
                let diff = unified(&was.command, &gate.command);
                self.show(About::Gate, format!("gate `{name}`: its command was changed"), diff);
            } else if was.hash != gate.hash {
                self.say(
                    About::Gate,
                    format!("gate `{name}`: its definition was changed (time, paths, or what a failure does)"),
                );
            }
        }
    }

    fn step(
        &mut self,
        id: &StepId,
        (old_plan, was): (&Plan, &BTreeMap<(u32, u32), Attempt<'r>>),
        (new_plan, is): (&Plan, &BTreeMap<(u32, u32), Attempt<'r>>),
    ) {
        let kind = |plan: &Plan| plan.steps.get(id).map(|step| step.kind.clone());
        if let (Some(StepKind::Run { command: was }), Some(StepKind::Run { command: is })) =
            (kind(old_plan), kind(new_plan))
            && was != is
        {
            self.show(About::Command, "its command was changed", unified(&was, &is));
        }
        if was.is_empty() != is.is_empty() {
            let word = if is.is_empty() { "was run, and is not now" } else { "was not run, and is now" };
            return self.say(About::Decision, format!("the step {word}"));
        }
        let all: BTreeSet<(u32, u32)> = was.keys().chain(is.keys()).copied().collect();
        for place in all {
            (self.at.iteration, self.at.attempt, self.at.turn) = (place.0, place.1, 0);
            match (was.get(&place), is.get(&place)) {
                (Some(was), Some(is)) => self.attempt((old_plan, was), (new_plan, is)),
                (Some(_), None) => self.say(About::Decision, "this attempt was made, and is not now"),
                (None, Some(_)) => self.say(About::Decision, "this attempt was not made, and is now"),
                (None, None) => {}
            }
        }
        (self.at.iteration, self.at.attempt, self.at.turn) = (0, 0, 0);
    }

    fn attempt(&mut self, (old_plan, was): (&Plan, &Attempt<'r>), (new_plan, is): (&Plan, &Attempt<'r>)) {
        // Calls are told apart by what they are for, and by their order among those.
        let numbered = |calls: &'_ [Call<'r>]| -> Vec<(Purpose, usize)> {
            let mut seen: Vec<(Purpose, usize)> = Vec::new();
            for call in calls {
                let nth = seen.iter().filter(|(purpose, _)| purpose == call.purpose).count();
                seen.push((call.purpose.clone(), nth));
            }
            seen
        };
        let (old_names, new_names) = (numbered(&was.calls), numbered(&is.calls));
        for (call, name) in was.calls.iter().zip(&old_names) {
            self.at.turn = name.1 as u32 + 1;
            match new_names.iter().position(|other| other == name).and_then(|at| is.calls.get(at)) {
                Some(now) => self.call((old_plan, call), (new_plan, now)),
                None => self.say(About::Turns, format!("{} was asked for, and is not now", what(call.purpose))),
            }
        }
        for (call, name) in is.calls.iter().zip(&new_names).filter(|(_, name)| !old_names.contains(name)) {
            self.at.turn = name.1 as u32 + 1;
            let words = match call.result {
                Some(Heard::RanOut) => "is asked for, and the recording has no answer for it: it ends here",
                _ => "was not asked for, and is now",
            };
            self.say(About::Turns, format!("{} {words}", what(call.purpose)));
        }
        self.at.turn = 0;
        self.command(was.command, is.command);
        self.command(was.backend.map(|(outcome, _)| outcome), is.backend.map(|(outcome, _)| outcome));
        for (was, is) in was.failures.iter().zip(&is.failures) {
            self.sentence(About::Decision, "the work failed otherwise", was, is);
        }
        for extra in is.failures.iter().skip(was.failures.len()) {
            self.say(About::Decision, format!("the work fails now: {extra}"));
        }
        let gates: BTreeSet<&str> = was.gates.keys().chain(is.gates.keys()).copied().collect();
        for gate in gates {
            self.gate(&format!("gate `{gate}`"), was.gates.get(gate).copied(), is.gates.get(gate).copied());
        }
        if was.undone != is.undone {
            let word = if is.undone { "was kept, and is rolled back now" } else { "was rolled back, and is kept now" };
            self.say(About::Decision, format!("the attempt's work {word}"));
        }
    }

    fn call(&mut self, (old_plan, was): (&Plan, &Call<'r>), (new_plan, is): (&Plan, &Call<'r>)) {
        self.out.counts.calls += 1;
        let model = |plan: &Plan, at: usize| -> String {
            let step = self.at.step.as_ref().and_then(|step| plan.steps.get(step));
            let Some(StepKind::Agent(spec)) = step.map(|step| &step.kind) else { return String::new() };
            spec.models.get(at).map_or_else(String::new, |model| model.name.clone())
        };
        let (asked, asks) = (model(old_plan, was.model), model(new_plan, is.model));
        if asked != asks || was.model != is.model {
            self.say(About::Turns, format!("model `{asked}` was asked, and now `{asks}`"));
        }
        match (self.old.requests.get(was.key), self.new.requests.get(is.key)) {
            (Some(was), Some(is)) => self.request(was, is),
            _ if was.hash != is.hash => {
                self.say(About::Prompt, "the request differs; the recording holds no texts to show what");
            }
            _ => {}
        }
        match (&was.result, &is.result) {
            (Some(Heard::Failed), Some(Heard::Answer)) | (Some(Heard::Answer), Some(Heard::Failed)) => {
                self.say(About::Turns, "the model's answer and its failure have changed places");
            }
            (_, Some(Heard::RanOut)) => self.say(About::Turns, "the recording has no answer for this call"),
            _ => {}
        }
        for (at, (asked, outcome)) in was.tools.iter().enumerate() {
            match is.tools.get(at) {
                Some((asks, now)) => self.tool((asked, *outcome), (asks, *now)),
                None => self.say(About::Call, format!("{} was made, and is not now", shown(asked))),
            }
        }
        for (extra, _) in is.tools.iter().skip(was.tools.len()) {
            self.say(About::Call, format!("{} was not made, and is now", shown(extra)));
        }
    }

    fn request(&mut self, was: &Request, is: &Request) {
        for at in 0..was.messages.len().max(is.messages.len()) {
            match (was.messages.get(at), is.messages.get(at)) {
                (Some((role, old)), Some((now, new))) if role == now => self.message(*role, at, old, new),
                (Some((role, old)), Some((now, new))) => {
                    if self.told.insert((old.clone(), new.clone())) {
                        let message = format!(
                            "message {} is another one: {} was said, and now {}",
                            at + 1,
                            who(*role),
                            who(*now)
                        );
                        let diff = unified(self.old.text(old), self.new.text(new));
                        self.show(About::Prompt, message, diff);
                    }
                }
                (Some((role, old)), None) => {
                    if self.told.insert((old.clone(), String::new())) {
                        let diff = unified(self.old.text(old), "");
                        self.show(
                            About::Prompt,
                            format!("message {} ({}) was sent, and is not now", at + 1, who(*role)),
                            diff,
                        );
                    }
                }
                (None, Some((role, new))) => {
                    if self.told.insert((String::new(), new.clone())) {
                        let diff = unified("", self.new.text(new));
                        self.show(About::Prompt, format!("message {} ({}) is sent now", at + 1, who(*role)), diff);
                    }
                }
                (None, None) => {}
            }
        }
        self.offered(was.tools.as_deref(), is.tools.as_deref());
        if was.schema != is.schema {
            let (old, new) = (was.schema.clone().unwrap_or_default(), is.schema.clone().unwrap_or_default());
            if self.told.insert((old.clone(), new.clone())) {
                let diff = unified(self.old.text(&old), self.new.text(&new));
                self.show(About::Tools, "the output's schema differs", diff);
            }
        }
    }

    fn message(&mut self, role: Role, at: usize, old: &str, new: &str) {
        self.out.counts.messages += 1;
        if old == new || self.told.contains(&(old.to_owned(), new.to_owned())) {
            return;
        }
        let level = |text: &str| match role {
            Role::System | Role::Assistant => text.to_owned(),
            Role::User => normal::prompt(text),
            Role::Tool => normal::output(text),
        };
        let (was, is) = (level(self.old.text(old)), level(self.new.text(new)));
        self.told.insert((old.to_owned(), new.to_owned()));
        if was != is {
            let name = match (role, at) {
                (Role::System, _) => "the system prompt differs".to_owned(),
                (Role::User, 1) => "the first prompt differs".to_owned(),
                _ => format!("message {} ({}) differs", at + 1, who(role)),
            };
            self.show(About::Prompt, name, unified(&was, &is));
        }
    }

    /// The tools on offer.
    fn offered(&mut self, old: Option<&str>, new: Option<&str>) {
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        if old == new || !self.told.insert((old.to_owned(), new.to_owned())) {
            return;
        }
        let read = |text: &str| -> Vec<ToolSpec> { serde_json::from_str(text).unwrap_or_default() };
        let (was, is) = (read(self.old.text(old)), read(self.new.text(new)));
        for tool in &was {
            match is.iter().find(|other| other.name == tool.name) {
                None => self.say(About::Tools, format!("the tool `{}` was offered, and is not now", tool.name)),
                Some(now) if now != tool => {
                    let text = |tool: &ToolSpec| format!("{}\n{:#}\n", tool.description, tool.parameters);
                    let diff = unified(&text(tool), &text(now));
                    self.show(About::Tools, format!("the tool `{}` is described otherwise", tool.name), diff);
                }
                Some(_) => {}
            }
        }
        for tool in is.iter().filter(|tool| !was.iter().any(|other| other.name == tool.name)) {
            self.say(About::Tools, format!("the tool `{}` was not offered, and is now", tool.name));
        }
        if was.len() == is.len() && was != is && was.iter().all(|tool| is.contains(tool)) {
            self.say(About::Tools, "the tools are offered in another order");
        }
    }

    fn tool(
        &mut self,
        (asked, old): (&ToolCall, Option<&ToolOutcome>),
        (asks, new): (&ToolCall, Option<&ToolOutcome>),
    ) {
        self.out.counts.tools += 1;
        if (&asked.name, &asked.args, &asked.malformed) != (&asks.name, &asks.args, &asks.malformed) {
            let text = |call: &ToolCall| {
                format!("{} {:#}\n{}\n", call.name, call.args, call.malformed.clone().unwrap_or_default())
            };
            self.show(About::Call, "the answer is read as another call", unified(&text(asked), &text(asks)));
        }
        let (Some(old), Some(new)) = (old, new) else {
            if old.is_some() != new.is_some() {
                let word =
                    if new.is_some() { "had no outcome, and has one now" } else { "had an outcome, and has none now" };
                self.say(About::Call, format!("{} {word}", shown(asks)));
            }
            return;
        };
        // What the model reads of it comes back in its next request: told here once.
        self.told.insert((hash(&old.content), hash(&new.content)));
        let decided = |outcome: &ToolOutcome| outcome.ruling.as_ref().map(|ruling| ruling.decision);
        let word = |decision: Option<Decision>| match decision {
            Some(Decision::Allow) => "allowed",
            Some(Decision::Deny) => "denied",
            Some(Decision::Ask) => "denied (a person was to be asked)",
            None => "not judged",
        };
        if decided(old) != decided(new) {
            let because = new
                .ruling
                .as_ref()
                .map_or_else(String::new, |ruling| format!(" ({}: {})", ruling.by.place(), ruling.reason));
            let message =
                format!("{} was {}, and is {} now{because}", shown(asks), word(decided(old)), word(decided(new)));
            return self.say(About::Call, message);
        }
        let reason = |outcome: &ToolOutcome| {
            outcome.ruling.as_ref().map(|ruling| (ruling.by.policy.clone(), ruling.reason.clone()))
        };
        if let (Some(was), Some(is)) = (reason(old), reason(new))
            && was != is
        {
            let message = format!("{} is {} for another reason", shown(asks), word(decided(new)));
            self.show(About::Call, message, unified(&format!("{}: {}", was.0, was.1), &format!("{}: {}", is.0, is.1)));
        }
        let (was, is) = (normal::output(&old.content), normal::output(&new.content));
        if was != is || old.status != new.status || old.exit_code != new.exit_code {
            self.show(About::Call, format!("{} had another outcome", shown(asks)), unified(&was, &is));
        }
    }

    fn command(&mut self, old: Option<&ExecOutcome>, new: Option<&ExecOutcome>) {
        let (old, new) = match (old, new) {
            (Some(old), Some(new)) => (old, new),
            (None, None) => return,
            (_, None) => return self.say(About::Command, "the command was run, and is not now"),
            (None, _) => return self.say(About::Command, "the command was not run, and is now"),
        };
        self.out.counts.commands += 1;
        if old.status != new.status {
            let message = format!("the command ended with {}, and now with {}", old.describe(), new.describe());
            return self.show(
                About::Command,
                message,
                unified(&normal::output(&old.output), &normal::output(&new.output)),
            );
        }
        self.sentence(About::Command, "the command printed something else", &old.output, &new.output);
    }

    fn sentence(&mut self, about: About, message: &str, old: &str, new: &str) {
        let (was, is) = (normal::output(old), normal::output(new));
        if was != is {
            self.show(about, message, unified(&was, &is));
        }
    }

    fn gate(&mut self, name: &str, old: Option<&GateResult>, new: Option<&GateResult>) {
        let (old, new) = match (old, new) {
            (Some(old), Some(new)) => (old, new),
            (None, None) => return,
            (Some(_), None) => return self.say(About::Gate, format!("{name} was checked, and is not now")),
            (None, Some(_)) => return self.say(About::Gate, format!("{name} was not checked, and is now")),
        };
        self.out.counts.gates += 1;
        let word = |result: &GateResult| match result.verdict {
            Verdict::Pass => "passed".to_owned(),
            Verdict::Fail => format!("failed ({})", result.detail),
            Verdict::Error => format!("could not be run ({})", result.detail),
        };
        if old.verdict != new.verdict || normal::output(&old.detail) != normal::output(&new.detail) {
            let diff = unified(&normal::output(&old.output), &normal::output(&new.output));
            self.show(About::Gate, format!("{name} {}, and {} now", word(old), word(new)), diff);
        }
    }

    fn ending_of_step(&mut self, old: Option<&StepAccount>, new: Option<&StepAccount>) {
        let (Some(old), Some(new)) = (old, new) else { return };
        if old.status != new.status {
            let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
            let name = |step: &StepAccount| word(serde_json::to_value(step.status).unwrap_or_default());
            let why = new.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            self.say(About::Decision, format!("the step {}, and {} now{why}", name(old), name(new)));
        } else if (&old.error, &new.error) != (&None, &None) {
            let text = |step: &StepAccount| step.error.clone().unwrap_or_default();
            self.sentence(About::Decision, "the step failed for another reason", &text(old), &text(new));
        }
    }

    fn whole(&mut self, old: &Story<'r>, new: &Story<'r>, was: Option<&Account>, is: Option<&Account>) {
        let name = |result: &&GateResult| result.gate.clone();
        let gates: BTreeSet<String> =
            old.final_gates.iter().map(name).chain(new.final_gates.iter().map(name)).collect();
        for gate in gates {
            let find = |story: &Story<'r>| story.final_gates.iter().find(|result| result.gate == gate).copied();
            self.gate(&format!("gate `{gate}` on the final tree"), find(old), find(new));
        }
        if let (Some(was), Some(is)) = (was, is)
            && was.ending != is.ending
        {
            let word = |account: &Account| match account.ending {
                Some(ending) => serde_json::to_value(ending)
                    .ok()
                    .and_then(|value| value.as_str().map(str::to_owned))
                    .unwrap_or_default(),
                None => "not finished".to_owned(),
            };
            let why = if is.reason.is_empty() { String::new() } else { format!(": {}", is.reason) };
            self.say(About::Decision, format!("the run ended `{}`, and now `{}`{why}", word(was), word(is)));
        }
        self.out.counts.files = new.files;
        match (old.patch, new.patch) {
            (Some(was), Some(is)) if was != is => {
                self.show(About::Patch, "the final patch differs", unified(was, is));
            }
            (Some(was), None) => self.show(About::Patch, "a patch was made, and is not now", unified(was, "")),
            (None, Some(is)) => self.show(About::Patch, "no patch was made, and one is now", unified("", is)),
            (None, None) if old.tree != new.tree => {
                let id = |tree: Option<&crate::model::id::TreeId>| tree.map_or("none", |tree| tree.as_str()).to_owned();
                let diff = unified(&id(old.tree), &id(new.tree));
                self.show(About::Patch, "the files that were left differ (nothing is handed over)", diff);
            }
            _ => {}
        }
    }
}
