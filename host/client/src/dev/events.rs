//! Events that agents emit, of a turn that is shown: one line for each name, so that the turn's text stays readable.

use bulkhead_types::AgentId;

/// Names that are kept of one turn.
const MAX_NAMES: usize = 32;

/// Events since they were last shown.
#[derive(Debug, Default)]
pub(super) struct Emitted {
    names: Vec<Name>,
    /// Events that had no room.
    left_out: usize,
}

#[derive(Debug)]
struct Name {
    agent: AgentId,
    event: String,
    count: usize,
    /// Of the last one.
    data: String,
}

impl Emitted {
    pub(super) fn add(&mut self, agent: &AgentId, event: &str, data: &str) {
        let is_full = self.names.len() == MAX_NAMES;
        let known = self.names.iter_mut().find(|name| name.agent == *agent && name.event == event);
        match known {
            Some(name) => {
                name.count += 1;
                data.clone_into(&mut name.data);
            }
            None if is_full => self.left_out += 1,
            None => self.names.push(Name {
                agent: agent.clone(),
                event: event.to_owned(),
                count: 1,
                data: data.to_owned(),
            }),
        }
    }

    /// A line for each name, and one for what had no room.
    pub(super) fn into_lines(self) -> Vec<String> {
        let line = |name: Name| {
            let Name { agent, event, count, data } = name;
            let times = if count > 1 { format!(" × {count}, the last") } else { String::new() };
            format!("· {agent} emitted {event}{times} {data}")
        };
        let mut lines: Vec<String> = self.names.into_iter().map(line).collect();
        if self.left_out > 0 {
            lines.push(format!("· and {} more", self.left_out));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_name_are_one_line() {
        let id = AgentId::parse("toast").unwrap();
        let mut emitted = Emitted::default();
        for (event, data) in [("delta", "1"), ("found", "{}"), ("delta", "2")] {
            emitted.add(&id, event, data);
        }
        let expected = ["· toast emitted delta × 2, the last 2", "· toast emitted found {}"];
        assert_eq!(emitted.into_lines(), expected);
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let id = AgentId::parse("toast").unwrap();
        let mut emitted = Emitted::default();
        (0..MAX_NAMES + 2).for_each(|number| emitted.add(&id, &format!("e{number}"), ""));
        let lines = emitted.into_lines();
        assert_eq!((lines.len(), lines[MAX_NAMES].as_str()), (MAX_NAMES + 1, "· and 2 more"));
    }
}
