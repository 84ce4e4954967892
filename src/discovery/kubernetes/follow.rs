//! One kind of object, listed once and then watched, for as long as anybody wants to hear of it.
//!
//! kube has a `watcher` for this. It goes on at once after whatever happens, counts a server that closes every watch as
//! well, and swallows the bookmarks by which one tells a quiet cluster from a dead connection; what is said here is said
//! with limits, once a reason, and every wait has an end.
//!
//! A list gives a version, and a watch tells all that happened since. A watch that ends is taken up where it was. When the
//! server has forgotten that version (410), or a watch cannot be opened again and again, there is a new list; until it is
//! there, nothing is taken back.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::{Request, Status};
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::Pace;
use super::object::{Object, Page};
use super::picture::Change;

/// Objects in a page. client-go asks for as many.
const PAGE: u32 = 500;
/// More pages than any cluster has: a server that never ends its list must not fill our memory.
const MOST_PAGES: u32 = 1_000;
/// That a watch is cut off, or its version forgotten, is normal now and then. So many times in a row, it is not.
const STUMBLES: u32 = 3;
/// After so many failures in a row, the version is suspected.
const SUSPECT: u32 = 4;
const LONGEST_TEXT: usize = 200;

/// What one follower tells.
#[derive(Debug)]
pub(super) enum Told<T> {
    Changed(Change<T>),
    /// The role may not do this; the text says who may not do what.
    Denied(String),
    /// It does not work, for this reason.
    Failed(String),
    /// It has worked for a while.
    Well,
}

/// What is followed, and how.
#[derive(Clone)]
pub(super) struct Followed {
    pub(super) client: Client,
    pub(super) path: String,
    pub(super) selector: Option<String>,
    pub(super) pace: Pace,
}

/// Where a follower tells it, in the listener's words.
struct Voice<W, M> {
    wrap: W,
    to: Sender<M>,
}

impl<W, M> Voice<W, M> {
    /// Whether anybody still listens.
    async fn tell<T>(&self, told: Told<T>) -> bool
    where
        W: Fn(Told<T>) -> M,
    {
        let message = (self.wrap)(told);
        self.to.send(message).await.is_ok()
    }
}

/// Why a list or a watch is over.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The server closed it, or it fell silent.
    Closed,
    /// The server does not know our version any more.
    Forgotten,
    Denied(String),
    Failed {
        cause: String,
        wait: Duration,
    },
}

impl Followed {
    /// Until the receiver is gone, or this is dropped.
    pub(super) async fn follow<T: Object, M: Send>(self, wrap: impl Fn(Told<T>) -> M, to: Sender<M>) {
        let mut version: Option<String> = None;
        let mut tries = 0_u32;
        let voice = Voice { wrap, to };
        loop {
            let mut calm = false;
            let end = match self.once(&mut version, &mut calm, &voice).await {
                Some(end) => end,
                None => return,
            };
            tries = if calm { 1 } else { tries.saturating_add(1) };
            let mut pause = self.backoff(tries);
            let told = match end {
                End::Closed => {
                    (tries >= STUMBLES).then(|| Told::Failed("every watch is closed at once".to_owned()))
                }
                End::Forgotten => {
                    version = None;
                    (tries >= STUMBLES)
                        .then(|| Told::Failed("every version is too old at once (410)".to_owned()))
                }
                End::Denied(text) => {
                    // Where a list is allowed and a watch is not, the list is what is left.
                    version = None;
                    pause = jittered(self.pace.denied);
                    Some(Told::Denied(text))
                }
                End::Failed { cause, wait } => {
                    pause = pause.max(wait.min(self.pace.retry_at_most));
                    Some(Told::Failed(cause))
                }
            };
            if tries.is_multiple_of(SUSPECT) {
                version = None;
            }
            if let Some(told) = told
                && !voice.tell(told).await
            {
                return;
            }
            sleep(pause).await;
        }
    }

    /// A list if there is no version, and then one watch until it ends. `None` when nobody listens any more.
    async fn once<T: Object, M: Send>(
        &self,
        version: &mut Option<String>,
        calm: &mut bool,
        voice: &Voice<impl Fn(Told<T>) -> M, M>,
    ) -> Option<End> {
        if version.is_none() {
            match self.list().await {
                Ok((objects, listed)) => {
                    *version = Some(listed);
                    if !voice.tell(Told::Changed(Change::All(objects))).await {
                        return None;
                    }
                }
                Err(end) => return Some(end),
            }
        }
        let version = version.as_mut()?;
        let params = WatchParams {
            label_selector: self.selector.clone(),
            timeout: Some(u32::try_from(self.pace.watch.as_secs().max(1)).unwrap_or(u32::MAX)),
            bookmarks: true,
            ..WatchParams::default()
        };
        let Ok(request) = Request::new(self.path.as_str()).watch(&params, version) else {
            return Some(failed("cannot be asked for"));
        };
        let opened = match timeout(self.pace.answer, self.client.request_events::<T>(request)).await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return Some(end_of(&error)),
            Err(_) => return Some(failed("no answer in time")),
        };
        let mut events = pin!(opened);
        let mut settled = pin!(sleep(self.pace.calm));
        let mut over = pin!(sleep(self.pace.watch + self.pace.answer));
        loop {
            let event = tokio::select! {
                event = timeout(self.pace.quiet, events.try_next()) => event,
                () = &mut settled, if !*calm => {
                    *calm = true;
                    if !voice.tell(Told::Well).await {
                        return None;
                    }
                    continue;
                }
                () = &mut over => return Some(End::Closed),
            };
            let (change, seen) = match event {
                Ok(Ok(Some(WatchEvent::Added(mut object) | WatchEvent::Modified(mut object)))) => {
                    let seen = object.metadata().resource_version.take();
                    (Some(Change::Put(object)), seen)
                }
                Ok(Ok(Some(WatchEvent::Deleted(mut object)))) => {
                    let seen = object.metadata().resource_version.take();
                    (Some(Change::Gone(object)), seen)
                }
                Ok(Ok(Some(WatchEvent::Bookmark(mark)))) => (None, Some(mark.metadata.resource_version)),
                Ok(Ok(Some(WatchEvent::Error(status)))) => return Some(end_of_status(&status)),
                Ok(Err(error)) => return Some(end_of(&error)),
                Ok(Ok(None)) | Err(_) => return Some(End::Closed),
            };
            // Told first: what is not told must not be skipped.
            if let Some(change) = change
                && !voice.tell(Told::Changed(change)).await
            {
                return None;
            }
            if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
                *version = seen;
            }
        }
    }

    /// All of them, and the version that they are of.
    async fn list<T: Object>(&self) -> Result<(Vec<T>, String), End> {
        let mut objects = Vec::new();
        let mut next = None;
        for _ in 0..MOST_PAGES {
            let params = ListParams {
                label_selector: self.selector.clone(),
                limit: Some(PAGE),
                continue_token: next,
                ..ListParams::default()
            };
            let request = Request::new(self.path.as_str()).list(&params);
            let request = request.map_err(|_| failed("cannot be asked for"))?;
            // Not `request`, which logs the whole of what it cannot read.
            let text = match timeout(self.pace.answer, self.client.request_text(request)).await {
                Ok(Ok(text)) => text,
                Ok(Err(error)) => return Err(end_of(&error)),
                Err(_) => return Err(failed("no answer in time")),
            };
            let page: Page<T> = serde_json::from_str(&text).map_err(|_| failed("the answer is no list"))?;
            objects.extend(page.items);
            next = page.metadata.next.filter(|next| !next.is_empty());
            if next.is_none() {
                let version = page.metadata.resource_version.filter(|version| !version.is_empty());
                return version
                    .map(|version| (objects, version))
                    .ok_or_else(|| failed("the answer is a list without a version"));
            }
        }
        Err(failed("the list does not end"))
    }

    fn backoff(&self, tries: u32) -> Duration {
        let doubled = self.pace.retry_at_first.saturating_mul(1 << tries.saturating_sub(1).min(16));
        jittered(doubled.min(self.pace.retry_at_most))
    }
}

/// Between a half and the whole, so that agents that lost the server together do not come back together.
fn jittered(whole: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1_000;
    whole / 2 + whole.mul_f64(0.5 * f64::from(u16::try_from(random).unwrap_or_default()) / 1_000.0)
}

fn failed(cause: &str) -> End {
    End::Failed { cause: cause.to_owned(), wait: Duration::ZERO }
}

fn end_of_status(status: &Status) -> End {
    match status.code {
        410 => End::Forgotten,
        403 => End::Denied(for_people(&status.message)),
        401 => failed("401: the credentials are not valid"),
        code => {
            // The message may differ from one answer to the next, and then it would be said each time.
            let word = |letter: char| letter.is_ascii_alphabetic();
            let reason = Some(status.reason.as_str()).filter(|r| !r.is_empty() && r.chars().all(word));
            let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            End::Failed {
                cause: reason.map_or_else(|| code.to_string(), |reason| format!("{code} {reason}")),
                wait: Duration::from_secs(seconds.into()),
            }
        }
    }
}

fn end_of(error: &kube::Error) -> End {
    match error {
        kube::Error::Api(status) => end_of_status(status),
        // It was open, and is so no more.
        kube::Error::ReadEvents(_) => End::Closed,
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => failed("the answer is not of this API"),
        other => End::Failed { cause: cause(other), wait: Duration::ZERO },
    }
}

/// The innermost of an error's causes: `Connection refused`, `invalid peer certificate: UnknownIssuer`. What a credential
/// plug-in printed may be the credential.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    loop {
        let of_credentials = innermost.is::<kube::client::AuthError>()
            || matches!(innermost.downcast_ref(), Some(kube::Error::Auth(_)));
        if of_credentials {
            return "the credentials cannot be had".to_owned();
        }
        match innermost.source() {
            Some(source) => innermost = source,
            None => return for_people(&innermost.to_string()),
        }
    }
}

fn for_people(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(LONGEST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> Status {
        Status::failure(message, reason).with_code(code)
    }

    #[test]
    fn every_answer_that_is_none_has_its_own_end() {
        assert_eq!(end_of_status(&status(410, "Expired", "too old")), End::Forgotten);
        assert_eq!(end_of_status(&status(403, "Forbidden", "no\nway")), End::Denied("no way".into()));
        assert_eq!(end_of_status(&status(500, "InternalError", "id 17")), failed("500 InternalError"));
        assert_eq!(end_of_status(&status(502, "Failed to parse error data", "<html>")), failed("502"));
        let mut busy = status(429, "TooManyRequests", "later");
        busy.details = serde_json::from_str(r#"{"retryAfterSeconds":7}"#).unwrap();
        let wait = Duration::from_secs(7);
        assert_eq!(end_of_status(&busy), End::Failed { cause: "429 TooManyRequests".into(), wait });
    }

    #[test]
    fn an_error_about_credentials_says_nothing_of_them() {
        let error = kube::Error::Auth(kube::client::AuthError::AuthExec("hunter2".into()));
        assert_eq!(cause(&error), "the credentials cannot be had");
        let wrapped = kube::Error::Service(Box::new(error));
        assert_eq!(cause(&wrapped), "the credentials cannot be had");
    }

    #[test]
    fn what_a_server_writes_is_cut_and_has_no_line_breaks() {
        let text = for_people(&format!("a\r\n{}", "ü".repeat(1_000)));
        assert!(text.starts_with("a  ü") && text.chars().count() == LONGEST_TEXT);
    }

    #[test]
    fn jitter_never_takes_more_than_half_and_never_adds() {
        let whole = Duration::from_secs(10);
        assert!((0..100).map(|_| jittered(whole)).all(|d| d >= whole / 2 && d <= whole));
    }
}
