//! The final account of a run, for terminals: what happened, why, what it cost, what to do next.

use super::clean::line;
use super::numbers;
use crate::model::account::{Account, Ending, StepAccount, StepStatus};
use crate::model::delivery::Delivered;
use crate::model::journal::{GateResult, Verdict};
use unicode_width::UnicodeWidthStr;

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether colour may be used.
    pub color: bool,
    /// Columns of the terminal; untrusted text is cut to them.
    pub width: usize,
    /// Nothing but ASCII.
    pub ascii: bool,
}

/// Renders the account; ends with a line end.
pub fn render(account: &Account, style: Style) -> String {
    let wide = style.width.max(40);
    let mut out = Vec::new();
    let base = account.base.as_deref().map_or("no commit", |commit| commit.get(..7).unwrap_or(commit));
    let mut header = format!(
        "  {} · run {} · base {base} · policy {}",
        line(&account.workflow, 60),
        account.run,
        line(&account.policy, 60)
    );
    if !account.driver.is_empty() {
        header += &format!(" · sandbox {}", account.driver);
    }
    out.push(header);
    out.extend(account.notes.iter().map(|note| paint(style, "2", &format!("  note: {}", line(note, wide - 8)))));
    out.push(String::new());

    let names = column(account.steps.iter().map(|step| step.id.as_str()));
    let modes = column(account.steps.iter().map(|step| step.mode.as_str()));
    for step in &account.steps {
        render_step(step, style, names, modes, &mut out);
    }
    for result in &account.final_gates {
        out.push(gate(result, "on the final tree", style));
    }
    out.push(String::new());
    ending(account, style, &mut out);
    let mut text = out.join("\n");
    text.push('\n');
    if style.ascii { ascii(&text) } else { text }
}

/// The width of a column that holds all of these.
fn column<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| line(text, 24).width()).max().unwrap_or(0)
}

fn pad(text: &str, width: usize) -> String {
    let text = line(text, 24);
    let fill = width.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(fill))
}

fn render_step(step: &StepAccount, style: Style, names: usize, modes: usize, out: &mut Vec<String>) {
    let (mark, color) = match step.status {
        StepStatus::Succeeded => ("✓", "32"),
        StepStatus::Failed => ("✗", "31"),
        StepStatus::Skipped | StepStatus::Pending => ("–", "2"),
        StepStatus::Running | StepStatus::Cancelled => ("⏸", "33"),
    };
    let time = if step.attempt == 0 { String::new() } else { numbers::duration(step.duration_ms) };
    let mut files: Vec<String> = step
        .files
        .iter()
        .take(3)
        .map(|file| format!("{} +{} −{}", line(&file.path, 60), file.added, file.removed))
        .collect();
    if step.files.len() > 3 {
        files.push(format!("{} more files", step.files.len() - 3));
    }
    let detail = if files.is_empty() { line(&step.summary, style.width.max(40) / 2) } else { files.join(" · ") };
    let detail = match step.status {
        StepStatus::Skipped => "skipped: its condition did not hold".to_owned(),
        StepStatus::Pending => "not begun".to_owned(),
        StepStatus::Cancelled => "stopped before it was done".to_owned(),
        _ => detail,
    };
    let (id, mode) = (pad(step.id.as_str(), names), pad(&step.mode, modes));
    let row = format!("{id}  {mode}  {time:>10}  {:>8}  {detail}", numbers::cost(&step.spend));
    out.push(format!("  {} {}", paint(style, color, mark), row.trim_end()));
    for (_, result, led_to) in &step.gates {
        out.push(gate(result, led_to, style));
    }
    let mut denials: Vec<(&(String, crate::model::tool::Ruling), usize)> = Vec::new();
    for denial in &step.denials {
        match denials.iter_mut().find(|(known, _)| *known == denial) {
            Some((_, count)) => *count += 1,
            None => denials.push((denial, 1)),
        }
    }
    for ((call, ruling), count) in denials {
        let place = format!("{}:{}", line(&ruling.by.file, 60), ruling.by.line);
        let text = format!("denied ×{count}    {}   {place} {}", line(call, 60), line(&ruling.reason, 60));
        out.push(format!("      {}", paint(style, "33", &text)));
    }
    if let Some(error) = &step.error {
        out.push(format!("      {} {}", paint(style, "31", "why"), line(error, 600)));
    }
}

fn gate(result: &GateResult, led_to: &str, style: Style) -> String {
    let name = line(&result.gate, 40);
    let led_to = if led_to.is_empty() { String::new() } else { format!("   → {}", line(led_to, 120)) };
    if result.verdict == Verdict::Pass {
        let time = numbers::duration(result.duration_ms);
        return format!("      gate {name}   {}  {time}{led_to}", paint(style, "32", "✓"));
    }
    let last = result.output.lines().rev().find(|text| !text.trim().is_empty()).unwrap_or_default();
    let mut why = line(&result.detail, 80);
    if !last.is_empty() {
        why += &format!(": {}", line(last, style.width.max(40) / 2));
    }
    format!("      gate {name}   {} {why}{led_to}", paint(style, "31", "✗"))
}

fn ending(account: &Account, style: Style, out: &mut Vec<String>) {
    let reason = line(&account.reason, 600);
    let (word, color) = match account.ending {
        None => ("Running", "33"),
        Some(Ending::Done) => ("Done", "32"),
        Some(Ending::Failed) => ("Failed", "31"),
        Some(Ending::Misconfigured) => ("Wrong", "31"),
        Some(Ending::Limit) => ("Limit", "31"),
        Some(Ending::Denied) => ("Denied", "31"),
        Some(Ending::Unavailable) => ("Down", "31"),
        Some(Ending::Cancelled) => ("Stopped", "33"),
    };
    if account.ending != Some(Ending::Done) || !reason.is_empty() {
        out.push(format!("  {} {reason}", paint(style, color, &format!("{word:<7}"))));
    }
    let mut next = Vec::new();
    if let Some(delivered) = &account.delivered {
        delivery(account, delivered, out, &mut next);
    }
    let budget = account.budget_usd.map(|usd| format!(" of ${usd:.2}")).unwrap_or_default();
    out.push(match account.spend.calls {
        0 => "  Cost    nothing: no model was called".to_owned(),
        _ => format!("  Cost    {}{budget} · {}", numbers::cost(&account.spend), numbers::tokens(&account.spend.usage)),
    });
    if matches!(account.ending, None | Some(Ending::Limit | Ending::Unavailable | Ending::Cancelled)) {
        next.push(format!("codeforge resume {}", account.run));
    }
    next.push(format!("codeforge runs show {}", account.run));
    out.push(format!("  Next    {}", next.join(" · ")));
}

fn delivery(account: &Account, delivered: &Delivered, out: &mut Vec<String>, next: &mut Vec<String>) {
    if !delivered.changed {
        out.push("  Change  none: there was nothing to hand over".to_owned());
        return;
    }
    let changes = &delivered.changes;
    let count = changes.files.len();
    let size =
        format!("+{} −{} in {count} file{}", changes.added(), changes.removed(), if count == 1 { "" } else { "s" });
    if let Some(patch) = &delivered.patch {
        let short = patch.strip_prefix(&account.repo).map_or(patch.as_str(), |rest| rest.trim_start_matches('/'));
        out.push(format!("  Patch   {}   {size}", line(short, 400)));
        next.push(format!("git am < {}", quoted(short)));
    }
    if let Some(branch) = &delivered.branch {
        out.push(format!("  Branch  {}   {size}", line(branch, 200)));
        next.push(format!("git merge {}", quoted(branch)));
    }
    if let Some(commit) = &delivered.commit {
        out.push(format!("  Commit  {}   {size}", commit.get(..12).unwrap_or(commit)));
    }
}

/// Text as one word of a shell.
fn quoted(text: &str) -> String {
    let text = line(text, 4096);
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c)) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn paint(style: Style, code: &str, text: &str) -> String {
    if style.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Our own signs in ASCII; any other character becomes `?`.
fn ascii(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '✓' => '+',
            '✗' | '×' => 'x',
            '–' | '−' | '·' => '-',
            '⏸' => '|',
            '→' => '>',
            '…' => '~',
            c if c.is_ascii() => c,
            _ => '?',
        })
        .collect()
}
