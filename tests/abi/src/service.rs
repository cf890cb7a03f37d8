//! Role `service`, and a source that calls it. `feed` feeds the caller's source as `{"behaviour": WORD}` says; every further
//! message comes back.

use std::sync::Arc;

use patchbay_sdk::service::{Request, Session};
use patchbay_sdk::{Error, Service, source as sdk_source};

use crate::{Behaviour, Fixture, source};

/// Length of the messages that the calling source sends, in bytes: together they are more than a window.
const MESSAGE: usize = 100_000;

impl Service for Fixture {
    async fn serve(self: Arc<Self>, request: Request, mut session: Session) -> Result<(), Error> {
        let behaviour =
            Behaviour::of(request.value.get("behaviour").and_then(|b| b.as_str()).unwrap_or_default());
        behaviour.panic_if(Behaviour::PanicOpen);
        let answers = session.answers();
        let feeding = session.source().filter(|_| request.method == "feed");
        let feeding = async {
            match feeding {
                Some(feeding) => source::play(behaviour, feeding).await,
                None => std::future::pending().await,
            }
        };
        let echoing = async {
            loop {
                let message = session.next().await?;
                match message.bytes {
                    Some(bytes) => answers.send_bytes(&message.method, &message.value, &bytes).await?,
                    None => answers.send(&message.method, &message.value)?,
                }
            }
        };
        tokio::select! {
            ended = feeding => ended,
            ended = echoing => ended,
        }
    }
}

/// Has the service feed this source, and sends it messages that must come back whole and in order.
pub async fn delegate(session: &sdk_source::Session) -> Result<(), Error> {
    let mut service = session.call("fixture", "feed", &serde_json::json!({"behaviour": "ok"}))?;
    let calls = service.calls();
    let sending = async {
        for number in 0_u64.. {
            let bytes = vec![u8::try_from(number % 251).unwrap_or(0); MESSAGE];
            calls.send_bytes("echo", &number, &bytes).await?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    };
    let hearing = async {
        for number in 0_u64.. {
            let message = service.next().await?;
            let expected = u8::try_from(number % 251).unwrap_or(0);
            let whole = message
                .bytes
                .is_some_and(|bytes| bytes.len() == MESSAGE && bytes.iter().all(|byte| *byte == expected));
            if message.value != number || !whole {
                return Err(Error::protocol(format!("fixture: message {number} came back as another")));
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = sending => ended,
        ended = hearing => ended,
        () = session.closed() => Ok(()),
    }
}
