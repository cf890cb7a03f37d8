//! When a plugin's process that died is started again.

use std::collections::VecDeque;
use std::time::Duration;

/// A process that lived so long has earned a fresh start.
const SETTLED: Duration = Duration::from_secs(60);

/// How fast, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// First and longest wait.
    pub backoff: (Duration, Duration),
    /// So many deaths within so long, and it stays down.
    pub breaker: Option<(u32, Duration)>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            backoff: (Duration::from_millis(200), Duration::from_secs(60)),
            breaker: Some((5, Duration::from_secs(600))),
        }
    }
}

impl Policy {
    /// Reads `backoff: 200ms..60s` and `breaker: 5/10m` or `off`; what is absent keeps its default.
    pub fn parse(backoff: Option<&str>, breaker: Option<&str>) -> Result<Self, String> {
        let mut policy = Self::default();
        if let Some(text) = backoff {
            let (first, last) = text.split_once("..").unwrap_or((text, text));
            let read = |text| duration(text).filter(|d| !d.is_zero());
            policy.backoff = match (read(first), read(last)) {
                (Some(first), Some(last)) if first <= last => (first, last),
                _ => return Err(format!("backoff {text:?} is not understood: write 200ms..60s")),
            };
        }
        if let Some(text) = breaker.filter(|text| *text != "off" && *text != "false") {
            let parts = text.split_once('/').and_then(|(n, t)| Some((n.trim().parse().ok()?, duration(t)?)));
            policy.breaker = Some(
                parts
                    .filter(|(n, _)| *n > 0)
                    .ok_or(format!("breaker {text:?} is not understood: write 5/10m or off"))?,
            );
        } else if breaker.is_some() {
            policy.breaker = None;
        }
        Ok(policy)
    }
}

/// `200ms`, `60s`, `10m`.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

/// Deaths of one plugin's processes. Times count from any fixed instant.
#[derive(Debug, Default)]
pub struct Deaths {
    times: VecDeque<Duration>,
    wait: Duration,
    started: Duration,
    /// All there ever were.
    pub total: u64,
}

impl Deaths {
    /// A process was started.
    pub fn started(&mut self, now: Duration) {
        self.started = now;
    }

    /// A process died at `now`.
    pub fn died(&mut self, now: Duration, policy: &Policy) {
        self.total += 1;
        let lived = now.saturating_sub(self.started);
        self.wait = if lived >= SETTLED || self.times.is_empty() {
            policy.backoff.0
        } else {
            (self.wait * 2).clamp(policy.backoff.0, policy.backoff.1)
        };
        self.times.push_back(now);
        let keep = policy.breaker.map_or(1, |(count, _)| count as usize);
        while self.times.len() > keep {
            self.times.pop_front();
        }
    }

    /// Whether a process may be started, else how long to wait; `Err(None)`: not before the user acts.
    pub fn may_start(&self, now: Duration, policy: &Policy) -> Result<(), Option<Duration>> {
        let Some(last) = self.times.back() else { return Ok(()) };
        if let (Some((count, within)), Some(first)) = (policy.breaker, self.times.front())
            && self.times.len() >= count as usize
            && last.saturating_sub(*first) <= within
        {
            return Err(None);
        }
        let due = *last + self.wait;
        if now >= due { Ok(()) } else { Err(Some(due - now)) }
    }

    /// The user wants it back.
    pub fn forgive(&mut self) {
        self.times.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_the_breaker_opens() {
        let policy = Policy::default();
        let mut deaths = Deaths::default();
        let mut now = Duration::from_secs(100);
        let mut waits = Vec::new();
        for _ in 0..4 {
            deaths.started(now);
            now += Duration::from_secs(1);
            deaths.died(now, &policy);
            let wait = deaths.may_start(now, &policy).unwrap_err().unwrap();
            assert_eq!(deaths.may_start(now + wait, &policy), Ok(()));
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits, [200, 400, 800, 1600]);
        deaths.died(now, &policy);
        assert_eq!(deaths.may_start(now + Duration::from_secs(3600), &policy), Err(None));
        deaths.forgive();
        assert_eq!(deaths.may_start(now, &policy), Ok(()));
    }

    #[test]
    fn without_a_breaker_it_never_gives_up_and_a_long_life_counts() {
        let policy = Policy::parse(Some("100ms..1s"), Some("off")).unwrap();
        let mut deaths = Deaths::default();
        let mut now = Duration::ZERO;
        for _ in 0..1000 {
            deaths.started(now);
            deaths.died(now, &policy);
            now += deaths.may_start(now, &policy).unwrap_err().unwrap();
        }
        assert_eq!(deaths.may_start(now, &policy), Ok(()));
        deaths.started(now);
        now += SETTLED;
        deaths.died(now, &policy);
        assert_eq!(deaths.may_start(now, &policy), Err(Some(Duration::from_millis(100))));
    }

    #[test]
    fn settings_are_read() {
        assert_eq!(Policy::parse(None, None), Ok(Policy::default()));
        let policy = Policy::parse(Some("50ms..2m"), Some("3/30s")).unwrap();
        assert_eq!(policy.backoff, (Duration::from_millis(50), Duration::from_secs(120)));
        assert_eq!(policy.breaker, Some((3, Duration::from_secs(30))));
        for (backoff, breaker) in
            [("x", "off"), ("2s..1s", "off"), ("0s", "off"), ("1s", "5"), ("1s", "0/1m")]
        {
            assert!(Policy::parse(Some(backoff), Some(breaker)).is_err(), "{backoff} {breaker}");
        }
    }
}
