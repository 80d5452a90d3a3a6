//! The ways to misbehave.
//!
//! | text | what a caller sees | was the call carried out? |
//! | --- | --- | --- |
//! | `slow-<ms>` | the answer, this much later | yes, after the wait |
//! | `hang` | a connection that is open and silent | no |
//! | `<status>`, 400 to 599 | an error with that status | no |
//! | `half-head` | the connection closes in the middle of the answer's head | yes |
//! | `half-body` | the connection closes in the middle of the answer's body | yes |
//! | `not-http` | bytes that are no HTTP | no |
//! | `not-json` | 200 with a page of HTML | no |
//! | `wrong-shape` | 200 with JSON that means nothing, or with bytes of another hash | no |
//! | `too-large` | 200 with a body that does not end | no |
//! | `reset` | the connection is reset | no |
//!
//! A listener that is closed is no fault of a call: see [`TownServer::go_down`](crate::TownServer::go_down).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::call::Call;

/// A way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer, this much later.
    Slow(Duration),
    /// Silence, until the caller gives up.
    Hang,
    /// An error with this status.
    Status(u16),
    /// Half the head of the answer.
    HalfHead,
    /// Half the body of the answer.
    HalfBody,
    /// Noise.
    NotHttp,
    /// A page of HTML.
    NotJson,
    /// JSON that means nothing.
    WrongShape,
    /// A body without an end.
    TooLarge,
    /// A reset.
    Reset,
}

impl Fault {
    /// One of each, with a slow one of this length.
    pub fn each(slow: Duration) -> Vec<Self> {
        let mut each = vec![Self::Slow(slow), Self::Hang];
        each.extend([401, 500, 503].map(Self::Status));
        each.extend([Self::HalfHead, Self::HalfBody, Self::NotHttp, Self::NotJson]);
        each.extend([Self::WrongShape, Self::TooLarge, Self::Reset]);
        each
    }

    /// Whether a call may have been carried out although its caller got no good answer.
    pub fn loses_answers(self) -> bool {
        matches!(self, Self::Slow(_) | Self::HalfHead | Self::HalfBody)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(time) => write!(f, "slow-{}", time.as_millis()),
            Self::Hang => f.write_str("hang"),
            Self::Status(status) => write!(f, "{status}"),
            Self::HalfHead => f.write_str("half-head"),
            Self::HalfBody => f.write_str("half-body"),
            Self::NotHttp => f.write_str("not-http"),
            Self::NotJson => f.write_str("not-json"),
            Self::WrongShape => f.write_str("wrong-shape"),
            Self::TooLarge => f.write_str("too-large"),
            Self::Reset => f.write_str("reset"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::each(Duration::ZERO).into_iter().find(|fault| fault.to_string() == text);
        let slow = || text.strip_prefix("slow-")?.parse().ok().map(Duration::from_millis);
        let status = || text.parse().ok().filter(|status| (400..600).contains(status));
        known
            .or_else(|| slow().map(Self::Slow))
            .or_else(|| status().map(Self::Status))
            .ok_or_else(|| {
                format!(
                    "no such fault: {text:?}; there are slow-<ms>, hang, a status from 400 to 599, half-head, \
                     half-body, not-http, not-json, wrong-shape, too-large, reset"
                )
            })
    }
}

/// Which calls a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All that have no fault of their own.
    All,
    /// One.
    One(Call),
}

impl From<Call> for Which {
    fn from(call: Call) -> Self {
        Self::One(call)
    }
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::One) }
    }
}

/// Which faults are on.
#[derive(Debug, Default)]
pub struct Faults {
    all: Option<Planned>,
    one: BTreeMap<Call, Planned>,
    of_agents: BTreeMap<(String, Call), Planned>,
}

#[derive(Debug, Clone, Copy)]
struct Planned {
    fault: Fault,
    /// How often it will still happen; none: until it is taken back.
    left: Option<u32>,
}

impl Faults {
    /// From now on, for so many calls or until it is taken back.
    pub fn set(&mut self, which: Which, fault: Fault, times: Option<u32>) {
        let planned = Planned { fault, left: times };
        match which {
            Which::All => self.all = Some(planned),
            Which::One(call) => _ = self.one.insert(call, planned),
        }
    }

    /// From now on, until everything is taken back, for calls about this agent.
    pub fn set_for(&mut self, agent: &str, call: Call, fault: Fault) {
        self.of_agents.insert((agent.to_owned(), call), Planned { fault, left: None });
    }

    /// From now on well-behaved in these calls.
    pub fn clear(&mut self, which: Which) {
        match which {
            Which::All => *self = Self::default(),
            Which::One(call) => _ = self.one.remove(&call),
        }
    }

    /// The fault of a call that comes now, about this agent. Counts it.
    pub fn take(&mut self, call: Call, agent: Option<&str>) -> Option<Fault> {
        let of_agent = agent.and_then(|agent| self.of_agents.get_mut(&(agent.to_owned(), call)));
        if let Some(fault) = of_agent.and_then(Planned::take) {
            return Some(fault);
        }
        let of_one = self.one.get_mut(&call).and_then(Planned::take);
        of_one.or_else(|| self.all.as_mut()?.take())
    }
}

impl Planned {
    fn take(&mut self) -> Option<Fault> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        Some(self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_leads_back_to_its_fault() {
        for fault in Fault::each(Duration::from_millis(20)) {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        for none in ["", "slow-", "slow-x", "200", "down"] {
            assert!(none.parse::<Fault>().unwrap_err().contains("half-head"), "{none}");
        }
    }

    #[test]
    fn the_fault_of_one_call_goes_before_that_of_all_and_ends_when_it_happened_often_enough() {
        let mut faults = Faults::default();
        faults.set(Which::All, Fault::Hang, None);
        faults.set(Call::Heartbeat.into(), Fault::Reset, Some(1));
        faults.set_for("ann", Call::Completed, Fault::NotHttp);
        assert_eq!(faults.take(Call::Completed, Some("ann")), Some(Fault::NotHttp));
        assert_eq!(faults.take(Call::Completed, Some("bob")), Some(Fault::Hang));
        assert_eq!(faults.take(Call::Heartbeat, Some("ann")), Some(Fault::Reset));
        assert_eq!(faults.take(Call::Heartbeat, None), Some(Fault::Hang));
        faults.clear(Which::All);
        assert_eq!(faults.take(Call::Heartbeat, None), None);
        assert_eq!(faults.take(Call::Completed, Some("ann")), None);
    }
}
