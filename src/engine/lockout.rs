//! Credentials that the API does not accept for anything: told once, in the same words for all streams.

use std::{pin::Pin, sync::OnceLock};

use super::{
    answer::Answer,
    client::{Call, Client, Need},
    estimate::Price,
};
use crate::error::{Error, Kind, Result};
use crate::fetch::Request;

/// What is known of the credentials of a run.
#[derive(Debug, Default)]
pub(super) struct Lockout {
    /// Message and hint of the first failure, once the API is known to accept them for nothing.
    known: OnceLock<(String, Option<String>)>,
    /// Held while that is found out, so that many failures at once cost one request.
    testing: tokio::sync::Mutex<()>,
}

impl Lockout {
    /// The error of every stream, if the API accepts the credentials for nothing.
    pub(super) fn error(&self) -> Option<Error> {
        let (message, hint) = self.known.get()?;
        let error = Error::new(Kind::Credentials, message.clone());
        Some(match hint {
            Some(hint) => error.with_hint(hint.clone()),
            None => error,
        })
    }
}

impl Client {
    /// The error of a request that was refused because of its credentials: that of all streams, where the
    /// request that tests a connection is refused for the same reason.
    pub(super) async fn locked_out(&self, call: &Call<'_>, error: Error) -> Result<Error> {
        let _turn = self.unless_cancelled(self.lockout.testing.lock()).await?;
        if self.lockout.known.get().is_none() && self.test(call).await? == Some(false) {
            let message = format!("the API does not accept the credentials: {error}");
            let hint = error.hint().map(str::to_owned);
            self.lockout.known.get_or_init(|| (message, hint));
        }
        Ok(self.lockout.error().unwrap_or(error))
    }

    /// Whether the API accepts the credentials and answers, by the request that tests a connection.
    pub(super) async fn is_accepted(&self, call: &Call<'_>) -> Result<bool> {
        Ok(self.test(call).await? == Some(true))
    }

    /// Whether the API accepts the credentials, by that request; `None` where it does not tell, or the spec has
    /// none.
    fn test<'ask>(
        &'ask self,
        call: &'ask Call<'_>,
    ) -> Pin<Box<dyn Future<Output = Result<Option<bool>>> + Send + 'ask>> {
        Box::pin(async move {
            let Some(test) = &self.access.test else { return Ok(None) };
            let build = || Ok(Request::get(test.clone()));
            let price = Price { page: None, ..call.price };
            let probe = Call {
                child: false,
                need: Need::Firm,
                leaves: false,
                price,
                build: &build,
                shrink: &|| false,
                narrow: &|| false,
                ..*call
            };
            match self.ask(&probe, |_| Ok(((), 1))).await {
                Ok(Answer::Read(())) => Ok(Some(true)),
                Ok(_) => Ok(None),
                Err(error) => match error.kind() {
                    Kind::Interrupted | Kind::Paused => Err(error),
                    Kind::Credentials => Ok(Some(false)),
                    _ => Ok(None),
                },
            }
        })
    }
}
