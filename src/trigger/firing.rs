//! What a CI file has to listen to, so that what starts workflows reaches them; and which of it never does.

use super::{cron, meeting, zone};
use crate::model::diagnostic::{Diagnostic, Severity};
use crate::workflow::schema::docs::ScheduleDoc;
use crate::workflow::schema::document::{Document, Node, Yaml};
use crate::workflow::schema::{ForgeEventDoc, Library, Loaded, OnDoc, WorkflowDoc, codes};
use std::collections::{BTreeMap, BTreeSet};

/// What GitHub lets a `pull_request` pass on where no types are listed.
const USUAL_TYPES: [&str; 3] = ["opened", "synchronize", "reopened"];

/// What a CI file has to listen to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Comments: commands are given in them.
    pub issue_comment: bool,
    /// Issues, with the types; none: all of them.
    pub issues: Option<BTreeSet<String>>,
    /// Pull or merge requests, with the types; none: the usual ones.
    pub pull_request: Option<BTreeSet<String>>,
    /// Pushes: branches and tags; both empty: all of them.
    pub push: Option<(BTreeSet<String>, BTreeSet<String>)>,
    /// Time tables in UTC, with the workflows that they are for.
    pub schedule: BTreeMap<String, Vec<String>>,
    /// A merge queue.
    pub merge_group: bool,
    /// Workflows whose time table cannot be said in UTC, with the zone; it stands there as if it were UTC's.
    pub zones: Vec<(String, String)>,
    /// A newer push to a change ends what works on the older one: all workflows of changes say so.
    pub cancels: bool,
}

/// What the library's workflows wait for. Shipped ones wait for their command only. `repository` (`owner/name`) settles
/// the `H` of time tables, `now_ms` (milliseconds since 1970) what their zones are ahead of UTC this year.
pub fn wanted(library: &Library, repository: &str, now_ms: i64) -> Wanted {
    let mut wanted = Wanted { cancels: meeting::cancels(library), ..Wanted::default() };
    for (name, workflow) in &library.workflows {
        let Some(on) = &workflow.doc.on else { continue };
        wanted.issue_comment |= on.command.is_some();
        if workflow.builtin {
            continue;
        }
        wanted.issue_comment |= on.issue_comment.is_some();
        wanted.merge_group |= on.merge_group.is_some();
        union(&mut wanted.issues, on.issues.as_ref(), &[]);
        union(&mut wanted.pull_request, on.pull_request.as_ref(), &USUAL_TYPES);
        if let Some(filter) = &on.push {
            let texts = |globs: &[crate::workflow::schema::Glob]| -> BTreeSet<String> {
                globs.iter().map(|glob| glob.0.clone()).collect()
            };
            let (branches, tags) = (texts(filter.branches.as_slice()), texts(filter.tags.as_slice()));
            let all = branches.is_empty() && tags.is_empty();
            wanted.push = Some(match wanted.push.take() {
                Some((known, marks)) if !(all || known.is_empty() && marks.is_empty()) => {
                    (known.into_iter().chain(branches).collect(), marks.into_iter().chain(tags).collect())
                }
                None => (branches, tags),
                Some(_) => Default::default(),
            });
        }
        for entry in &on.schedule {
            let settled = cron::settled(&entry.cron.0, &cron::seed(repository, name));
            let (tables, zone) = tables(&settled, entry, now_ms);
            for table in tables {
                wanted.schedule.entry(table).or_default().push(name.clone());
            }
            wanted.zones.extend(zone.map(|zone| (name.clone(), zone)));
        }
    }
    wanted
}

/// An entry's tables in UTC; and its zone, where they are as it is written since they cannot be said in UTC.
fn tables(settled: &str, entry: &ScheduleDoc, now_ms: i64) -> (Vec<String>, Option<String>) {
    let Some(named) = entry.timezone.as_ref().filter(|zone| zone.0 != "UTC") else {
        return (vec![settled.to_owned()], None);
    };
    match zone::in_utc(settled, &named.0, now_ms) {
        Some(tables) => (tables.into_iter().collect(), None),
        None => (vec![settled.to_owned()], Some(named.0.clone())),
    }
}

/// Adds a workflow's types; one without any takes all, or the usual ones where there are such.
fn union(into: &mut Option<BTreeSet<String>>, filter: Option<&ForgeEventDoc>, usual: &[&str]) {
    let Some(filter) = filter else { return };
    let mut types: BTreeSet<String> = filter.types.as_slice().iter().cloned().collect();
    let all = types.is_empty() && usual.is_empty();
    if types.is_empty() {
        types.extend(usual.iter().map(|word| (*word).to_owned()));
    }
    let merged = match into.take() {
        _ if all => BTreeSet::new(),
        Some(known) if known.is_empty() && usual.is_empty() => known,
        Some(mut known) => {
            known.extend(types);
            known
        }
        None => types,
    };
    *into = Some(merged);
}

/// A CI file that calls us.
struct Pipeline {
    file: String,
    gitlab: bool,
    on: Option<Node>,
    /// The workflow that it names, where it runs no other.
    only: Option<String>,
}

/// Whether a CI file calls us.
pub fn calls_us(path: &str, text: &str) -> bool {
    pipeline(path, text).is_some()
}

fn pipeline(path: &str, text: &str) -> Option<Pipeline> {
    let (document, _) = Document::parse(path, text);
    let root = &document.root;
    if path.starts_with(".github/") {
        let jobs = root.get("jobs")?.entries();
        let steps = jobs.iter().flat_map(|(_, job)| job.get("steps").map(Node::items).unwrap_or_default());
        let mut ours = steps.filter(|step| {
            let uses = step.get("uses").and_then(Node::text).unwrap_or_default();
            let action = uses.split('@').next().unwrap_or_default();
            let runs = step.get("run").and_then(Node::text).unwrap_or_default();
            action.ends_with("/codeforge") || runs.contains("codeforge ci")
        });
        let first = ours.next()?;
        let named = first.get("with").and_then(|with| with.get("workflow")).and_then(Node::text);
        let only = named.filter(|name| !name.is_empty() && !name.contains("${{")).map(str::to_owned);
        return Some(Pipeline { file: path.to_owned(), gitlab: false, on: root.get("on").cloned(), only });
    }
    let includes = match root.get("include") {
        Some(node) if matches!(node.value, Yaml::Map(_)) => std::slice::from_ref(node),
        Some(node) => node.items(),
        None => &[],
    };
    let component = |node: &Node| {
        let text = node.get("component").and_then(Node::text).unwrap_or_default();
        text.split('@').next().unwrap_or_default().ends_with("/codeforge")
    };
    let scripts = root.entries().iter().any(|(_, job)| {
        let lines = job.get("script").map(Node::one_or_many).unwrap_or_default();
        lines.iter().filter_map(Node::text).any(|line| line.contains("codeforge ci"))
    });
    let found = includes.iter().find(|node| component(node));
    if found.is_none() && !scripts {
        return None;
    }
    let named = found.and_then(|node| node.get("inputs")?.get("workflow")?.text().map(str::to_owned));
    let only = named.filter(|name| !name.is_empty());
    Some(Pipeline { file: path.to_owned(), gitlab: true, on: None, only })
}

impl Pipeline {
    /// What it listens to of an event: `None`: not at all; else its settings, where it has some.
    fn listens(&self, event: &str) -> Option<Option<&Node>> {
        let on = self.on.as_ref()?;
        match &on.value {
            Yaml::Text(word) => (word == event).then_some(None),
            Yaml::List(words) => words.iter().any(|word| word.text() == Some(event)).then_some(None),
            Yaml::Map(_) => on.get(event).map(Some),
            _ => None,
        }
    }

    /// Those of `types` that it does not let through.
    fn lacks(&self, event: &str, types: &[String], usual: &[&str]) -> Vec<String> {
        let Some(settings) = self.listens(event) else { return vec![event.to_owned()] };
        let listed = settings.and_then(|node| node.get("types")).map(Node::one_or_many).unwrap_or_default();
        let listed: Vec<&str> = listed.iter().filter_map(Node::text).collect();
        let known = |word: &str| match (listed.is_empty(), usual.is_empty()) {
            (false, _) => listed.contains(&word),
            (true, true) => true,
            (true, false) => usual.contains(&word),
        };
        types.iter().filter(|word| !known(word)).cloned().collect()
    }

    fn times(&self) -> Vec<&str> {
        let entries = self.listens("schedule").flatten().map(Node::items).unwrap_or_default();
        entries.iter().filter_map(|entry| entry.get("cron")?.text()).collect()
    }
}

/// Something that should start a workflow and cannot.
struct Dead {
    /// Its key in `on:`, or the entry of the time table.
    key: &'static str,
    entry: Option<usize>,
    /// `no schedule "0 2 * * *"`, after `FILE has`.
    lacks: String,
}

/// Warnings on triggers of the repository's own workflows that its CI files never let happen. `pipelines`: path and text
/// of CI files; those that do not call us do not count, and without one there is nothing to say.
pub fn never_fires(
    library: &Library,
    pipelines: &[(String, String)],
    repository: &str,
    now_ms: i64,
) -> Vec<Diagnostic> {
    let all: Vec<Pipeline> = pipelines.iter().filter_map(|(path, text)| pipeline(path, text)).collect();
    let mut found = Vec::new();
    if all.is_empty() {
        return found;
    }
    for (name, workflow) in library.workflows.iter().filter(|(_, workflow)| !workflow.builtin) {
        let Some(on) = &workflow.doc.on else { continue };
        let serving: Vec<&Pipeline> =
            all.iter().filter(|it| it.only.as_ref().is_none_or(|only| only == name)).collect();
        // A file that names the workflow runs it on everything that the file listens to.
        if serving.iter().any(|it| it.only.is_some()) {
            continue;
        }
        found.extend(meeting::unmet(workflow));
        let (dead, automatic) = dead(name, on, &serving, repository, now_ms);
        let never = dead.len() == automatic;
        for dead in dead {
            found.push(said(workflow, name, &dead, never, &all));
        }
    }
    found
}

fn said(workflow: &Loaded<WorkflowDoc>, name: &str, dead: &Dead, never: bool, all: &[Pipeline]) -> Diagnostic {
    let files: Vec<&str> = all.iter().map(|pipeline| pipeline.file.as_str()).collect();
    let gitlab = all.iter().all(|pipeline| pipeline.gitlab);
    let verb = if files.len() == 1 { "has" } else { "have" };
    let how = if never { "never fires here".to_owned() } else { format!("never fires on `{}` here", dead.key) };
    let message = match gitlab {
        true => format!("`{name}` {how}: GitLab starts no pipeline on it"),
        false => format!("`{name}` {how}: {} {verb} no {}", files.join(" and "), dead.lacks),
    };
    let items = || Some(workflow.document.node(&["on", dead.key])?.items().get(dead.entry?)?.get("cron")?.at);
    let key = || workflow.document.node(&["on"])?.key(dead.key).map(|key| key.at);
    let at = items().or_else(key).unwrap_or_default();
    let mut problem = workflow.document.diagnostic(codes::NEVER_FIRES, Severity::Warning, at, message);
    problem.help = Some(match gitlab {
        true => {
            "the server (`codeforge serve`) hears it; a pipeline can be started by hand or by a schedule".to_owned()
        }
        false => "`codeforge init --sync` makes the CI file listen to what the workflows wait for".to_owned(),
    });
    problem
}

/// The triggers that never happen, and how many there are beside those by hand.
fn dead(name: &str, on: &OnDoc, serving: &[&Pipeline], repository: &str, now_ms: i64) -> (Vec<Dead>, usize) {
    let mut dead = Vec::new();
    let mut automatic = 0;
    let github = || serving.iter().filter(|it| !it.gitlab);
    let gitlab = serving.iter().any(|it| it.gitlab);
    let mut look = |key: &'static str, there: bool, lacks: String| {
        automatic += 1;
        if !there {
            dead.push(Dead { key, entry: None, lacks });
        }
    };
    if on.command.is_some() {
        let there = github().any(|it| it.lacks("issue_comment", &["created".to_owned()], &[]).is_empty());
        look("command", there, "`issue_comment` that lets `created` through".to_owned());
    }
    if on.issue_comment.is_some() {
        look("issue_comment", github().any(|it| it.listens("issue_comment").is_some()), "`issue_comment`".to_owned());
    }
    for (key, filter, usual, also) in [
        ("issues", &on.issues, &[] as &[&str], false),
        ("pull_request", &on.pull_request, &USUAL_TYPES as &[&str], gitlab),
    ] {
        let Some(filter) = filter else { continue };
        let types = filter.types.as_slice();
        // Of several types one that gets through is enough to fire; which is missing is said where none is.
        let there = github().any(|it| {
            let lacks = it.lacks(key, types, usual);
            it.listens(key).is_some() && (types.is_empty() || lacks.len() < types.len())
        });
        let words = if types.is_empty() { String::new() } else { format!(" of the type {}", types.join(", ")) };
        look(key, there || also, format!("`{key}`{words}"));
    }
    if on.push.is_some() {
        look("push", gitlab || github().any(|it| it.listens("push").is_some()), "`push`".to_owned());
    }
    if on.merge_group.is_some() {
        look(
            "merge_group",
            gitlab || github().any(|it| it.listens("merge_group").is_some()),
            "`merge_group`".to_owned(),
        );
    }
    for (place, entry) in on.schedule.iter().enumerate() {
        automatic += 1;
        let seed = cron::seed(repository, name);
        // GitLab keeps its time tables in the project's settings: nobody can see them here.
        let (tables, _) = tables(&cron::settled(&entry.cron.0, &seed), entry, now_ms);
        let due = |table: &String| github().flat_map(|it| it.times()).any(|due| cron::same(table, due));
        let written = entry.timezone.is_none()
            && github().flat_map(|it| it.times()).any(|due| cron::is(&entry.cron.0, due, &seed));
        let missing = tables.iter().find(|table| !due(table)).filter(|_| !gitlab && !written);
        if let Some(table) = missing {
            let lacks = format!("schedule \"{table}\"");
            dead.push(Dead { key: "schedule", entry: Some(place), lacks });
        }
    }
    // Where GitLab is the only home, a command that it does not hear is no news beside triggers that it does.
    if github().next().is_none() && dead.len() < automatic {
        dead.clear();
    }
    (dead, automatic)
}
