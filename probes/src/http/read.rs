//! Reading what is behind an address, for what it says rather than for how long it takes.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::CONTENT_ENCODING;

use super::exchange::ExchangeError;
use super::{HttpProbe, broken, status};
use crate::sample::{Failure, Reason};
use crate::tcp::no_answer;

/// What is asked for, and by whom.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// Which form of the answer.
    pub accept: &'a str,
    /// A token for who asks for one; it is in no message.
    pub bearer: Option<&'a str>,
}

impl HttpProbe {
    /// Reads the text behind this address, in pieces of any length, at most `longest` bytes of it. Nothing but a plain 200
    /// is an answer. What was taken before a failure is of no use.
    pub async fn read(
        &self,
        wish: Wish<'_>,
        deadline: Duration,
        longest: usize,
        take: impl FnMut(&[u8]) + Send,
    ) -> Result<(), Failure> {
        let read = async {
            let (answer, _) = self.ask(deadline, Some(wish)).await?;
            if answer.status.is_redirection() {
                return Err(status("it redirects, which is not followed: status", &answer));
            }
            if answer.status != StatusCode::OK {
                return Err(status("the answer's status is", &answer));
            }
            if answer.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
                return Err(Failure::new(
                    Reason::Protocol,
                    "the answer is compressed, which was not asked for",
                ));
            }
            answer.pieces(longest, take).await.map_err(|error| match error {
                ExchangeError::Http(error) => broken(&error),
                error @ ExchangeError::TooLong(_) => Failure::new(Reason::Protocol, error.to_string()),
            })
        };
        match tokio::time::timeout(deadline, read).await {
            Ok(result) => result,
            Err(_) => Err(no_answer(deadline)),
        }
    }
}
