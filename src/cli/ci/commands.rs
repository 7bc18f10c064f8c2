//! Commands that a server would answer, where there is none: `help` is answered, the others say what to do instead.

use super::{Ci, say};
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::engine;
use crate::model::ci::Home;
use crate::model::forge::Access;
use crate::model::id::RunId;
use crate::port::forge::{CommentAt, Sticky};
use crate::port::store::StoreError;
use crate::report::ci::answers::{self, HelpFacts};
use crate::report::ci::markdown::{code, prose};
use crate::run;
use crate::server::commands as served;
use crate::trigger::{self, Builtin, Facts, Grammar, Meant};

/// Answers the comment's commands that no workflow waits for; whether there were any that somebody may give.
///
/// # Errors
/// The forge cannot be asked, or not written to.
pub(super) async fn answer(ci: &Ci, cx: &Context<'_>) -> Result<bool, CliError> {
    let event = &ci.job.event;
    // The server answered before it made the job.
    let (Some(comment), Some(forge), None) = (&event.comment, &ci.forge, &ci.job.served) else { return Ok(false) };
    let Some(thread) = served::thread(event) else { return Ok(false) };
    let ours = ci.ours();
    let facts = Facts {
        phrase: &ci.settings.phrase,
        allow_users: &ci.settings.allow_users,
        ours: &ours,
        changed: None,
        fork: ci.job.fork,
        now_ms: cx.world.clock().now_ms(),
    };
    let Ok(given) = trigger::commands_of(&ci.library, event, &facts) else { return Ok(false) };
    let given: Vec<_> = given.into_iter().filter(|(_, meant)| *meant != Meant::Workflow).collect();
    if given.is_empty() {
        return Ok(false);
    }
    let actor = event.actor.as_deref().unwrap_or_default();
    let access = forge.access_of(actor).await;
    let mut heard = false;
    for (command, meant) in &given {
        let needs = match meant {
            Meant::Builtin(Builtin::Help | Builtin::Status | Builtin::Explain) => Access::Read,
            Meant::Builtin(_) => Access::Write,
            Meant::Workflow | Meant::Unknown(_) => Access::Triage,
        };
        if !access.reaches(needs) {
            say(cx, &format!("not `{}`: `{actor}` may not give it here", command.name));
            continue;
        }
        if !heard && matches!(meant, Meant::Builtin(_)) {
            forge.react(CommentAt { thread, kind: comment.kind, id: comment.id }, "eyes").await?;
        }
        heard = true;
        let (key, body) = match meant {
            Meant::Builtin(Builtin::Help) => ("command/help".to_owned(), help(ci)),
            Meant::Builtin(Builtin::Explain) => ("command/explain".to_owned(), explain(ci, &command.text, cx).await?),
            Meant::Builtin(builtin) => (format!("command/{}", builtin.name()), no_server(ci, *builtin)),
            Meant::Workflow | Meant::Unknown(None) => {
                ("command/unknown".to_owned(), answers::unknown(&command.name, None, &ci.settings.phrase))
            }
            Meant::Unknown(near) => {
                ("command/unknown".to_owned(), answers::unknown(&command.name, near.as_deref(), &ci.settings.phrase))
            }
        };
        forge.stick(&Sticky { thread, key: &key, body: &body, memory: None }).await?;
        say(cx, &format!("answered `{}`", command.name));
    }
    Ok(heard)
}

fn help(ci: &Ci) -> String {
    let grammar = Grammar::of(&ci.library, &ci.settings.phrase);
    let mut offers = served::offers(&ci.library, &grammar);
    let here = |it: Builtin| matches!(it, Builtin::Help | Builtin::Explain);
    offers.retain(|offer| Builtin::named(&offer.name).is_none_or(here));
    let facts = HelpFacts {
        phrase: &ci.settings.phrase,
        free_text: grammar.free_text(),
        settings: served::settings(&ci.library),
        note: "There is no CodeForge server here: commands start jobs of the pipeline, and the pipeline's own pages show, \
               cancel and repeat them.",
    };
    answers::help(&offers, &facts)
}

/// What to do where only a server could.
fn no_server(ci: &Ci, builtin: Builtin) -> String {
    let pipeline = match ci.job.home {
        Home::Github => "the repository's page *Actions*",
        Home::Gitlab => "the project's page *Pipelines*",
        Home::Container => "whatever runs the container",
    };
    let instead = match builtin {
        Builtin::Cancel => format!("Cancel the job on {pipeline}."),
        Builtin::Retry => format!("Run the job again on {pipeline}, or give its command anew."),
        Builtin::Approve | Builtin::Deny => {
            "Only a server keeps a yes: a workflow with `quote: true` does not run in a pipeline.".to_owned()
        }
        Builtin::Help | Builtin::Status | Builtin::Explain => format!("How jobs stand is to be seen on {pipeline}."),
    };
    let name = code(&format!("{} {}", ci.settings.phrase, builtin.name()), 80);
    answers::answer("there is no server here", &[format!("{name} is answered by `codeforge serve`. {instead}")])
}

/// From the journal of an earlier run, where this runner has it.
async fn explain(ci: &Ci, text: &str, cx: &Context<'_>) -> Result<String, CliError> {
    let Some(id) = text.split_whitespace().next().map(|id| id.trim_matches('`').to_lowercase()) else {
        let said = format!(
            "Name a run: {}. Its id stands in the run's report.",
            code(&format!("{} explain RUN", ci.settings.phrase), 80)
        );
        return Ok(answers::answer("explain which run?", &[said]));
    };
    let head = ci.head().await?;
    let kept = ci.state(&head, cx)?;
    let folder = match &kept.folder {
        Some(folder) => folder.clone(),
        None => cx.world.repository(ci.commits.checkout.root())?.state_dir().to_path_buf(),
    };
    let store = cx.world.store(&folder).await?;
    let rows = match store.find(&id).await {
        Ok(head) => store.rows(&RunId(head.id.0)).await?,
        Err(StoreError::NoSuchRun(_) | StoreError::Ambiguous { .. }) => {
            let said = format!(
                "The journal of run {} is not on this runner, which forgets: `state: {{ store: cache }}` in the \
                 configuration keeps it. The reports of its job tell the same: summary, artifact, log.",
                code(&id, 20)
            );
            return Ok(answers::answer("not known here", &[said]));
        }
        Err(error) => return Err(error.into()),
    };
    let question = text.split_once(char::is_whitespace).map(|(_, question)| question).unwrap_or_default();
    Ok(match engine::replay(&rows) {
        Ok(state) => answers::explain_run(&run::account(&state), question),
        Err(why) => answers::answer("not known here", &[prose(&why, 400)]),
    })
}
