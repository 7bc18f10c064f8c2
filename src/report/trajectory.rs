//! The trajectory: a run's readable record, one JSON object a line.
//!
//! Every line has `seq`, `at` (UTC) and `type`; `step` where it belongs to one. Types: `started`, `resumed`,
//! `prepared`, `recalled`, `prompt`, `answer`, `model_failed`, `outcome_unknown`, `tool`, `command`, `snapshot`,
//! `restored`, `gate`, `joined`, `delivered`, `failed`, `deadline`, `cancelled`, and `intent` for what was about to be
//! done. What concerns a model call that is no plain turn of an agent has its `purpose`.

use super::numbers;
use crate::model::journal::{Effect, Input, Purpose, Row, RowBody, Work};
use crate::model::plan::{Plan, StepKind};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Names the step and the call of each key, so that results can say whose they are.
#[derive(Debug, Default)]
pub struct Trajectory {
    effects: HashMap<String, Effect>,
    plan: Option<Box<Plan>>,
}

impl Trajectory {
    /// The line of a row; rows must come in order. No line end.
    pub fn line(&mut self, row: &Row) -> String {
        let mut value = match &row.body {
            RowBody::Intent(effect) => {
                self.effects.insert(effect.key.0.clone(), effect.clone());
                let mut intent = json!({
                    "type": "intent",
                    "step": effect.step,
                    "work": effect.work.kind(),
                    "key": effect.key,
                    "attempt": effect.attempt,
                    "iteration": effect.iteration,
                });
                if let (Work::CallModel { model, purpose, why, reserved_cost, .. }, Some(fields)) =
                    (&effect.work, intent.as_object_mut())
                {
                    fields.insert("model".into(), json!(self.model(effect, purpose, *model)));
                    fields.insert("why".into(), json!(why));
                    fields.insert("purpose".into(), json!(purpose));
                    fields.insert("reserved_usd".into(), json!(reserved_cost.map(|cost| cost.usd())));
                }
                intent
            }
            RowBody::Input(input) => {
                if let Input::Started { plan, .. } = input {
                    self.plan = Some(plan.clone());
                }
                self.input(input)
            }
        };
        if let Some(fields) = value.as_object_mut() {
            fields.insert("seq".into(), json!(row.seq));
            fields.insert("at".into(), json!(numbers::time(row.at_ms)));
            if fields.get("step").is_some_and(Value::is_null) {
                fields.remove("step");
            }
            if let Some(purpose) = self.purpose(&row.body) {
                fields.insert("purpose".into(), json!(purpose));
            }
        }
        value.to_string()
    }

    /// What a model call is for, where it is more than an agent's plain turn.
    fn purpose(&self, body: &RowBody) -> Option<&Purpose> {
        let key = match body {
            RowBody::Intent(effect) => &effect.key,
            RowBody::Input(input) => input.key()?,
        };
        match &self.effects.get(&key.0)?.work {
            Work::Compose { purpose, .. } | Work::CallModel { purpose, .. } => Some(purpose).filter(|it| !it.is_turn()),
            _ => None,
        }
    }

    /// A model's name in the configuration.
    fn model(&self, effect: &Effect, purpose: &Purpose, at: usize) -> Option<&str> {
        match &self.plan.as_ref()?.steps.get(effect.step.as_ref()?)?.kind {
            StepKind::Agent(spec) if matches!(purpose, Purpose::Turn | Purpose::Sample(_) | Purpose::Gateway(_)) => {
                Some(spec.model(at)?.name.as_str())
            }
            StepKind::Agent(spec) => Some(spec.quality.as_ref()?.voice_of(purpose)?.models.get(at)?.name.as_str()),
            StepKind::Run { .. } => None,
        }
    }

    fn input(&self, input: &Input) -> Value {
        let effect = input.key().and_then(|key| self.effects.get(&key.0));
        let step = effect.and_then(|effect| effect.step.as_ref());
        match input {
            Input::Started { run, plan, base, version, allowances, .. } => json!({
                "type": "started", "run": run, "workflow": plan.workflow, "workflow_hash": plan.workflow_hash,
                "inputs": plan.inputs, "base": base, "policy": plan.policy.name, "version": version,
                "allowances": allowances,
            }),
            Input::Resumed { allowances, .. } => json!({ "type": "resumed", "allowances": allowances }),
            Input::Recalled { step, entries } => json!({
                "type": "recalled", "step": step,
                "entries": entries.iter().map(|it| json!({ "id": it.experience.id, "score": it.score })).collect::<Vec<_>>(),
            }),
            Input::Prepared { driver, workspace, notes, .. } => {
                json!({ "type": "prepared", "driver": driver, "workspace": workspace, "notes": notes })
            }
            Input::Composed { input_tokens, max_output, cost, request_hash, prompt, .. } => json!({
                "type": "prompt", "step": step, "request_hash": request_hash, "prompt": prompt,
                "input_tokens_at_most": input_tokens, "output_tokens_at_most": max_output,
                "cost_usd_at_most": cost.map(|cost| cost.usd()),
            }),
            Input::Answered { answer, bill, requests, .. } => json!({
                "type": "answer", "step": step, "text": answer.text, "calls": answer.raw_calls, "stop": answer.stop,
                "model": bill.model, "usage": bill.usage, "cost_usd": bill.cost.map(|cost| cost.usd()),
                "cost_from": bill.source, "requests": requests,
                "problem": answer.conclusion.as_ref().and_then(|end| end.as_ref().err()),
            }),
            Input::ModelFailed { error, .. } => json!({
                "type": "model_failed", "step": step, "fault": error.fault, "message": error.message,
                "status": error.status, "requests": error.requests,
                "usage": error.bill.as_ref().and_then(|bill| bill.usage),
                "cost_usd": error.bill.as_ref().and_then(|bill| bill.cost).map(|cost| cost.usd()),
            }),
            Input::OutcomeUnknown { .. } => json!({ "type": "outcome_unknown", "step": step }),
            Input::ToolDone { outcome, .. } => {
                let call = effect.and_then(|effect| match &effect.work {
                    Work::CallTool { call } => Some(call),
                    _ => None,
                });
                json!({ "type": "tool", "step": step, "call": call, "outcome": outcome })
            }
            Input::CommandDone { outcome, .. } => json!({ "type": "command", "step": step, "outcome": outcome }),
            Input::Snapshotted { tree, files, .. } => {
                json!({ "type": "snapshot", "step": step, "tree": tree, "files": files })
            }
            Input::Restored { .. } => json!({ "type": "restored", "step": step }),
            Input::GateDone { result, .. } => json!({ "type": "gate", "step": step, "result": result }),
            Input::Joined { tree, conflicts, .. } => {
                json!({ "type": "joined", "step": step, "tree": tree, "conflicts": conflicts })
            }
            Input::DeliveryDone { delivered, .. } => json!({ "type": "delivered", "delivered": delivered }),
            Input::NotComposed { message, .. } => json!({ "type": "failed", "step": step, "message": message }),
            Input::EffectFailed { fault, message, .. } => {
                json!({ "type": "failed", "step": step, "fault": fault, "message": message })
            }
            Input::BackendDone { outcome, .. } => json!({ "type": "backend", "step": step, "outcome": outcome }),
            Input::Asked { step, number, wanted, input_tokens, max_output, cost, request_hash, .. } => json!({
                "type": "asked", "step": step, "number": number, "model_wanted": wanted, "request_hash": request_hash,
                "input_tokens_at_most": input_tokens, "output_tokens_at_most": max_output,
                "cost_usd_at_most": cost.map(|cost| cost.usd()),
            }),
            Input::AskRefused { step, what, why } => {
                json!({ "type": "ask_refused", "step": step, "what": what, "why": why })
            }
            Input::DeadlinePassed { step } => json!({ "type": "deadline", "step": step }),
            Input::CancelRequested { reason } => json!({ "type": "cancelled", "reason": reason }),
        }
    }
}
