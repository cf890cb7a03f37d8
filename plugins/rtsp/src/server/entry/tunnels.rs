//! HTTP tunnels that are open: which POST belongs to which GET.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::tunnel::Stream;

/// A POST may be a little earlier than its GET.
const EARLY_POST: Duration = Duration::from_secs(2);
/// POSTs of one tunnel that wait for the one before to end.
const POSTS: usize = 4;

/// The way up of a tunnel.
pub(super) struct Post {
    pub(super) stream: Box<dyn Stream>,
    /// What came behind its head.
    pub(super) first: BytesMut,
}

/// All tunnels, by cookie and the client's address: a stranger cannot join one by a guess.
#[derive(Default)]
pub(super) struct Tunnels {
    open: Arc<Mutex<HashMap<Key, mpsc::Sender<Post>>>>,
    opened: Notify,
}

type Key = (String, IpAddr);

/// An open tunnel: its POSTs. Closed when dropped.
pub(super) struct Posts {
    key: Key,
    open: Arc<Mutex<HashMap<Key, mpsc::Sender<Post>>>>,
    posts: mpsc::Receiver<Post>,
}

impl Tunnels {
    /// Opens a tunnel for a GET; `None` when there is one with this cookie.
    pub(super) fn open(&self, cookie: &str, from: IpAddr) -> Option<Posts> {
        let key = (cookie.to_owned(), from);
        let (sender, posts) = mpsc::channel(POSTS);
        let mut open = self.open.lock();
        if open.contains_key(&key) {
            return None;
        }
        open.insert(key.clone(), sender);
        drop(open);
        self.opened.notify_waiters();
        Some(Posts { key, open: Arc::clone(&self.open), posts })
    }

    /// Gives a POST to its tunnel, or back.
    pub(super) async fn post(&self, cookie: &str, from: IpAddr, post: Post) -> Result<(), Post> {
        let key = (cookie.to_owned(), from);
        let find = async {
            loop {
                let opened = self.opened.notified();
                tokio::pin!(opened);
                // Registered before the look, so that no tunnel is missed.
                opened.as_mut().enable();
                if let Some(sender) = self.open.lock().get(&key) {
                    return sender.clone();
                }
                opened.await;
            }
        };
        match timeout(EARLY_POST, find).await {
            Ok(sender) => sender.send(post).await.map_err(|error| error.0),
            Err(_) => Err(post),
        }
    }
}

impl Posts {
    /// The next POST.
    pub(super) async fn next(&mut self) -> Option<Post> {
        self.posts.recv().await
    }
}

impl Drop for Posts {
    fn drop(&mut self) {
        self.open.lock().remove(&self.key);
    }
}
