//! Headless Chromium, driven through chromedriver by the W3C's WebDriver protocol.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use testbed::cleanup::RUN_VARIABLE;
use testbed::http::Client;
use testbed::process::Daemon;
use testbed::run::Run;
use testbed::{install, skip, wait};

/// Timeout of what the page does.
const LIMIT: Duration = Duration::from_secs(30);

/// Key codes of WebDriver.
pub mod keys {
    /// Tab.
    pub const TAB: &str = "\u{e004}";
    /// Enter.
    pub const ENTER: &str = "\u{e007}";
    /// The space bar.
    pub const SPACE: &str = " ";
}

/// A browser with one window. Dropping it ends it.
pub struct Browser {
    client: Client,
    session: String,
    driver: Daemon,
    /// The run ends all processes of the browser, also if the test is interrupted.
    _run: Run,
}

/// Returns true if there is a browser. `false`: the test is reported as skipped.
pub fn require(test: &str) -> bool {
    match install::missing(install::BROWSER) {
        None => true,
        Some(missing) => {
            skip::skip(test, &missing);
            false
        }
    }
}

impl Browser {
    /// Starts a browser whose window has this size, in pixels.
    pub fn start(width: u32, height: u32) -> Browser {
        Browser::try_start(width, height).expect("a browser")
    }

    fn try_start(width: u32, height: u32) -> Result<Browser> {
        let run = Run::new()?;
        let dir = run.dir();
        let log = dir.join("chromedriver.log");
        // If the test is killed, its chromedriver is, and then Chromium ends at the end of the pipe.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "chromedriver", "--port=0"])
            .env("HOME", dir)
            .env(RUN_VARIABLE, run.id());
        let driver = Daemon::spawn("chromedriver", command, None, &log)?;
        let port = wait::until("chromedriver to listen", LIMIT, || {
            let text = fs::read_to_string(&log)?;
            let port = text.split("started successfully on port ").nth(1);
            Ok(port.and_then(|port| port.split('.').next()?.trim().parse::<u16>().ok()))
        })?;
        let client = Client::new(format!("127.0.0.1:{port}"), None);
        let options = json!({ "args": [
            "--headless=new",
            // As root there is no sandbox. The pages are the tests' own.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--remote-debugging-pipe",
            format!("--user-data-dir={}", dir.join("profile").display()),
        ]});
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let answer = client.post("/session", &capabilities)?.json()?;
        let session = answer["value"]["sessionId"].as_str();
        let session = session
            .with_context(|| format!("no session: {answer}"))?
            .to_owned();
        let browser = Browser {
            client,
            session,
            driver,
            _run: run,
        };
        browser.resize(width, height)?;
        Ok(browser)
    }

    /// Sets the size of the page, in pixels, whatever the window's smallest size is.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics)
    }

    /// Chooses the dark or the light scheme.
    pub fn set_dark(&self, dark: bool) -> Result<()> {
        let value = if dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": value});
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({"features": [feature]}),
        )
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Result<()> {
        let body = json!({"cmd": command, "params": parameters});
        self.send("goog/cdp/execute", &body).map(drop)
    }

    /// Sends a command of WebDriver and returns the value of its answer.
    fn send(&self, path: &str, body: &Value) -> Result<Value> {
        let path = format!("/session/{}/{path}", self.session);
        let answer = self.client.post(&path, body)?.json()?;
        let error = &answer["value"]["error"];
        ensure!(
            error.is_null(),
            "{path}: {error}: {}",
            answer["value"]["message"]
        );
        Ok(answer["value"].clone())
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.send("url", &json!({ "url": url })).unwrap();
    }

    /// Runs the body of a function in the page and returns its value. A promise is awaited.
    pub fn eval(&self, script: &str) -> Value {
        self.try_eval(script).unwrap()
    }

    fn try_eval(&self, script: &str) -> Result<Value> {
        self.send("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until the body of a function returns something other than null and false, and returns
    /// that.
    #[track_caller]
    pub fn wait(&self, what: &str, script: &str) -> Value {
        self.wait_for(what, LIMIT, script)
    }

    /// The same with another timeout.
    #[track_caller]
    pub fn wait_for(&self, what: &str, limit: Duration, script: &str) -> Value {
        let seen = wait::until(what, limit, || {
            let value = self.try_eval(script)?;
            let is_there = !value.is_null() && value != json!(false);
            Ok(is_there.then_some(value))
        });
        seen.unwrap_or_else(|error| panic!("{error:#}; the page shows: {}", self.text("body")))
    }

    /// Returns the text of the first element that matches a selector, as a reader sees it.
    pub fn text(&self, selector: &str) -> String {
        let script =
            format!("const e = document.querySelector({selector:?}); return e && e.innerText");
        self.eval(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the body of the page contains a text.
    #[track_caller]
    pub fn wait_text(&self, text: &str) {
        let script = format!("return document.body.innerText.includes({})", json!(text));
        self.wait(&format!("the text {text:?}"), &script);
    }

    /// Presses keys, one after the other.
    pub fn press(&self, keys: &[&str]) {
        let press =
            |key: &&str| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key}));
        let actions: Vec<Value> = keys.iter().flat_map(press).collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": actions});
        self.send("actions", &json!({ "actions": [keyboard] }))
            .unwrap();
    }

    /// Types a text into the element that has the focus.
    pub fn type_text(&self, text: &str) {
        let keys: Vec<String> = text.chars().map(String::from).collect();
        self.press(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Clicks on the first element that matches a selector.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let found = json!({"using": "css selector", "value": selector});
        let element = self.send("element", &found).unwrap();
        let id = element
            .as_object()
            .and_then(|element| element.values().next());
        let id = id.and_then(Value::as_str).unwrap();
        self.send(&format!("element/{id}/click"), &json!({}))
            .unwrap();
    }

    /// Returns the messages of the console since the last call, without those of the browser's own
    /// pages.
    pub fn console(&self) -> Vec<String> {
        let entries = self.send("se/log", &json!({"type": "browser"})).unwrap();
        let entries = entries.as_array().cloned().unwrap_or_default();
        let text = |entry: &Value| format!("{}: {}", entry["level"], entry["message"]);
        let is_of_page = |entry: &&Value| {
            let message = entry["message"].as_str().unwrap_or_default();
            !message.starts_with("chrome://")
        };
        entries.iter().filter(is_of_page).map(text).collect()
    }

    /// Asserts that neither the page nor its policy caused a message on the console.
    #[track_caller]
    pub fn assert_quiet(&self) {
        let console = self.console();
        assert!(console.is_empty(), "{console:#?}");
    }

    /// Returns a picture of the page as PNG.
    pub fn screenshot(&self) -> Result<Vec<u8>> {
        let path = format!("/session/{}/screenshot", self.session);
        let answer = self.client.get(&path)?.json()?;
        let Some(text) = answer["value"].as_str() else {
            bail!("no picture: {answer}");
        };
        Ok(BASE64_STANDARD.decode(text)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium is a child of chromedriver, which ends it.
        let path = format!("/session/{}", self.session);
        let _ = self.client.request("DELETE", &path, &[], b"");
        let _ = self.driver.terminate(Duration::from_secs(5));
    }
}
