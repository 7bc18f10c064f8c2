//! What the program answers to commands in comments, and how a job stands while it waits and runs. Each is the body of
//! a comment that there is one of, brought up to date in place.

use super::markdown::{Document, code, prose};
use super::parts::{self, rank};
use super::short;
use crate::model::account::{Account, Ending};
use crate::model::job::{Answer, Job, JobState};
use crate::model::plan::{DeliverKind, Plan, StepKind};
use crate::model::usage::NanoUsd;
use crate::report::numbers;
use crate::report::quote::Quote;
use std::fmt::Write;

/// What stands above this in a comment says how a job stands; what is below it was there before.
const ABOVE: &str = "<!-- codeforge:above -->";
/// The most that an answer holds, in bytes: the mark stands above it.
const CAP: usize = super::BODY_CAP - 1000;
/// Jobs that a table shows.
const ROWS: usize = 20;

/// A command that somebody can give.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// Its arguments, as they are written: `[ID]`, `task="…"`.
    pub arguments: String,
    /// What whoever gives it must be allowed: `read`, `write`.
    pub access: String,
    /// What it does, in a sentence.
    pub what: String,
    /// Short words for it, without their slash.
    pub short: Vec<String>,
}

/// What help says beside the commands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HelpFacts<'a> {
    /// What commands begin with (`/codeforge`).
    pub phrase: &'a str,
    /// What free text begins with, and the command that it starts.
    pub free_text: Option<(&'a str, &'a str)>,
    /// What a comment may set for one run, in words.
    pub settings: Vec<String>,
    /// Something to say first: that there is no server here.
    pub note: &'a str,
}

/// Who can use what, with examples.
pub fn help(offers: &[Offer], facts: &HelpFacts<'_>) -> String {
    let mut document = Document::new();
    document.add(rank::HEAD, "the head", "### CodeForge — what you can ask for");
    document.add(rank::WRONG, "the note", facts.note);
    let table = document.table(&["command", "who", "what it does"]);
    for offer in offers {
        let line = format!("{} {} {}", facts.phrase, offer.name, offer.arguments);
        let mut command = code(line.trim_end(), 120);
        for short in &offer.short {
            command.push_str(&format!(" or {}", code(&format!("/{short}"), 70)));
        }
        document.row(table, rank::LOW, "commands", &[command, offer.access.clone(), prose(&offer.what, 200)]);
    }
    let mut more = Vec::new();
    if let Some((mention, command)) = facts.free_text {
        more.push(format!(
            "{} and a question in your own words is the command {}.",
            code(mention, 60),
            code(command, 70)
        ));
    }
    if !facts.settings.is_empty() {
        let settings: Vec<String> = facts.settings.iter().map(|it| code(it, 200)).collect();
        more.push(format!("For one run a command may set {}.", settings.join(", ")));
    }
    more.push(
        "A command is the first thing on a line of its own; in quotes, lists and code it is only words. `key=value` pairs \
         stand before the text."
            .to_owned(),
    );
    document.add(rank::NOTES, "notes", more.join(" "));
    if let Some(first) = offers.iter().find(|offer| !offer.arguments.starts_with('[')) {
        let task = if offer_takes_text(first) { " what to do, in a sentence" } else { "" };
        document.add(
            rank::NOTES,
            "examples",
            format!("Example: {}", code(&format!("{} {}{task}", facts.phrase, first.name), 160)),
        );
    }
    document.fit(CAP)
}

fn offer_takes_text(offer: &Offer) -> bool {
    offer.arguments.contains("TEXT")
}

/// A command that there is not: one friendly answer with the nearest name.
pub fn unknown(name: &str, nearest: Option<&str>, phrase: &str) -> String {
    if name.is_empty() {
        return format!(
            "### CodeForge — which command?\n\nNothing stands after {}.\n\n{} lists what there is.\n",
            code(phrase, 80),
            code(&format!("{phrase} help"), 80)
        );
    }
    let near = nearest.map(|near| format!(" Did you mean {}?", code(&format!("{phrase} {near}"), 120)));
    format!(
        "### CodeForge — no command {}\n\n{}\n\n{} lists what there is.\n",
        code(name, 40),
        near.unwrap_or_else(|| "Nothing was done.".to_owned()).trim(),
        code(&format!("{phrase} help"), 80)
    )
}

/// An answer in a few sentences. `head`: what it is about, ours; `said`: sentences, made of [`code`] and [`prose`].
pub fn answer(head: &str, said: &[String]) -> String {
    let mut document = Document::new();
    document.add(rank::HEAD, "the head", format!("### CodeForge — {head}"));
    match said {
        [] => {}
        [one] => document.add(rank::HEAD, "the answer", one.as_str()),
        many => {
            let lines: Vec<String> = many.iter().map(|line| format!("- {line}")).collect();
            document.add(rank::HEAD, "the answer", lines.join("\n"));
        }
    }
    document.fit(CAP)
}

/// A job's state: a sign and words.
pub fn standing(job: &Job) -> (&'static str, String) {
    match (job.state, job.conclusion.as_deref()) {
        (JobState::Asked, _) => ("✋", "waits for a yes".to_owned()),
        (JobState::Waiting, _) if job.attempts > 0 => ("⏳", "waits to be tried again".to_owned()),
        (JobState::Waiting, _) => ("⏳", "queued".to_owned()),
        (JobState::Running, _) => ("⚙️", "running".to_owned()),
        (JobState::Done, Some("success")) => ("✅", "done".to_owned()),
        (JobState::Done, Some("skipped")) => ("⏭️", "nothing to do".to_owned()),
        (JobState::Done, Some(other)) => ("❌", prose(&other.replace('_', " "), 40)),
        (JobState::Done, None) => ("✅", "done".to_owned()),
        (JobState::Cancelled, _) => ("⏹️", "cancelled".to_owned()),
        (JobState::Dead, _) => ("💀", "failed too often".to_owned()),
    }
}

/// The jobs of a change: states, costs, links.
pub fn status(jobs: &[Job], phrase: &str) -> String {
    let mut document = Document::new();
    let going = jobs.iter().filter(|job| !job.state.is_over()).count();
    let head = match (jobs.len(), going) {
        (0, _) => "no jobs here yet".to_owned(),
        (1, 0) => "1 job, ended".to_owned(),
        (all, 0) => format!("{all} jobs, all ended"),
        (all, going) => format!("{all} {}, {going} under way", if all == 1 { "job" } else { "jobs" }),
    };
    document.add(rank::HEAD, "the head", format!("### CodeForge — {head}"));
    let table = document.table(&["job", "workflow", "state", "cost", "asked by", "result"]);
    for job in jobs.iter().take(ROWS) {
        let (sign, word) = standing(job);
        let note = job.note.as_deref().map(|note| format!(": {}", prose(note, 160))).unwrap_or_default();
        let result =
            job.url.as_deref().and_then(super::safe_url).map_or_else(|| "–".to_owned(), |url| format!("[here]({url})"));
        let cells = [
            code(&job.id, 20),
            code(&job.new.workflow, 60),
            format!("{sign} {word}{note}"),
            job.cost_usd.as_deref().map_or_else(|| "–".to_owned(), money),
            job.new.actor.as_deref().map_or_else(|| "–".to_owned(), |actor| prose(actor, 40)),
            result,
        ];
        let row = if job.state.is_over() { rank::LOW } else { rank::WRONG };
        document.row(table, row, "jobs", &cells);
    }
    if jobs.len() > ROWS {
        document.add(rank::NOTES, "notes", format!("{} older ones are left out.", jobs.len() - ROWS));
    }
    let told = ["cancel [ID]", "retry [ID]", "explain [ID]"].map(|it| code(&format!("{phrase} {it}"), 100));
    document.add(rank::LOW, "the commands", told.join(" · "));
    document.fit(CAP)
}

/// Dollars that are kept as text.
pub fn money(text: &str) -> String {
    text.parse::<f64>().map_or_else(|_| prose(text, 20), |usd| numbers::dollars(NanoUsd::from_usd(usd)))
}

/// What a job would do and cost, before somebody says yes.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The job.
    pub job: &'a Job,
    /// Its plan.
    pub plan: &'a Plan,
    /// What it would cost.
    pub quote: &'a Quote,
    /// Until when it can be approved, in milliseconds since 1970.
    pub until_ms: i64,
    /// What commands begin with.
    pub phrase: &'a str,
    /// Why it is quoted anew.
    pub anew: Option<&'a str>,
}

/// The quote: the price first, then the files, then the plan.
pub fn asking(asking: &Asking<'_>) -> String {
    let Asking { job, plan, quote, .. } = asking;
    let mut document = Document::new();
    let approval = job.new.approval.as_ref();
    let most = approval.and_then(|it| it.max_cost_usd.as_deref());
    let head = most.map_or_else(|| "no limit".to_owned(), |most| format!("at most {}", money(most)));
    let name = prose(&plan.workflow, 60);
    document.add(rank::HEAD, "the head", format!("### ✋ CodeForge {name} — {head}, waits for a yes"));
    document.add(rank::HEAD, "why it is quoted anew", asking.anew.unwrap_or_default());
    let before = quote.history.map_or_else(
        || "no earlier run to go by".to_owned(),
        |it| {
            format!(
                "{} earlier {}: {} to {}, half of them at most {}",
                it.runs,
                if it.runs == 1 { "run" } else { "runs" },
                numbers::dollars(it.least),
                numbers::dollars(it.p90),
                numbers::dollars(it.median)
            )
        },
    );
    let cap = match most {
        Some(most) => format!("the run stops at {}", money(most)),
        None => "nothing bounds it: name a price with `max=USD`".to_owned(),
    };
    document.add(rank::HEAD, "the price", format!("**Price** — {before}; {cap}."));
    document.add(rank::HEAD, "the files", format!("**Files** — {}.", files(plan)));
    let commit = approval.and_then(|it| short(&it.commit)).map(|it| format!(" on `{it}`")).unwrap_or_default();
    let task = plan.inputs.get("task").and_then(|task| task.as_str()).unwrap_or_default();
    let task = if task.trim().is_empty() { String::new() } else { format!(": {}", prose(task, 300)) };
    document.add(rank::WRONG, "the task", format!("**Plan**{commit}{task}"));
    let table = document.table(&["step", "who", "checks", "at most"]);
    for step in plan.steps.values() {
        let bound = quote.steps.iter().find(|it| it.step == step.id).and_then(|it| it.at_most);
        let who = match &step.kind {
            StepKind::Agent(spec) if step.writes => prose(&spec.mode, 60),
            StepKind::Agent(spec) => format!("{}, reads only", prose(&spec.mode, 60)),
            StepKind::Run { .. } => "a command".to_owned(),
        };
        let gates: Vec<String> = step.gates.iter().map(|gate| code(gate, 40)).collect();
        let gates = if gates.is_empty() { "–".to_owned() } else { gates.join(", ") };
        let bound = match &step.kind {
            StepKind::Run { .. } => "$0".to_owned(),
            StepKind::Agent(_) => bound.map_or_else(|| "the run's limit".to_owned(), numbers::dollars),
        };
        document.row(table, rank::PASSED, "steps", &[code(step.id.as_str(), 60), who, gates, bound]);
    }
    document.add(rank::WRONG, "what to do", what_to_do(asking));
    document.fit(CAP)
}

fn what_to_do(asking: &Asking<'_>) -> String {
    let (id, phrase) = (&asking.job.id, asking.phrase);
    let approval = asking.job.new.approval.as_ref();
    let who = match approval {
        Some(it) if it.independent => "somebody other than who asked, who may write here",
        _ => "somebody who may write here",
    };
    let until: String = numbers::time(asking.until_ms).chars().take(16).collect();
    format!(
        "{} by {who}, until {} UTC (`max=USD` lowers the price) · {} · A push makes this void.",
        code(&format!("{phrase} approve {id}"), 100),
        until,
        code(&format!("{phrase} deny {id}"), 100)
    )
}

/// The files that a plan may touch, in words.
fn files(plan: &Plan) -> String {
    if !plan.steps.values().any(|step| step.writes) || matches!(plan.deliver.kind, DeliverKind::None) {
        return "none: it changes nothing".to_owned();
    }
    if plan.deliver.kind.speaks() {
        let what = if plan.deliver.kind == DeliverKind::Issue { "an issue" } else { "a comment" };
        return format!("none are handed over: it writes {what}");
    }
    let most = plan.limits.max_file_changes.map_or_else(|| "any number".to_owned(), |most| format!("at most {most}"));
    let mut text = format!("{most}, as {}", code(&kind(plan.deliver.kind), 40));
    let kept: Vec<String> = plan.protected_paths.iter().take(6).map(|glob| code(glob, 60)).collect();
    if !kept.is_empty() {
        let more = plan.protected_paths.len().saturating_sub(kept.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = write!(text, "; never {}{more}", kept.join(", "));
    }
    text
}

fn kind(kind: DeliverKind) -> String {
    serde_json::to_value(kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// How a job stands, above what its workflow's comment said before.
pub fn progress(job: &Job, step: Option<&str>, phrase: &str, before: Option<&str>) -> String {
    let (sign, word) = standing(job);
    let mut line = format!("{sign} **{}** {word}", prose(&job.new.workflow, 60));
    if let Some(step) = step.filter(|_| job.state == JobState::Running) {
        line.push_str(&format!(", at {}", code(step, 60)));
    }
    line.push_str(&format!(" · job {}", code(&job.id, 20)));
    let commit = job.new.event.change.as_ref().and_then(|change| change.head.sha.as_deref()).and_then(short);
    line.push_str(&commit.map(|commit| format!(" on `{commit}`")).unwrap_or_default());
    if let Some(actor) = &job.new.actor {
        line.push_str(&format!(" · asked by {}", prose(actor, 40)));
    }
    if let Some(cost) = &job.cost_usd {
        line.push_str(&format!(" · {}", money(cost)));
    }
    if let Some(url) = job.url.as_deref().and_then(super::safe_url) {
        line.push_str(&format!(" · [result]({url})"));
    }
    if let Some(note) = job.note.as_deref().filter(|_| job.state != JobState::Running) {
        line.push_str(&format!("\n\n{}", prose(note, 600)));
    }
    let next = match job.state {
        JobState::Asked | JobState::Waiting | JobState::Running => format!("cancel {}", job.id),
        JobState::Done if job.conclusion.as_deref() == Some("success") => String::new(),
        JobState::Done => format!("explain {}", job.id),
        JobState::Cancelled | JobState::Dead => format!("retry {}", job.id),
    };
    if !next.is_empty() {
        line.push_str(&format!("\n\n{}", code(&format!("{phrase} {next}"), 100)));
    }
    above(&line, before)
}

/// A text above what a comment said before.
pub fn above(text: &str, before: Option<&str>) -> String {
    match before.map(below).filter(|before| !before.is_empty()) {
        Some(before) if text.len() + before.len() + 64 <= CAP => {
            format!("{}\n\n{ABOVE}\n\n---\n\n{before}\n", text.trim_end())
        }
        // What would be cut open is left out whole.
        _ => format!("{}\n\n{ABOVE}\n", text.trim_end()),
    }
}

/// What a comment said before anything was set above it.
pub fn below(body: &str) -> &str {
    match body.split_once(ABOVE) {
        Some((_, below)) => below.trim().trim_start_matches("---").trim(),
        None => body.trim(),
    }
}

/// Whether nothing but how a job stood is in a comment on top: its run has not written there since.
pub fn is_progress(body: &str) -> bool {
    body.contains(ABOVE)
}

/// Why a run did what it did: what was refused and by which rule, which checks failed, which limit held, how it ended.
/// What nobody knows is said.
pub fn explain(job: &Job, said: &[Answer], account: Option<&Account>, question: &str) -> String {
    let mut document = Document::new();
    let (sign, word) = standing(job);
    let head = format!("### {sign} CodeForge {} {} — {word}", prose(&job.new.workflow, 60), code(&job.id, 20));
    document.add(rank::HEAD, "the head", head);
    let said: Vec<String> = said.iter().map(|answer| format!("- {}", answered(answer))).collect();
    document.add(rank::WHY, "answers to its price", said.join("\n"));
    let note = job.note.as_deref().map(|note| prose(note, 600)).unwrap_or_default();
    let Some(account) = account else {
        document.add(rank::HEAD, "the reason", note);
        let why = match job.state {
            JobState::Asked | JobState::Waiting => "It has not begun: there is nothing to explain yet.",
            _ => "Its journal is not here: what it did, and why, is not known.",
        };
        document.add(rank::HEAD, "what is not known", why);
        return document.fit(CAP);
    };
    if note != prose(&account.reason, 600) {
        document.add(rank::HEAD, "the reason", note);
    }
    folded(&mut document, account, question);
    document.fit(CAP)
}

/// What somebody answered to a job that waited for a yes.
fn answered(answer: &Answer) -> String {
    let price = answer.max_cost_usd.as_deref().map(|usd| format!(" at most {}", money(usd))).unwrap_or_default();
    let note = answer.note.as_deref().map(|note| format!(": {}", prose(note, 200))).unwrap_or_default();
    format!("{} by {}{price}{note}", answer.verdict.as_str(), prose(&answer.by, 40))
}

/// The same of a run that is no job's.
pub fn explain_run(account: &Account, question: &str) -> String {
    let mut document = Document::new();
    let (sign, word) = parts::verdict(account);
    let head =
        format!("### {sign} CodeForge {} {} — {word}", prose(&account.workflow, 60), code(account.run.as_str(), 20));
    document.add(rank::HEAD, "the head", head);
    folded(&mut document, account, question);
    document.fit(CAP)
}

fn folded(document: &mut Document, account: &Account, question: &str) {
    document.add(rank::HEAD, "the reason", prose(&account.reason, 800));
    if account.ending != Some(Ending::Done) {
        document.add(rank::WRONG, "the advice", super::summary::advice(account));
    }
    parts::denial_table(document, account);
    let table = document.table(&["check", "step", "result"]);
    for step in &account.steps {
        for (attempt, gate, led) in &step.gates {
            let place = format!("{}, attempt {attempt}", code(step.id.as_str(), 60));
            let result = format!("{} {}", parts::gate_mark(gate.verdict), prose(led, 160));
            document.row(table, rank::WHY, "checks", &[code(&gate.gate, 60), place, result]);
        }
    }
    let failed: Vec<String> = account
        .steps
        .iter()
        .filter_map(|step| Some(format!("- {}: {}", code(step.id.as_str(), 60), prose(step.error.as_deref()?, 400))))
        .collect();
    document.add(rank::WHY, "failed steps", failed.join("\n"));
    let budget = account.budget_usd.map_or_else(|| "without a limit".to_owned(), |usd| format!("of ${usd:.2}"));
    let told = format!(
        "Policy {} · {} {budget} · {} model {}",
        code(&account.policy, 60),
        numbers::cost(&account.spend),
        account.spend.calls,
        if account.spend.calls == 1 { "call" } else { "calls" }
    );
    document.add(rank::NOTES, "notes", told);
    let mut unknown = Vec::new();
    if account.ending.is_none() {
        unknown.push("it has not ended: more may come");
    }
    if account.spend.unknown_calls > 0 {
        unknown.push("what some calls cost");
    }
    if !question.trim().is_empty() {
        unknown.push("what a model had in mind: only what it did is written down");
    }
    if !unknown.is_empty() {
        document.add(rank::NOTES, "what is not known", format!("Not known: {}.", unknown.join("; ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Event;
    use crate::model::forge::ForgeKind;
    use crate::model::job::{NewJob, OnConflict, Priority, Served};

    fn job(state: JobState) -> Job {
        let repository = Served { forge: ForgeKind::Github, host: "h".into(), name: "acme/widgets".into() };
        let new = NewJob {
            repository,
            workflow: "fix".into(),
            event: Event::default(),
            key: "k".into(),
            actor: Some("ann".into()),
            group: None,
            on_conflict: OnConflict::Queue,
            priority: Priority::Command,
            due_ms: 0,
            settings: Default::default(),
            approval: None,
        };
        Job {
            id: "7f3k9m2q".into(),
            new,
            state,
            conclusion: None,
            note: None,
            attempts: 0,
            rounds: 0,
            approved_by: None,
            approved_usd: None,
            cost_usd: None,
            url: None,
            delivery: None,
            delivery_id: None,
            created_ms: 0,
            updated_ms: 0,
        }
    }

    #[test]
    fn what_was_said_before_stays_below_and_is_not_nested() {
        let first = progress(&job(JobState::Waiting), None, "/codeforge", Some("### CodeForge review — 2 findings\n"));
        assert!(first.starts_with("⏳ **fix** queued · job `7f3k9m2q` · asked by ann"), "{first}");
        let second = progress(&job(JobState::Running), Some("plan"), "/codeforge", Some(&first));
        assert!(second.starts_with("⚙️ **fix** running, at `plan`"), "{second}");
        assert_eq!(second.matches("2 findings").count(), 1);
        assert_eq!(second.matches(ABOVE).count(), 1);
        assert_eq!(below(&second), "### CodeForge review — 2 findings");
        assert!(is_progress(&second) && !is_progress("### CodeForge review — 2 findings"));
        assert_eq!(below(&progress(&job(JobState::Waiting), None, "/codeforge", None)), "");
    }

    #[test]
    fn names_and_notes_of_others_act_on_nobody() {
        let mut hostile = job(JobState::Cancelled);
        hostile.new.actor = Some("@eve".into());
        hostile.note = Some("<img src=x> fixes #1 [x](http://evil.example)".into());
        hostile.url = Some("javascript:alert(1)".into());
        for text in [status(&[hostile.clone()], "/codeforge"), progress(&hostile, None, "/codeforge", None)] {
            for word in ["@eve", "<img", "#1", "](http", "javascript:"] {
                assert!(!text.contains(word), "{word}: {text}");
            }
        }
        let unknown = unknown("re`view<b>", Some("review"), "/codeforge");
        assert!(unknown.contains("Did you mean `/codeforge review`?") && !unknown.contains("re`view"), "{unknown}");
    }

    #[test]
    fn what_nobody_knows_is_said() {
        let text = explain(&job(JobState::Done), &[], None, "why?");
        assert!(text.contains("what it did, and why, is not known"), "{text}");
        assert!(explain(&job(JobState::Asked), &[], None, "").contains("has not begun"));
    }
}
