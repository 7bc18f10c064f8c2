//! Tokens of the server that started this process: asked for when they are needed, kept until five minutes before their
//! end, asked for anew where the forge refuses one.

use super::app::SPARE_MS;
use super::token::{Fresh, TokenSource};
use crate::adapter::lending::Lender;
use crate::port::clock::Clock;
use crate::port::forge::ForgeError;
use async_trait::async_trait;
use secrecy::SecretString;
use std::sync::Arc;
use tokio::sync::Mutex;

pub(super) struct LentTokens {
    lender: Arc<Lender>,
    clock: Arc<dyn Clock>,
    now: Mutex<Option<Fresh>>,
}

impl LentTokens {
    pub(super) fn new(lender: Arc<Lender>, clock: &Arc<dyn Clock>) -> Self {
        Self { lender, clock: Arc::clone(clock), now: Mutex::default() }
    }

    async fn ask(&self, now: &mut Option<Fresh>, refused: Option<&str>) -> Result<Fresh, ForgeError> {
        let (token, until_ms) = self.lender.ask(refused).await.map_err(|message| ForgeError::Unavailable {
            doing: "asking the server for a token".to_owned(),
            message,
        })?;
        let fresh = Fresh { token, until_ms };
        *now = Some(fresh.clone());
        Ok(fresh)
    }
}

#[async_trait]
impl TokenSource for LentTokens {
    async fn token(&self) -> Result<Fresh, ForgeError> {
        let mut now = self.now.lock().await;
        match &*now {
            Some(fresh) if fresh.until_ms.is_none_or(|until| until - SPARE_MS > self.clock.now_ms()) => {
                Ok(fresh.clone())
            }
            _ => self.ask(&mut now, None).await,
        }
    }

    async fn renew(&self, refused: &Fresh) -> bool {
        let mut now = self.now.lock().await;
        let other = |fresh: &Fresh| fresh.text() != refused.text();
        // Somebody else may have been refused, and have asked, already.
        now.as_ref().is_some_and(other) || self.ask(&mut now, Some(refused.text())).await.is_ok_and(|it| other(&it))
    }

    fn known(&self) -> Option<SecretString> {
        None
    }
}
