//! Whole answers of plugins' routes, asked once for all clients that want the same.
//!
//! A player of a live playlist waits for the same answer as all others. The question goes out once, lives as long as anybody
//! waits for it, and its answer is given again for as long as its `Cache-Control: max-age` says, 2 s at most.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

/// Longest time an answer is given again.
const MAX_KEEP: Duration = Duration::from_secs(2);

/// Answers that are kept at once; what comes then is not kept.
const MAX_KEPT: usize = 1024;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// The body, one piece behind the other.
    pub(crate) content: Vec<Bytes>,
    /// Clients may ask for ranges of it.
    pub(crate) ranges: bool,
}

impl Answer {
    /// A plain text, as the API's errors are.
    pub(crate) fn text(status: u16, message: &str) -> Self {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            status,
            headers: vec![
                header("content-type", "text/plain; charset=utf-8"),
                header("x-content-type-options", "nosniff"),
            ],
            content: vec![Bytes::from(format!("{message}\n"))],
            ranges: false,
        }
    }

    fn keep(&self) -> Duration {
        let control = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("cache-control"));
        let seconds = control.and_then(|(_, value)| {
            value.split(',').find_map(|part| part.trim().strip_prefix("max-age=")?.parse().ok())
        });
        seconds.map_or(Duration::ZERO, Duration::from_secs).min(MAX_KEEP)
    }
}

type Question = BoxFuture<'static, Arc<Answer>>;

enum Entry {
    Asked(WeakShared<Question>),
    Kept(Arc<Answer>, Instant),
}

impl Entry {
    fn is_over(&self) -> bool {
        match self {
            Self::Asked(question) => question.upgrade().is_none(),
            Self::Kept(_, until) => *until <= Instant::now(),
        }
    }
}

/// The questions under way and the answers kept.
#[derive(Default)]
pub(crate) struct Answers {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
}

impl Answers {
    /// The answer to `key`, from whoever asked already or by `ask`.
    pub(crate) fn get<F>(&self, key: String, ask: impl FnOnce() -> F) -> Shared<Question>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut entries = self.entries.lock();
        match entries.get(&key) {
            Some(Entry::Kept(answer, until)) if *until > Instant::now() => {
                let answer = Arc::clone(answer);
                let ready: Question = std::future::ready(answer).boxed();
                return ready.shared();
            }
            Some(Entry::Asked(question)) => {
                if let Some(question) = question.upgrade() {
                    return question;
                }
            }
            _ => {}
        }
        if entries.len() >= MAX_KEPT {
            entries.retain(|_, entry| !entry.is_over());
        }
        let (question, all, name) = (ask(), Arc::clone(&self.entries), key.clone());
        let question: Question = async move {
            let answer = Arc::new(question.await);
            let keep = answer.keep();
            let mut entries = all.lock();
            if keep.is_zero() || entries.len() > MAX_KEPT {
                entries.remove(&name);
            } else {
                entries.insert(name, Entry::Kept(Arc::clone(&answer), Instant::now() + keep));
            }
            answer
        }
        .boxed();
        let question = question.shared();
        if let Some(weak) = question.downgrade() {
            entries.insert(key, Entry::Asked(weak));
        }
        question
    }

    /// Forgets what is over, so that nothing is held when nobody asks any more.
    pub(crate) fn clean(&self) {
        self.entries.lock().retain(|_, entry| !entry.is_over());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn answer(control: &str) -> Answer {
        Answer { headers: vec![("cache-control".to_owned(), control.to_owned())], ..Answer::text(200, "x") }
    }

    #[tokio::test]
    async fn one_question_for_all_who_wait() {
        let (answers, asked) = (Answers::default(), Arc::new(AtomicU32::new(0)));
        let (open, gate) = tokio::sync::watch::channel(false);
        let ask = |control: &'static str| {
            let (asked, mut gate) = (Arc::clone(&asked), gate.clone());
            move || async move {
                asked.fetch_add(1, Ordering::SeqCst);
                let _ = gate.wait_for(|open| *open).await;
                answer(control)
            }
        };
        let waiting: Vec<_> = (0..50).map(|_| answers.get("a".to_owned(), ask("no-cache"))).collect();
        let all = futures_util::future::join_all(waiting);
        open.send_replace(true);
        assert_eq!(all.await.len(), 50);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        answers.get("a".to_owned(), ask("max-age=3600")).await;
        answers.get("a".to_owned(), ask("max-age=3600")).await;
        assert_eq!(asked.load(Ordering::SeqCst), 2, "the first was not to be kept, the second was");
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_is_dropped() {
        struct Flag(Arc<AtomicU32>);
        impl Drop for Flag {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (answers, dropped) = (Answers::default(), Arc::new(AtomicU32::new(0)));
        let flag = Flag(Arc::clone(&dropped));
        let waiting = answers.get("a".to_owned(), || async move {
            let _flag = flag;
            std::future::pending().await
        });
        assert!(waiting.clone().now_or_never().is_none());
        drop(waiting);
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        answers.clean();
        assert!(answers.entries.lock().is_empty());
    }
}
