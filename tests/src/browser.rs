//! A headless Chromium that a test drives, over the DevTools protocol on a pipe
//! (<https://chromedevtools.github.io/devtools-protocol/>).
//!
//! Owns the browser's process and what it said: errors on the console, requests that it made.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{PATIENCE, wait_until};

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// What it told without being asked.
    events: Vec<Value>,
    _profile: TempDir,
}

/// Where a browser is, if there is one.
fn chromium() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    let mut candidates = folders.iter().flat_map(|folder| names.map(|name| folder.join(name)));
    candidates.find(|path| path.is_file())
}

// === impl Browser ===

impl Browser {
    /// Starts one; `None` where none is installed.
    ///
    /// # Panics
    ///
    /// When it cannot be started or does not answer.
    pub fn start() -> Option<Browser> {
        let chromium = chromium()?;
        let profile = tempfile::tempdir().expect("a temporary folder");
        // It reads commands from descriptor 3 and answers on 4.
        let script = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(chromium)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let to = child.stdin.take().expect("a pipe to it");
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe from it"));
        let (sender, from) = channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let parsed = serde_json::from_slice(&message).unwrap_or_default();
                if sender.send(parsed).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let (session, last, events) = (None, 0, Vec::new());
        let mut browser = Browser { child, to, from, session, last, events, _profile: profile };
        let target = browser.command("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.command("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.command(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Sends one command and waits for its result.
    ///
    /// # Panics
    ///
    /// When the browser has gone, refuses, or does not answer.
    pub fn command(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut command = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser listens");
        loop {
            let mut answer = self.next();
            if answer["id"] == json!(self.last) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }

    fn next(&mut self) -> Value {
        self.from.recv_timeout(PATIENCE).expect("the browser answers")
    }

    /// Opens the page and waits until it is loaded; what was said before is forgotten.
    ///
    /// # Panics
    ///
    /// When it is never loaded.
    pub fn open(&mut self, url: &str) {
        self.events.clear();
        // Another fragment of the same page would not be loaded.
        self.command("Page.navigate", json!({"url": "about:blank"}));
        self.wait_for("Page.loadEventFired");
        self.events.clear();
        self.command("Page.navigate", json!({"url": url}));
        self.wait_for("Page.loadEventFired");
    }

    fn wait_for(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let event = self.next();
            self.events.push(event);
        }
    }

    /// The value of an expression in the page; promises are waited for.
    ///
    /// # Panics
    ///
    /// When it throws.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let mut parameters = json!({"expression": expression});
        parameters["returnByValue"] = json!(true);
        parameters["awaitPromise"] = json!(true);
        let mut result = self.command("Runtime.evaluate", parameters);
        let thrown = &result["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        result["result"]["value"].take()
    }

    /// Waits until an expression holds in the page.
    ///
    /// # Panics
    ///
    /// When it never does.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        wait_until(expression, || self.value(&format!("Boolean({expression})")) == json!(true));
    }

    /// Presses one key, such as `ArrowDown` or `y`.
    pub fn press(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            self.command("Input.dispatchKeyEvent", json!({"type": kind, "key": key, "text": text}));
        }
    }

    /// The window's width and height in pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", size);
    }

    /// Whether pages run scripts.
    pub fn scripts(&mut self, run: bool) {
        self.command("Emulation.setScriptExecutionDisabled", json!({"value": !run}));
    }

    /// What went wrong since the page was opened: exceptions, errors on the console, what the
    /// page's policy refused.
    pub fn complaints(&mut self) -> Vec<String> {
        // Everything said before this answer has been said.
        self.value("0");
        let told = self.events.iter();
        let wrong = told.filter(|event| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Log.entryAdded") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] != "log",
            _ => false,
        });
        wrong.map(|event| event["params"].to_string()).collect()
    }

    /// What it asked for since the page was opened, and where.
    pub fn requests(&mut self) -> Vec<String> {
        self.value("0");
        let sent = self.events.iter().filter(|e| e["method"] == "Network.requestWillBeSent");
        let url = |event: &Value| event["params"]["request"]["url"].as_str().map(str::to_owned);
        sent.filter_map(url).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
