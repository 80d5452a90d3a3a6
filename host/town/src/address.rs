//! What the paths of the town API are made of.

use std::fmt::Write as _;

use bulkhead_net::BaseUrl;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a segment of a path may have as it is.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

/// One segment of a path, whatever is in it.
pub(crate) fn segment(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => utf8_percent_encode(text, SEGMENT).to_string(),
    }
}

/// The paths of one town.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    town: String,
}

impl Paths {
    pub(crate) fn new(api: &BaseUrl, town_id: &str) -> Self {
        Self { town: format!("{}/api/towns/{}", api.prefix, segment(town_id)) }
    }

    /// A call of the town.
    pub(crate) fn town(&self, name: &str) -> String {
        format!("{}/{name}", self.town)
    }

    /// A call of a rig. An agent without one has `-` instead.
    pub(crate) fn rig(&self, rig_id: Option<&str>, name: &str) -> String {
        format!("{}/rigs/{}/{name}", self.town, segment(rig_id.unwrap_or_default()))
    }

    /// A call of an agent.
    pub(crate) fn agent(&self, rig_id: Option<&str>, agent_id: &str, name: &str) -> String {
        let mut path = self.rig(rig_id, "agents/");
        let _ = write!(path, "{}/{name}", segment(agent_id));
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_with_that_of_the_api() {
        let api = BaseUrl::parse("https://town.example:8443/gas/v1/").unwrap();
        let paths = Paths::new(&api, "t 1/..");
        assert_eq!(paths.town("container-ready"), "/gas/v1/api/towns/t%201%2F../container-ready");
    }

    #[test]
    fn an_agent_without_a_rig_has_a_dash() {
        let paths = Paths::new(&BaseUrl::parse("http://h").unwrap(), "t");
        assert_eq!(
            paths.agent(None, "a:1", "heartbeat"),
            "/api/towns/t/rigs/-/agents/a:1/heartbeat"
        );
        assert_eq!(paths.agent(Some(".."), "a", "x"), "/api/towns/t/rigs/%2E%2E/agents/a/x");
    }
}
