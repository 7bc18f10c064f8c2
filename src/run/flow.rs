//! Which step runs when: readiness, conditions, beginnings, ends, jumps.

use super::state::{Phase, Stage, State};
use crate::model::account::{Ending, StepStatus};
use crate::model::exec::{ExecOutcome, ExecStatus};
use crate::model::id::{StepId, TreeId};
use crate::model::journal::{Effect, Work};
use crate::model::plan::{Activation, Goto, OnFailure, StepKind};
use crate::template;
use std::collections::BTreeSet;

impl State {
    /// The workspace is there: steps may begin.
    pub(super) fn prepared(&mut self, driver: String, workspace: String, notes: Vec<String>) {
        self.driver = driver;
        self.workspace = workspace;
        self.notes.extend(notes);
        self.stage = Stage::Steps;
        // Set-up commands may have written, and a mounted tree is anybody's.
        let untouched = self.plan.sandbox.setup.is_empty() && self.workspace != "mount";
        self.main_tree = untouched.then(|| self.base.tree.clone());
    }

    /// Starts what can be started; notices when nothing is left.
    pub(super) fn advance(&mut self) {
        if self.ending.is_some() || self.stage != Stage::Steps {
            return;
        }
        self.take_jumps();
        let mut held_back = Vec::new();
        while self.running < self.plan.max_parallel.max(1) {
            let Some(index) = self.ready.pop_front() else { break };
            if self.must_wait(index) {
                held_back.push(index);
                continue;
            }
            self.begin(index);
            if self.ending.is_some() {
                return;
            }
            // A step that was skipped or jumped may have made others ready, or pending again.
            self.take_jumps();
        }
        for index in held_back.into_iter().rev() {
            self.ready.push_front(index);
        }
        if self.running == 0 && self.ready.is_empty() {
            self.finish();
        }
    }

    /// A step of the main workspace waits while another one joins copies into it; a step that is to be reset waits
    /// for the jump.
    fn must_wait(&self, index: usize) -> bool {
        let own_copy = self.plan_step(index).is_some_and(|step| step.own_copy);
        (!own_copy && self.main_joining.is_some())
            || self.goto_pending.iter().any(|(_, target)| self.descendants(*target).contains(&index))
    }

    fn begin(&mut self, index: usize) {
        match self.wanted(index) {
            Ok(true) => {}
            Ok(false) => {
                self.steps[index].status = StepStatus::Skipped;
                return self.ended(index);
            }
            Err(message) => {
                self.start_clock(index);
                return self.fail(index, Ending::Misconfigured, message);
            }
        }
        self.start_clock(index);
        let Some(plan) = self.plan_step(index) else { return };
        if plan.own_copy {
            let tree = self.main_tree.clone().unwrap_or_else(|| self.base.tree.clone());
            self.steps[index].phase = Phase::Forking;
            self.emit(index, Work::Fork { tree });
        } else {
            let theirs = self.apart_before(index);
            if theirs.is_empty() {
                self.snapshot_before(index);
            } else {
                self.main_joining = Some(index);
                self.steps[index].phase = Phase::Joining;
                self.emit(index, Work::Join { theirs });
            }
        }
    }

    fn start_clock(&mut self, index: usize) {
        let now = self.now_ms;
        let step = &mut self.steps[index];
        step.status = StepStatus::Running;
        step.started_ms = now;
        step.attempt_started_ms = now;
        self.running += 1;
    }

    /// Whether the step is to run, by its needs and its condition.
    fn wanted(&self, index: usize) -> Result<bool, String> {
        let Some(plan) = self.plan_step(index) else { return Ok(false) };
        let needs: Vec<usize> = plan.needs.iter().filter_map(|need| self.index(need)).collect();
        let status = |index: &usize| self.steps[*index].status;
        let forgiven = |index: &usize| {
            status(index) == StepStatus::Failed
                && self.plan_step(*index).is_some_and(|step| step.on_failure == OnFailure::Continue)
        };
        let good = |index: &usize| status(index) == StepStatus::Succeeded || forgiven(index);
        let fulfilled = needs.is_empty()
            || match plan.activation {
                Activation::Any => needs.iter().any(good),
                Activation::All => {
                    needs.iter().all(|need| good(need) || status(need) == StepStatus::Skipped) && needs.iter().any(good)
                }
            };
        let success = fulfilled && self.failure.is_none();
        let Some(condition) = &plan.condition else { return Ok(success) };
        let explicit = template::mentions_status(condition);
        if !explicit && !success {
            return Ok(false);
        }
        let failed = needs.iter().any(|need| status(need) == StepStatus::Failed) || self.failure.is_some();
        let status = template::Status { failed: failed || !(fulfilled || explicit), cancelled: false };
        template::truth(condition, &self.context(index), status)
            .map_err(|error| format!("step `{}`: its condition `{condition}` cannot be evaluated: {error}", plan.id))
    }

    /// Copies made by ancestors of the step that are not joined yet, in declaration order.
    fn apart_before(&self, index: usize) -> Vec<(TreeId, TreeId, StepId)> {
        if self.apart.is_empty() {
            return Vec::new();
        }
        let ancestors = self.ancestors(index);
        let mut theirs: Vec<_> = self
            .apart
            .iter()
            .filter(|(_, _, whose)| self.index(whose).is_some_and(|index| ancestors.contains(&index)))
            .cloned()
            .collect();
        theirs.sort_by_key(|(_, _, whose)| self.index(whose));
        theirs
    }

    /// All steps that the step waits for, directly or not.
    pub(super) fn ancestors(&self, index: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut todo = vec![index];
        while let Some(at) = todo.pop() {
            for need in self.plan_step(at).map(|step| step.needs.as_slice()).unwrap_or_default() {
                if let Some(need) = self.index(need)
                    && found.insert(need)
                {
                    todo.push(need);
                }
            }
        }
        found
    }

    /// The step and all that wait for it, directly or not.
    fn descendants(&self, index: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::from([index]);
        let mut todo = vec![index];
        while let Some(at) = todo.pop() {
            for dependent in &self.dependents[at] {
                if found.insert(*dependent) {
                    todo.push(*dependent);
                }
            }
        }
        found
    }

    /// A join into a step's workspace ended.
    pub(super) fn step_joined(&mut self, index: usize, cause: &Effect, tree: TreeId, conflicts: Vec<String>) {
        let Some(plan) = self.plan_step(index) else { return };
        let own_copy = plan.own_copy;
        if !own_copy {
            self.main_joining = None;
        }
        if !conflicts.is_empty() {
            let message = conflict_words(cause, &conflicts);
            return self.fail(index, Ending::Failed, message);
        }
        if own_copy {
            self.steps[index].before = Some(tree);
        } else {
            self.forget_apart(cause);
            self.main_tree = Some(tree);
        }
        self.snapshot_before(index);
    }

    /// What a join has taken in is apart no more.
    pub(super) fn forget_apart(&mut self, cause: &Effect) {
        if let Work::Join { theirs } = &cause.work {
            self.apart.retain(|entry| !theirs.contains(entry));
        }
    }

    /// The tree that the step's workspace holds, where it is known.
    fn tree_now(&self, index: usize) -> Option<TreeId> {
        if self.plan_step(index).is_some_and(|step| step.own_copy) {
            self.steps[index].before.clone()
        } else {
            self.main_tree.clone()
        }
    }

    /// Whether something could want the step's work back or forth: a writing agent, another attempt, a gate, a join. A
    /// plain command pays for none of it.
    fn wants_snapshots(&self, index: usize) -> bool {
        self.plan_step(index).is_some_and(|plan| {
            plan.writes && (self.is_agent(index) || plan.attempts > 1 || !plan.gates.is_empty() || self.has_copies)
        })
    }

    /// Takes the step's snapshot, where something could need it and it is not known already.
    fn snapshot_before(&mut self, index: usize) {
        let Some(plan) = self.plan_step(index) else { return };
        let writes = plan.writes;
        match self.tree_now(index) {
            // Known for nothing: a command that a crash cuts can be put back, even where no gate asks for a snapshot.
            Some(tree) if writes => {
                self.steps[index].before = Some(tree);
                self.work(index);
            }
            None if self.wants_snapshots(index) => {
                self.steps[index].phase = Phase::Before;
                self.emit(index, Work::Snapshot { after: false });
            }
            _ => self.work(index),
        }
    }

    /// A snapshot for the step was taken, or its copy was made.
    pub(super) fn snapshotted(&mut self, index: usize, tree: TreeId, files: Vec<crate::model::delivery::FileChange>) {
        let own_copy = self.plan_step(index).is_some_and(|step| step.own_copy);
        match self.steps[index].phase {
            Phase::Forking => {
                self.steps[index].forked_from = Some(tree.clone());
                self.steps[index].before = Some(tree);
                let theirs = self.apart_before(index);
                if theirs.is_empty() {
                    self.snapshot_before(index);
                } else {
                    self.steps[index].phase = Phase::Joining;
                    self.emit(index, Work::Join { theirs });
                }
            }
            Phase::Before => {
                if !own_copy {
                    self.main_tree = Some(tree.clone());
                }
                self.steps[index].before = Some(tree);
                self.work(index);
            }
            Phase::After => {
                if !own_copy {
                    self.main_tree = Some(tree.clone());
                }
                self.steps[index].files = files;
                self.steps[index].after = Some(tree);
                self.check_gates(index);
            }
            Phase::Guarding => self.guard_sees(index, tree, files),
            _ => {}
        }
    }

    /// Begins an attempt.
    pub(super) fn work(&mut self, index: usize) {
        let Some(plan) = self.plan_step(index) else { return };
        let (writes, own_copy, is_run) = (plan.writes, plan.own_copy, matches!(plan.kind, StepKind::Run { .. }));
        if writes && !own_copy {
            self.main_tree = None;
        }
        self.steps[index].attempt_started_ms = self.now_ms;
        self.steps[index].long = None;
        self.steps[index].tried.clear();
        if is_run {
            self.steps[index].phase = Phase::Command;
            self.emit(index, Work::RunCommand);
        } else if self.has_backend(index) {
            self.run_backend(index);
        } else if !self.start_debate(index) {
            self.compose(index);
        }
    }

    /// A `run:` step's command ended.
    pub(super) fn command_done(&mut self, index: usize, outcome: ExecOutcome) {
        self.steps[index].text = outcome.output.clone();
        if outcome.success() {
            return self.work_done(index);
        }
        let ending = if outcome.status == ExecStatus::TimedOut { Ending::Limit } else { Ending::Failed };
        let plan = self.plan_step(index);
        let (attempts, id) = plan.map_or((1, String::new()), |plan| (plan.attempts, plan.id.to_string()));
        let last = outcome.output.trim_end().lines().last().unwrap_or_default();
        let message = if last.is_empty() {
            format!("step `{id}`: its command ended with {}", outcome.describe())
        } else {
            format!("step `{id}`: its command ended with {}: {last}", outcome.describe())
        };
        if ending == Ending::Failed && self.steps[index].attempt < attempts {
            self.steps[index].pending_feedback = None;
            return self.undo(index);
        }
        self.fail(index, ending, message);
    }

    /// The step's work is done: what did it make?
    pub(super) fn work_done(&mut self, index: usize) {
        let Some(plan) = self.plan_step(index) else { return };
        let wanted = if plan.writes {
            self.wants_snapshots(index)
        } else {
            !plan.gates.is_empty() && self.tree_now(index).is_none()
        };
        if wanted {
            self.steps[index].phase = Phase::After;
            self.emit(index, Work::Snapshot { after: true });
        } else {
            self.check_gates(index);
        }
    }

    /// The tree that the step's gates are run on.
    pub(super) fn tree_to_check(&self, index: usize) -> Option<TreeId> {
        self.steps[index].after.clone().or_else(|| self.tree_now(index))
    }

    /// The step succeeded: its work is kept.
    pub(super) fn keep(&mut self, index: usize) {
        let Some(plan) = self.plan_step(index) else { return };
        let (own_copy, then, id) = (plan.own_copy, plan.then.clone(), plan.id.clone());
        let step = &mut self.steps[index];
        step.status = StepStatus::Succeeded;
        step.feedback = None;
        if own_copy && let (Some(from), Some(to)) = (&step.forked_from, &step.after) {
            self.apart.push((from.clone(), to.clone(), id));
        }
        self.stop_clock(index);
        if let Some(then) = then
            && let Err(message) = self.jump(index, &then)
        {
            self.steps[index].status = StepStatus::Failed;
            self.steps[index].error = Some(message.clone());
            self.failure.get_or_insert((Ending::Failed, message));
        }
        self.ended(index);
    }

    /// The step failed. What it changed is undone first, where there is a snapshot.
    pub(super) fn fail(&mut self, index: usize, ending: Ending, message: String) {
        if self.ending.is_some() || !self.steps[index].is_running() {
            return;
        }
        self.steps[index].parked.clear();
        self.abandon_effects(index);
        if self.attempt_lost(index, ending, &message) {
            return;
        }
        if self.main_joining == Some(index) {
            self.main_joining = None;
        }
        let own_copy = self.plan_step(index).is_some_and(|step| step.own_copy);
        let writes = self.plan_step(index).is_some_and(|step| step.writes);
        let restorable = self.wants_snapshots(index);
        let step = &mut self.steps[index];
        let begun = !matches!(step.phase, Phase::Idle | Phase::Joining | Phase::Forking | Phase::Before);
        match step.before.clone() {
            Some(tree) if begun && writes && !own_copy && restorable && step.phase != Phase::RollingBack => {
                step.failing = Some((ending, message));
                step.phase = Phase::RollingBack;
                self.emit(index, Work::Restore { tree });
            }
            _ => self.fail_now(index, ending, message),
        }
    }

    /// The step has failed and nothing is to be undone (any more).
    pub(super) fn fail_now(&mut self, index: usize, ending: Ending, message: String) {
        let Some(plan) = self.plan_step(index) else { return };
        let on_failure = plan.on_failure.clone();
        let step = &mut self.steps[index];
        step.status = StepStatus::Failed;
        step.ended_as = Some(ending);
        step.error = Some(message.clone());
        self.stop_clock(index);
        match on_failure {
            OnFailure::Fail => {
                self.failure.get_or_insert((ending, message));
            }
            OnFailure::Continue => {}
            OnFailure::Goto(goto) => {
                if let Err(bound) = self.jump(index, &goto) {
                    self.failure.get_or_insert((ending, format!("{message} ({bound})")));
                }
            }
        }
        self.ended(index);
    }

    fn stop_clock(&mut self, index: usize) {
        let now = self.now_ms;
        let step = &mut self.steps[index];
        step.phase = Phase::Idle;
        step.duration_ms += (now - step.started_ms).max(0) as u64;
        self.running = self.running.saturating_sub(1);
    }

    /// Tells the steps that wait for this one.
    fn ended(&mut self, index: usize) {
        for dependent in self.dependents[index].clone() {
            let step = &mut self.steps[dependent];
            step.waits_for = step.waits_for.saturating_sub(1);
            if step.waits_for == 0 && step.status == StepStatus::Pending {
                self.ready.push_back(dependent);
            }
        }
    }

    /// Notes a jump; it is taken when nothing that it resets is at work.
    fn jump(&mut self, from: usize, goto: &Goto) -> Result<(), String> {
        let Some(target) = self.index(&goto.target) else {
            return Err(format!("goto `{}`: there is no such step", goto.target));
        };
        if self.steps[from].jumps >= goto.max_iterations {
            return Err(format!(
                "went back to `{}` {} times, which is its bound (`max_iterations`)",
                goto.target, goto.max_iterations
            ));
        }
        self.steps[from].jumps += 1;
        self.goto_pending.push((from, target));
        Ok(())
    }

    fn take_jumps(&mut self) {
        let mut later = Vec::new();
        for (from, target) in std::mem::take(&mut self.goto_pending) {
            let set = self.descendants(target);
            if set.iter().any(|index| self.steps[*index].is_running()) {
                later.push((from, target));
                continue;
            }
            self.ready.retain(|index| !set.contains(index));
            for index in &set {
                self.steps[*index].reset(0);
            }
            for index in &set {
                let needs = self.plan_step(*index).map(|step| step.needs.clone()).unwrap_or_default();
                let open = needs
                    .iter()
                    .filter_map(|need| self.index(need))
                    .filter(|need| !self.steps[*need].is_ended())
                    .count();
                self.steps[*index].waits_for = open;
                if open == 0 {
                    self.ready.push_back(*index);
                }
            }
        }
        self.goto_pending = later;
    }

    /// A limit of the whole run: no step goes on, but what was green may still be delivered.
    pub(super) fn limit_hit(&mut self, message: String) {
        if self.stage != Stage::Steps {
            return self.end(Ending::Limit, message);
        }
        self.failure = Some((Ending::Limit, message));
        // First, so that money that is freed below starts nothing.
        self.steps.iter_mut().for_each(|step| step.parked.clear());
        for index in 0..self.steps.len() {
            let running = self.steps[index].is_running();
            if running {
                self.abandon_effects(index);
                self.stop_clock(index);
            }
            if running || self.steps[index].status == StepStatus::Pending {
                self.steps[index].status = StepStatus::Cancelled;
            }
        }
        self.ready.clear();
        self.goto_pending.clear();
        self.main_tree = None;
    }
}

/// A failed join, in words.
pub(super) fn conflict_words(cause: &Effect, conflicts: &[String]) -> String {
    let whose = match &cause.work {
        Work::Join { theirs } => theirs.iter().map(|(_, _, step)| format!("`{step}`")).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    };
    format!(
        "the changes of {whose} cannot be merged; they differ in {}. Let one of the steps need the other, or let them \
         work on different files",
        conflicts.join(", ")
    )
}
