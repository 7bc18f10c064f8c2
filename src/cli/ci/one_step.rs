//! Everything in one job: what matches is run, one after the other; the worst ending is the job's.

use super::earlier::{self, Seen};
use super::outputs::{Outputs, Reports};
use super::{Ci, Done, Told, asking, blocking, commands, phases, publish, say, served};
use crate::cli::error::CliError;
use crate::cli::state::State;
use crate::cli::{Context, run as running, watching};
use crate::engine::{Engine, Extras, Outcome, Outlet, Stop};
use crate::model::account::{Account, Ending};
use crate::model::artifact::Part;
use crate::model::ci::{Home, ServedJob};
use crate::model::diagnostic::Severity;
use crate::model::event::Event;
use crate::model::finding::Finding;
use crate::model::id::{RunId, short_hash};
use crate::model::job::Approved;
use crate::model::plan::{ApprovedPrice, DeliverKind, Plan};
use crate::model::recording::RunOptions;
use crate::model::usage::NanoUsd;
use crate::plan;
use crate::port::repository::Repository;
use crate::port::store::StoreError;
use crate::port::world::Tape;
use crate::report::{self, ci as reports, ci::log::Reader};
use crate::text;
use crate::trigger::{self, Start};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The longest file that findings are looked up in.
const LARGEST: usize = 1024 * 1024;
/// The longest prompt from a file, in bytes.
const PROMPT: u64 = 256 * 1024;

/// Runs what matches.
///
/// # Errors
/// What keeps it from running; how runs end is no error.
pub async fn run(ci: &Ci, told: &mut Told, cx: &Context<'_>, stop: Stop) -> Result<Done, CliError> {
    if ci.job.served.is_none() {
        say(
            cx,
            "one step: this job runs the agents and holds the token that writes. That is weaker than the phases `agent`, \
         `gate` and `deliver` as jobs of their own (docs/ci.md)",
        );
    }
    refuse_fork(ci)?;
    work(ci, told, cx, stop, None).await
}

/// Runs what matches. `parts`: nothing is handed over, and what was made goes there.
///
/// # Errors
/// As [`run`].
pub(super) async fn work(
    ci: &Ci,
    told: &mut Told,
    cx: &Context<'_>,
    stop: Stop,
    mut parts: Option<&mut Vec<Part>>,
) -> Result<Done, CliError> {
    let mut starts = ci.decide(cx).await?;
    let answered = if parts.is_none() { commands::answer(ci, cx).await? } else { false };
    if parts.is_some() {
        starts = phases::asked_for(ci, starts, cx);
    }
    if starts.is_empty() {
        let why = if answered { "the command was answered" } else { "nothing here runs on this event" };
        say(cx, &format!("skipped: {why}"));
        told.outputs.set("final-message", why);
        return Ok(Done::Skipped);
    }
    if parts.is_none() && ci.job.fork && ci.job.event.change.is_some() {
        return Err(from_fork(ci));
    }
    let head = ci.head().await?;
    let checkout = Arc::clone(&ci.commits.checkout);
    let at = head.clone();
    for line in blocking(move || Ok(checkout.left_out(&at)?)).await? {
        say(cx, &format!("note: {line}"));
    }
    starts = asking::allowed(ci, starts, cx).await?;
    if starts.is_empty() {
        let why = "nothing here runs for whoever did this";
        say(cx, &format!("skipped: {why}"));
        told.outputs.set("final-message", why);
        return Ok(Done::Skipped);
    }
    let kept = ci.state(&head, cx)?;
    let mut worst: Option<(Ending, Outputs)> = None;
    let mut idle = None;
    let mut sums = Sums::default();
    for start in &starts {
        let reports = if starts.len() > 1 { ci.reports.within(&start.workflow) } else { ci.reports.clone() };
        let on = On { head: &head, reports: &reports, kept: &kept };
        let (ending, outputs, account) = match one(ci, start, &on, &mut parts, cx, stop.clone()).await? {
            One::Ran(ending, outputs, account) => (ending, *outputs, account),
            One::Looked => {
                worst.get_or_insert((Ending::Done, Outputs::default()));
                continue;
            }
            One::Idle(why) => {
                say(cx, &format!("skipped: `{}`: {why}", start.workflow));
                idle = Some(why);
                continue;
            }
        };
        sums.add(&account);
        if worst.as_ref().is_none_or(|(so_far, _)| badness(ending) >= badness(*so_far)) {
            worst = Some((ending, outputs));
        }
        if ending == Ending::Cancelled {
            break;
        }
    }
    let Some((ending, outputs)) = worst else {
        told.outputs.set("final-message", idle.unwrap_or_default());
        return Ok(Done::Skipped);
    };
    told.outputs = outputs;
    sums.set(&mut told.outputs);
    Ok(Done::Ended(ending))
}

/// A fork's code must not run beside a token that writes.
fn refuse_fork(ci: &Ci) -> Result<(), CliError> {
    // Most comments are no commands, and nobody wants to hear of those.
    let refused = ci.job.fork && ci.job.event.change.is_some() && ci.job.event.comment.is_none();
    if refused { Err(from_fork(ci)) } else { Ok(()) }
}

fn from_fork(ci: &Ci) -> CliError {
    let change = ci.job.event.change.clone().unwrap_or_default();
    let from = change.head.repository.as_deref().unwrap_or("a repository that nobody names");
    CliError::new(
        Ending::Denied,
        format!(
            "change {} comes from a fork ({from}), and one step would run its code in the job that holds the token: \
             refused",
            change.number
        ),
    )
    .hint("run the phases as jobs of their own: `phase: agent`, then `phase: gate`, then `phase: deliver` (docs/ci.md)")
    .hint("or leave changes from forks out of this job: `if: github.event.pull_request.head.repo.full_name == github.repository`")
}

/// Which of two endings is the job's.
pub(super) fn badness(ending: Ending) -> u8 {
    match ending {
        Ending::Done => 0,
        Ending::Failed => 1,
        Ending::Limit => 2,
        Ending::Unavailable => 3,
        Ending::Misconfigured => 4,
        Ending::Denied => 5,
        Ending::Cancelled => 6,
    }
}

/// Compiles a workflow that is to run: the plan, and the event as it sees it. `request`: what the phase adds.
///
/// # Errors
/// All that is wrong with it is shown; exit code 2.
pub(super) async fn planned(
    ci: &Ci,
    start: &Start,
    head: &str,
    request: plan::Request,
    cx: &Context<'_>,
) -> Result<(Plan, Event, Seen), CliError> {
    let mut event = ci.job.event.clone();
    event.command = start.command.clone();
    let price = approved(ci, start, head)?;
    let mut request = plan::Request {
        workflow: start.workflow.clone(),
        inputs: inputs(ci, start)?,
        event: event.value(),
        driver: ci.settings.sandbox,
        deliver: ci.settings.delivery,
        budget_usd: ci.settings.max_cost_usd.into_iter().chain(price.map(|(usd, _)| usd)).min_by(f64::total_cmp),
        policy: ci.settings.policy.clone(),
        outside: true,
        key: trigger::key(&event, &start.workflow, ci.job.run.as_deref()),
        if_no_changes: ci.settings.if_no_changes,
        ..request
    };
    request.set(&start.settings);
    let mut library = Cow::Borrowed(&ci.library);
    if let Some(model) = start.settings.get("model") {
        library.to_mut().only_model(model);
    }
    let mut plan = plan::compile(&library, &request).map_err(|problems| {
        for problem in problems.iter().filter(|problem| problem.severity == Severity::Error) {
            cx.say(&text::inert_ci(report::diagnostics::render(problem, cx.color).trim_end()));
        }
        running::refused(&start.workflow, &problems)
    })?;
    plan.price = price.and_then(|(usd, approved)| priced(ci, &plan, usd, approved));
    prefix_branch(&mut plan, &ci.settings.branch_prefix);
    // The same words in the same place, whoever wrote them: ours.
    let stock = plan.inputs.get("task").and_then(|task| task.as_str()) == Some(trigger::REPAIR);
    if stock {
        plan.trusted_inputs.push("task".to_owned());
    }
    let mut seen = Seen::default();
    // Who runs no agent shows none anything.
    let runs = !request.allow_unpriced;
    if runs {
        seen = earlier::see(ci, &plan, head, cx).await?;
        if stock && seen.earlier.findings.is_empty() {
            return Err(CliError::usage(format!(
                "`{}` was given no words, and no review of this change is known that found something",
                plan.workflow
            ))
            .hint(format!("say what to do: `{} {} WORDS`", ci.settings.phrase, plan.workflow)));
        }
        seen.lay_on(&mut plan);
    }
    let policy = serde_json::to_vec(&plan.policy).unwrap_or_default();
    say(
        cx,
        &format!(
            "`{}` runs on {} under the policy `{}` ({})",
            plan.workflow,
            head.get(..10).unwrap_or(head),
            plan.policy.name,
            short_hash(&policy, 16)
        ),
    );
    Ok((plan, event, seen))
}

/// The price that somebody said yes to, where the workflow asks for that (`quote: true`). Only a server keeps a yes.
///
/// # Errors
/// Nobody did, or for another commit.
fn approved<'a>(ci: &'a Ci, start: &Start, head: &str) -> Result<Option<(f64, &'a Approved)>, CliError> {
    let quotes = ci.library.workflows.get(&start.workflow).is_some_and(|workflow| workflow.doc.quote);
    if !quotes || ci.settings.dry_run {
        return Ok(None);
    }
    let name = &start.workflow;
    let refused = |why: String| CliError::new(Ending::Denied, format!("`{name}` {why}"));
    let Some(served) = &ci.job.served else {
        let why =
            "names its price before it runs (`quote: true`), and waits for a yes: only `codeforge serve` keeps one";
        return Err(refused(why.to_owned())
            .hint(format!(
                "run it by hand: `codeforge run {name} --dry-run` names the price, `codeforge run {name}` runs it"
            ))
            .hint("or take `quote` out of the workflow, and limit it by `budget.max_cost_usd`"));
    };
    let Some(approved) = &served.approved else {
        return Err(refused("waits for a yes, and nobody gave one".to_owned()));
    };
    if approved.commit != head {
        let why = format!("was approved for the commit {}, and this is {head}", approved.commit);
        return Err(refused(why).hint("give its command anew: it is quoted for what is there now"));
    }
    let price = approved.max_cost_usd.as_deref().map(str::parse::<f64>).transpose();
    let price = price.map_err(|_| refused("was approved for a price that is none".to_owned()))?;
    Ok(price.map(|usd| (usd, approved)))
}

/// The price that somebody said yes to, where nothing else bounds the run more; and what to do for more of it.
fn priced(ci: &Ci, plan: &Plan, usd: f64, approved: &Approved) -> Option<ApprovedPrice> {
    let bounds = plan.limits.max_cost_usd.is_some_and(|most| most.total_cmp(&usd).is_eq());
    let served = ci.job.served.as_ref().filter(|_| bounds)?;
    let phrase = &ci.settings.phrase;
    // Whoever gave its command can have it priced anew; what nobody asked for comes again by itself.
    let event = &ci.job.event;
    let anew = match event.change.is_some() || event.issue.is_some() {
        true => format!("`{phrase} retry {}` has it priced anew", served.id),
        false => "its next run is priced anew".to_owned(),
    };
    let named = approved.named_usd.as_deref().and_then(|text| text.parse::<f64>().ok());
    let more = match named.filter(|named| *named > usd) {
        Some(named) => {
            let named = NanoUsd::from_usd(named);
            format!("For more: {anew}, and up to {named} could be approved (`{phrase} approve max=USD`)")
        }
        None => format!("It is all that was named. For more: raise `budget.max_cost_usd` in the workflow; {anew} then"),
    };
    Some(ApprovedPrice { by: approved.by.clone(), more })
}

/// Our branches begin with the operator's prefix.
fn prefix_branch(plan: &mut Plan, prefix: &str) {
    let usual = super::settings::PREFIX;
    if prefix == usual {
        return;
    }
    plan.deliver.branch = Some(match &plan.deliver.branch {
        Some(branch) => match branch.strip_prefix(usual) {
            Some(rest) => format!("{prefix}{rest}"),
            None => branch.clone(),
        },
        None => format!("{prefix}{}/{{{{ slug }}}}-{{{{ key }}}}", text::slug(&plan.workflow, 40)),
    });
}

/// The inputs: what the event gives, over what the job is set up with.
fn inputs(ci: &Ci, start: &Start) -> Result<BTreeMap<String, String>, CliError> {
    let settings = &ci.settings;
    let takes = ci.library.workflows.get(&start.workflow).map(|workflow| &workflow.doc.inputs);
    let takes = |name: &str| takes.is_some_and(|inputs| inputs.contains_key(name));
    // Where several workflows run, each takes what it knows; one that is named must know all.
    let given = settings.inputs.iter().filter(|(name, _)| settings.workflow.is_some() || takes(name));
    let mut inputs: BTreeMap<String, String> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    let prompt = match (&settings.prompt, &settings.prompt_file) {
        (Some(_), Some(_)) => {
            return Err(CliError::usage("CODEFORGE_PROMPT and CODEFORGE_PROMPT_FILE are both set").hint("keep one"));
        }
        (Some(prompt), None) => Some(prompt.clone()),
        (None, Some(file)) => Some(prompt_file(ci.commits.checkout.root(), file)?),
        (None, None) => None,
    };
    if let Some(prompt) = prompt {
        if takes("task") {
            inputs.insert("task".to_owned(), prompt);
        } else if settings.workflow.is_some() {
            return Err(CliError::usage(format!("workflow `{}` has no input `task` for the prompt", start.workflow)));
        }
    }
    // A command's own words win; a title that only stands in for a task does not.
    let said = |name: &String| start.command.is_some() || !inputs.contains_key(name);
    let more: Vec<(String, String)> =
        start.inputs.iter().filter(|(name, _)| said(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    inputs.extend(more);
    Ok(inputs)
}

/// A prompt from a file of the workspace, wherever its links lead.
fn prompt_file(root: &Path, file: &Path) -> Result<String, CliError> {
    use std::io::Read;
    let wrong = |why: String| CliError::usage(format!("CODEFORGE_PROMPT_FILE {}: {why}", file.display()));
    let (root, full) = (root.canonicalize(), file.canonicalize());
    let (root, full) =
        (root.map_err(|error| wrong(error.to_string()))?, full.map_err(|error| wrong(error.to_string()))?);
    if !full.starts_with(&root) || full.starts_with(root.join(".git")) {
        return Err(wrong(format!("it is not in the workspace {}", root.display())));
    }
    let mut text = String::new();
    let opened = std::fs::File::open(&full).map_err(|error| wrong(error.to_string()))?;
    opened.take(PROMPT + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > PROMPT {
        return Err(wrong(format!("it has more than {PROMPT} bytes")));
    }
    Ok(text)
}

/// What a run works on and with.
struct On<'a> {
    head: &'a str,
    reports: &'a Reports,
    kept: &'a State,
}

/// What became of a workflow.
enum One {
    /// It ran.
    Ran(Ending, Box<Outputs>, Box<Account>),
    /// It was only looked at.
    Looked,
    /// It had nothing to look at, and why.
    Idle(String),
}

/// Runs one workflow.
async fn one(
    ci: &Ci,
    start: &Start,
    on: &On<'_>,
    parts: &mut Option<&mut Vec<Part>>,
    cx: &Context<'_>,
    stop: Stop,
) -> Result<One, CliError> {
    let On { head, reports, kept } = *on;
    let request = plan::Request {
        models: cx.world.models(&Tape::Off),
        held: parts.is_some(),
        memory: kept.memory.clone(),
        ..plan::Request::default()
    };
    let (mut plan, event, seen) = planned(ci, start, head, request, cx).await?;
    if let Some(why) = earlier::nothing_new(&plan, &event, head) {
        return Ok(One::Idle(why));
    }
    // What nobody would hand over is not begun.
    phases::refuse_fork(ci, &plan)?;
    phases::walled(ci, &plan)?;
    asking::room(ci, &plan, parts.is_none(), cx).await?;
    asking::open(ci, &plan).await?;
    if !kept.learns && phases::unlearn(&mut plan) {
        say(cx, "note: what agents learn in this run is not kept: a change could be made to teach");
    }
    let checkout = Arc::clone(&ci.commits.checkout);
    let at = head.to_owned();
    let repository: Arc<dyn Repository> = blocking(move || Ok(checkout.at(&at)?)).await?;
    if ci.settings.dry_run {
        running::look(&plan, &*repository, cx).await?;
        return Ok(One::Looked);
    }
    let wanted = plan.deliver.kind;
    if parts.is_none() {
        plan.deliver.kind = publish::held(wanted);
    }
    let watching = watching::ci(
        cx,
        match ci.job.home {
            Home::Github => Reader::Github,
            Home::Gitlab => Reader::Gitlab,
            Home::Container => Reader::Plain,
        },
    );
    let served = ci.job.served.as_ref();
    let id = served.map_or_else(|| RunId::from_bits(cx.world.random()), ServedJob::run);
    let engine = kept.engine(Arc::clone(&repository), &id, cx).await?;
    let watch = served::telling(watching.watch(), ci.job.served.as_ref());
    let engine = Engine { watch, outlet: Outlet::Closed, ..engine };
    let base = blocking(move || Ok(repository.base()?)).await?;
    let (id, begun) = of_job(id, &engine).await?;
    let outcome = if begun {
        // Finished steps are not run again, paid answers are not paid again.
        say(cx, &format!("attempt {}: run {id} goes on where its journal ends", ci.job.attempt));
        engine.resume(&id, stop).await
    } else {
        if let Some(served) = served.filter(|it| it.rounds > 0) {
            say(cx, &format!("job {} was put back: this is a new run, {id}", served.id));
        }
        let options = RunOptions {
            driver: ci.settings.sandbox,
            deliver: ci.settings.delivery,
            budget_usd: ci.settings.max_cost_usd,
        };
        engine.keep_options(&id, &options).await.map_err(running::engine_error)?;
        let held = match &kept.branch {
            Some(branch) => branch.hold(&plan, &id, &engine, cx).await?,
            None => None,
        };
        let outcome = engine.start(id, plan, base, stop).await;
        if let (Some(branch), Some(held)) = (&kept.branch, held)
            && let Err(error) = branch.settle(held, &engine, cx).await
        {
            say(cx, &format!("WARNING: what this run spent could not be written, so all that it held counts: {error}"));
        }
        outcome
    };
    let outcome = outcome.map_err(running::engine_error)?;
    let mut account = crate::run::account(&outcome.state);
    let rows = engine.store.rows(&account.run).await?;
    let trajectory = running::write_trajectory(&engine, &account.run, &rows).map_err(|error| {
        CliError::new(
            Ending::Unavailable,
            format!("the trajectory of run {} could not be written: {error}", account.run),
        )
    })?;
    // Beside the reports, so that whoever keeps them keeps it.
    let whole = std::fs::read_to_string(&trajectory).ok().map(|text| reports.write("trajectory.jsonl", &text));
    let whole = whole.transpose()?.unwrap_or(trajectory).display().to_string();
    watching.conclude(&account, Some(&whole));
    let mut ending = match (outcome.interrupted, account.ending) {
        (true, _) => Ending::Cancelled,
        (false, Some(ending)) => ending,
        (false, None) => Ending::Failed,
    };
    let found = findings(ci, &outcome, head, &seen);
    let here = parts.is_none();
    if let Some(parts) = parts {
        let extras = Extras { head: event.change.as_ref().map(|_| head.to_owned()), findings: found.clone() };
        parts.push(engine.part(&outcome.state, extras).await.map_err(running::engine_error)?);
    }
    // Who delivers an artifact asks the forge again what was there before.
    let place = |old: &Finding| still_there(ci, old, head, &seen);
    let looked = account.ending.filter(|_| wanted != DeliverKind::Issue || reports::reviewed(&account));
    let found = seen.standing(found, (looked, true), wanted, &place);
    let mut facts = seen.facts(ci, &outcome.state.plan, &event, head, &account);
    facts.whole = Some(whole);
    let order = publish::Order {
        wanted,
        state: &outcome.state,
        rows: &rows,
        known: publish::Known {
            account: &account.clone(),
            event: &event,
            findings: &found,
            facts: &facts,
            seen: &seen,
        },
    };
    // What the run made and what became of it are two things: reports are written in either case.
    let published = if here { publish::publish(ci, &order, &engine, cx).await } else { Ok(None) };
    match published {
        Ok(None) => {}
        Ok(Some(published)) => {
            if let Some(delivered) = &mut account.delivered {
                delivered.kind = wanted;
                delivered.changed = true;
                delivered.branch = published.branch.clone();
                delivered.commit = published.commit.clone();
                delivered.published = Some(Box::new(published));
            }
        }
        Err(error) => {
            ending = if badness(error.ending) > badness(ending) { error.ending } else { ending };
            account.ending = Some(ending);
            account.reason = error.message.clone();
            say(cx, &format!("error: {error}"));
        }
    }
    let outputs = leave(ci, &outcome, &account, &found, &facts, reports, cx)?;
    Ok(One::Ran(ending, Box::new(outputs), Box::new(account)))
}

/// The run of a job, and whether an earlier attempt of a server's job began it. One that ended because something was unavailable
/// is over: the next one begins anew, under an id of its own.
async fn of_job(mut id: RunId, engine: &Engine) -> Result<(RunId, bool), CliError> {
    loop {
        let rows = match engine.store.rows(&id).await {
            Err(StoreError::NoSuchRun(_)) => return Ok((id, false)),
            rows => rows?,
        };
        if engine.replay(&id, &rows).map_err(running::engine_error)?.ending != Some(Ending::Unavailable) {
            return Ok((id, true));
        }
        id = id.next();
    }
}

/// What reviewers found, with the places that it is known by again.
fn findings(ci: &Ci, outcome: &Outcome, head: &str, seen: &Seen) -> Vec<Finding> {
    let steps = outcome.state.plan.steps.keys().zip(&outcome.state.steps);
    let outputs: Vec<_> = steps.filter_map(|(id, step)| Some((id, step.output.as_ref()?))).collect();
    in_tree(ci, head, seen, |tree| reports::findings(outputs, tree))
}

/// An artifact's findings, with the places as they are known here.
pub(super) fn marked(ci: &Ci, found: &[Finding], head: &str, seen: &Seen) -> Vec<Finding> {
    in_tree(ci, head, seen, |tree| reports::findings::marked(found.to_vec(), tree))
}

/// Whether the place of an earlier finding is there still.
pub(super) fn still_there(ci: &Ci, old: &Finding, head: &str, seen: &Seen) -> bool {
    in_tree(ci, head, seen, |tree| reports::findings::still_there(old, tree))
}

fn in_tree<T>(ci: &Ci, head: &str, seen: &Seen, made: impl FnOnce(&reports::findings::Tree<'_>) -> T) -> T {
    let text = |path: &str| -> Option<String> {
        let bytes = ci.commits.checkout.file(head, path, LARGEST).ok()??;
        String::from_utf8(bytes).ok()
    };
    let renamed = seen.renamed();
    made(&reports::findings::Tree { text: &text, renamed: &renamed })
}

/// Writes the reports and gathers the outputs.
fn leave(
    ci: &Ci,
    outcome: &Outcome,
    account: &Account,
    found: &[Finding],
    facts: &reports::Facts,
    folder: &Reports,
    cx: &Context<'_>,
) -> Result<Outputs, CliError> {
    let secrets = cx.world.secrets();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let write = |name: &str, content: &str| folder.write(name, &text::redact(content, &secrets));
    folder.summary(&text::redact(&reports::summary(account, found, facts, reports::SUMMARY_CAP), &secrets))?;
    machines(account, found, facts, folder, &secrets)?;
    let told = serde_json::to_value(account).unwrap_or_default();
    write("account.json", &format!("{told:#}\n"))?;
    if ci.job.home == Home::Github {
        for annotation in reports::annotations(found) {
            cx.data(&format!("{}\n", text::redact(&annotation.github(), &secrets)));
        }
    }
    let mut outputs = Outputs::default();
    let last = outcome.state.steps.iter().rev();
    let words = last.clone().map(|step| step.text.trim()).find(|text| !text.is_empty()).unwrap_or_default();
    let words = if account.ending == Some(Ending::Done) && !words.is_empty() { words } else { account.reason.as_str() };
    outputs.set("final-message", text::redact(&text::invisible(&text::clean(words)), &secrets));
    if let Some(output) = last.filter_map(|step| step.output.as_ref()).next() {
        outputs.set("structured-output", text::redact(&output.to_string(), &secrets));
    }
    outputs.set("run-id", account.run.as_str());
    if let Some(delivered) = &account.delivered {
        outputs.set("branch-name", delivered.branch.clone().unwrap_or_default());
        let url = delivered.published.as_ref().and_then(|published| published.url.clone());
        outputs.set("pull-request-url", url.unwrap_or_default());
        let patch = match &delivered.patch {
            Some(file) => std::fs::read_to_string(file).unwrap_or_else(|_| delivered.changes.diff.clone()),
            None => delivered.changes.diff.clone(),
        };
        if !patch.is_empty() {
            // What was delivered was looked through for secrets; what is written here is the same.
            outputs.set("patch-file", folder.write("change.patch", &patch)?.display().to_string());
        }
    }
    Ok(outputs)
}

/// Writes the reports that machines read.
///
/// # Errors
/// The environment's.
pub(super) fn machines(
    account: &Account,
    found: &[Finding],
    facts: &reports::Facts,
    folder: &Reports,
    secrets: &[&str],
) -> Result<(), CliError> {
    for (name, content) in [
        ("results.sarif", reports::sarif(account, found, facts, reports::REPORT_CAP)),
        ("gl-code-quality-report.json", reports::code_quality(found, reports::REPORT_CAP)),
        ("junit.xml", reports::junit(account, reports::REPORT_CAP)),
    ] {
        folder.write(name, &text::redact(&content, secrets))?;
    }
    Ok(())
}

/// Money and tokens of all runs.
#[derive(Default)]
pub(super) struct Sums {
    cost: crate::model::usage::NanoUsd,
    usage: [u64; 4],
}

impl Sums {
    pub(super) fn add(&mut self, account: &Account) {
        self.cost = self.cost.plus(account.spend.cost);
        let usage = account.spend.usage;
        for (sum, more) in self.usage.iter_mut().zip([usage.input, usage.output, usage.cache_read, usage.cache_write]) {
            *sum += more;
        }
    }

    pub(super) fn set(&self, outputs: &mut Outputs) {
        outputs.set("total-cost-usd", format!("{:.6}", self.cost.usd()));
        let names = ["input-tokens", "output-tokens", "cache-read-tokens", "cache-write-tokens"];
        for (name, value) in names.into_iter().zip(self.usage) {
            outputs.set(name, value.to_string());
        }
    }
}
