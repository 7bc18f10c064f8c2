//! What a run knows of itself.

use super::route::Routes;
use crate::model::account::{Ending, Spend, StepStatus};
use crate::model::budget::Allowance;
use crate::model::chat::{Answer, Turn};
use crate::model::delivery::{Delivered, FileChange};
use crate::model::id::{EffectKey, RunId, StepId, TreeId};
use crate::model::journal::{Base, Effect, GateResult, Input, Purpose, Work};
use crate::model::plan::{Plan, PlanStep, StepKind};
use crate::model::tool::{Ruling, ToolCall};
use crate::model::usage::NanoUsd;
use indexmap::IndexMap;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Where the run as a whole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing has happened.
    New,
    /// Workspace and sandbox are being made.
    Preparing,
    /// Steps run.
    Steps,
    /// All steps have ended; what is left apart is being joined.
    FinalJoin,
    /// The final tree is being taken.
    FinalTree,
    /// Required gates run on the final tree.
    FinalGates,
    /// The delivery is being made.
    Delivering,
    /// Over.
    Ended,
}

/// What a step is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not at work.
    Idle,
    /// Ancestors' copies are being merged into its workspace.
    Joining,
    /// Its own copy is being made.
    Forking,
    /// Its snapshot is being taken.
    Before,
    /// A request is being put together.
    Composing,
    /// It has a request but no money for it until another call settles.
    Parked,
    /// The model is being asked.
    Calling,
    /// Tools run.
    Tools,
    /// Its command runs.
    Command,
    /// The tree that a guard is to see is being taken.
    Guarding,
    /// Another program works on it.
    Backend,
    /// The tree it made is being taken.
    After,
    /// Gates run.
    Gating,
    /// Its work is being undone, to try again.
    Undoing,
    /// The best of its attempts is being put in place.
    Settling,
    /// Its work is being undone, then it has failed.
    RollingBack,
}

/// What a failed attempt hands to the next one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Feedback {
    /// The gates that did not pass.
    pub gates: Vec<GateResult>,
    /// The difference that was thrown away, shortened.
    pub discarded: String,
    /// What else there is to say of it.
    pub said: String,
}

/// A gate result and what it led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    /// Which try.
    pub attempt: u32,
    /// The result.
    pub result: GateResult,
    /// `rolled back, attempt 2 of 3`, or empty.
    pub led_to: String,
}

/// An answer whose calls are being carried out.
#[derive(Debug, Clone)]
pub(super) struct OpenTurn {
    pub answer: Answer,
    /// Results by position of the call; `None`: not yet.
    pub results: Vec<Option<String>>,
    /// The next call to start.
    pub next: usize,
    /// Calls at work.
    pub running: usize,
}

/// A request that waits for money.
#[derive(Debug, Clone)]
pub(super) struct ParkedCall {
    pub model: usize,
    pub purpose: Purpose,
    pub tokens: u64,
    pub cost: Option<NanoUsd>,
    pub hash: String,
}

/// One step's state.
#[derive(Debug, Clone)]
pub struct StepState {
    /// How it stands.
    pub status: StepStatus,
    pub(super) phase: Phase,
    /// Needs that have not ended.
    pub(super) waits_for: usize,
    /// Pass of a cycle, from 0.
    pub iteration: u32,
    /// Try, from 1.
    pub attempt: u32,
    pub(super) ordinal: u32,
    pub(super) attempt_started_ms: i64,
    pub(super) started_ms: i64,
    /// How long it worked, over all attempts that have ended, in milliseconds.
    pub duration_ms: u64,
    /// The conversation of this attempt.
    pub turns: Vec<Turn>,
    pub(super) open: Option<OpenTurn>,
    /// Its calls that wait for money.
    pub(super) parked: Vec<ParkedCall>,
    /// Set once a request was too long for the scenario's models: its estimated tokens (0: the provider said so).
    pub(super) long: Option<u64>,
    /// The models that have failed at a question that is not answered yet.
    pub(super) tried: Vec<(Purpose, usize)>,
    /// What the quality layer knows.
    pub quality: super::quality::Progress,
    /// The number of its program's last question, over all attempts and passes.
    pub(super) asked: u64,
    /// Questions in this attempt.
    pub(super) questions: u32,
    /// Why its program's last question could not be answered.
    pub(super) no_model: Option<String>,
    /// Which of the step's models is in use.
    pub model: usize,
    /// The first prompt, as rendered.
    pub prompt: Option<String>,
    /// What it is shown of earlier runs; `None`: not decided yet.
    pub experience: Option<Vec<crate::model::experience::Recalled>>,
    pub(super) repairs: u32,
    /// The tree to go back to.
    pub before: Option<TreeId>,
    /// The tree it made.
    pub after: Option<TreeId>,
    /// The tree its own copy was made from.
    pub(super) forked_from: Option<TreeId>,
    pub(super) gates_open: usize,
    pub(super) gates_now: Vec<GateResult>,
    /// All gate results of this pass.
    pub gates: Vec<Attempted>,
    /// What the attempt before this one left.
    pub feedback: Option<Feedback>,
    pub(super) pending_feedback: Option<Feedback>,
    pub(super) failing: Option<(Ending, String)>,
    /// What it spent, over all passes.
    pub spend: Spend,
    pub(super) stall: VecDeque<u64>,
    pub(super) nudged: bool,
    /// Its structured output.
    pub output: Option<Value>,
    /// Its closing words, or its command's output.
    pub text: String,
    /// What it changed.
    pub files: Vec<FileChange>,
    /// Why it failed.
    pub error: Option<String>,
    pub(super) ended_as: Option<Ending>,
    /// What the policy refused.
    pub denials: Vec<(String, Ruling)>,
    /// Jumps taken by `then` or `on_failure`.
    pub(super) jumps: u32,
}

impl StepState {
    fn new(needs: usize) -> Self {
        Self {
            status: StepStatus::Pending,
            phase: Phase::Idle,
            waits_for: needs,
            iteration: 0,
            attempt: 1,
            ordinal: 0,
            attempt_started_ms: 0,
            started_ms: 0,
            duration_ms: 0,
            turns: Vec::new(),
            open: None,
            parked: Vec::new(),
            long: None,
            tried: Vec::new(),
            quality: super::quality::Progress::default(),
            asked: 0,
            questions: 0,
            no_model: None,
            model: 0,
            prompt: None,
            experience: None,
            repairs: 0,
            before: None,
            after: None,
            forked_from: None,
            gates_open: 0,
            gates_now: Vec::new(),
            gates: Vec::new(),
            feedback: None,
            pending_feedback: None,
            failing: None,
            spend: Spend::default(),
            stall: VecDeque::new(),
            nudged: false,
            output: None,
            text: String::new(),
            files: Vec::new(),
            error: None,
            ended_as: None,
            denials: Vec::new(),
            jumps: 0,
        }
    }

    /// Makes it pending again, for another pass; what it spent and was refused stays on the account.
    pub(super) fn reset(&mut self, needs: usize) {
        let fresh = Self::new(needs);
        *self = Self {
            iteration: self.iteration + 1,
            spend: self.spend,
            duration_ms: self.duration_ms,
            denials: std::mem::take(&mut self.denials),
            jumps: self.jumps,
            asked: self.asked,
            gates: std::mem::take(&mut self.gates),
            quality: self.quality.next_pass(),
            ..fresh
        };
    }

    /// Whether it is at work.
    pub fn is_running(&self) -> bool {
        self.status == StepStatus::Running
    }

    /// Whether it has ended, one way or another.
    pub fn is_ended(&self) -> bool {
        !matches!(self.status, StepStatus::Pending | StepStatus::Running)
    }
}

/// One run's state: the fold of its journal.
#[derive(Debug, Clone)]
pub struct State {
    /// The run.
    pub run: RunId,
    /// What is run.
    pub plan: Arc<Plan>,
    /// Where it started from.
    pub base: Base,
    /// When it started, milliseconds since 1970.
    pub started_ms: i64,
    /// The latest time it has heard of.
    pub now_ms: i64,
    /// How it ended.
    pub ending: Option<Ending>,
    /// Why it ended so.
    pub reason: String,
    /// `docker`, `native` or `none`.
    pub driver: String,
    /// How the workspace was made.
    pub workspace: String,
    /// Things people should know.
    pub notes: Vec<String>,
    /// The steps, in plan order.
    pub steps: Vec<StepState>,
    /// All spending.
    pub spend: Spend,
    /// Spending by model.
    pub by_model: BTreeMap<String, Spend>,
    /// Reserved for calls that are out.
    pub reserved: NanoUsd,
    /// Tokens reserved for calls that are out.
    pub reserved_tokens: u64,
    /// What it was given of budgets that it shares with other runs.
    pub allowances: Vec<Allowance>,
    /// Intents without a result.
    pub outstanding: IndexMap<EffectKey, Effect>,
    /// Gate results on the final tree.
    pub final_gates: Vec<GateResult>,
    /// What was handed over.
    pub delivered: Option<Delivered>,
    pub(super) stage: Stage,
    pub(super) emitted: Vec<Effect>,
    pub(super) dependents: Vec<Vec<usize>>,
    pub(super) ready: VecDeque<usize>,
    pub(super) running: usize,
    /// The first failure that fails the run.
    pub(super) failure: Option<(Ending, String)>,
    pub(super) main_tree: Option<TreeId>,
    pub(super) main_joining: Option<usize>,
    /// Copies that are not joined yet: where they were forked from, what they became, whose they are.
    pub(super) apart: Vec<(TreeId, TreeId, StepId)>,
    pub(super) last_green: Option<TreeId>,
    pub(super) passed: Vec<(String, TreeId)>,
    pub(super) goto_pending: Vec<(usize, usize)>,
    pub(super) run_ordinal: u32,
    /// How many shares of each budget were warned of.
    pub(super) warned: BTreeMap<String, usize>,
    pub(super) routes: Routes,
    pub(super) has_copies: bool,
    pub(super) to_deliver: Option<TreeId>,
}

impl State {
    /// A run that is about to start, from its first input, which is then to be given to [`State::apply`].
    ///
    /// # Errors
    /// Where `first` is not [`Input::Started`]: the journal is damaged.
    pub fn new(first: &Input) -> Result<Self, String> {
        let Input::Started { run, plan, base, at_ms, .. } = first else {
            return Err("the journal does not begin with `started`".into());
        };
        let plan = Arc::new((**plan).clone());
        let mut dependents = vec![Vec::new(); plan.steps.len()];
        let mut steps = Vec::with_capacity(plan.steps.len());
        let mut ready = VecDeque::new();
        for (index, step) in plan.steps.values().enumerate() {
            for need in &step.needs {
                let of = plan
                    .steps
                    .get_index_of(need)
                    .ok_or_else(|| format!("step `{}` needs `{need}`, which is not in the plan", step.id))?;
                dependents[of].push(index);
            }
            steps.push(StepState::new(step.needs.len()));
            if step.needs.is_empty() {
                ready.push_back(index);
            }
        }
        Ok(Self {
            run: run.clone(),
            has_copies: plan.steps.values().any(|step| step.own_copy),
            plan,
            base: base.clone(),
            started_ms: *at_ms,
            now_ms: *at_ms,
            ending: None,
            reason: String::new(),
            driver: String::new(),
            workspace: String::new(),
            notes: Vec::new(),
            steps,
            spend: Spend::default(),
            by_model: BTreeMap::new(),
            reserved: NanoUsd::default(),
            reserved_tokens: 0,
            outstanding: IndexMap::new(),
            final_gates: Vec::new(),
            delivered: None,
            stage: Stage::New,
            emitted: Vec::new(),
            dependents,
            ready,
            running: 0,
            failure: None,
            main_tree: None,
            main_joining: None,
            apart: Vec::new(),
            last_green: None,
            passed: Vec::new(),
            goto_pending: Vec::new(),
            run_ordinal: 0,
            warned: BTreeMap::new(),
            routes: Routes::default(),
            allowances: Vec::new(),
            to_deliver: None,
        })
    }

    /// A step's position in the plan.
    pub fn index(&self, step: &StepId) -> Option<usize> {
        self.plan.steps.get_index_of(step)
    }

    /// A step's plan.
    pub fn plan_step(&self, index: usize) -> Option<&PlanStep> {
        self.plan.steps.get_index(index).map(|(_, step)| step)
    }

    /// A step's state by name.
    pub fn step(&self, step: &StepId) -> Option<&StepState> {
        self.steps.get(self.index(step)?)
    }

    pub(super) fn is_agent(&self, index: usize) -> bool {
        self.plan_step(index).is_some_and(|step| matches!(step.kind, StepKind::Agent(_)))
    }

    /// Emits a step's effect.
    pub(super) fn emit(&mut self, index: usize, work: Work) {
        let Some(id) = self.plan_step(index).map(|step| step.id.clone()) else { return };
        let step = &mut self.steps[index];
        step.ordinal += 1;
        let key = EffectKey::derive(&self.run, id.as_str(), step.iteration, step.attempt, step.ordinal, work.kind());
        let effect =
            Effect { key: key.clone(), step: Some(id), iteration: step.iteration, attempt: step.attempt, work };
        self.outstanding.insert(key, effect.clone());
        self.emitted.push(effect);
    }

    /// Emits an effect of the run itself.
    pub(super) fn emit_run(&mut self, work: Work) {
        self.run_ordinal += 1;
        let key = EffectKey::derive(&self.run, "", 0, 0, self.run_ordinal, work.kind());
        let effect = Effect { key: key.clone(), step: None, iteration: 0, attempt: 0, work };
        self.outstanding.insert(key, effect.clone());
        self.emitted.push(effect);
    }

    /// Ends the run. Effects that are out are abandoned; what they reserved is charged.
    pub(super) fn end(&mut self, ending: Ending, reason: String) {
        if self.ending.is_some() {
            return;
        }
        // First, so that nothing that is freed below starts anything new.
        self.ending = Some(ending);
        self.reason = reason;
        for index in 0..self.steps.len() {
            self.abandon_effects(index);
            let step = &mut self.steps[index];
            if step.is_running() {
                step.status = if step.error.is_some() { StepStatus::Failed } else { StepStatus::Cancelled };
                step.duration_ms += (self.now_ms - step.started_ms).max(0) as u64;
            } else if step.status == StepStatus::Pending {
                step.status = StepStatus::Cancelled;
            }
        }
        self.outstanding.clear();
        self.emitted.clear();
        self.running = 0;
        self.ready.clear();
        self.stage = Stage::Ended;
    }

    /// Forgets a step's effects that are out: their results will not be expected any more.
    pub(super) fn abandon_effects(&mut self, index: usize) {
        let Some(id) = self.plan_step(index).map(|step| step.id.clone()) else { return };
        self.steps[index].parked.clear();
        let out: Vec<Effect> =
            self.outstanding.values().filter(|effect| effect.step.as_ref() == Some(&id)).cloned().collect();
        for effect in out {
            self.outstanding.shift_remove(&effect.key);
            if matches!(effect.work, Work::CallModel { .. }) {
                self.charge(index, &effect, None);
            }
        }
        self.emitted.retain(|effect| effect.step.as_ref() != Some(&id));
    }

    /// How a tool call reads in a line: the tool and its most telling argument.
    pub fn call_in_short(call: &ToolCall) -> String {
        let told = ["command", "path", "pattern", "summary"]
            .iter()
            .find_map(|name| call.args.get(name).and_then(Value::as_str))
            .unwrap_or_default();
        let mut line: String = told.lines().next().unwrap_or_default().chars().take(120).collect();
        if told.chars().count() > line.chars().count() {
            line.push('…');
        }
        if line.is_empty() { call.name.clone() } else { format!("{} `{line}`", call.name) }
    }
}
