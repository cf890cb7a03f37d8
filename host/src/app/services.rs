//! Services: one plugin calls another by name, and lets it feed a source of its own.
//!
//! A call has two ends: the id that the caller chose, and the service's session. Either end's end is that of the other.

use std::sync::atomic::AtomicBool;

use patchbay_plugin_api::message::{CALL_WINDOW, Call, Credit, Demand, MAX_CALL, MAX_CALLS, PLUGIN_ID};

use super::*;

/// A conversation between a plugin and a service.
pub(super) struct Delegation {
    caller: Arc<Instance>,
    call: u64,
    provider: Arc<Instance>,
    session: u64,
    /// The source that the service feeds, and the caller's session that does too.
    source: Option<(u64, u64)>,
    /// Bytes behind calls, and behind answers, that were not taken yet.
    outstanding: [AtomicU64; 2],
    is_over: AtomicBool,
}

/// Index of [`Delegation::outstanding`].
const TO_PROVIDER: usize = 0;
const TO_CALLER: usize = 1;

impl Delegation {
    /// The source that the service feeds.
    pub(super) fn source(&self) -> Option<u64> {
        self.source.map(|(source, _)| source)
    }

    /// The caller has taken bytes behind answers.
    pub(super) fn caller_took(&self, credit: &Credit) {
        self.took(TO_CALLER, credit.bytes);
        self.provider.command(self.session, command::WRITABLE, credit);
    }

    fn took(&self, way: usize, bytes: u64) {
        if let Some(outstanding) = self.outstanding.get(way) {
            let less = |held: u64| Some(held.saturating_sub(bytes));
            let _ = outstanding.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Sends a call or answer on when the window of its bytes is open.
    fn forward(&self, way: usize, payload: &[u8]) -> Code {
        if self.is_over.load(Ordering::Relaxed) {
            return Code::Closed;
        }
        if payload.len() > MAX_CALL {
            return Code::OverLimit;
        }
        let Some((_, bytes)) = message::split_bytes(payload) else { return Code::Invalid };
        if let (Some(bytes), Some(outstanding)) = (bytes, self.outstanding.get(way)) {
            let more = |held: u64| (held < CALL_WINDOW).then_some(held + bytes.len() as u64);
            if outstanding.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
                return Code::Busy;
            }
        }
        let payload = Bytes::copy_from_slice(payload);
        match way {
            TO_PROVIDER => self.provider.command_bytes(self.session, command::CALL, payload),
            _ => self.caller.command_bytes(self.call, command::ANSWER, payload),
        }
        Code::Ok
    }
}

impl App {
    /// A plugin calls a service.
    pub(super) fn call_event(self: &Arc<Self>, caller: &Arc<Instance>, id: u64, payload: &[u8]) -> Code {
        let known = self.sessions.read().get(&(caller.ctx, id)).cloned();
        match known {
            Some(Target::Call(delegation)) => delegation.forward(TO_PROVIDER, payload),
            Some(_) => Code::Invalid,
            None if id & PLUGIN_ID == 0 || payload.len() > MAX_CALL => Code::Invalid,
            None => {
                let Ok(call) = serde_json::from_slice::<Call>(payload) else { return Code::Invalid };
                if call.service.is_empty() {
                    // It belongs to a conversation that is over.
                    return Code::Unknown;
                }
                if let Err(ended) = self.open_service(caller, id, call) {
                    caller.command(id, command::REFUSED, &ended);
                }
                Code::Ok
            }
        }
    }

    fn open_service(self: &Arc<Self>, caller: &Arc<Instance>, id: u64, call: Call) -> Result<(), Ended> {
        let failed = |class, message: String| Ended { class, message, retry_after_ms: 0 };
        let service = &call.service;
        let catalogue = self.catalogue();
        let entry = catalogue.service(service).ok_or_else(|| {
            failed(Class::Unsupported, format!("no plugin gives the service {service}: is one missing?"))
        })?;
        let name = &entry.manifest.name;
        if !entry.enabled {
            let message = format!("the service {service} is that of plugin {name}, which is switched off");
            return Err(failed(Class::Unsupported, message));
        }
        let calls = |sessions: &HashMap<(u64, u64), Target>| {
            let own = sessions.iter().filter(|((ctx, _), _)| *ctx == caller.ctx);
            own.filter(|(_, target)| matches!(target, Target::Call(_))).count()
        };
        if calls(&self.sessions.read()) >= MAX_CALLS {
            return Err(failed(Class::Busy, format!("more than {MAX_CALLS} calls of services")));
        }
        let source = match call.session {
            0 => None,
            own => match self.sessions.read().get(&(caller.ctx, own)) {
                Some(Target::Feed(source)) => Some((*source, own)),
                _ => return Err(failed(Class::NotFound, format!("session {own} is no source"))),
            },
        };
        // A process of its own is started again, what failed in this one stays failed.
        let class = if self.is_isolated(entry) { Class::Timeout } else { Class::Unsupported };
        let provider = self.instance(name).map_err(|reason| failed(class, reason))?;
        let session = self.next_session.fetch_add(1, Ordering::Relaxed);
        if let Some((source, own)) = source
            && !self.source(source).is_some_and(|source| source.join(own, session))
        {
            let message = "the source has ended, or is fed by two services already".to_owned();
            return Err(failed(Class::Busy, message));
        }
        let delegation = Arc::new(Delegation {
            caller: Arc::clone(caller),
            call: id,
            provider: Arc::clone(&provider),
            session,
            source,
            outstanding: Default::default(),
            is_over: AtomicBool::new(false),
        });
        {
            let mut sessions = self.sessions.write();
            sessions.insert((caller.ctx, id), Target::Call(Arc::clone(&delegation)));
            sessions.insert((provider.ctx, session), Target::Service(delegation));
        }
        let open = message::ServiceOpen {
            service: call.service,
            method: call.method,
            value: call.value,
            caller: caller.manifest.name.clone(),
            feeds: source.is_some(),
        };
        provider.open(session, role::SERVICE, &open);
        Ok(())
    }

    /// A service says something.
    pub(super) fn service_event(
        self: &Arc<Self>,
        delegation: &Delegation,
        kind: u32,
        payload: &[u8],
    ) -> Code {
        match (kind, delegation.source) {
            (event::ANSWER, _) => delegation.forward(TO_CALLER, payload),
            (event::CONSUMED, _) => {
                let credit: Credit = json(payload);
                delegation.took(TO_PROVIDER, credit.bytes);
                delegation.caller.command(delegation.call, command::WRITABLE, &credit);
                Code::Ok
            }
            (event::TRACKS | event::TRACK | event::CLOCK, Some((source, _))) => {
                self.feed_event(delegation.session, source, kind, payload)
            }
            _ => Code::Unsupported,
        }
    }

    /// A service has ended by itself, or its plugin has.
    pub(super) fn service_ended(&self, delegation: &Delegation, ended: &Ended) {
        if delegation.is_over.swap(true, Ordering::Relaxed) {
            return;
        }
        self.sessions.write().remove(&(delegation.caller.ctx, delegation.call));
        self.leave_source(delegation);
        delegation.caller.command(delegation.call, command::REFUSED, ended);
    }

    /// Whoever called a service wants no more of it.
    pub(super) fn caller_left(&self, delegation: &Delegation) {
        if delegation.is_over.swap(true, Ordering::Relaxed) {
            return;
        }
        self.leave_source(delegation);
        delegation.provider.close(delegation.session);
    }

    /// A session that feeds a source is over, and with it what it has called for that source.
    pub(super) fn end_calls_of(&self, ctx: u64, session: u64) {
        let calls: Vec<Arc<Delegation>> = {
            let sessions = self.sessions.read();
            let of = |target: &Target| match target {
                Target::Call(delegation) if delegation.caller.ctx == ctx => {
                    delegation.source.is_some_and(|(_, own)| own == session).then(|| Arc::clone(delegation))
                }
                _ => None,
            };
            sessions.values().filter_map(of).collect()
        };
        for delegation in calls {
            self.sessions.write().remove(&(ctx, delegation.call));
            let message = "the source behind the call has ended".to_owned();
            let ended = Ended { class: Class::Eof, message, retry_after_ms: 0 };
            delegation.caller.command(delegation.call, command::REFUSED, &ended);
            self.caller_left(&delegation);
        }
    }

    fn leave_source(&self, delegation: &Delegation) {
        let Some((id, _)) = delegation.source else { return };
        let Some((known, told)) = self.source(id).and_then(|source| source.leave(delegation.session)) else {
            return;
        };
        // With nothing left the source is about to end, or the service to be called again.
        if !known.is_empty() {
            let now = self.now();
            self.core.lock().tracks(now, id, known, told);
            self.news.notify_one();
        }
    }

    /// The services that feed a source: their plugins and sessions.
    pub(super) fn services_of(&self, source: u64) -> Vec<(Arc<Instance>, u64)> {
        if !self.source(source).is_some_and(|source| source.is_delegated()) {
            return Vec::new();
        }
        let of = |target: &Target| match target {
            Target::Service(delegation) if delegation.source() == Some(source) => {
                Some((Arc::clone(&delegation.provider), delegation.session))
            }
            _ => None,
        };
        self.sessions.read().values().filter_map(of).collect()
    }

    /// The service with this session, when it feeds the source.
    pub(super) fn service_of(&self, source: u64, session: u64) -> Option<(Arc<Instance>, u64)> {
        self.services_of(source).into_iter().find(|(_, of)| *of == session)
    }

    /// Tells the services that feed a source what is wanted of them.
    pub(super) fn tell_services(&self, id: u64, demand: &Demand) {
        for (provider, session) in self.services_of(id) {
            if let Some(demand) = self.source(id).and_then(|source| source.demand_of(session, demand)) {
                provider.command(session, command::DEMAND, &demand);
            }
        }
    }
}
