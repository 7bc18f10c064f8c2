//! A recorded run made again: its results folded by this version's state machine, or all of it but the model.

use crate::cassette::Recording;
use crate::model::chat::{ChatAnswer, ChatRequest, ModelError, ModelFault};
use crate::model::exec::DriverKind;
use crate::model::id::RunId;
use crate::model::journal::{Effect, Input, Row, RowBody, Work};
use crate::model::recording::CallPlace;
use crate::port::model::ChatModel;
use crate::port::sandbox::{OpenSandbox, Probe, Sandbox, SandboxDriver, SandboxError};
use crate::run::State;
use async_trait::async_trait;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// What a fold found.
pub struct Refolded {
    /// The state that the recorded results lead to.
    pub state: State,
    /// The first row that this version would have written otherwise.
    pub mismatch: Option<Mismatch>,
}

/// A row that this version would have written otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The row.
    pub seq: u64,
    /// What is recorded there, and what this version does.
    pub message: String,
}

/// Folds recorded rows and holds each intent against what the state machine wants at that place.
///
/// # Errors
/// Where the rows do not begin a run.
pub fn refold(rows: &[Row]) -> Result<Refolded, String> {
    let Some(Row { body: RowBody::Input(first), .. }) = rows.first() else {
        return Err("the first row does not begin a run".into());
    };
    let mut state = State::new(first)?;
    let mut due: VecDeque<Effect> = VecDeque::new();
    let mut mismatch: Option<Mismatch> = None;
    let mut differs = |seq: u64, message: String| {
        if mismatch.is_none() {
            mismatch = Some(Mismatch { seq, message });
        }
    };
    for row in rows {
        match &row.body {
            RowBody::Intent(effect) => match due.pop_front() {
                Some(wanted) if wanted == *effect => {}
                Some(wanted) => differs(row.seq, difference(effect, &wanted)),
                None => differs(row.seq, format!("recorded is {}; this version does nothing here", shown(effect))),
            },
            RowBody::Input(input) => {
                // What a step is shown of earlier runs is written between the intents of one moment.
                let between = matches!(input, Input::Recalled { .. });
                if let Some(wanted) = due.pop_front_if(|_| !between) {
                    let kind = input.kind();
                    differs(
                        row.seq,
                        format!("recorded is the fact `{kind}`; this version first does {}", shown(&wanted)),
                    );
                    due.clear();
                }
                if !state.expects(input) {
                    let kind = input.kind();
                    differs(
                        row.seq,
                        format!("recorded is the fact `{kind}`, for which this version does not wait here"),
                    );
                }
                due.extend(state.apply(row.at_ms, input.clone()));
            }
        }
    }
    if let Some(wanted) = due.pop_front() {
        let last = rows.last().map_or(0, |row| row.seq);
        differs(last + 1, format!("the recording ends; this version goes on with {}", shown(&wanted)));
    }
    Ok(Refolded { state, mismatch })
}

fn shown(effect: &Effect) -> String {
    let step = effect.step.as_ref().map_or_else(|| "the run".to_owned(), |step| format!("step `{step}`"));
    let pass =
        if effect.iteration > 0 { format!(", pass {}", effect.iteration.saturating_add(1)) } else { String::new() };
    let attempt = if effect.attempt > 0 { format!(", attempt {}", effect.attempt) } else { String::new() };
    format!("`{}` for {step}{pass}{attempt}", effect.work.kind())
}

fn difference(recorded: &Effect, wanted: &Effect) -> String {
    let (was, is) = (shown(recorded), shown(wanted));
    if was != is {
        return format!("recorded is {was}; this version does {is}");
    }
    let value = |effect: &Effect| serde_json::to_value(effect).unwrap_or_default();
    let place = first_difference(&value(recorded), &value(wanted), "");
    let (field, was, is) = place.unwrap_or_default();
    format!("{}: `{field}` is recorded as {was}; this version makes it {is}", shown(wanted))
}

/// The first field in which two values differ, and both its values, in short.
fn first_difference(a: &Value, b: &Value, at: &str) -> Option<(String, String, String)> {
    if a == b {
        return None;
    }
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match (a, b) {
        (Value::Object(one), Value::Object(other)) => one.keys().chain(other.keys()).find_map(|name| {
            let (one, other) = (one.get(name).unwrap_or(&Value::Null), other.get(name).unwrap_or(&Value::Null));
            first_difference(one, other, &below(name))
        }),
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => one
            .iter()
            .zip(other)
            .enumerate()
            .find_map(|(place, (one, other))| first_difference(one, other, &below(&place.to_string()))),
        _ => {
            let short = |value: &Value| value.to_string().chars().take(120).collect::<String>();
            Some((at.to_owned(), short(a), short(b)))
        }
    }
}

/// Answers with what was recorded, matched by the place of a call in the run, whatever is asked.
pub struct Playback(Mutex<HashMap<String, VecDeque<Result<ChatAnswer, ModelError>>>>);

impl Playback {
    /// The answers of a recording.
    pub fn of(recording: &Recording) -> Self {
        let mut places: HashMap<&str, CallPlace> = HashMap::new();
        // In the order in which they were asked for, not in that of the answers.
        let mut answers: HashMap<&str, Result<ChatAnswer, ModelError>> = HashMap::new();
        let mut order = Vec::new();
        for row in &recording.rows {
            match &row.body {
                RowBody::Intent(effect) => {
                    if let (Work::CallModel { .. }, Some(place)) = (&effect.work, CallPlace::of(effect)) {
                        order.push(effect.key.0.as_str());
                        places.insert(&effect.key.0, place);
                    }
                }
                RowBody::Input(Input::Answered { key, answer, bill, requests }) => {
                    let answer = ChatAnswer {
                        text: answer.text.clone(),
                        calls: answer.raw_calls.clone(),
                        stop: answer.stop,
                        bill: bill.clone(),
                        requests: *requests,
                        reasoning: answer.reasoning.clone(),
                    };
                    answers.insert(&key.0, Ok(answer));
                }
                RowBody::Input(Input::ModelFailed { key, error }) => {
                    answers.insert(&key.0, Err(error.clone()));
                }
                RowBody::Input(_) => {}
            }
        }
        let mut tape: HashMap<String, VecDeque<_>> = HashMap::new();
        for key in order {
            if let (Some(place), Some(answer)) = (places.get(key), answers.remove(key)) {
                tape.entry(place.conversation()).or_default().push_back(answer);
            }
        }
        Self(Mutex::new(tape))
    }
}

#[async_trait]
impl ChatModel for Playback {
    async fn ask(
        &self,
        request: &ChatRequest,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, ModelError> {
        let unmatched = |message: String| ModelError {
            fault: ModelFault::Unmatched,
            message,
            status: None,
            requests: 0,
            bill: None,
            retry_after_ms: None,
        };
        let Some(place) = &request.place else {
            return Err(unmatched("an internal error: a request without its place; please report it".into()));
        };
        let next = {
            let mut tape = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            tape.get_mut(&place.conversation()).and_then(VecDeque::pop_front)
        };
        let answer = next.unwrap_or_else(|| {
            Err(unmatched(format!(
                "the recording has no further answer for step `{}`, attempt {}: the flow is another one than recorded",
                place.step, place.attempt
            )))
        })?;
        heard(&answer.text);
        Ok(answer)
    }
}

/// A sandbox driver whose sandboxes bear another run's name: two processes may make one recorded run again at once.
pub struct Renamed {
    inner: Arc<dyn SandboxDriver>,
    run: RunId,
}

impl Renamed {
    /// Renames what `inner` opens.
    pub fn new(inner: Arc<dyn SandboxDriver>, run: RunId) -> Self {
        Self { inner, run }
    }
}

#[async_trait]
impl SandboxDriver for Renamed {
    fn kind(&self) -> DriverKind {
        self.inner.kind()
    }

    async fn probe(&self, image: Option<&str>) -> Probe {
        self.inner.probe(image).await
    }

    async fn open(&self, order: &OpenSandbox) -> Result<Box<dyn Sandbox>, SandboxError> {
        self.inner.open(&OpenSandbox { run: self.run.clone(), ..order.clone() }).await
    }

    async fn reap(&self, _: Option<&RunId>) -> Result<usize, SandboxError> {
        self.inner.reap(Some(&self.run)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cassette::Header;
    use crate::model::chat::{Answer, Bill, StopReason};
    use crate::model::id::{EffectKey, StepId};
    use crate::model::journal::Purpose;
    use crate::model::recording::RunOptions;
    use crate::model::usage::CostSource;

    fn call(key: &str, attempt: u32, purpose: Purpose) -> Effect {
        let work = Work::CallModel {
            model: 0,
            purpose,
            why: String::new(),
            reserved_tokens: 1,
            reserved_cost: None,
            request_hash: key.into(),
        };
        Effect { key: EffectKey(key.into()), step: Some(StepId::from("code")), iteration: 0, attempt, work }
    }

    fn answered(key: &str) -> Input {
        let answer = Answer {
            text: key.into(),
            calls: vec![],
            raw_calls: vec![],
            stop: StopReason::Stop,
            conclusion: None,
            reasoning: vec![],
        };
        let bill = Bill { model: "m".into(), usage: None, cost: None, source: CostSource::Unknown };
        Input::Answered { key: EffectKey(key.into()), answer, bill, requests: 1 }
    }

    #[tokio::test]
    async fn answers_are_found_by_place_and_order_whatever_is_asked_and_whoever_came_first() {
        let calls = [
            call("cut", 1, Purpose::Turn),
            call("turn", 1, Purpose::Turn),
            call("sample 0", 1, Purpose::Sample(0)),
            call("sample 1", 1, Purpose::Sample(1)),
            call("guard", 1, Purpose::Guard),
            call("question", 1, Purpose::Gateway(3)),
            call("second turn", 1, Purpose::Turn),
            call("next attempt", 2, Purpose::Turn),
        ];
        let mut bodies: Vec<RowBody> = calls.iter().cloned().map(RowBody::Intent).collect();
        bodies.push(RowBody::Input(Input::OutcomeUnknown { key: EffectKey("cut".into()) }));
        // Those that were out together came back in another order.
        for effect in calls.iter().skip(1).rev() {
            bodies.push(RowBody::Input(answered(&effect.key.0)));
        }
        let rows =
            bodies.into_iter().enumerate().map(|(at, body)| Row { seq: at as u64 + 1, at_ms: 0, body }).collect();
        let header = Header {
            codeforge_cassette: 2,
            version: "0".into(),
            run: "r".into(),
            workflow: "w".into(),
            commit: None,
            tree: "t".into(),
            options: RunOptions::default(),
        };
        let recording =
            Recording { header, files: vec![], rows, requests: HashMap::default(), texts: HashMap::default() };
        let playback = Playback::of(&recording);
        for (attempt, purpose, wanted) in [
            (2, Purpose::Turn, Some("next attempt")),
            (1, Purpose::Sample(1), Some("sample 1")),
            (1, Purpose::Turn, Some("turn")),
            (1, Purpose::Gateway(3), Some("question")),
            (1, Purpose::Sample(0), Some("sample 0")),
            (1, Purpose::Turn, Some("second turn")),
            (1, Purpose::Guard, Some("guard")),
            (1, Purpose::Guard, None),
            (1, Purpose::Turn, None),
            (3, Purpose::Turn, None),
        ] {
            let place = CallPlace::of(&call("another key", attempt, purpose));
            let request = ChatRequest { place, ..ChatRequest::default() };
            let answer = playback.ask(&request, &|_| {}).await;
            match wanted {
                Some(text) => assert_eq!(answer.unwrap().text, text),
                None => {
                    let error = answer.unwrap_err();
                    assert_eq!(error.fault, ModelFault::Unmatched);
                    assert!(error.message.contains("no further answer for step `code`"), "{error}");
                }
            }
        }
    }
}
