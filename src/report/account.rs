//! A run's account, as a person reads it: what happened, why, what did it cost, what to do next.

use super::{line, numbers};
use crate::model::account::{Account, Ending, StepAccount, StepStatus};
use crate::model::journal::{GateResult, Verdict};
use unicode_width::UnicodeWidthStr;

/// How to render.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Whether to use colour.
    pub color: bool,
    /// Columns there are.
    pub width: usize,
    /// Only ASCII marks.
    pub ascii: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn mark(self, status: StepStatus) -> String {
        let (code, sign, plain) = match status {
            StepStatus::Succeeded => ("32", "✓", "ok"),
            StepStatus::Failed => ("31", "✗", "x "),
            StepStatus::Skipped => ("2", "–", "- "),
            StepStatus::Cancelled => ("33", "⏹", "! "),
            StepStatus::Running => ("36", "▸", "> "),
            StepStatus::Pending => ("2", "·", ". "),
        };
        self.paint(code, if self.ascii { plain } else { sign })
    }
}

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// The account as text, ending in a line end.
pub fn render(account: &Account, style: Style) -> String {
    let mut out = String::new();
    let mut say = |text: String| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    let base: String = account.base.as_deref().unwrap_or("no commit").chars().take(7).collect();
    let mut head = format!(
        "  {} · run {} · base {base} · policy {}",
        line(&account.workflow, 60),
        account.run,
        line(&account.policy, 60)
    );
    if !account.driver.is_empty() {
        head.push_str(&format!(" · sandbox {}", account.driver));
    }
    say(style.paint("1", &head));
    for note in &account.notes {
        say(style.paint("2", &format!("  {}", line(note, style.width.max(60)))));
    }
    say(String::new());
    let name = account.steps.iter().map(|step| step.id.as_str().width()).max().unwrap_or(0);
    let mode = account.steps.iter().map(|step| step.mode.width()).max().unwrap_or(0);
    for step in &account.steps {
        render_step(step, name, mode, style, &mut say);
    }
    if !account.final_gates.is_empty() {
        say(format!("  {} the final tree", style.paint("2", "·")));
        for gate in &account.final_gates {
            say(gate_line(gate, "", style));
        }
    }
    say(String::new());
    render_end(account, style, &mut say);
    out
}

fn render_step(step: &StepAccount, name: usize, mode: usize, style: Style, say: &mut dyn FnMut(String)) {
    let started = !matches!(step.status, StepStatus::Pending | StepStatus::Skipped);
    let time = if started { numbers::span(step.duration_ms) } else { String::new() };
    let cost = if step.spend.calls > 0 { numbers::cost(&step.spend) } else { String::new() };
    let told = if !step.files.is_empty() {
        numbers::files(&step.files)
    } else if step.status == StepStatus::Skipped {
        "skipped".into()
    } else {
        line(&step.summary, 60)
    };
    say(format!(
        "  {} {}  {}  {:>10}  {:>8}   {told}",
        style.mark(step.status),
        pad(step.id.as_str(), name),
        pad(&step.mode, mode),
        time,
        cost
    ));
    for (_, gate, led_to) in &step.gates {
        say(gate_line(gate, led_to, style));
    }
    let mut rest: Vec<&(String, crate::model::tool::Ruling)> = step.denials.iter().collect();
    while let Some((call, ruling)) = rest.first().copied() {
        let same = rest.iter().filter(|(other, _)| other == call).count();
        rest.retain(|(other, _)| other != call);
        let place = ruling.by.place();
        say(format!(
            "      {} ×{same}    {}   {} {}",
            style.paint("33", "denied"),
            line(call, 60),
            style.paint("2", &line(&place, 60)),
            line(&ruling.reason, 60)
        ));
    }
    for told in &step.quality.told {
        say(format!("      {}", line(told, 160)));
    }
    if !step.quality.spend.is_empty() {
        let each = |(purpose, spend): &(String, crate::model::account::Spend)| {
            let calls = if spend.calls == 1 { "call" } else { "calls" };
            format!("{purpose} {} in {} {calls}", numbers::cost(spend), spend.calls)
        };
        let all: Vec<String> = step.quality.spend.iter().map(each).collect();
        say(format!("      {}", style.paint("2", &format!("of its cost: {}", all.join(", ")))));
    }
    if let Some(error) = &step.error {
        say(format!("      {}", style.paint("31", &line(error, 400))));
    }
}

fn gate_line(gate: &GateResult, led_to: &str, style: Style) -> String {
    let name = line(&gate.gate, 40);
    let time = numbers::span(gate.duration_ms);
    match gate.verdict {
        Verdict::Pass => {
            format!("      gate {name} {} {time}", style.paint("32", if style.ascii { "ok" } else { "✓" }))
        }
        Verdict::Fail | Verdict::Error => {
            let last = gate.output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let led = if led_to.is_empty() { String::new() } else { format!("   → {led_to}") };
            let last = if last.is_empty() { String::new() } else { format!(": {}", line(last, 80)) };
            format!(
                "      gate {name} {} {}{last}{led}",
                style.paint("31", if style.ascii { "x" } else { "✗" }),
                line(&gate.detail, 60)
            )
        }
    }
}

fn render_end(account: &Account, style: Style, say: &mut dyn FnMut(String)) {
    let run = &account.run;
    match account.ending {
        Some(Ending::Done) => {
            if !account.reason.is_empty() {
                say(format!("  {}    {}", style.paint("32", "Done"), line(&account.reason, 300)));
            }
        }
        Some(ending) => {
            let word = match ending {
                Ending::Limit => "Limit",
                Ending::Denied => "Denied",
                Ending::Cancelled => "Cancelled",
                Ending::Misconfigured => "Mistake",
                Ending::Unavailable => "Unavailable",
                _ => "Failed",
            };
            say(format!("  {}  {}", style.paint("1;31", word), line(&account.reason, 1000)));
        }
        None => say(format!("  {}", style.paint("33", "Not finished"))),
    }
    if let Some(delivered) = &account.delivered
        && delivered.changed
    {
        let changes = &delivered.changes;
        let count = changes.files.len();
        let size = format!(
            "{} in {count} file{}",
            numbers::lines(changes.added(), changes.removed()).trim(),
            if count == 1 { "" } else { "s" }
        );
        let repo = format!("{}/", account.repo);
        if let Some(published) = &delivered.published {
            if let Some(url) = &published.url {
                say(format!("  At      {}   {size}", line(url, 160)));
            }
            for told in &published.told {
                say(format!("          {}", line(told, 240)));
            }
        } else if let Some(patch) = &delivered.patch {
            let short = patch.strip_prefix(&repo).unwrap_or(patch);
            say(format!("  Patch   {short}   (git am < …)   {size}"));
        } else if let Some(branch) = &delivered.branch {
            say(format!("  Branch  {}   {size}", line(branch, 120)));
        } else if let Some(commit) = &delivered.commit {
            let short: String = commit.chars().take(10).collect();
            say(format!("  Commit  {short}   {size}"));
        }
    }
    let budget = account.budget_usd.map(|usd| format!(" of ${usd:.2}")).unwrap_or_default();
    if account.spend.calls > 0 {
        let (cost, tokens) = (numbers::cost(&account.spend), numbers::tokens(&account.spend));
        say(format!("  Cost    {cost}{budget} · {tokens}"));
        if account.by_model.len() > 1 {
            for (model, spend) in &account.by_model {
                let (cost, calls) = (numbers::cost(spend), spend.calls);
                say(format!("          {}: {cost}, {calls} calls", line(model, 40)));
            }
        }
    } else {
        say("  Cost    nothing: no model was asked".to_owned());
    }
    say(format!("  Next    {}", next(account, run.as_str())));
}

fn next(account: &Account, run: &str) -> String {
    let mut next = Vec::new();
    if let Some(delivered) = account.delivered.as_ref().filter(|delivered| delivered.published.is_none()) {
        if let Some(branch) = &delivered.branch {
            next.push(format!("git switch {}", line(branch, 120)));
        } else if let Some(patch) = &delivered.patch {
            next.push(format!("git am < {}", patch.strip_prefix(&format!("{}/", account.repo)).unwrap_or(patch)));
        }
    }
    if account.ending.is_none() {
        next.push(format!("codeforge resume {run}"));
    }
    next.push(format!("codeforge runs show {run}"));
    next.push(format!("codeforge runs events {run}"));
    next.join(" · ")
}
