//! The console in a real browser: what a person does with it, in light and dark, on a screen and on a phone. With
//! `UPDATE_EXPECT=1` the pictures in `docs/images/` are taken again.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use harness::{Host, ModelServer, Value, files, json, model_server};
use rustix::process::Signal;

use super::driver::{Driver, PHONE};

/// Largest picture.
const MAX_PICTURE_BYTES: usize = 150 * 1024;

/// WebDriver's word for the tabulator.
const TAB: char = '\u{e004}';

/// A console with a run before this one, agents and a crash.
struct Town {
    host: Host,
    url: String,
    _model: ModelServer,
}

impl Town {
    fn build() -> Self {
        let model = model_server();
        let slow = format!(
            "[models.story]\nbase_url = {:?}\nmodel = \"stream-40-20\"\n",
            model.base_url()
        );
        let builder = Host::builder().guest("mayor").guest("trap").model(&model, "").toml(&slow);
        let mut builder = builder;
        builder = builder.role("teller", "mayor", "models = [\"story\"]");
        builder = builder.toml("[budget]\ntokens_per_day = 100000");
        let mut before = builder.start().ready();
        before.client().start("mayor", "mayor");
        before.signal(Signal::KILL);
        before.wait();
        let host = before.restart().ready();
        for (agent, role) in [("teller", "teller"), ("toast", "trap"), ("wren", "echo")] {
            host.client().start(agent, role);
        }
        host.client().ask("mayor", "hello");
        host.client().send("toast", "panic");
        host.wait_for_exit("toast");
        let url = format!("http://{}/console", host.address());
        Self { host, url, _model: model }
    }

    fn log_in(&self, driver: &Driver) {
        driver.open(&self.url);
        driver.write("#token", self.host.client().token().expect("a token"));
        driver.click("main button");
        driver.wait_for("location.pathname === '/console'");
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn crash_path(&self) -> String {
        let crashes = self.host.client().crashes("toast");
        format!("/crashes/{}", crashes.crashes.first().expect("a crash").crash_id)
    }
}

#[test]
#[ignore = "needs chromium and chromedriver: just browser"]
fn a_person_logs_in_and_out() {
    let town = Town::build();
    let driver = Driver::start();
    driver.open(&town.at("/container"));
    assert!(driver.url().contains("/console/login"), "{}", driver.url());
    assert_eq!(driver.errors(), [] as [&str; 0]);
    driver.write("#token", "not the token");
    driver.click("main button");
    driver.wait_for_text("#refused", "That is not the control token.");
    // The browser notes the status of the answer.
    driver.errors();
    driver.write("#token", town.host.client().token().expect("a token"));
    driver.click("main button");
    driver.wait_for("location.pathname === '/console/container'");
    assert_eq!(driver.run("return document.cookie;"), json!(""), "no script reads the cookie");
    driver.press(TAB);
    assert_eq!(driver.run("return document.activeElement.className;"), json!("skip"));
    driver.click("header button");
    driver.wait_for("location.pathname === '/console/login'");
    driver.open(&town.url);
    assert!(driver.url().contains("/console/login"), "{}", driver.url());
    assert_eq!(driver.errors(), [] as [&str; 0]);
    town.host.finish();
}

#[test]
#[ignore = "needs chromium and chromedriver: just browser"]
fn the_overview_shows_agents_as_they_come_without_a_reload() {
    let town = Town::build();
    let driver = Driver::start();
    town.log_in(&driver);
    driver.wait_for_text("#row-mayor", "running");
    driver.wait_for_text("#row-toast", "panic");
    driver.run("window.loadedOnce = true; document.getElementById('link-mayor').focus();");
    town.host.client().start("late", "echo");
    driver.wait_for_text("#row-late", "running");
    assert_eq!(driver.run("return window.loadedOnce;"), json!(true));
    assert_eq!(driver.run("return document.activeElement.id;"), json!("link-mayor"));
    driver.click("#link-late");
    driver.wait_for_text("h1", "late");
    assert_eq!(driver.errors(), [] as [&str; 0]);
    town.host.finish();
}

#[test]
#[ignore = "needs chromium and chromedriver: just browser"]
fn a_message_is_answered_as_the_model_speaks_and_an_agent_is_stopped_and_started() {
    let town = Town::build();
    let driver = Driver::start();
    town.log_in(&driver);
    driver.open(&town.at("/agents/teller"));
    driver.write("#text", "tell me a story");
    driver.click("#message button");
    driver.wait_for_text("#turn-text", "0000003");
    // Two seconds of chunks: the end is not there yet, or the text came in one piece.
    let early = driver.text("#turn-text");
    driver.wait_for_text("#turn-text", "0000039");
    assert!(!early.contains("0000039"), "{early}");
    driver.wait_for_text("#status", "Answered");
    driver.wait_for_text("#turn-state", "over: ");
    assert!(!driver.text("#turn-text").contains("without a text"));
    assert_eq!(driver.run("return document.getElementById('text').value;"), json!(""));
    driver.wait_for_text("#events", "agent.turn");
    driver.click("#stop-summary");
    driver.click("#stop");
    driver.wait_for_text("#status", "The agent was stopped.");
    driver.wait_for_text("#facts", "exited");
    driver.click("#start");
    driver.wait_for_text("#status", "The agent was started.");
    driver.wait_for_text("#facts", "running");
    // An agent without a model has an answer all the same.
    driver.open(&town.at("/agents/wren"));
    driver.write("#text", "<b>coo</b>");
    driver.click("#message button");
    driver.wait_for_text("#turn-text", "<b>coo</b>");
    // So has one that somebody else asks, and its turn is over.
    town.host.client().ask("wren", "from elsewhere");
    driver.wait_for_text("#turn-text", "from elsewhere");
    driver.wait_for_text("#turn-state", "over: idle");
    // Events have the beginning of a long one only.
    driver.run("document.getElementById('text').value = 'coo '.repeat(5000) + 'the end';");
    driver.click("#message button");
    driver.wait_for_text("#turn-text", "the end");
    driver.write("#text", "later");
    driver.click("button[formaction]");
    driver.wait_for_text("#status", "The nudge waits");
    assert_eq!(driver.errors(), [] as [&str; 0]);
    town.host.finish();
}

#[test]
#[ignore = "needs chromium and chromedriver: just browser"]
fn a_crash_is_explained_and_copied_and_the_container_has_its_runs() {
    let town = Town::build();
    let driver = Driver::start();
    town.log_in(&driver);
    driver.click("header nav a[href='/console/crashes']");
    driver.click("#list a");
    driver.wait_for_text("h1", "toast panicked");
    let page = driver.text("main");
    for wanted in ["told to panic", "What was decided", "What to do next", "trap.rs", "panicked at"]
    {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    driver.wait_for("document.querySelector('.frames .own') !== null");
    driver.click("[data-copy]");
    driver.wait_for("/Copied|Selected/.test(document.getElementById('status').textContent)");
    let markdown = driver.run("return document.getElementById('markdown').value;");
    assert!(
        markdown.as_str().is_some_and(|text| text.starts_with("### `toast` panicked")),
        "{markdown}"
    );
    driver.open(&town.at("/container"));
    driver.wait_for_text("#runs", "ended for an unknown reason");
    driver.wait_for_text("#budgets", "tokens_per_day");
    driver.wait_for("document.querySelector('#memory svg path') !== null");
    assert_eq!(driver.errors(), [] as [&str; 0]);
    town.host.finish();
}

/// Findings of axe-core that keep people out.
fn findings(driver: &Driver, axe: &str) -> Vec<Value> {
    driver.run(axe);
    let found = driver.run_async(
        "axe.run({ resultTypes: ['violations'] }).then(\
            (found) => done(found.violations.map(({ id, impact, nodes }) => \
                ({ id, impact, nodes: nodes.map((node) => node.html + ' ' + node.failureSummary) }))), \
            (error) => done([{ id: String(error), impact: 'critical' }]));",
    );
    let found = found.as_array().expect("a list").clone();
    found
        .into_iter()
        .filter(|one| one["impact"] == "serious" || one["impact"] == "critical")
        .collect()
}

#[test]
#[ignore = "needs chromium, chromedriver and axe-core: just browser"]
fn every_page_is_for_everybody_in_light_and_dark_and_on_a_phone() {
    let axe = std::env::var("AXE").expect("AXE names axe-core's script: run just browser");
    let axe = std::fs::read_to_string(axe).expect("read axe-core");
    let town = Town::build();
    let driver = Driver::start();
    driver.open(&town.url);
    let login = findings(&driver, &axe);
    assert!(login.is_empty(), "login: {login:#?}");
    town.log_in(&driver);
    town.host.client().ask("wren", "hello");
    let pages = [
        ("overview", String::new()),
        ("agent", "/agents/mayor".to_owned()),
        ("crash", town.crash_path()),
        ("container", "/container".to_owned()),
        ("crashes", "/crashes".to_owned()),
        ("nothing", "/nothing".to_owned()),
    ];
    for (name, path) in &pages {
        for is_dark in [false, true] {
            driver.set_dark(is_dark);
            for (width, height) in [(1000, 800), (PHONE, 800)] {
                driver.resize(width, height);
                driver.open(&town.at(path));
                let found = findings(&driver, &axe);
                let what = format!("{name}, dark: {is_dark}, {width} pixels wide");
                assert!(found.is_empty(), "{what}: {found:#?}");
                let wide = driver.run("return document.documentElement.scrollWidth;");
                assert!(
                    wide.as_u64() <= Some(u64::from(width)),
                    "{what}: {wide} pixels are needed"
                );
            }
        }
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        driver.set_dark(false);
        for ((name, path), height) in pages.iter().zip([520, 1100, 1100, 1100]) {
            driver.resize(1000, height);
            driver.open(&town.at(path));
            picture(name, &driver.screenshot());
        }
    }
    town.host.finish();
}

fn picture(name: &str, base64: &str) {
    let bytes = BASE64_STANDARD.decode(base64).expect("base64");
    assert!(bytes.len() < MAX_PICTURE_BYTES, "{name} has {} bytes", bytes.len());
    let dir: PathBuf = files::root().join("docs/images");
    std::fs::create_dir_all(&dir).expect("make a directory");
    std::fs::write(dir.join(format!("console-{name}.png")), bytes).expect("write a picture");
}
