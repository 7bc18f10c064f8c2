//! After the last step: join, final tree, required gates, delivery.

use super::state::{Stage, State};
use crate::model::account::{Ending, StepStatus};
use crate::model::delivery::{ChangeSet, Delivered};
use crate::model::id::TreeId;
use crate::model::journal::{Effect, GateResult, Verdict, Work};
use crate::model::plan::{DeliverKind, DeliverWhen, OnGateFail};

impl State {
    /// No step is at work and none is left.
    pub(super) fn finish(&mut self) {
        let when = self.plan.deliver.when;
        if let Some((ending, reason)) = self.failure.clone() {
            let recoverable = matches!(ending, Ending::Limit | Ending::Failed);
            match when {
                DeliverWhen::LastGreen if recoverable && self.last_green.is_some() => {
                    let tree = self.last_green.clone();
                    return self.deliver(tree);
                }
                DeliverWhen::Always if recoverable => {}
                _ => return self.end(ending, reason),
            }
        }
        if self.apart.is_empty() {
            self.take_final_tree();
        } else {
            self.stage = Stage::FinalJoin;
            let mut theirs = self.apart.clone();
            theirs.sort_by_key(|(_, _, whose)| self.index(whose));
            self.emit_run(Work::Join { theirs });
        }
    }

    fn take_final_tree(&mut self) {
        match self.main_tree.clone() {
            Some(tree) => self.final_tree(tree),
            None => {
                self.stage = Stage::FinalTree;
                self.emit_run(Work::Snapshot { after: true });
            }
        }
    }

    /// A join into the main workspace ended, before delivery.
    pub(super) fn main_joined(&mut self, cause: &Effect, tree: TreeId, conflicts: Vec<String>) {
        if !conflicts.is_empty() {
            let message = super::flow::conflict_words(cause, &conflicts);
            return self.end(Ending::Failed, message);
        }
        self.forget_apart(cause);
        self.final_tree(tree);
    }

    /// The tree that all steps have made together.
    pub(super) fn final_tree(&mut self, tree: TreeId) {
        self.main_tree = Some(tree.clone());
        let deliver = &self.plan.deliver;
        // Words are published whether or not a file changed.
        if deliver.kind == DeliverKind::None || (tree == self.base.tree && !deliver.kind.speaks()) {
            let changed = tree != self.base.tree;
            return self.delivered(Delivered {
                kind: deliver.kind,
                patch: None,
                commit: None,
                branch: None,
                changes: ChangeSet::default(),
                changed,
                published: None,
            });
        }
        if deliver.when == DeliverWhen::Always {
            return self.deliver(Some(tree));
        }
        let missing: Vec<String> =
            self.required_gates().into_iter().filter(|gate| !self.has_passed(gate, &tree)).collect();
        if missing.is_empty() {
            return self.deliver(Some(tree));
        }
        self.stage = Stage::FinalGates;
        self.to_deliver = Some(tree.clone());
        for gate in missing {
            self.emit_run(Work::CheckGate { gate, tree: tree.clone() });
        }
    }

    /// Gates that must pass on the final tree: those that the policy requires, and those of steps whose work was
    /// kept, unless they only warn.
    fn required_gates(&self) -> Vec<String> {
        let mut gates: Vec<String> = self.plan.policy.require_gates.clone();
        for (index, step) in self.plan.steps.values().enumerate() {
            if self.steps[index].status != StepStatus::Succeeded {
                continue;
            }
            for gate in &step.gates {
                let warns = self.plan.gates.get(gate).is_some_and(|gate| gate.on_fail == OnGateFail::Warn);
                if !warns && !gates.contains(gate) {
                    gates.push(gate.clone());
                }
            }
        }
        gates
    }

    /// A required gate ended on the final tree.
    pub(super) fn final_gate_done(&mut self, result: GateResult) {
        self.note_verdict(&result);
        self.final_gates.push(result);
        if !self.outstanding.is_empty() {
            return;
        }
        self.final_gates.sort_by(|a, b| a.gate.cmp(&b.gate));
        let failed: Vec<String> = self
            .final_gates
            .iter()
            .filter(|result| result.verdict != Verdict::Pass)
            .map(|result| format!("`{}` ({})", result.gate, result.detail))
            .collect();
        if failed.is_empty() {
            let tree = self.to_deliver.take();
            return self.deliver(tree);
        }
        let reason =
            format!("nothing was delivered: on the final tree the required gates did not pass: {}", failed.join(", "));
        if self.plan.deliver.when == DeliverWhen::LastGreen
            && let Some(green) = self.last_green.clone()
        {
            self.failure = Some((Ending::Failed, reason));
            return self.deliver(Some(green));
        }
        self.end(Ending::Failed, reason);
    }

    fn deliver(&mut self, tree: Option<TreeId>) {
        let Some(tree) = tree else {
            return self.end(Ending::Failed, "there is no tree to deliver".to_owned());
        };
        self.stage = Stage::Delivering;
        self.emit_run(Work::Deliver { tree });
    }

    /// The delivery was made, or there was nothing to deliver.
    pub(super) fn delivered(&mut self, delivered: Delivered) {
        let changed = delivered.changed;
        self.delivered = Some(delivered);
        if let Some((ending, reason)) = self.failure.clone() {
            return self.end(ending, reason);
        }
        if changed {
            return self.end(Ending::Done, String::new());
        }
        if self.plan.deliver.fail_if_no_changes {
            return self.end(
                Ending::Failed,
                "nothing was changed, although a change was asked for; `deliver: { if_no_changes: ok }` accepts that"
                    .to_owned(),
            );
        }
        self.end(Ending::Done, "looked, and found nothing to change".to_owned());
    }
}
