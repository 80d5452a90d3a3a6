//! `bulkhead fleet ps`: the towns of a register, who holds each, and whether its host is ready.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use bulkhead_api::ErrorBody;
use bulkhead_client::table::{Cell, Column, draw};
use bulkhead_lease::{Fleet, MAX_TOWNS, Seen, State, Town};
use bulkhead_net::{BaseUrl, Connector, Exchanges};
use bulkhead_printable as printable;
use bulkhead_terminal::words::short_duration;
use bulkhead_terminal::{Colour, ColourChoice};
use bulkhead_types::time::millis;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::iter;
use http::header::{ACCEPT, USER_AGENT};
use http::{Request, StatusCode};
use serde::Serialize;

use crate::cli::FleetPsArgs;
use crate::config;
use crate::failure::{Failure, print};

/// Hosts that are asked at once.
const AT_ONCE: usize = 16;
/// For the answer of a host.
const PATIENCE: Duration = Duration::from_secs(2);
/// Largest answer of a host.
const MAX_ANSWER: usize = 64 * 1024;

/// A town, as it is printed.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    town: String,
    /// `held`, `released`, `expired`, `unchanged` or `unreadable`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    /// For how long the record was seen unchanged.
    unchanged_ms: u64,
    /// What `/readyz` of the endpoint answers: `ready`, another word of the host, or why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<String>,
    /// Why the record cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    register: String,
    towns: &'a [Row],
    /// There are more towns than are listed.
    has_more: bool,
}

/// Lists them.
pub fn ps(args: &FleetPsArgs, colours: ColourChoice) -> Result<ExitCode, Failure> {
    let (register, connector) = config::register(args.config.as_deref(), args.register.as_deref())?;
    let cannot = |error: &(dyn std::error::Error + 'static)| {
        Failure::cannot_run(&format!("cannot list the towns of {register}"), error)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| cannot(&error))?;
    let listed = runtime.block_on(async {
        let fleet = Fleet::open(&register, connector.clone())?;
        let Seen { towns, has_more } = fleet.watch(args.wait).await?;
        let rows = iter(towns).map(async |town| {
            let health = health_of(&town, &connector).await;
            row(town, health)
        });
        Ok((rows.buffered(AT_ONCE).collect::<Vec<_>>().await, has_more))
    });
    // A look-up may still be under way.
    runtime.shutdown_background();
    let (rows, has_more) = listed.map_err(|error: bulkhead_lease::RegisterError| cannot(&error))?;
    let text = match args.json {
        true => {
            let document = Document { register: register.to_string(), towns: &rows, has_more };
            let text = serde_json::to_string(&document).map_err(|error| cannot(&error))?;
            format!("{}\n", printable::json(&text))
        }
        false => page(&rows, has_more, bulkhead_client::terminal_width(), colours.on_stdout()),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What a host says of itself, where its operator says where it is.
async fn health_of(town: &Town, connector: &Connector) -> Option<String> {
    let endpoint = town.record.as_ref().ok().map(|record| &*record.endpoint);
    let endpoint = endpoint.filter(|text| !text.is_empty() && town.state == State::Held)?;
    let url = match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("http://{endpoint}"),
    };
    // It is for people, and may be anything.
    let Ok(url) = BaseUrl::parse(&url) else { return Some("no address".into()) };
    let request = Request::get(format!("{url}/readyz"))
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
        .body(Bytes::new());
    let Ok(request) = request else { return Some("no address".into()) };
    let loopback = url.destination.is_loopback() && !url.destination.tls;
    let connector = if loopback { Connector::default() } else { connector.clone() };
    let exchanges = Exchanges::new(connector, PATIENCE, MAX_ANSWER);
    Some(match tokio::time::timeout(PATIENCE, exchanges.exchange(request)).await {
        Ok(Ok(answer)) => word_of(answer.status(), answer.body()),
        Ok(Err(_)) => "unreachable".into(),
        Err(_) => "no answer".into(),
    })
}

fn word_of(status: StatusCode, body: &[u8]) -> String {
    if status.is_success() {
        return "ready".into();
    }
    let refusal: Option<ErrorBody> = serde_json::from_slice(body).ok();
    let kind = refusal.and_then(|body| body.error_type).filter(|kind| kind.len() <= 64);
    kind.unwrap_or_else(|| format!("status {}", status.as_u16()))
}

fn row(town: Town, health: Option<String>) -> Row {
    let Town { name, record, state, unchanged } = town;
    let (record, problem) = match record {
        Ok(record) => (Some(record), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let of = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Row {
        town: name.as_str().to_owned(),
        state: word(state),
        holder: record.as_ref().and_then(|record| of(&record.holder)),
        epoch: record.as_ref().map(|record| record.epoch),
        endpoint: record.as_ref().and_then(|record| of(&record.endpoint)),
        ttl_ms: record.as_ref().map(|record| millis(record.ttl)),
        unchanged_ms: millis(unchanged),
        health,
        problem,
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Held => "held",
        State::Released => "released",
        State::Expired => "expired",
        State::Unchanged => "unchanged",
        State::Unreadable => "unreadable",
    }
}

fn page(rows: &[Row], has_more: bool, width: Option<usize>, colours: bool) -> String {
    if rows.is_empty() {
        return "no towns\n".into();
    }
    let columns = [
        Column::giving("TOWN", 12),
        Column::new("STATE"),
        Column::of_figures("EPOCH"),
        Column::of_figures("CHANGED"),
        Column::new("HEALTH"),
        Column::giving("HOLDER", 8),
        Column::giving("ENDPOINT", 8),
    ];
    let cells: Vec<Vec<Cell>> = rows.iter().map(cells).collect();
    let mut text = draw(&columns, &cells, width, colours);
    for Row { town, problem, .. } in rows {
        if let Some(problem) = problem {
            let _ = writeln!(text, "{town}: {}", printable::line(problem));
        }
    }
    if has_more {
        let _ = writeln!(text, "there are more towns than {MAX_TOWNS}");
    }
    text
}

fn cells(row: &Row) -> Vec<Cell> {
    let text = |text: &Option<String>| match text {
        Some(text) => Cell::new(printable::line(text)),
        None => Cell::new("-"),
    };
    let colour = match row.state {
        "held" => Colour::Green,
        "released" => Colour::Grey,
        _ => Colour::Red,
    };
    // What was seen to change changed so long ago. Of the others it is only known that they did not since.
    let changed = short_duration(Duration::from_millis(row.unchanged_ms));
    let changed = match row.state {
        "held" => format!("{changed} ago"),
        "released" | "unreadable" => "-".into(),
        _ => format!("not in {changed}"),
    };
    vec![
        Cell::new(&*row.town),
        Cell::in_colour(row.state, colour),
        Cell::new(row.epoch.map_or("-".into(), |epoch| epoch.to_string())),
        Cell::new(changed),
        text(&row.health),
        text(&row.holder),
        text(&row.endpoint),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(town: &str, state: &'static str) -> Row {
        Row {
            town: town.into(),
            state,
            holder: Some("node-7/1".into()),
            epoch: Some(12),
            endpoint: Some("10.0.0.7:8080".into()),
            ttl_ms: Some(10_000),
            unchanged_ms: 1200,
            health: None,
            problem: None,
        }
    }

    #[test]
    fn towns_are_a_table_and_a_damaged_one_a_line_below() {
        let rows = [
            Row { health: Some("ready".into()), ..row("hill", "held") },
            Row {
                holder: None,
                epoch: None,
                endpoint: None,
                ttl_ms: None,
                problem: Some("no\u{1b}[2J JSON".into()),
                ..row("lake", "unreadable")
            },
            Row { unchanged_ms: 11_000, ..row("riverside", "expired") },
        ];
        let expected = "\
TOWN       STATE       EPOCH     CHANGED  HEALTH  HOLDER    ENDPOINT
hill       held           12      1s ago  ready   node-7/1  10.0.0.7:8080
lake       unreadable      -           -  -       -         -
riverside  expired        12  not in 11s  -       node-7/1  10.0.0.7:8080
lake: no\\u{1b}[2J JSON
";
        assert_eq!(page(&rows, false, None, false), expected);
        assert_eq!(page(&[], false, None, false), "no towns\n");
        assert!(page(&rows, true, None, false).ends_with("there are more towns than 10000\n"));
    }

    #[test]
    fn a_host_is_known_by_its_answer() {
        let standby = br#"{"error":"standby: x","error_type":"standby","status":503}"#;
        for (status, body, word) in
            [(200, &b"{}"[..], "ready"), (503, standby, "standby"), (502, b"<html>", "status 502")]
        {
            assert_eq!(word_of(StatusCode::from_u16(status).unwrap(), body), word);
        }
    }
}
