//! The desk: where a step's program asks for a model's answers.
//!
//! A question goes to the run's loop and becomes [`Input::Asked`]; the state machine says whether its call is made,
//! waits or never will be. The call is an effect like any other.

use super::perform::Trouble;
use super::session::{Session, lock};
use crate::agent;
use crate::model::chat::{Answer, ChatAnswer, ChatRequest, Message, ModelError, ModelFault, ModelRef, Reasoning};
use crate::model::id::{EffectKey, StepId};
use crate::model::journal::{Effect, Fault, Input, Purpose, Work};
use crate::model::plan::{PlanStep, StepKind};
use crate::model::recording::CallPlace;
use crate::model::usage::NanoUsd;
use crate::port::gateway::{Desk, Question, Refusal};
use crate::run::State;
use crate::text;
use async_trait::async_trait;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};

/// Refusals of one step that are noted; a program that tries on is refused all the same.
const NOTED: usize = 100;
/// Characters of what a program wrote that are noted.
const WORDS: usize = 200;
/// Calls whose reasoning is kept for the next question.
const THOUGHTS: usize = 1000;

type Said = Result<ChatAnswer, Refusal>;

/// What the desks say to the run's loop.
pub(super) enum Word {
    /// A question.
    Ask(Box<Asking>),
    /// Something was refused: for the audit.
    Refused { step: StepId, what: String, why: String },
}

/// A question on its way to the loop.
pub(super) struct Asking {
    step: StepId,
    question: Question,
    heard: mpsc::UnboundedSender<String>,
    reply: oneshot::Sender<Said>,
}

/// The desk of one step at work.
pub(super) struct StepDesk {
    step: StepId,
    token: String,
    model: String,
    words: mpsc::UnboundedSender<Word>,
    secrets: Vec<String>,
    open: AtomicBool,
    noted: Mutex<HashSet<String>>,
}

impl StepDesk {
    /// Ends it: its token is worth nothing from now on.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// A program's words, fit for a journal.
    fn clean(&self, words: &str) -> String {
        let secrets: Vec<&str> = self.secrets.iter().map(String::as_str).chain([self.token.as_str()]).collect();
        let short: String = text::clean(words).chars().take(WORDS).collect();
        text::redact(&short, &secrets)
    }
}

#[async_trait]
impl Desk for StepDesk {
    fn knows(&self, token: &str) -> bool {
        // Each byte is looked at, so that the time says nothing of where they differ.
        let differ = token.bytes().zip(self.token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        token.len() == self.token.len() && differ == 0 && self.open.load(Ordering::SeqCst)
    }

    async fn ask(
        &self,
        token: &str,
        question: Question,
        heard: &(dyn for<'a> Fn(&'a str) + Send + Sync),
    ) -> Result<ChatAnswer, Refusal> {
        if !self.knows(token) {
            return Err(Refusal::Unknown);
        }
        let question = Question { model: self.clean(&question.model), ..question };
        let (tell, mut told) = mpsc::unbounded_channel();
        let (reply, mut said) = oneshot::channel();
        let asking = Asking { step: self.step.clone(), question, heard: tell, reply };
        self.words.send(Word::Ask(Box::new(asking))).map_err(|_| Refusal::Unknown)?;
        loop {
            tokio::select! {
                biased;
                Some(more) = told.recv() => heard(&more),
                said = &mut said => {
                    while let Ok(more) = told.try_recv() {
                        heard(&more);
                    }
                    // A loop that has ended answers nobody.
                    return said.unwrap_or(Err(Refusal::Unknown));
                }
            }
        }
    }

    async fn refused(&self, token: &str, what: &str, why: &str) {
        if !self.knows(token) {
            return;
        }
        let (what, why) = (self.clean(what), self.clean(why));
        let mut noted = lock(&self.noted);
        if noted.len() < NOTED && noted.insert(what.clone()) {
            // A loop that has ended writes no audit.
            let _ = self.words.send(Word::Refused { step: self.step.clone(), what, why });
        }
    }

    fn model(&self, _token: &str) -> String {
        self.model.clone()
    }
}

/// Questions that wait for their answers, and what is remembered between them.
#[derive(Default)]
pub(super) struct Questions {
    open: HashMap<(StepId, u64), Open>,
    /// The last number that was given, by step.
    last: HashMap<StepId, u64>,
    /// What the model thought before a call, by the call's id: its provider may want it back.
    thoughts: HashMap<String, Vec<Reasoning>>,
}

/// A question that waits.
struct Open {
    question: Question,
    request: ChatRequest,
    heard: mpsc::UnboundedSender<String>,
    reply: oneshot::Sender<Said>,
}

/// What a result says to the question that it answers.
pub(super) type Reply = ((StepId, u64), Said);

impl Session {
    /// Opens a desk for a step: its token is good until the desk is closed.
    pub(super) fn open_desk(&self, step: &PlanStep) -> Result<(String, Arc<StepDesk>), Trouble> {
        let StepKind::Agent(spec) = &step.kind else { return Err(Trouble::bug("a desk for a step without an agent")) };
        let broken = |message| Trouble { fault: Fault::Environment, message };
        let token = self.engine.gateway.token().map_err(broken)?;
        let desk = StepDesk {
            step: step.id.clone(),
            token: token.clone(),
            model: spec.models.first().map(|model| model.model.clone()).unwrap_or_default(),
            words: self.desks.clone(),
            secrets: self.engine.secrets.clone(),
            open: AtomicBool::new(true),
            noted: Mutex::default(),
        };
        Ok((token, Arc::new(desk)))
    }

    /// Takes in what a desk says: the input that it is for the run.
    pub(super) fn hear(&self, state: &State, word: Word) -> Option<Input> {
        let asking = match word {
            Word::Refused { step, what, why } => return Some(Input::AskRefused { step, what, why }),
            Word::Ask(asking) => *asking,
        };
        let Asking { step, question, heard, reply } = asking;
        let index = state.index(&step)?;
        let spec = state.agent_spec(index)?;
        let estimated: u64 = question.messages.iter().map(agent::estimate_message).sum();
        let Some(model) = state.model_for_question(&step, estimated) else {
            let why = "no model of its scenario is left to ask".to_owned();
            let _ = reply.send(Err(Refusal::Failed(503, why.clone())));
            return Some(Input::AskRefused { step, what: "an answer".into(), why });
        };
        let chosen = spec.model(model)?;
        if !chosen.tools && !question.tools.is_empty() {
            let why = format!("the model `{}` cannot call functions, which this program needs", chosen.name);
            let _ = reply.send(Err(Refusal::NotAllowed(why.clone())));
            return Some(Input::AskRefused { step, what: "tools".into(), why });
        }
        let mut questions = lock(&self.questions);
        let last = questions.last.entry(step.clone()).or_default();
        let number = (*last).max(state.last_question(&step)) + 1;
        *last = number;
        let request = request(chosen, &question, &questions.thoughts);
        let bounds = Bounds::of(&request);
        let (wanted, request_hash) = (question.model.clone(), request.fingerprint());
        questions.open.insert((step.clone(), number), Open { question, request, heard, reply });
        let Bounds { input_tokens, max_output, cost } = bounds;
        Some(Input::Asked { step, number, model, wanted, input_tokens, max_output, cost, request_hash })
    }

    /// Puts a question together for another model (a pure effect).
    pub(super) fn compose_question(&self, state: &State, effect: &Effect, model: usize, number: u64) -> Input {
        let key = effect.key.clone();
        let mut questions = lock(&self.questions);
        let Questions { open, thoughts, .. } = &mut *questions;
        let found = effect.step.as_ref().and_then(|step| {
            let spec = state.agent_spec(state.index(step)?)?;
            Some((open.get_mut(&(step.clone(), number))?, spec.model(model)?))
        });
        let Some((open, model)) = found else {
            return Input::NotComposed { key, message: "nobody waits for the answer any more".into() };
        };
        open.request = request(model, &open.question, thoughts);
        let Bounds { input_tokens, max_output, cost } = Bounds::of(&open.request);
        let request_hash = open.request.fingerprint();
        Input::Composed { key, input_tokens, estimated_tokens: 0, max_output, cost, request_hash, prompt: None }
    }

    /// Makes the call for a question.
    pub(super) async fn call_for_question(
        self: &std::sync::Arc<Self>,
        key: EffectKey,
        step: Option<StepId>,
        number: u64,
        place: Option<CallPlace>,
    ) -> Input {
        let found = step.and_then(|step| {
            let questions = lock(&self.questions);
            let open = questions.open.get(&(step, number))?;
            // What was not sent yet need not be paid for.
            (!open.reply.is_closed()).then(|| (open.request.clone(), open.heard.clone()))
        });
        let Some((request, heard)) = found else {
            let error = ModelError {
                fault: ModelFault::Unmatched,
                message: "nobody waits for the answer any more".into(),
                status: None,
                requests: 0,
                bill: None,
                retry_after_ms: None,
            };
            return Input::ModelFailed { key, error };
        };
        let tell = move |text: &str| {
            // A program that hung up does not stop its call: it is paid for.
            let _ = heard.send(text.to_owned());
        };
        let request = ChatRequest { place, ..request };
        let (answer, ()) = tokio::join!(self.engine.models.ask(&request, &tell), self.keep_sent(&request));
        match answer {
            Ok(ChatAnswer { text, calls, stop, bill, requests, reasoning }) => Input::Answered {
                key,
                answer: Answer { text, calls: Vec::new(), raw_calls: calls, stop, conclusion: None, reasoning },
                bill,
                requests,
            },
            Err(error) => Input::ModelFailed { key, error },
        }
    }

    /// What an input says to a program that waits, before the state has taken it in.
    pub(super) fn reply(&self, state: &State, input: &Input) -> Option<Reply> {
        let cause = state.outstanding.get(input.key()?)?;
        let Work::CallModel { purpose: Purpose::Gateway(number), .. } = &cause.work else { return None };
        let said = match input {
            Input::Answered { answer, bill, requests, .. } => Ok(ChatAnswer {
                text: answer.text.clone(),
                calls: answer.raw_calls.clone(),
                stop: answer.stop,
                bill: bill.clone(),
                requests: *requests,
                reasoning: answer.reasoning.clone(),
            }),
            Input::ModelFailed { error, .. } => Err(self.refusal(error)),
            _ => return None,
        };
        Some(((cause.step.clone()?, *number), said))
    }

    /// Tells programs their answers, once the state has taken them in and before that is durable: a program does not
    /// outlive the engine, so a crash in between costs the reservation and nothing else.
    pub(super) fn tell_answers(&self, replies: &mut Vec<Reply>) {
        if replies.is_empty() {
            return;
        }
        let mut questions = lock(&self.questions);
        let (answers, rest): (Vec<Reply>, Vec<Reply>) =
            std::mem::take(replies).into_iter().partition(|(_, said)| said.is_ok());
        *replies = rest;
        for (whose, said) in answers {
            let Some(open) = questions.open.remove(&whose) else { continue };
            if let Ok(answer) = &said {
                questions.remember(answer);
            }
            // Who hung up is told nothing.
            let _ = open.reply.send(said);
        }
    }

    /// Tells programs, once it is durable, that there will be no answer.
    pub(super) fn tell_programs(&self, state: &State, replies: Vec<Reply>) {
        let mut questions = lock(&self.questions);
        let mut replies: HashMap<_, _> = replies.into_iter().collect();
        let over: Vec<(StepId, u64)> =
            questions.open.keys().filter(|(step, number)| !state.is_asking(step, *number)).cloned().collect();
        for whose in over {
            let Some(open) = questions.open.remove(&whose) else { continue };
            let said = replies.remove(&whose).unwrap_or_else(|| match state.limit_of(&whose.0) {
                Some(why) => Err(Refusal::Budget(why.to_owned())),
                None => Err(Refusal::Unknown),
            });
            let _ = open.reply.send(said);
        }
    }

    /// A failed call, as its program is told of it.
    fn refusal(&self, error: &ModelError) -> Refusal {
        let secrets: Vec<&str> = self.engine.secrets.iter().map(String::as_str).collect();
        let message = text::redact(&error.message, &secrets);
        match error.fault {
            ModelFault::TooLong => Refusal::TooLong(message),
            // The operator's to mend: asking again is of no use.
            ModelFault::Auth
            | ModelFault::Payment
            | ModelFault::NotFound
            | ModelFault::BadRequest
            | ModelFault::Unmatched => Refusal::Failed(400, message),
            ModelFault::RateLimited => Refusal::Failed(429, message),
            ModelFault::Unavailable => Refusal::Failed(503, message),
            ModelFault::Network | ModelFault::Protocol => Refusal::Failed(502, message),
            ModelFault::Timeout => Refusal::Failed(504, message),
        }
    }
}

impl Questions {
    fn remember(&mut self, answer: &ChatAnswer) {
        if answer.reasoning.is_empty() {
            return;
        }
        if self.thoughts.len() >= THOUGHTS {
            self.thoughts.clear();
        }
        for call in &answer.calls {
            self.thoughts.insert(call.id.clone(), answer.reasoning.clone());
        }
    }
}

/// A question as a request to a model.
fn request(model: &ModelRef, question: &Question, thoughts: &HashMap<String, Vec<Reasoning>>) -> ChatRequest {
    let mut messages = question.messages.clone();
    for message in &mut messages {
        if let Message::Assistant { calls, reasoning, .. } = message
            && reasoning.is_empty()
            && let Some(thought) = calls.first().and_then(|call| thoughts.get(&call.id))
        {
            reasoning.clone_from(thought);
        }
    }
    let mut sampling = question.sampling.clone();
    sampling.max_output = sampling.max_output.map(|most| most.clamp(1, model.max_output.max(1)));
    let max_output = sampling.max_output.unwrap_or(model.max_output);
    ChatRequest {
        model: ModelRef { max_output, ..model.clone() },
        messages,
        tools: question.tools.clone(),
        output_schema: question.output_schema.clone(),
        sampling,
        cache_marks: question.cache_marks.clone(),
        place: None,
    }
}

/// The most that a request can take.
struct Bounds {
    input_tokens: u64,
    max_output: u64,
    cost: Option<NanoUsd>,
}

impl Bounds {
    fn of(request: &ChatRequest) -> Self {
        let (input, output) = (agent::upper_bound_tokens(request), request.model.max_output);
        let cost = request.model.price.map(|price| price.at_most(input, output));
        Self { input_tokens: input, max_output: output, cost }
    }
}

#[cfg(test)]
mod tests;
