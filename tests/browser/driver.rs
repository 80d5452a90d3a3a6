//! A browser that does what a test says, through chromedriver: WebDriver, which is HTTP with JSON.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::{Value, json, launcher};
use hyper::Method;

/// How long something on a page may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a page.
const LOOK: Duration = Duration::from_millis(50);

/// Key of an element's id in answers of WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A phone's width in CSS pixels.
pub const PHONE: u32 = 390;

/// A chromedriver with one browser. Dropping it ends both.
pub struct Driver {
    child: Child,
    client: Client,
    session: String,
    _empty: tempfile::TempDir,
}

impl Driver {
    /// Starts a browser.
    pub fn start() -> Self {
        let mut command = Command::new("chromedriver");
        command
            .args(["--port=0", "--log-level=SEVERE"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = launcher::spawn_bound(command)
            .expect("start chromedriver; apt-get install chromium-driver");
        let mut said = BufReader::new(child.stdout.take().expect("its words")).lines();
        let port = said.find_map(|line| {
            let line = line.expect("a line of chromedriver");
            line.rsplit_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
        // Ends when chromedriver does.
        std::thread::spawn(move || said.for_each(drop));
        let empty = tempfile::tempdir().expect("make a directory");
        let client = Client::new(address, empty.path());
        let arguments = json!([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--force-device-scale-factor=1",
            "--hide-scrollbars"
        ]);
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}
        }}});
        let answer = client.post("/session", &wanted).expect(200);
        let session = answer["value"]["sessionId"].as_str().expect("a session").to_owned();
        Self { child, client, session, _empty: empty }
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        self.client.post(&path, body).expect(200)["value"].take()
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let path = format!("/session/{}{path}", self.session);
        self.client.get(&path).expect(200)["value"].take()
    }

    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    /// Opens a page and waits until it is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// The address of the page.
    #[track_caller]
    pub fn url(&self) -> String {
        self.get("/url").as_str().expect("an address").to_owned()
    }

    /// What a script returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// The same of a script that hands its result to `done`.
    #[track_caller]
    pub fn run_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1];\n{script}");
        self.post("/execute/async", &json!({"script": script, "args": []}))
    }

    /// Waits until a script returns something true.
    #[track_caller]
    pub fn wait_for(&self, condition: &str) {
        let until = Instant::now() + PATIENCE;
        while self.run(&format!("return Boolean({condition});")) != json!(true) {
            if Instant::now() > until {
                panic!("{condition} does not come true on {}: {}", self.url(), self.text("body"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until an element of this selector has a text.
    #[track_caller]
    pub fn wait_for_text(&self, selector: &str, text: &str) {
        self.wait_for(&format!(
            "(document.querySelector({selector:?})?.textContent ?? '').includes({text:?})"
        ));
    }

    /// The text of an element.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let text =
            self.run(&format!("return document.querySelector({selector:?})?.innerText ?? '';"));
        text.as_str().expect("a text").to_owned()
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    /// Clicks an element, as a person does: it must be visible.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/click"), &json!({}));
    }

    /// Types into an element.
    #[track_caller]
    pub fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/value"), &json!({"text": text}));
    }

    /// Presses a key.
    #[track_caller]
    pub fn press(&self, key: char) {
        let strokes = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.post(
            "/actions",
            &json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]}),
        );
    }

    /// From now on pages are so wide and high.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        let is_phone = width <= PHONE;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// From now on pages are dark, or light.
    #[track_caller]
    pub fn set_dark(&self, is_dark: bool) {
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// What is visible of the page, as a PNG in base64.
    #[track_caller]
    pub fn screenshot(&self) -> String {
        self.get("/screenshot").as_str().expect("a picture").to_owned()
    }

    /// What pages wrote into the browser's console since the last look, errors alone: of scripts, of the content security
    /// policy, and requests that failed.
    #[track_caller]
    pub fn errors(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().expect("a list").iter();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The browser is chromedriver's child and outlives it otherwise.
        let path = format!("/session/{}", self.session);
        let _ = self.client.try_request(Method::DELETE, &path, "");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
