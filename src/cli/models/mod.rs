//! `codeforge models list|show|test`: what is configured and found, what it costs, and whether it answers.

mod show;
mod test;

use super::error::CliError;
use super::{Context, Format, run};
use crate::model::account::Ending;
use crate::model::catalog::{Listing, PriceOrigin, Served, Server};
use crate::model::chat::ModelRef;
use crate::model::diagnostic::{Diagnostic, Severity};
use crate::model::usage::Price;
use crate::plan::{self, Known};
use crate::port::world::Tape;
use crate::report;
use crate::text;
use crate::workflow::schema::Library;
use crate::workflow::schema::pricing::Age;
use serde_json::{Value, json};

/// Models: those that are configured or found, what they cost and where that is from, and whether they answer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  codeforge models list
  codeforge models list --offline --format json    # ask no server
  codeforge models show main
  codeforge models test                            # one tiny request to each; costs a fraction of a cent
  codeforge models test main ollama/qwen3:8b")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// All models: configured, from the environment, and what the servers serve
    List {
        /// Ask no server
        #[arg(long)]
        offline: bool,
        /// Show all that each server serves, however many
        #[arg(long)]
        all: bool,
    },
    /// One model, with all that is known of it
    Show {
        /// Its name, or a served one (`ollama/qwen3:8b`)
        name: String,
        /// Ask no server
        #[arg(long)]
        offline: bool,
    },
    /// Sends each model one real request of at most 16 tokens. Exit code 5: one did not answer
    Test {
        /// Names, or served ones (default: all that are configured or from the environment)
        names: Vec<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// An unknown name (2); a model that does not answer (5).
pub async fn run(args: Args, cx: &Context<'_>) -> Result<(), CliError> {
    let library = run::load(&super::here(cx), cx)?;
    refuse_half(&library, cx)?;
    let ages = library.pricing.ages(cx.world.clock().now_ms());
    for age in ages.iter().filter(|age| age.is_stale()) {
        cx.say(&stale(age));
    }
    let json = cx.format == Format::Json;
    match args.what {
        What::List { offline, all } => {
            let overview = Overview::take(&library, ages, offline, cx).await?;
            let text = if json { format!("{:#}\n", overview.json(cx)) } else { show::list(&overview, all, cx) };
            cx.data(&text);
            if overview.models.is_empty() {
                cx.say(NO_MODEL);
            }
        }
        What::Show { name, offline } => {
            let overview = Overview::take(&library, ages, offline, cx).await?;
            let entry = overview.find(&name)?;
            let text = if json { format!("{:#}\n", entry.json(cx)) } else { show::one(&entry, cx) };
            cx.data(&text);
        }
        What::Test { names } => {
            let known = known(&library, cx);
            // Servers are asked only for names that nothing else has.
            let offline = names.iter().all(|name| known.iter().any(|it| it.model.name == *name));
            let overview = Overview::take(&library, ages, offline, cx).await?;
            let entries = match names.is_empty() {
                true => overview.models.clone(),
                false => names.iter().map(|name| overview.find(name)).collect::<Result<Vec<_>, _>>()?,
            };
            test::all(&entries, cx).await?;
        }
    }
    Ok(())
}

/// Models of half a configuration would be believed to be all.
fn refuse_half(library: &Library, cx: &Context<'_>) -> Result<(), CliError> {
    let ours = |file: &str| {
        library.config_document.as_ref().is_some_and(|it| it.file == file) || file.ends_with("pricing.yml")
    };
    let wrong = |it: &&Diagnostic| it.severity == Severity::Error && ours(&it.place.file);
    let problems: Vec<&Diagnostic> = library.diagnostics.iter().filter(wrong).collect();
    for problem in &problems {
        cx.complain(&report::diagnostics::render(problem, cx.color));
    }
    if problems.is_empty() { Ok(()) } else { Err(CliError::silent(Ending::Misconfigured)) }
}

/// How a model answered a tiny request.
pub(in crate::cli) struct Probed {
    /// Its name, provider, and name there.
    pub(in crate::cli) model: ModelRef,
    /// Its address, without secrets.
    pub(in crate::cli) address: String,
    /// The variable of its key, and enough of the key to know it by.
    pub(in crate::cli) key: Option<(String, Option<String>)>,
    /// `config` or `environment`.
    pub(in crate::cli) from: &'static str,
    /// How long it took.
    pub(in crate::cli) ms: u64,
    /// What went wrong.
    pub(in crate::cli) error: Option<crate::model::chat::ModelError>,
}

/// Asks each model that is configured or from the environment one tiny request; with `offline` none.
///
/// # Errors
/// What keeps a client from being made.
pub(in crate::cli) async fn probe(library: &Library, offline: bool, cx: &Context<'_>) -> Result<Vec<Probed>, CliError> {
    let mut probed = Vec::new();
    for known in known(library, cx) {
        let from = if known.from_environment { "environment" } else { "config" };
        let entry = Entry { known, from: from.to_owned(), served: None };
        let (ms, error) = if offline { (0, None) } else { test::one(&entry, cx).await? };
        let model = entry.known.model;
        let name = model.api_key.as_deref().and_then(|reference| reference.strip_prefix("env://")).map(str::to_owned);
        let key = name.map(|name| {
            let value = cx.world.env(&name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
            (name, value.map(|value| text::mask(&value)))
        });
        let address = model.base_url.as_deref().map(shown).unwrap_or_default();
        probed.push(Probed { model, address, key, from, ms, error });
    }
    Ok(probed)
}

pub(in crate::cli) const NO_MODEL: &str = "no model is configured: set OPENAI_API_KEY or ANTHROPIC_API_KEY, or name one in \
                        .codeforge/config.yml:\n  models:\n    main: { provider: openai, model: NAME, api_key: \
                        env://OPENAI_API_KEY }\n  scenarios: { default: [main] }";

/// What to say of a table whose prices are old.
pub(super) fn stale(age: &Age) -> String {
    let what = if age.builtin { "the built-in prices".to_owned() } else { format!("the prices in {}", age.file) };
    format!("note: {what} are of {}, {} days ago: check those that you rely on (docs/pricing.md)", age.as_of, age.days)
}

/// Everything that is known of models.
struct Overview {
    models: Vec<Entry>,
    servers: Vec<Asked>,
    ages: Vec<Age>,
}

/// A model, configured or served.
#[derive(Clone)]
struct Entry {
    known: Known,
    /// How it became known: `config`, `environment`, or the server's.
    from: String,
    /// What its server says of it; `None`: it was not asked, or does not say.
    served: Option<Option<Served>>,
}

/// A server with what it said.
struct Asked {
    server: Server,
    listing: Listing,
    models: Vec<Entry>,
}

impl Overview {
    async fn take(library: &Library, ages: Vec<Age>, offline: bool, cx: &Context<'_>) -> Result<Self, CliError> {
        let known = known(library, cx);
        let mut servers = Vec::new();
        if !offline {
            let catalog = cx.world.catalog().map_err(CliError::usage)?;
            let all = all_servers(&known, cx.world.servers());
            let listings = futures::future::join_all(all.iter().map(|server| catalog.list(server))).await;
            servers = all.into_iter().zip(listings).map(|(server, listing)| asked(server, listing, library)).collect();
        }
        let models = known.into_iter().map(|known| {
            let from = if known.from_environment { "environment" } else { "config" }.to_owned();
            let served = servers.iter().find_map(|asked: &Asked| asked.says(&known.model));
            Entry { known, from, served }
        });
        Ok(Self { models: models.collect(), servers, ages })
    }

    /// A model by its name, by a served one's name, or that with its provider before it.
    fn find(&self, name: &str) -> Result<Entry, CliError> {
        let served = || self.servers.iter().flat_map(|asked| &asked.models);
        let own = self.models.iter().find(|entry| entry.known.model.name == name);
        let found = own.or_else(|| served().find(|entry| entry.known.model.name == name));
        let found = found.or_else(|| served().find(|entry| entry.known.model.model == name));
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|entry| entry.known.model.name.as_str()).collect();
            CliError::usage(format!("no model `{name}`"))
                .hint(format!("models: {}", names.join(", ")))
                .hint("`codeforge models list --all` shows what the servers serve, too")
        })
    }

    fn json(&self, cx: &Context<'_>) -> Value {
        let servers = self.servers.iter().map(|asked| {
            let (state, reason) = match &asked.listing {
                Listing::Served(_) => ("served", None),
                Listing::Absent(why) => ("absent", Some(why)),
                Listing::Refused(why) => ("refused", Some(why)),
            };
            json!({
                "provider": asked.server.provider,
                "base_url": shown(&asked.server.base_url),
                "known_by": asked.server.known_by,
                "key": key(asked.server.api_key.as_deref(), cx),
                "state": state,
                "reason": reason,
                "models": asked.models.iter().map(|entry| entry.json(cx)).collect::<Vec<_>>(),
            })
        });
        let prices = self.ages.iter().map(|age| {
            json!({ "file": age.file, "as_of": age.as_of, "days": age.days, "built_in": age.builtin,
                "stale": age.is_stale() })
        });
        json!({
            "models": self.models.iter().map(|entry| entry.json(cx)).collect::<Vec<_>>(),
            "servers": servers.collect::<Vec<_>>(),
            "prices": prices.collect::<Vec<_>>(),
        })
    }
}

impl Asked {
    /// What the server says of a configured model: `None` where it is not the model's server or does not say.
    fn says(&self, model: &ModelRef) -> Option<Option<Served>> {
        let Listing::Served(models) = &self.listing else { return None };
        let same = model.base_url.as_deref() == Some(self.server.base_url.as_str());
        same.then(|| models.iter().find(|served| served.model == model.model).cloned())
    }
}

impl Entry {
    fn json(&self, cx: &Context<'_>) -> Value {
        let Known { model, price_from, scenarios, .. } = &self.known;
        json!({
            "name": model.name,
            "provider": model.provider,
            "model": model.model,
            "base_url": model.base_url.as_deref().map(shown),
            "from": self.from,
            "key": key(model.api_key.as_deref(), cx),
            "price": model.price,
            "price_from": price_from,
            "context_window": model.context_window,
            "max_output": model.max_output,
            "tools": model.tools,
            "tags": model.tags,
            "scenarios": scenarios,
            "served": self.served.as_ref().map(Option::is_some),
            "served_price": self.served_price(),
        })
    }

    /// What the server says that the model costs.
    fn served_price(&self) -> Option<Price> {
        self.served.as_ref()?.as_ref()?.price
    }
}

/// The models of the configuration and the environment, with the addresses that they are asked at.
fn known(library: &Library, cx: &Context<'_>) -> Vec<Known> {
    let all = plan::known(library, &cx.world.models(&Tape::Off)).into_iter();
    all.map(|known| Known { model: cx.world.addressed(known.model), ..known }).collect()
}

/// The environment's servers and those of configured models, each once.
fn all_servers(known: &[Known], mut servers: Vec<Server>) -> Vec<Server> {
    for Known { model, .. } in known {
        let Some(base_url) = &model.base_url else { continue };
        match servers.iter_mut().find(|server| server.base_url == *base_url) {
            Some(server) => {
                server.api_key = server.api_key.take().or_else(|| model.api_key.clone());
                server.named = true;
            }
            None => servers.push(Server {
                provider: model.provider.clone(),
                base_url: base_url.clone(),
                api_key: model.api_key.clone(),
                known_by: format!("model `{}`", model.name),
                named: true,
            }),
        }
    }
    servers
}

/// What a server serves, as models: named by provider and model, with the server's price, else the tables'.
fn asked(server: Server, listing: Listing, library: &Library) -> Asked {
    let served = match &listing {
        Listing::Served(models) => models.as_slice(),
        _ => &[],
    };
    let models = served.iter().filter(|served| served.chats()).map(|served| {
        let mut model = ModelRef {
            name: format!("{}/{}", server.provider, served.model),
            provider: server.provider.clone(),
            model: served.model.clone(),
            base_url: Some(server.base_url.clone()),
            api_key: server.api_key.clone(),
            price: served.price,
            context_window: served.context_window.unwrap_or_default(),
            // A run reserves less than the most, too, where it is not told.
            max_output: 0,
            tools: served.tools.unwrap_or(true),
            tags: served.tags.clone(),
            ..ModelRef::default()
        };
        let found = plan::complete(&mut model, None, &library.pricing);
        model.max_output = served.max_output.unwrap_or(model.max_output);
        let known = Known {
            from_environment: false,
            price_from: if served.price.is_some() { Some(PriceOrigin::Server) } else { found },
            scenarios: Vec::new(),
            model,
        };
        Entry { known, from: "server".to_owned(), served: Some(Some(served.clone())) }
    });
    Asked { models: models.collect(), server, listing }
}

/// A key as it may be shown: the variable's name, whether it is set, and enough of it to know it by.
fn key(reference: Option<&str>, cx: &Context<'_>) -> Value {
    let Some(name) = reference.and_then(|reference| reference.strip_prefix("env://")) else { return Value::Null };
    let value = cx.world.env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    json!({ "name": name, "present": value.is_some(), "shown": value.as_deref().map(text::mask) })
}

/// An address without what may be secret in it: user, password, query.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return text::clean(url) };
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    text::clean(&format!("{scheme}://{host}/{path}")).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        assert_eq!(shown("https://me:hunter2@host:8/v1/?key=hunter2#x"), "https://host:8/v1");
        assert_eq!(shown("http://host"), "http://host");
    }
}
