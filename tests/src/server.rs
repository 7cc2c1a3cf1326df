//! A server that answers every request as a test wants: what no honest judge would do.
//!
//! Owns just enough of HTTP/1.1: requests with `Content-Length`, connections that stay open.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use serde_json::json;

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Header names in lower case, and their values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// What it is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers besides the content's type and length.
    pub headers: Vec<(String, String)>,
    /// The body, JSON.
    pub body: String,
}

/// The server; ends when dropped.
pub struct TestServer {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

// === impl TestServer ===

impl TestServer {
    /// Starts it on a free port of loopback.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (requests, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let handler: Arc<Handler> = Arc::new(handler);
        let (counted, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (handler, counted) = (Arc::clone(&handler), Arc::clone(&counted));
                // A connection ends with its client, who may break it off at any point.
                thread::spawn(move || drop(serve(&stream, &*handler, &counted)));
            }
        });
        Self { address, requests, stop, accepting: Some(accepting) }
    }

    /// Its base URL, with `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Requests that came in until now.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(stream: &TcpStream, handler: &Handler, counted: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    while let Some(request) = Request::read(&mut reader)? {
        counted.fetch_add(1, Ordering::SeqCst);
        let Reply { status, headers, body } = handler(&request);
        let mut text = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(&body);
        writer.write_all(text.as_bytes())?;
    }
    Ok(())
}

// === impl Request ===

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    /// The next request; `None` where the client has closed.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next(), words.next());
        let (method, path) = (method.unwrap_or_default(), path.unwrap_or_default());
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, path, headers, body: String::new() };
        let length = request.header("content-length").unwrap_or("0").parse();
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "no content-length");
        reader.take(length.map_err(wrong)?).read_to_string(&mut request.body)?;
        Ok(Some(request))
    }
}

// === impl Reply ===

impl Reply {
    /// A completion with a verdict in the schema's form.
    pub fn verdict(score: u8) -> Self {
        let verdict = json!({
            "expectations": "A function.",
            "reality": "There is one.",
            "evidence": [],
            "explanation": "It is there.",
            "score": score,
            "confidence": 0.9,
        });
        let message = json!({"role": "assistant", "content": verdict.to_string()});
        let completion = json!({
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "test-model",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
        });
        Self { status: 200, headers: Vec::new(), body: completion.to_string() }
    }

    /// An error in OpenAI's form.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let error = json!({"message": message, "type": "invalid_request_error", "code": code});
        Self { status, headers: Vec::new(), body: json!({ "error": error }).to_string() }
    }
}
