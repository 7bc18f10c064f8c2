//! What the server's loops work with: settings, forges, cached clones, and the configuration of each repository.

use super::failed::Failed;
use super::health::Health;
use super::log::About;
use super::showing::Showing;
use crate::engine::{configuration, fetching};
use crate::model::chat::ModelRef;
use crate::model::ci::Asked;
use crate::model::event::Change;
use crate::model::job::{Job, Lease, Served};
use crate::model::places;
use crate::model::serve::{Login, Repository, SecretAt, Serve};
use crate::port::checkout::{Checkout, Depth, Fetch, FetchError, Want};
use crate::port::forge::{AppKey, Credential, Forge, ForgeAt, Thread};
use crate::port::inbox::Inbox;
use crate::port::queue::Queue;
use crate::port::runner::{Order, Runner, Tokens};
use crate::port::store::Store;
use crate::port::world::World;
use crate::text;
use crate::workflow::schema::Library;
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// How long a branch's tip counts as known without asking again, in milliseconds: webhooks come in crowds.
const FRESH_MS: i64 = 3000;
/// The same for what hardly ever changes: the default branch's name, our own account.
const SETTLED_MS: i64 = 10 * 60 * 1000;

/// The operator's settings, as they are now: they may be read anew while the server runs.
pub type Settings<'a> = &'a (dyn Fn() -> Arc<Serve> + Send + Sync);

/// Takes a line for the log, and what it is about.
pub type Say<'a> = &'a (dyn Fn(&str, About) + Send + Sync);

/// What the loops work with.
pub struct Parts<'a> {
    /// The world outside.
    pub world: &'a dyn World,
    /// The operator's settings.
    pub settings: Settings<'a>,
    /// Deliveries.
    pub inbox: Arc<dyn Inbox>,
    /// Jobs.
    pub queue: Arc<dyn Queue>,
    /// Runs.
    pub runner: Arc<dyn Runner>,
    /// Who this server is, among those that share a database.
    pub name: String,
    /// What works.
    pub health: Arc<Health>,
    /// The log.
    pub say: Say<'a>,
    /// A delivery came in, or a job.
    pub wake: Notify,
    known: Mutex<BTreeMap<Served, Arc<Place>>>,
    /// Repositories whose forge refused our token when it was asked last.
    refused: std::sync::Mutex<BTreeSet<Served>>,
    /// Deliveries whose work waits until the configuration is mended; what they end is ended.
    held: std::sync::Mutex<BTreeSet<i64>>,
    /// What waits to be shown at the forges.
    pub(super) showing: Showing,
}

/// A repository, and what is known of it.
pub struct Place {
    /// As the operator wrote it.
    pub repository: Repository,
    /// As jobs name it.
    pub served: Served,
    /// Its forge.
    pub forge: Arc<dyn Forge>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    branch: Option<(String, i64)>,
    own: Option<(Option<String>, i64)>,
    trusted: Option<(Trusted, i64)>,
    journal: Option<Arc<dyn Store>>,
}

/// The configuration that holds for a repository.
#[derive(Clone)]
pub struct Trusted {
    /// The branch.
    pub branch: String,
    /// The commit that its tip was.
    pub commit: String,
    /// The configuration.
    pub library: Arc<Library>,
    /// The cached clone.
    pub clone: Arc<dyn Checkout>,
}

impl<'a> Parts<'a> {
    /// Puts them together.
    pub fn new(
        world: &'a dyn World,
        settings: Settings<'a>,
        (inbox, queue): (Arc<dyn Inbox>, Arc<dyn Queue>),
        runner: Arc<dyn Runner>,
        (health, say): (Arc<Health>, Say<'a>),
    ) -> Self {
        let name = format!("{}/{:08x}", world.owner(), world.random() & 0xffff_ffff);
        Self {
            world,
            settings,
            inbox,
            queue,
            runner,
            name,
            health,
            say,
            wake: Notify::new(),
            known: Mutex::default(),
            refused: std::sync::Mutex::default(),
            held: std::sync::Mutex::default(),
            showing: Showing::default(),
        }
    }

    /// Now, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.world.clock().now_ms()
    }

    /// Says a line that may hold words of others.
    pub fn say(&self, line: &str) {
        self.say_of(About::default(), line);
    }

    /// Says a line about something that can be followed through the log.
    pub fn say_of(&self, about: About, line: &str) {
        (self.say)(&one_line(line), about);
    }

    /// The secret at a place.
    ///
    /// # Errors
    /// It is not there; in words.
    pub fn secret(&self, at: &SecretAt) -> Result<SecretString, String> {
        let value = match at {
            SecretAt::Env(name) => self.world.env(name),
            SecretAt::File(file) => std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned()),
        };
        value
            .filter(|value| !value.is_empty())
            .map(SecretString::from)
            .ok_or_else(|| format!("the secret {at} is not there, or is empty"))
    }

    /// A repository that is served, by its name in jobs.
    ///
    /// # Errors
    /// It is not served, or its forge cannot be spoken to.
    pub async fn place(&self, served: &Served) -> Result<Arc<Place>, Failed> {
        let serve = (self.settings)();
        let repository = serve.repositories.iter().find(|it| it.served() == *served).ok_or_else(|| {
            format!("{} is not served any more: put it back into serve.yml, or cancel its jobs", served.name)
        })?;
        let mut known = self.known.lock().await;
        if let Some(place) = known.get(served).filter(|place| place.repository == *repository) {
            return Ok(Arc::clone(place));
        }
        let token = match &repository.login {
            Login::Token(at) => Credential::Token(self.secret(at)?),
            Login::App { id, private_key, installation } => Credential::App(AppKey {
                id: id.clone(),
                key: self.secret(private_key)?,
                installation: *installation,
                permissions: BTreeMap::new(),
            }),
        };
        let marker_key = serve.marker_key.as_ref().map(|at| self.secret(at)).transpose()?;
        let at = ForgeAt {
            kind: repository.forge,
            api: repository.api.clone(),
            repository: repository.name.clone(),
            token,
            git_url: repository.git_url(),
            marker_key,
        };
        let forge = self.world.forge_in_turn(&at, &places::turn(&serve.state, served));
        let forge = forge?;
        let (repository, served) = (repository.clone(), served.clone());
        let place = Arc::new(Place { repository, served: served.clone(), forge, seen: Mutex::default() });
        known.insert(served, Arc::clone(&place));
        Ok(place)
    }

    /// A forge took the token that a repository is served with, or refused it; true: that is other than before.
    pub(super) fn token(&self, served: &Served, taken: bool) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = if taken { refused.remove(served) } else { refused.insert(served.clone()) };
        if changed {
            let words = match refused.len() {
                0 => "forges take the tokens".to_owned(),
                1 => "the forge of 1 repository refuses its token: its webhooks wait".to_owned(),
                more => format!("the forges of {more} repositories refuse their tokens: their webhooks wait"),
            };
            self.health.report("token", refused.is_empty(), words);
        }
        changed
    }

    /// What a delivery ends was ended, and the rest of it waits.
    pub(super) fn hold(&self, delivery: i64) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(delivery);
    }

    /// Whether a delivery's work waits, and what it ends was ended.
    pub(super) fn holds(&self, delivery: i64) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(&delivery)
    }

    /// A delivery waits no more.
    pub(super) fn let_go(&self, delivery: i64) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&delivery);
    }

    /// Forgets what is known of all repositories: settings or secrets were read anew.
    pub async fn forget(&self) {
        self.known.lock().await.clear();
        // Tokens may be others: who refuses one says so again.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.health.report("token", true, "forges take the tokens");
    }

    /// The configuration that holds: of the trusted branch's tip. `anew`: the tip is asked for, whatever is known.
    ///
    /// # Errors
    /// It cannot be had.
    pub async fn trusted(&self, place: &Place, anew: bool) -> Result<Trusted, Failed> {
        let mut seen = place.seen.lock().await;
        let now = self.now_ms();
        if let Some((trusted, at)) = &seen.trusted
            && !anew
            && now - at < FRESH_MS
        {
            return Ok(trusted.clone());
        }
        let branch = self.branch_of(place, &mut seen).await?;
        let serve = (self.settings)();
        let folder = places::clone(&serve.state, &place.served);
        self.world.borrowing(&folder, None).map_err(|error| error.to_string())?;
        let clone = self.world.checkout(&folder).map_err(|error| error.to_string())?;
        let want = Want { what: format!("refs/heads/{branch}"), keep_as: "trusted".to_owned() };
        self.fetch(place, &clone, vec![want])
            .await
            .map_err(|error| Failed::from(error).about(&format!("the trusted branch `{branch}`")))?;
        let commit = clone.resolve("refs/codeforge/ci/trusted").map_err(|error| error.to_string())?;
        let commit = commit.ok_or_else(|| format!("the branch `{branch}` was fetched, and is not there"))?;
        let library = match &seen.trusted {
            Some((known, _)) if known.commit == commit => Arc::clone(&known.library),
            _ => {
                let (reading, at) = (Arc::clone(&clone), commit.clone());
                let read = tokio::task::spawn_blocking(move || configuration::of(&*reading, &at)).await;
                let read = read.map_err(|error| format!("an internal error: {error}"))?;
                Arc::new(read.map_err(|error| error.to_string())?)
            }
        };
        let trusted = Trusted { branch, commit, library, clone };
        seen.trusted = Some((trusted.clone(), now));
        Ok(trusted)
    }

    /// Fetches into the cached clone.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, place: &Place, clone: &Arc<dyn Checkout>, wants: Vec<Want>) -> Result<(), FetchError> {
        fetching::fetch(clone, &Fetch { wants, ..self.fetching(place) }, Some(&*place.forge)).await
    }

    /// How the cached clone is fetched into.
    fn fetching(&self, place: &Place) -> Fetch {
        Fetch {
            url: Some(place.repository.git_url()),
            login: None,
            wants: Vec::new(),
            depth: Depth::Whole,
            extra_ca: self.world.env("CODEFORGE_EXTRA_CA").filter(|file| !file.is_empty()).map(Into::into),
        }
    }

    async fn branch_of(&self, place: &Place, seen: &mut Seen) -> Result<String, Failed> {
        if let Some(branch) = &place.repository.trusted_branch {
            return Ok(branch.clone());
        }
        let now = self.now_ms();
        if let Some((branch, at)) = &seen.branch
            && now - at < SETTLED_MS
        {
            return Ok(branch.clone());
        }
        let branch = place.forge.default_branch().await?;
        seen.branch = Some((branch.clone(), now));
        Ok(branch)
    }

    /// The accounts that we act as.
    ///
    /// # Errors
    /// The forge cannot be asked.
    pub async fn ours(&self, place: &Place, library: &Library) -> Result<Vec<String>, Failed> {
        let mut seen = place.seen.lock().await;
        let now = self.now_ms();
        let own = match &seen.own {
            Some((own, at)) if now - at < SETTLED_MS => own.clone(),
            _ => {
                let own = place.forge.own_account().await?;
                seen.own = Some((own.clone(), now));
                own
            }
        };
        let bot = library.config.forge.as_ref().and_then(|forge| forge.bot.as_ref());
        let named = bot.into_iter().flat_map(|bot| [bot.name.clone(), format!("{}[bot]", bot.name)]);
        Ok(named.chain(own).chain(["codeforge[bot]".to_owned()]).collect())
    }

    /// The models that the operator's variables for a repository's runs name, or the server's own environment.
    ///
    /// # Errors
    /// A secret is not there; in words.
    pub fn models(&self, place: &Place) -> Result<Vec<ModelRef>, String> {
        let vars = self.vars(place)?;
        let named = |name: &str| vars.get(name).map(|value| value.expose_secret().to_owned());
        Ok(self.world.models_of(&|name| named(name).or_else(|| self.world.env(name))))
    }

    /// The operator's variables for a repository's runs.
    fn vars(&self, place: &Place) -> Result<BTreeMap<String, SecretString>, String> {
        let serve = (self.settings)();
        let all = serve.env.iter().chain(&place.repository.env);
        all.map(|(name, at)| Ok((name.clone(), self.secret(at)?))).collect()
    }

    /// The journals of a repository's runs.
    ///
    /// # Errors
    /// They cannot be opened; in words.
    pub async fn journal(&self, place: &Place) -> Result<Arc<dyn Store>, String> {
        let mut seen = place.seen.lock().await;
        if let Some(journal) = &seen.journal {
            return Ok(Arc::clone(journal));
        }
        let folder = places::journal(&(self.settings)().state, &place.served);
        let journal = self.world.store(&folder).await.map_err(|error| error.to_string())?;
        seen.journal = Some(Arc::clone(&journal));
        Ok(journal)
    }

    /// Asks what the processes that run a fork's code cannot ask, and fetches the change's commits into the cached clone.
    async fn asked(&self, place: &Place, change: &Change) -> Result<Asked, String> {
        let trusted = self.trusted(place, true).await?;
        let order = self.fetching(place);
        let (number, head_ref) = (change.number, place.served.forge.head_ref(change.number));
        let (head, base) = (change.head.sha.as_deref(), change.base.sha.as_deref());
        for (what, commit, git_ref) in [("head", head, Some(head_ref.as_str())), ("base", base, None)] {
            let Some(commit) = commit else { continue };
            let keep_as = format!("{what}-{number}");
            match fetching::have(&trusted.clone, &order, Some(&*place.forge), (commit, git_ref), &keep_as).await {
                // One that is gone is the run's to say.
                Ok(()) | Err(FetchError::NoSuch(_)) => {}
                Err(error) => return Err(format!("the {what} of change {number}: {error}")),
            }
        }
        let keys: Vec<&str> = trusted.library.workflows.keys().map(String::as_str).collect();
        let remembered = place.forge.recall(Thread::Change(number), &keys).await.ok();
        Ok(Asked { trusted: trusted.commit, remembered })
    }

    /// All that a run of a job needs.
    ///
    /// # Errors
    /// Something cannot be had; in words.
    pub async fn order(&self, job: &Job, lease: &Lease) -> Result<Order, String> {
        let serve = (self.settings)();
        let place = self.place(&job.new.repository).await?;
        let login = place.forge.remote().login().await.map_err(|error| error.to_string())?;
        let default_branch = {
            let mut seen = place.seen.lock().await;
            self.branch_of(&place, &mut seen).await?
        };
        let asked = match job.new.event.change.as_ref().filter(|_| job.is_of_fork()) {
            Some(change) => Some(self.asked(&place, change).await?),
            None => None,
        };
        Ok(Order {
            job: job.clone(),
            fence: lease.fence,
            state: serve.state.clone(),
            forge: place.repository.forge,
            api: place.repository.api.clone(),
            git_url: place.repository.git_url(),
            default_branch,
            token: login.map_or_else(|| SecretString::from(String::new()), |login| login.token),
            lender: matches!(place.repository.login, Login::App { .. }).then(|| Tokens(Arc::clone(&place.forge))),
            vars: self.vars(&place)?,
            asked,
            allow_users: serve.commands.allow_users.clone(),
            marker_key: serve.marker_key.as_ref().map(|at| self.secret(at)).transpose()?,
            phrase: serve.commands.phrase.clone(),
            grace: Duration::from_millis(serve.grace_ms),
        })
    }
}

/// Words of others on one line.
pub(super) fn one_line(text: &str) -> String {
    text::invisible(&text::clean(text)).split_whitespace().collect::<Vec<_>>().join(" ")
}
