//! Messages a second on 1, 16 and 64 connections, each to an agent of its own.

use std::io;
use std::time::{Duration, Instant};

use super::peer::{Endpoint, Peer};
use super::{Ours, Tools, boxed, those};
use crate::connection::Connection;
use crate::plot::{Line, Plot};
use crate::report::{Report, Row};

const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// How long each is asked, and how often, in turn.
const WINDOW: Duration = Duration::from_millis(1000);
const WINDOWS: usize = 5;

pub fn measure(tools: &Tools, report: &mut Report) -> io::Result<()> {
    let mut peers = vec![Box::new(Ours::begin()) as Box<dyn Peer>];
    peers.extend(those(vec![
        boxed(tools.node_processes()),
        boxed(tools.bun_processes()),
        boxed(tools.wasmtime_server()),
    ]));
    let most = CONNECTIONS.into_iter().max().unwrap_or(0);
    let endpoints: Vec<_> = peers.iter_mut().map(|peer| peer.start_many(0..most)).collect();
    let mut curves: Vec<Line> = peers
        .iter()
        .map(|peer| Line { name: peer.name().to_owned(), points: Vec::new() })
        .collect();
    for connections in CONNECTIONS {
        let mut rates = vec![Vec::new(); peers.len()];
        // The first time warms up.
        for window in 0..=WINDOWS {
            for (endpoints, rates) in endpoints.iter().zip(&mut rates) {
                let rate = rate(&endpoints[..connections])?;
                if window > 0 {
                    rates.push(rate);
                }
            }
        }
        rates.iter_mut().for_each(|rates| rates.sort_by(f64::total_cmp));
        let middle = |rates: &Vec<f64>| rates[rates.len() / 2];
        let own = middle(&rates[0]);
        for ((peer, rates), curve) in peers.iter().zip(&rates).zip(&mut curves) {
            let rate = middle(rates);
            let name = format!("messages a second, {connections} connections: {}", peer.name());
            let row = match peer.name() {
                "bulkhead" => Row::said(name, WINDOWS, format!("{rate:.0} /s")),
                // The goal is that ours come to at least as many.
                "wasmtime serve" => Row {
                    budget: "<= 1.00".into(),
                    met: Some(rate <= own),
                    ..Row::rate(name, WINDOWS, rate, own, 0.0)
                },
                _ => Row {
                    budget: "-".into(),
                    met: None,
                    ..Row::rate(name, WINDOWS, rate, own, 0.0)
                },
            };
            let (least, most) = (rates[0], rates[rates.len() - 1]);
            report.add(Row { spread: format!("{least:.0} .. {most:.0} /s"), ..row });
            curve.points.push((connections as f64, rate));
        }
    }
    report.plot(Plot::Curves {
        title: "Messages a second".into(),
        x: "connections, each to an agent of its own",
        unit: "messages / s",
        lines: curves,
    });
    Ok(())
}

fn rate(endpoints: &[Endpoint]) -> io::Result<f64> {
    let opened =
        endpoints.iter().map(|endpoint| endpoint.first_answer().map(|http| (endpoint, http)));
    let connections = opened.collect::<io::Result<Vec<_>>>()?;
    let began = Instant::now();
    let counts = std::thread::scope(|scope| {
        let ask = |(endpoint, http)| scope.spawn(move || ask_for(endpoint, http, began + WINDOW));
        let asking: Vec<_> = connections.into_iter().map(ask).collect();
        let counts = asking.into_iter().map(|asking| asking.join().expect("a client"));
        counts.collect::<io::Result<Vec<_>>>()
    })?;
    Ok(counts.iter().sum::<usize>() as f64 / began.elapsed().as_secs_f64())
}

fn ask_for(endpoint: &Endpoint, mut http: Connection, until: Instant) -> io::Result<usize> {
    let mut count = 0;
    while Instant::now() < until {
        endpoint.hello(&mut http)?;
        count += 1;
    }
    Ok(count)
}
