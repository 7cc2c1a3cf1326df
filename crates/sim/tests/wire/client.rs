//! A client that knows nothing but the wire, and prompts to send with it.

use reqwest::{Client, header::HeaderMap};
use serde_json::{Value, json};
use tribunal_sim::{Sim, SimConfig};

/// A simulated judge and a client to it.
pub(crate) struct Judge {
    pub(crate) sim: Sim,
    pub(crate) client: Client,
}

/// A whole reply.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

pub(crate) const EVIDENCE: &str = "<paper>\nOn Gaussian noise.\n</paper>\n\
    <file path=\"src/train.py\" nonce=\"5f\">\nimport torch\n\ndef gaussian_noise(x):\n    \
    return x + torch.randn_like(x)\n</file nonce=\"5f\">\n\
    <log path=\"reproduce.log\">\nEpoch 3 finished, loss 0.25\n</log>\n";

/// Starts a judge on a free port.
pub(crate) fn start(config: SimConfig) -> Judge {
    // Another test of this process may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let sim = Sim::start(config, 0).expect("starts");
    let client = Client::builder().no_proxy().build().expect("client");
    Judge { sim, client }
}

/// A request about one criterion, after `shared` in a message of its own.
pub(crate) fn question(shared: &str, category: &str, criterion: &str, context: &[&str]) -> Value {
    let context: String = context.iter().map(|line| format!("- {line}\n")).collect();
    let own = format!(
        "<context>\n{context}</context>\n<criterion category=\"{category}\">\n{criterion}\n</criterion>\n"
    );
    json!({"model": "m", "messages": [
        {"role": "system", "content": "You grade. Answer in JSON."},
        {"role": "user", "content": shared},
        {"role": "user", "content": own},
    ]})
}

/// The same with further fields of the body.
pub(crate) fn with(mut request: Value, fields: Value) -> Value {
    for (name, value) in fields.as_object().expect("fields") {
        request[name] = value.clone();
    }
    request
}

impl Judge {
    pub(crate) async fn send(&self, request: &Value) -> Result<Reply, reqwest::Error> {
        let url = format!("{}/chat/completions", self.sim.base_url());
        let sent = self.client.post(url).body(request.to_string()).send().await?;
        Reply::read(sent).await
    }

    pub(crate) async fn ask(&self, request: &Value) -> Reply {
        self.send(request).await.expect("a reply")
    }

    pub(crate) async fn get(&self, url: &str) -> Reply {
        let sent = self.client.get(url).send().await.expect("a reply");
        Reply::read(sent).await.expect("a body")
    }
}

impl Reply {
    async fn read(response: reqwest::Response) -> Result<Reply, reqwest::Error> {
        Ok(Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await?,
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect(&self.text)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no header {name}"));
        value.to_str().expect("text")
    }

    pub(crate) fn content(&self) -> String {
        let reply = self.json();
        let content = &reply["choices"][0]["message"]["content"];
        content.as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    }

    /// The answer of a request in JSON.
    pub(crate) fn answer(&self) -> Value {
        serde_json::from_str(&self.content()).expect("an answer in JSON")
    }

    pub(crate) fn error(&self) -> Value {
        self.json()["error"].clone()
    }
}
