//! The simulated judge in a process of its own.
//!
//! Owns its start, its end and the reading of its counts.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use reqwest::blocking::Client;
use serde_json::Value;

use crate::{PATIENCE, binary, wait_until};

/// The simulated judge; ends when dropped.
pub struct SimProcess {
    child: Child,
    client: Client,
    /// Its base URL, with `/v1`.
    pub base_url: String,
}

// === impl SimProcess ===

impl SimProcess {
    /// Starts it on a free port with further arguments.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with_env(args, &[])
    }

    /// Starts it in the place of another that has ended, under the same URL.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_at(base_url: &str, args: &[&str]) -> Self {
        let port = base_url.trim_end_matches("/v1").rsplit(':').next().unwrap_or_default();
        let sim = Self::start(&[&["--port", port], args].concat());
        assert_eq!(sim.base_url, base_url);
        sim
    }

    /// As [`SimProcess::start`], with variables of the environment.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_with_env(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.arg("sim").args(args).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the sim starts");
        let stdout = child.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the sim says where it is");
        let base_url = line.split_whitespace().last().unwrap_or_default().to_owned();
        assert!(base_url.starts_with("http://127.0.0.1:"), "{line}");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().timeout(PATIENCE).build();
        Self { child, client: client.expect("an HTTP client"), base_url }
    }

    /// `GET /stats`.
    ///
    /// # Panics
    ///
    /// When the sim does not answer.
    pub fn stats(&self) -> Value {
        let url = self.base_url.replace("/v1", "/stats");
        let text = self.client.get(url).send().and_then(|r| r.text()).expect("the sim answers");
        serde_json::from_str(&text).expect("stats are JSON")
    }

    /// One number of the stats.
    ///
    /// # Panics
    ///
    /// When there is none with this name.
    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.stats();
        stats[name].as_u64().unwrap_or_else(|| panic!("no `{name}` in {stats}"))
    }

    /// Chat requests that came in until now.
    pub fn requests(&self) -> u64 {
        self.stat("requests")
    }

    /// Chat requests that came in, once no more of them are in the server: after its client died.
    ///
    /// # Panics
    ///
    /// When requests stay in the server.
    pub fn settled_requests(&self) -> u64 {
        let mut before = None;
        wait_until("the sim has nothing in flight", || {
            let stats = self.stats();
            let now = (stats["in_flight"] == 0).then(|| stats["requests"].as_u64());
            let settled = now.is_some() && before == now;
            before = now;
            settled
        });
        self.requests()
    }
}

impl Drop for SimProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
