//! A copy of the bundled example, and processes of the binary.
//!
//! Owns their start and end. No key and no config of this machine reaches them.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a copy of the example: the copies are newer than its reproduction.
pub(crate) struct Example {
    folder: TempDir,
}

/// The simulated judge in a process of its own; it ends when dropped.
pub(crate) struct Sim {
    child: Child,
    pub(crate) base_url: String,
}

/// A judge that keeps what it is asked. Its thread ends with the test's process.
pub(crate) struct Recorder {
    pub(crate) base_url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

pub(crate) const INPUTS: [&str; 6] =
    ["--rubric", "rubric.json", "--submission", "submission", "--paper", "paper.md"];

// === impl Example ===

impl Example {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/example");
        copy(&example, folder.path());
        Self { folder }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("the file is written");
    }

    /// Changes the rubric's text.
    pub(crate) fn edit_rubric(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.file("rubric.json")).expect("the rubric");
        assert!(text.contains(from), "{from}");
        self.write("rubric.json", &text.replacen(from, to, 1));
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = tribunal(args);
        command.current_dir(self.folder.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary starts")
    }

    /// The one document that the command prints; it has the shape that `tribunal schema` says.
    #[track_caller]
    pub(crate) fn document(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat());
        let text = describe(&output);
        assert!(output.status.success(), "{text}");
        document(&output)
    }

    /// Grades the example with the simulated judge inside the process; the run's id.
    #[track_caller]
    pub(crate) fn grade(&self, args: &[&str]) -> String {
        let document = self.document(&[&["grade", "--quiet"][..], &INPUTS, args].concat());
        document["run"].as_str().expect("an id").to_owned()
    }

    /// The command's text; it ended with 0.
    #[track_caller]
    pub(crate) fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{}", describe(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

// === impl Sim ===

impl Sim {
    pub(crate) fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = tribunal(&[&["sim"], args].concat());
        command.envs(env.iter().copied()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the sim starts");
        let stdout = child.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the sim says where it is");
        let base_url = line.split_whitespace().last().unwrap_or_default().to_owned();
        assert!(base_url.starts_with("http://127.0.0.1:"), "{line}");
        Self { child, base_url }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Recorder ===

impl Recorder {
    /// Answers every request with this content.
    pub(crate) fn start(content: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || drop(answer(&stream, content, &kept)));
            }
        });
        Self { base_url, asked }
    }

    /// The bodies of all requests until now.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

fn answer(mut stream: &TcpStream, content: &str, kept: &Mutex<Vec<Value>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some((_, value)) =
            line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case("content-length"))
        {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    kept.lock().expect("not poisoned").push(serde_json::from_slice(&body)?);
    let message = json!({"role": "assistant", "content": content});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    let body = json!({"model": "recorder", "choices": [choice]}).to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len())
}

fn tribunal(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tribunal"));
    command
        .args(args)
        .env_remove("TRIBUNAL_API_KEY")
        .env_remove("OPENAI_API_KEY")
        .stdin(Stdio::null());
    command
}

/// The document on standard output, checked against its schema.
#[track_caller]
pub(crate) fn document(output: &Output) -> Value {
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no document ({error}): {}", describe(output)));
    let name = document["schema"].as_str().expect("a schema");
    let name = name.strip_prefix("tribunal.").and_then(|name| name.strip_suffix("/1"));
    let words: Vec<&str> = name.expect("tribunal.COMMAND/1").split(' ').collect();
    let schema = tribunal(&[&["schema"][..], &words].concat()).output().expect("it starts");
    let schema: Value = serde_json::from_slice(&schema.stdout).expect("a schema");
    let validator = jsonschema::validator_for(&schema).expect("a schema that can be used");
    let wrong: Vec<String> = validator.iter_errors(&document).map(|e| e.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    document
}

pub(crate) fn describe(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Asserts exit code 2 and gives what was said on standard error.
#[track_caller]
pub(crate) fn bad_input(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", describe(output));
    assert!(output.stdout.is_empty(), "{}", describe(output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // Not `fs::copy`: the copy is to be new.
            let bytes = fs::read(entry.path()).expect("the file is read");
            fs::write(target, bytes).expect("the file is written");
        }
    }
}
