//! Sentences about the town.

use bulkhead_types::Event;
use bulkhead_types::event::{
    TownCallFailed, TownCallGivenUp, TownCallSwitchedOff, TownConfigIgnored, TownDropped,
    TownFenced, TownReachable, TownTokenRefreshed, TownUnreachable,
};

use super::{Sentence, Who, and, ms, quoted};

pub(super) fn of(event: &Event) -> Option<Sentence<'_>> {
    let said = |text: String| Sentence::new(Who::Town, text);
    let code =
        |status: &Option<u16>| status.map_or_else(String::new, |status| format!(" ({status})"));
    let about = |agent: Option<&_>| agent.map_or_else(String::new, |agent| format!(" for {agent}"));
    let sentence = match event {
        Event::TownConfigIgnored(TownConfigIgnored { path, problem }) => {
            said(format!("sent configuration that is ignored: {}: {problem}", quoted(path)))
        }
        Event::TownCallFailed(TownCallFailed {
            call,
            attempts,
            message,
            agent_id,
            repeated,
            ..
        }) => {
            let about = about(agent_id.as_ref());
            let times = if *attempts > 1 { format!(" {attempts} times") } else { String::new() };
            said(format!(
                "failed{times} in call {call}{about}: {}{}",
                quoted(message),
                and(*repeated, "more like it")
            ))
        }
        Event::TownUnreachable(TownUnreachable { message, .. }) => {
            said(format!("does not answer any more: {}", quoted(message)))
        }
        Event::TownReachable(TownReachable { down_ms }) => {
            said(format!("answers again, after {}", ms(*down_ms)))
        }
        Event::TownFenced(TownFenced { newer_run_id, action }) => {
            let newer = newer_run_id.as_ref().map_or_else(String::new, |run| format!(" ({run})"));
            said(format!("is served by a newer run{newer}: {action}"))
        }
        Event::TownTokenRefreshed(TownTokenRefreshed { why, .. }) => {
            said(format!("gave a new token ({why})")).detail()
        }
        Event::RefreshTokenReceived { .. } => said("sent a new token".to_owned()).detail(),
        Event::TownDropped(TownDropped { what, dropped, total }) => said(format!(
            "did not get {dropped} {what}, there was no room or no time ({total} in this run)"
        )),
        Event::TownCallGivenUp(TownCallGivenUp { call, agent_id, attempts, tried_ms, message }) => {
            let tried = ms(*tried_ms);
            said(format!(
                "did not take call {call} for {agent_id}, tried {attempts} times in {tried}; it is given up: {}",
                quoted(message)
            ))
        }
        Event::TownCallSwitchedOff(TownCallSwitchedOff { call, status, agent_id }) => {
            let about = about(agent_id.as_ref());
            said(format!(
                "refused call {call}{about}{}; it is not made again in this run",
                code(status)
            ))
        }
        _ => return None,
    };
    Some(sentence)
}
