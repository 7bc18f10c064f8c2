//! Who answers the programs in steps' sandboxes: each question is journaled, paid from the run's budget and only then
//! asked; each answer is durable before the program has it.

use super::perform::Trouble;
use super::session::{Session, lock};
use crate::agent;
use crate::model::chat::{Answer, ChatAnswer, ChatRequest, ModelError, ModelFault, ModelRef};
use crate::model::id::{EffectKey, StepId};
use crate::model::journal::Input;
use crate::model::plan::PlanStep;
use crate::model::usage::Usage;
use crate::port::gateway::{Desk, Question, Refusal};
use crate::run::State;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{mpsc, oneshot};

/// Something that comes from a step's sandbox, on its way to the loop.
pub(super) enum Call {
    /// A question.
    Ask {
        step: StepId,
        question: Box<Question>,
        heard: mpsc::UnboundedSender<String>,
        answer: oneshot::Sender<Result<ChatAnswer, Refusal>>,
    },
    /// Something that was refused.
    Refused { step: StepId, what: String, why: String },
}

/// A question on its way to a model, or its answer on the way back.
pub(super) struct Open {
    request: ChatRequest,
    heard: mpsc::UnboundedSender<String>,
    answer: oneshot::Sender<Result<ChatAnswer, Refusal>>,
    got: Option<Result<ChatAnswer, Refusal>>,
}

/// The questions of all steps that are open, by step and number.
pub(super) type Questions = Mutex<HashMap<(StepId, u64), Open>>;

/// The desk of one step at work.
pub(super) struct StepDesk {
    step: StepId,
    token: String,
    model: String,
    /// Gone once the run has ended.
    session: Weak<Session>,
}

impl StepDesk {
    pub(super) fn new(session: &Arc<Session>, step: &PlanStep, model: &str, token: &str) -> Self {
        Self {
            step: step.id.clone(),
            token: token.to_owned(),
            model: model.to_owned(),
            session: Arc::downgrade(session),
        }
    }

    fn send(&self, call: Call) -> Result<(), Refusal> {
        let session = self.session.upgrade().ok_or(Refusal::Unknown)?;
        session.calls.send(call).map_err(|_| Refusal::Unknown)
    }
}

#[async_trait]
impl Desk for StepDesk {
    fn knows(&self, token: &str) -> bool {
        // Each byte is looked at, whichever is the first to differ.
        let differing = token.bytes().zip(self.token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        token.len() == self.token.len() && differing == 0
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
        let (said, mut saying) = mpsc::unbounded_channel();
        let (answer, mut answered) = oneshot::channel();
        self.send(Call::Ask { step: self.step.clone(), question: Box::new(question), heard: said, answer })?;
        loop {
            tokio::select! {
                biased;
                Some(text) = saying.recv() => heard(&text),
                // Whoever forgets a question does so because its step has ended.
                done = &mut answered => return done.unwrap_or_else(|_| Err(budget())),
            }
        }
    }

    async fn refused(&self, token: &str, what: &str, why: &str) {
        if self.knows(token) {
            let call = Call::Refused { step: self.step.clone(), what: what.to_owned(), why: why.to_owned() };
            let _ = self.send(call);
        }
    }

    fn model(&self, _token: &str) -> String {
        self.model.clone()
    }
}

fn budget() -> Refusal {
    Refusal::Budget("the budget of this step does not allow the call, or the step has ended".to_owned())
}

impl Session {
    /// What a call from a sandbox means to the run; `None` where its step is not at work.
    pub(super) fn hear(&self, state: &State, call: Call) -> Option<Input> {
        match call {
            Call::Refused { step, what, why } => Some(Input::AskRefused { step, what, why }),
            Call::Ask { step, question, heard, answer } => {
                let index = state.index(&step)?;
                let model = state.agent_spec(index)?.models.get(state.steps.get(index)?.model)?;
                let request = request(model, *question);
                let input_tokens = agent::upper_bound_tokens(&request);
                let max_output = request.sampling.max_output.unwrap_or(model.max_output).min(model.max_output);
                let cost = model
                    .price
                    .map(|price| price.of(&Usage { input: input_tokens, output: max_output, ..Usage::default() }));
                let request_hash = agent::request_hash(&request);
                let number = state.steps.get(index)?.questions + 1;
                let input = Input::Asked { step: step.clone(), number, input_tokens, max_output, cost, request_hash };
                if state.expects(&input) {
                    lock(&self.questions).insert((step, number), Open { request, heard, answer, got: None });
                    return Some(input);
                }
                None
            }
        }
    }

    /// Asks a model what a program asked for. The program gets the answer once it is in the journal.
    pub(super) async fn ask_for_program(
        self: &Arc<Self>,
        key: EffectKey,
        step: StepId,
        number: u64,
    ) -> Result<Input, Trouble> {
        let place = (step, number);
        let open = lock(&self.questions).get(&place).map(|open| (open.request.clone(), open.heard.clone()));
        let (request, said) = open.ok_or_else(|| Trouble::bug("a question that nobody asked"))?;
        let heard = move |text: &str| {
            let _ = said.send(text.to_owned());
        };
        let (input, got) = match self.engine.models.ask(&request, &heard).await {
            Ok(answer) => {
                let bill = answer.bill.clone();
                let input = Input::Answered { key, answer: noted(&answer), bill, requests: answer.requests };
                (input, Ok(answer))
            }
            Err(error) => {
                let refusal = match error.fault {
                    ModelFault::TooLong => Refusal::TooLong(error.message.clone()),
                    _ => Refusal::Failed(status(&error), error.message.clone()),
                };
                (Input::ModelFailed { key, error }, Err(refusal))
            }
        };
        if let Some(open) = lock(&self.questions).get_mut(&place) {
            open.got = Some(got);
        }
        Ok(input)
    }

    /// After a commit: hands over the answers that are durable, and forgets the questions of steps that have ended.
    pub(super) fn answer_programs(&self, state: &State) {
        let mut questions = lock(&self.questions);
        let waiting: Vec<(StepId, u64)> = questions.keys().cloned().collect();
        for place in waiting {
            let running = state.step(&place.0).is_some_and(|step| step.is_running()) && state.ending.is_none();
            if !running || !state.question_is_open(&place.0, place.1) {
                let Some(open) = questions.remove(&place) else { continue };
                let _ = open.answer.send(open.got.filter(|_| running).unwrap_or_else(|| Err(budget())));
            }
        }
    }
}

/// A question for the model that the run has chosen.
fn request(model: &ModelRef, question: Question) -> ChatRequest {
    ChatRequest {
        model: model.clone(),
        messages: question.messages,
        tools: question.tools,
        output_schema: question.output_schema,
        sampling: question.sampling,
        cache_marks: question.cache_marks,
    }
}

/// An answer for the journal. Its calls are the program's own: none of them is carried out here.
fn noted(answer: &ChatAnswer) -> Answer {
    Answer {
        text: answer.text.clone(),
        calls: Vec::new(),
        raw_calls: answer.calls.clone(),
        stop: answer.stop,
        conclusion: None,
        reasoning: answer.reasoning.clone(),
    }
}

/// The HTTP status that tells a program what kind of failure it is.
fn status(error: &ModelError) -> u16 {
    match error.fault {
        ModelFault::RateLimited => 429,
        ModelFault::BadRequest => 400,
        ModelFault::TooLong => 413,
        ModelFault::Timeout => 504,
        // Wrong keys and empty accounts are the operator's: the program can do nothing about them.
        ModelFault::Auth | ModelFault::Payment | ModelFault::NotFound => 424,
        ModelFault::Unavailable | ModelFault::Network | ModelFault::Protocol | ModelFault::Unmatched => 502,
    }
}
