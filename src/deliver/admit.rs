//! Whether what an artifact holds may be delivered: its claims against the plan, the gate's word against the plan.
//!
//! The plan is the writing job's own, made from its own event and the trusted configuration. Nothing here reads what an
//! artifact says of itself but to compare it.

use crate::model::artifact::{Claims, Word};
use crate::model::id::short_hash;
use crate::model::journal::Verdict;
use crate::model::plan::{DeliverKind, DeliverWhen, OnGateFail, Plan};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a plan is, for comparing. `branch`: what the delivery is called, where there is one.
pub fn claims(plan: &Plan, branch: Option<&str>) -> Claims {
    let event = &plan.event;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let hash = |value: &dyn Fn() -> serde_json::Result<String>| short_hash(value().unwrap_or_default().as_bytes(), 64);
    Claims {
        repository: text(event.get("repository")),
        event: subject(event),
        workflow: plan.workflow.clone(),
        workflow_hash: plan.workflow_hash.clone(),
        inputs_hash: hash(&|| serde_json::to_string(&plan.inputs)),
        policy: plan.policy.name.clone(),
        policy_hash: hash(&|| serde_json::to_string(&(&plan.policy, &plan.protected_paths))),
        kind: plan.deliver.kind,
        when: plan.deliver.when,
        gates: required(plan)
            .into_iter()
            .filter_map(|name| Some((name.clone(), plan.gates.get(&name)?.hash.clone())))
            .collect(),
        branch: branch.map(str::to_owned),
    }
}

/// What happened to what, in one line: never a text that somebody wrote.
fn subject(event: &Value) -> String {
    let mut words = vec![event.get("kind").and_then(Value::as_str).unwrap_or("manual").to_owned()];
    words.extend(event.get("action").and_then(Value::as_str).map(str::to_owned));
    for (what, pointer) in [("change", "/change/number"), ("issue", "/issue/number"), ("comment", "/comment/id")] {
        words.extend(event.pointer(pointer).and_then(Value::as_u64).map(|number| format!("{what} {number}")));
    }
    words.join(" ")
}

/// The gates that must pass before anything is delivered: those that the policy requires, and those of the steps,
/// unless they only warn. Which steps succeeded is the artifact's to say, so those of all of them count.
pub fn required(plan: &Plan) -> Vec<String> {
    let mut gates = of_policy(plan);
    for step in plan.steps.values() {
        for gate in step.gates.iter().filter(|gate| !warns(plan, gate)) {
            if !gates.contains(gate) {
                gates.push(gate.clone());
            }
        }
    }
    gates
}

fn of_policy(plan: &Plan) -> Vec<String> {
    if plan.deliver.kind == DeliverKind::None { Vec::new() } else { plan.policy.require_gates.clone() }
}

fn warns(plan: &Plan, gate: &str) -> bool {
    plan.gates.get(gate).is_some_and(|gate| gate.on_fail == OnGateFail::Warn)
}

/// Whether a gate's job has said enough for a change to be delivered. `patch`: SHA-256 of the change's bytes.
///
/// `gates_passed` wants every required gate; `last_green` those of the policy and those of one step; `always` none, but
/// even then a word about another change is none about this one.
///
/// # Errors
/// What is missing, in a sentence.
pub fn admits(words: &[Word], plan: &Plan, patch: &str) -> Result<(), String> {
    let required = required(plan);
    let Some(word) = words.iter().find(|word| word.patch == patch) else {
        return match (words.is_empty(), plan.deliver.when == DeliverWhen::Always || required.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => Err(format!(
                "there is no gate's word for it, and `{}` must pass first; give the output `gate-word` of the gate's \
                 job (`--gate-word`)",
                required.join("`, `")
            )),
            (false, _) => Err("the gate's word is about another change than the artifact holds: it was replaced or \
                               edited after the gates ran"
                .to_owned()),
        };
    };
    let missing = |names: &[String]| -> Vec<String> {
        names.iter().filter_map(|name| Some(format!("`{name}` {}", lack(word, plan, name)?))).collect()
    };
    let lacking = match plan.deliver.when {
        DeliverWhen::Always => Vec::new(),
        DeliverWhen::GatesPassed => missing(&required),
        DeliverWhen::LastGreen => {
            let of_policy = missing(&of_policy(plan));
            let steps = plan
                .steps
                .values()
                .map(|step| step.gates.iter().filter(|gate| !warns(plan, gate)).cloned().collect::<Vec<_>>());
            let mut gated = steps.filter(|gates| !gates.is_empty()).peekable();
            let green = gated.peek().is_none() || gated.any(|gates| missing(&gates).is_empty());
            if of_policy.is_empty() && !green { missing(&required) } else { of_policy }
        }
    };
    if lacking.is_empty() { Ok(()) } else { Err(format!("required gates did not pass on it: {}", lacking.join(", "))) }
}

/// Whether the last word of every gate that must pass was that it did.
pub fn all_passed(plan: &Plan, results: &[crate::model::journal::GateResult]) -> bool {
    let last = |name: &String| results.iter().rev().find(|result| result.gate == *name);
    required(plan).iter().all(|name| last(name).is_some_and(|result| result.verdict == Verdict::Pass))
}

/// What keeps a gate from counting as passed.
fn lack(word: &Word, plan: &Plan, name: &str) -> Option<&'static str> {
    let Some(gate) = plan.gates.get(name) else { return Some("is not defined") };
    match word.gates.get(name) {
        None => Some("was not run"),
        Some((_, hash)) if *hash != gate.hash => Some("was run with another definition"),
        Some((Verdict::Pass, _)) => None,
        Some((Verdict::Fail, _)) => Some("did not pass"),
        Some((Verdict::Error, _)) => Some("could not be run"),
    }
}

/// The word of gates that were run on one change.
pub fn word<'a>(patch: &str, results: impl IntoIterator<Item = &'a crate::model::journal::GateResult>) -> Word {
    let gates: BTreeMap<String, (Verdict, String)> =
        results.into_iter().map(|it| (it.gate.clone(), (it.verdict, it.gate_hash.clone()))).collect();
    Word { patch: patch.to_owned(), gates }
}

/// Whether a person may choose `wanted` where the plan says `planned`: what it says, less than that, or a form that
/// stays in the own repository. What reaches a forge is the plan's to say.
pub fn may_choose(wanted: DeliverKind, planned: DeliverKind) -> bool {
    use DeliverKind::{Branch, CommitLocal, None, Patch};
    wanted == planned || (planned != None && matches!(wanted, None | Patch | Branch | CommitLocal)) || wanted == None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan, workflow};

    /// Two gated steps and a policy that requires a gate of its own.
    fn plan(when: &str) -> Plan {
        let source = |path: &str, text: String| workflow::Source { path: path.into(), text, builtin: false };
        let mut all = workflow::builtin();
        all.push(source(
            ".codeforge/workflows/in.yml",
            format!(
                "name: in\npolicy: own\nsteps:\n  a: {{ run: x, gates: [tests] }}\n  b: {{ run: x, needs: [a], gates: \
                 [lint, style] }}\ndeliver: {{ as: branch, when: {when} }}\n"
            ),
        ));
        let gates = ["tests", "lint", "audit"].map(|name| format!("  {name}: {{ run: x, on_fail: fail }}\n")).concat();
        let style = "  style: { run: x, on_fail: warn }\n";
        all.push(source(".codeforge/config.yml", format!("gates:\n{gates}{style}")));
        all.push(source(
            ".codeforge/policies/own.yml",
            "name: own\nrules: []\ndefault: allow\ngates: { require: [audit] }\n".into(),
        ));
        let library = workflow::load(&all, &|_| None);
        let request = plan::Request { workflow: "in".into(), held: true, ..plan::Request::default() };
        plan::compile(&library, &request).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    #[test]
    fn who_must_have_passed_is_the_plans_to_say() {
        let (patch, other) = ("a".repeat(64), "b".repeat(64));
        let said = |plan: &Plan, passed: &[&str]| {
            let gates = passed.iter().map(|name| ((*name).to_owned(), (Verdict::Pass, plan.gates[*name].hash.clone())));
            vec![Word { patch: patch.clone(), gates: gates.collect() }]
        };
        let strict = plan("gates_passed");
        assert_eq!(required(&strict), ["audit", "tests", "lint"], "`style` only warns");
        assert!(admits(&said(&strict, &["audit", "tests", "lint"]), &strict, &patch).is_ok());
        for lacking in [&["audit", "tests"][..], &["tests", "lint"], &["audit"], &[]] {
            assert!(admits(&said(&strict, lacking), &strict, &patch).is_err(), "{lacking:?}");
        }
        let green = plan("last_green");
        assert!(admits(&said(&green, &["audit", "tests"]), &green, &patch).is_ok(), "one step was green");
        assert!(admits(&said(&green, &["audit"]), &green, &patch).is_err(), "no step was");
        assert!(admits(&said(&green, &["tests", "lint"]), &green, &patch).is_err(), "the policy's is missing");
        let always = plan("always");
        assert!(admits(&said(&always, &[]), &always, &patch).is_ok());
        for plan in [&strict, &green, &always] {
            let words = said(plan, &["audit", "tests", "lint"]);
            assert!(admits(&words, plan, &other).is_err(), "a word about another change is none about this one");
        }
        assert!(admits(&[], &strict, &patch).is_err() && admits(&[], &always, &patch).is_ok());
    }

    #[test]
    fn a_person_may_choose_less_or_what_stays() {
        use DeliverKind::*;
        assert!(may_choose(Patch, PullRequest) && may_choose(None, PullRequest) && may_choose(Branch, Patch));
        assert!(may_choose(Comment, Comment));
        assert!(!may_choose(PullRequest, Branch) && !may_choose(PushToBranch, PullRequest) && !may_choose(Patch, None));
    }
}
