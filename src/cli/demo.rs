//! `codeforge demo`: the main job on a sample repository, with recorded model answers. Everything else is real.

use super::error::CliError;
use super::run::{Order, compile, driver, load, start};
use super::{Context, Format};
use crate::engine::Stop;
use crate::model::account::Ending;
use crate::model::exec::DriverKind;
use crate::plan;
use crate::port::world::Tape;
use rust_embed::RustEmbed;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the sample repository is made of, and the model's recorded answers.
#[derive(RustEmbed)]
#[folder = "templates/demo/"]
struct Sample;

/// The recording's name among the sample's files; it is not part of the repository.
const RECORDING: &str = "cassette.jsonl";
const TASK: &str = "`sh tests/run.sh` fails: the last line is not counted when the file has no line end";

/// Shows the main job: a sample repository with a failing test, three modes, a real sandbox, real gates, a real
/// patch. The model's answers are recorded: no key, no account, no network.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge demo
  codeforge demo --dir ./sample --sandbox native")]
pub struct Args {
    /// Where the sample repository is made (default: a new temporary folder; it stays, to be looked at)
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Sandbox driver
    #[arg(long, value_name = "auto|docker|native|none", value_parser = driver)]
    pub sandbox: Option<DriverKind>,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, cx: &Context<'_>, stop: Stop) -> Result<(), CliError> {
    let folder = match args.dir {
        Some(dir) => cx.world.cwd().join(dir),
        None => {
            let name = format!("codeforge-demo-{:08x}", cx.world.random() & 0xffff_ffff);
            PathBuf::from(cx.world.env("TMPDIR").unwrap_or_else(|| "/tmp".into())).join(name)
        }
    };
    lay_out(&folder).map_err(|error| {
        CliError::new(Ending::Unavailable, format!("the sample repository in {}: {error}", folder.display()))
            .hint("choose another place with --dir")
    })?;
    let repository = cx.world.new_repository(&folder)?;
    let tape = Tape::PlayText(recording()?);
    let library = load(repository.root(), cx)?;
    let request = plan::Request {
        workflow: "fix-test".into(),
        inputs: BTreeMap::from([("task".to_owned(), TASK.to_owned())]),
        event: Value::Null,
        driver: args.sandbox,
        deliver: None,
        budget_usd: None,
        models: cx.world.models(&tape),
        allow_unpriced: true,
        ..plan::Request::default()
    };
    let plan = compile(&library, &request, cx)?;
    cx.say(&format!(
        "A sample repository in {} has a failing test.\nThe model's answers are a recording; sandbox, policy, gates, \
         rollback and patch are real.\n",
        folder.display()
    ));
    start(plan, repository, &tape, Order::default(), cx, stop).await?;
    if cx.format == Format::Text {
        show_patch(&folder, cx);
        cx.data(
            "\nThe same in a repository of yours:\n  export OPENAI_API_KEY=…        (or any OpenAI-compatible server: \
             CODEFORGE_LLM_BASE_URL)\n  codeforge run fix -i task=\"what to change\"\n",
        );
    }
    Ok(())
}

fn lay_out(folder: &Path) -> std::io::Result<()> {
    if folder.exists() && std::fs::read_dir(folder)?.next().is_some() {
        return Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, "the folder is not empty"));
    }
    for name in Sample::iter().filter(|name| name != RECORDING) {
        let Some(file) = Sample::get(&name) else { continue };
        let path = folder.join(name.as_ref());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, file.data)?;
    }
    Ok(())
}

fn recording() -> Result<String, CliError> {
    let broken = || CliError::new(Ending::Failed, "this build lacks the demo's recording; please report it");
    let file = Sample::get(RECORDING).ok_or_else(broken)?;
    String::from_utf8(file.data.into_owned()).map_err(|_| broken())
}

fn show_patch(folder: &Path, cx: &Context<'_>) {
    let runs = folder.join(".codeforge").join("runs");
    let Ok(entries) = std::fs::read_dir(runs) else { return };
    for entry in entries.flatten() {
        if let Ok(patch) = std::fs::read_to_string(entry.path().join("change.patch")) {
            let diff = patch.find("diff --git").map_or(patch.as_str(), |at| &patch[at..]);
            cx.data("\n");
            cx.data(diff);
        }
    }
}
