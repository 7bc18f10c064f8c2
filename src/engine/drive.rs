//! The loop.

use super::desk::Word;
use super::session::Session;
use super::{Engine, EngineError};
use crate::model::id::EffectKey;
use crate::model::journal::{Effect, Fault, Input, Row, RowBody, Work};
use crate::model::progress::Progress;
use crate::port::store::{Durable, Fence, StoreError};
use crate::run::State;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

/// A way to interrupt a run: it stops where it is and can be resumed.
pub type Stop = watch::Receiver<bool>;

/// How driving ended.
pub struct Outcome {
    /// The run's state.
    pub state: State,
    /// True: it was interrupted; [`Engine::resume`] goes on.
    pub interrupted: bool,
}

/// A result on its way back.
struct Finished {
    key: EffectKey,
    input: Input,
}

struct Loop<'e> {
    engine: &'e Engine,
    session: Arc<Session>,
    state: State,
    seq: u64,
    fence: Fence,
    tasks: JoinSet<Finished>,
    handles: HashMap<EffectKey, AbortHandle>,
    /// The steps whose end was told, by their place in the plan.
    ended: BTreeSet<usize>,
    /// What programs in sandboxes ask.
    asked: mpsc::UnboundedReceiver<Word>,
}

impl Engine {
    /// Drives a run from `state` until it ends or is stopped. `effects` are durable already and to be performed;
    /// `facts` are taken in first.
    pub(super) async fn drive(
        &self,
        state: State,
        seq: u64,
        fence: Fence,
        effects: Vec<Effect>,
        facts: Vec<Input>,
        mut stop: Stop,
    ) -> Result<Outcome, EngineError> {
        let resumed = !facts.is_empty();
        let (desks, asked) = mpsc::unbounded_channel();
        let session = Arc::new(Session::new(self.clone(), &state, desks));
        session.load_pool().await;
        let told = state.steps.iter().enumerate().filter(|(_, step)| step.is_ended());
        let ended = told.map(|(index, _)| index).collect();
        let (tasks, handles) = (JoinSet::new(), HashMap::new());
        let mut this = Loop { engine: self, session, state, seq, fence, tasks, handles, ended, asked };
        this.perform(effects, resumed);
        if !facts.is_empty() {
            this.take_in(facts).await?;
        }
        let mut interrupted = false;
        while this.state.ending.is_none() {
            let inputs = tokio::select! {
                biased;
                () = stopped(&mut stop) => {
                    interrupted = true;
                    break;
                }
                inputs = this.next() => inputs,
            };
            this.take_in(inputs).await?;
        }
        this.tasks.shutdown().await;
        this.session.remember(&this.state).await;
        this.session.close().await;
        if !interrupted {
            this.session.tidy(&this.state).await;
        }
        match self.store.release(&this.state.run, fence).await {
            Ok(()) | Err(StoreError::Fenced(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Outcome { state: this.state, interrupted })
    }
}

async fn stopped(stop: &mut Stop) {
    // A sender that is gone never stops anything.
    if stop.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Loop<'_> {
    /// Waits for something to happen; takes everything that has.
    async fn next(&mut self) -> Vec<Input> {
        let deadline = self.state.next_deadline();
        let clock = Arc::clone(&self.engine.clock);
        let due = async move {
            match deadline {
                Some(deadline) => {
                    let wait = (deadline.at_ms - clock.now_ms()).max(0);
                    clock.sleep(Duration::from_millis(wait.unsigned_abs())).await;
                    Input::DeadlinePassed { step: deadline.step }
                }
                None => std::future::pending().await,
            }
        };
        let mut inputs = Vec::new();
        tokio::select! {
            biased;
            Some(ended) = self.tasks.join_next() => self.ended(ended, &mut inputs),
            Some(word) = self.asked.recv() => inputs.extend(self.session.hear(&self.state, word)),
            input = due => inputs.push(input),
        }
        while let Some(ended) = self.tasks.try_join_next() {
            self.ended(ended, &mut inputs);
        }
        while let Ok(word) = self.asked.try_recv() {
            inputs.extend(self.session.hear(&self.state, word));
        }
        inputs
    }

    fn ended(&mut self, ended: Result<Finished, tokio::task::JoinError>, inputs: &mut Vec<Input>) {
        match ended {
            Ok(Finished { key, input }) => {
                self.handles.remove(&key);
                inputs.push(input);
            }
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                // A bug of ours in one effect must not hang the run: its effect has failed.
                let id = error.id();
                let lost = self.handles.iter().find(|(_, handle)| handle.id() == id).map(|(key, _)| key.clone());
                if let Some(key) = lost {
                    self.handles.remove(&key);
                    inputs.push(Input::EffectFailed {
                        key,
                        fault: Fault::Environment,
                        message: format!("an internal error ended the work: {error}; please report it"),
                    });
                }
            }
        }
    }

    /// Applies inputs, writes them with the intents they cause, then performs those.
    async fn take_in(&mut self, inputs: Vec<Input>) -> Result<(), EngineError> {
        let mut queue: VecDeque<Input> = inputs.into();
        let mut rows = Vec::new();
        let mut effects = Vec::new();
        let mut replies = Vec::new();
        while let Some(input) = queue.pop_front() {
            if !self.state.expects(&input) {
                continue;
            }
            replies.extend(self.session.reply(&self.state, &input));
            let at_ms = self.engine.clock.now_ms();
            self.row(&mut rows, at_ms, RowBody::Input(input.clone()));
            for effect in self.state.apply(at_ms, input) {
                self.row(&mut rows, at_ms, RowBody::Intent(effect.clone()));
                if matches!(effect.work, Work::Compose { .. }) {
                    if let Some(recalled) = self.session.recall(&self.state, &effect) {
                        self.row(&mut rows, at_ms, RowBody::Input(recalled.clone()));
                        self.state.apply(at_ms, recalled);
                    }
                    // Pure: answered here, before the commit, so that the request's reservation is in the same
                    // transaction as what led to it.
                    queue.push_back(self.session.compose(&self.state, &effect));
                } else {
                    effects.push(effect);
                }
            }
        }
        self.session.tell_answers(&mut replies);
        if rows.is_empty() {
            self.session.tell_programs(&self.state, replies);
            return Ok(());
        }
        let summary = self.engine.summary(&self.state);
        let only_looks = !effects.is_empty() && effects.iter().all(Effect::only_looks);
        let durable = if only_looks { Durable::WithNext } else { Durable::Now };
        self.engine.store.append_as(durable, &self.state.run, self.fence, &rows, &summary).await?;
        // What happened, which steps that ended, what is done next.
        let next = rows.iter().position(|row| matches!(row.body, RowBody::Intent(_))).unwrap_or(rows.len());
        let (happened, next) = rows.split_at(next);
        self.engine.tell(happened);
        self.tell_ends();
        self.engine.tell(next);
        self.handles.retain(|key, handle| {
            let wanted = self.state.outstanding.contains_key(key);
            if !wanted {
                handle.abort();
            }
            wanted
        });
        effects.retain(|effect| self.state.outstanding.contains_key(&effect.key));
        self.session.tell_programs(&self.state, replies);
        self.perform(effects, false);
        Ok(())
    }

    /// Says which steps have ended since the last time.
    fn tell_ends(&mut self) {
        for (index, (step, state)) in self.state.plan.steps.keys().zip(&self.state.steps).enumerate() {
            if !state.is_ended() {
                self.ended.remove(&index);
            } else if self.ended.insert(index) {
                let (step, status, duration_ms) = (step.clone(), state.status, state.duration_ms);
                self.engine.watch.saw(&Progress::StepEnded { step, status, duration_ms });
            }
        }
    }

    fn row(&mut self, rows: &mut Vec<Row>, at_ms: i64, body: RowBody) {
        self.seq += 1;
        rows.push(Row { seq: self.seq, at_ms, body });
    }

    fn perform(&mut self, effects: Vec<Effect>, again: bool) {
        for effect in effects {
            let key = effect.key.clone();
            self.session.compose_again(&self.state, &effect);
            let job = self.session.job(&self.state, effect, again);
            let result_key = key.clone();
            let handle = self.tasks.spawn(async move { Finished { key: result_key, input: job.await } });
            self.handles.insert(key, handle);
        }
    }
}
