//! A PostgreSQL server of the tests' own: on loopback, with its own data folder, run by an
//! unprivileged user. The file is also part of the store's tests.
//!
//! Owns starting, killing and stopping it. Where PostgreSQL is not installed, tests skip aloud.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// How long a server may take to come up.
const START: Duration = Duration::from_secs(60);

/// The password of a server that asks for one.
pub const PASSWORD: &str = "s3cret-canary-of-the-store";

/// A server that many tests use at once; it stops by itself when the last of them has ended.
pub struct SharedServer {
    port: u16,
    /// Held shared for as long as the server is used.
    _users: File,
}

/// A server that one test may do with as it likes.
pub struct PostgresServer {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    place: Place,
    child: Option<Child>,
}

/// What a server's processes are started in, where that is not simply this machine.
#[derive(Default)]
pub struct Place {
    /// A folder that is there, to lie in.
    pub folder: Option<PathBuf>,
    /// A command that every one of them is started by, such as `nsenter`.
    pub wrapper: Vec<String>,
    /// Variables of their environment.
    pub env: Vec<(String, String)>,
}

// === impl SharedServer ===

impl SharedServer {
    /// The server, started if nobody uses it yet; `None`, said aloud, where none is installed.
    ///
    /// # Panics
    ///
    /// When it is installed and does not start.
    pub fn get() -> Option<SharedServer> {
        let bin = installed()?;
        let user = uid();
        let folder = std::env::temp_dir().join(format!("tribunal-test-postgres-{user}"));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let users = open(&folder.join("users.lock"));
        // Whoever stops the server holds this alone until it is down.
        users.lock_shared().expect("a lock");
        let starting = open(&folder.join("start.lock"));
        starting.lock().expect("a lock");
        let known = fs::read_to_string(folder.join("port")).ok().and_then(|p| p.parse().ok());
        let port = match known.filter(|port| answers(*port)) {
            Some(port) => port,
            None => start_shared(&bin, &folder),
        };
        Some(SharedServer { port, _users: users })
    }

    /// The URL of its one database.
    pub fn url(&self) -> String {
        url(self.port)
    }
}

fn start_shared(bin: &Path, folder: &Path) -> u16 {
    let data = folder.join("data");
    let place = Place::default();
    if !data.join("PG_VERSION").exists() {
        init(bin, &data, &place);
    }
    let _ = fs::remove_file(data.join("postmaster.pid"));
    let port = free_port();
    let settings = ["fsync=off".to_owned(), "max_connections=400".to_owned()];
    let server = server(bin, &data, port, &settings, &place);
    let words: Vec<String> = std::iter::once(server.get_program())
        .chain(server.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    // Stays behind and stops the server when nobody holds the lock any more.
    let keep = format!(
        "exec 9>'{lock}'; {server} 9>&- & pid=$!; flock -x 9; kill -INT $pid; wait $pid; \
         rm -f '{port}'",
        lock = folder.join("users.lock").display(),
        port = folder.join("port").display(),
        server = words.join(" "),
    );
    let log = open(&folder.join("log"));
    let started = Command::new("setsid")
        .args(["--fork", "sh", "-c", &keep])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a handle"))
        .stderr(log)
        .status();
    assert!(started.expect("setsid runs").success());
    wait_for(port);
    fs::write(folder.join("port"), port.to_string()).expect("a temporary file");
    port
}

// === impl PostgresServer ===

impl PostgresServer {
    /// A new server with these settings, such as `fsync=on`; `None`, said aloud, where PostgreSQL
    /// is not installed.
    ///
    /// # Panics
    ///
    /// When it is installed and does not start.
    pub fn start(settings: &[&str]) -> Option<PostgresServer> {
        Self::start_in(Place::default(), settings)
    }

    /// As [`PostgresServer::start`], somewhere else.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is installed and does not start.
    pub fn start_in(place: Place, settings: &[&str]) -> Option<PostgresServer> {
        let bin = installed()?;
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("tribunal-own-postgres-{}-{number}", std::process::id());
        let own = || {
            let folder = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("a temporary folder");
            folder
        };
        let folder = place.folder.clone().unwrap_or_else(own);
        init(&bin, &folder.join("data"), &place);
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = PostgresServer { folder, port: free_port(), settings, place, child: None };
        server.restart();
        Some(server)
    }

    /// The URL of its one database.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Its loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its data lies.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts it again on the same data and port.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&mut self) {
        let bin = installed().expect("it was installed");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("a temporary file");
        let mut command = server(&bin, &self.data(), self.port, &self.settings, &self.place);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log);
        self.child = Some(command.spawn().expect("the server starts"));
        wait_for(self.port);
    }

    /// Ends it at once, without a checkpoint or a goodbye, as a crash does.
    pub fn crash(&mut self) {
        self.end("KILL");
        // Without the postmaster its children end by themselves, and only then may another start.
        let data = self.data();
        let end = Instant::now() + START;
        while backends(&data) > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = fs::remove_file(data.join("postmaster.pid"));
    }

    /// Whether it has ended by itself.
    ///
    /// # Panics
    ///
    /// When the system does not say.
    pub fn has_ended(&mut self) -> bool {
        let ended = |child: &mut Child| child.try_wait().expect("the system knows its children");
        self.child.as_mut().is_none_or(|child| ended(child).is_some())
    }

    /// What it has logged until now.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs SQL as its superuser; what it prints.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs SQL as its superuser; what it prints, or what is wrong.
    ///
    /// # Errors
    ///
    /// What `psql` says.
    ///
    /// # Panics
    ///
    /// When there is no `psql`.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let bin = installed().expect("it was installed");
        let out = Command::new(bin.join("psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", sql])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .expect("psql runs");
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        }
    }

    /// From now on it asks for [`PASSWORD`].
    ///
    /// # Panics
    ///
    /// When it cannot be told.
    pub fn require_password(&self) {
        self.sql(&format!("ALTER ROLE tribunal PASSWORD '{PASSWORD}'"));
        let rule = "host all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(self.data().join("pg_hba.conf"), rule).expect("a file of the server");
        self.sql("SELECT pg_reload_conf()");
    }

    /// From now on it takes TLS alone, with a certificate for 127.0.0.1 that an authority of its own has
    /// signed; the path of the authority's. `None` without OpenSSL.
    ///
    /// # Panics
    ///
    /// When it cannot be told.
    pub fn require_tls(&self) -> Option<PathBuf> {
        // `file:` is a file of the server.
        let steps = [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN=authority -keyout file:ca.key -out file:ca.crt",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server \
             -keyout file:server.key -out file:server.csr",
            "x509 -req -days 2 -in file:server.csr -CA file:ca.crt -CAkey file:ca.key \
             -set_serial 1 -extfile file:names -out file:server.crt",
        ];
        let file = |name: &str| self.data().join(name).display().to_string();
        fs::write(file("names"), "subjectAltName=IP:127.0.0.1\n").expect("a file of the server");
        for step in steps {
            let word = |word: &str| word.strip_prefix("file:").map_or(word.to_owned(), file);
            let words = step.split_whitespace().map(word);
            let out = Command::new("openssl").args(words).output().ok()?;
            assert!(out.status.success(), "openssl: {}", String::from_utf8_lossy(&out.stderr));
        }
        if uid() == 0 {
            let owner = Command::new("chown").args(["nobody", &file("server.key")]).status();
            assert!(owner.expect("chown runs").success());
        }
        self.sql("ALTER SYSTEM SET ssl = on");
        let rule = "hostssl all all 127.0.0.1/32 trust\n";
        fs::write(self.data().join("pg_hba.conf"), rule).expect("a file of the server");
        self.sql("SELECT pg_reload_conf()");
        Some(self.data().join("ca.crt"))
    }

    fn end(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
            if kill.is_ok() {
                let _ = child.wait();
            }
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.end("QUIT");
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Processes that have this data folder as theirs.
fn backends(data: &Path) -> usize {
    let owns = |entry: &fs::DirEntry| {
        fs::read_link(entry.path().join("cwd")).is_ok_and(|folder| folder == *data)
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().filter(owns).count()
}

fn url(port: u16) -> String {
    format!("postgres://tribunal@127.0.0.1:{port}/postgres")
}

/// The folder of the newest PostgreSQL's programs.
fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bin = found.into_iter().rev().chain(std::env::split_paths(&path));
    let bin = bin.into_iter().find(|bin| bin.join("initdb").exists());
    if bin.is_none() {
        let said = b"SKIPPED: PostgreSQL is not installed (apt-get install postgresql)\n";
        let _ = std::io::stderr().write_all(said);
    }
    bin
}

fn init(bin: &Path, data: &Path, place: &Place) {
    let parent = data.parent().expect("a folder of its own");
    if uid() == 0 {
        let owner = place.command(Path::new("chown")).arg("nobody").arg(parent).status();
        assert!(owner.expect("chown runs").success());
    }
    let out = place
        .unprivileged(&bin.join("initdb"))
        .arg("-D")
        .arg(data)
        .args(["-U", "tribunal", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"])
        .args(["--wal-segsize=1"])
        .output()
        .expect("initdb runs");
    assert!(out.status.success(), "initdb: {}", String::from_utf8_lossy(&out.stderr));
}

fn server(bin: &Path, data: &Path, port: u16, settings: &[String], place: &Place) -> Command {
    let mut command = place.unprivileged(&bin.join("postgres"));
    command.arg("-D").arg(data).args(["-p", &port.to_string()]);
    let own = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "shared_buffers=32MB",
        "max_wal_size=256MB",
        "logging_collector=off",
    ];
    for setting in own.into_iter().chain(settings.iter().map(String::as_str)) {
        command.args(["-c", setting]);
    }
    command
}

// === impl Place ===

impl Place {
    /// A command in this place.
    pub fn command(&self, program: &Path) -> Command {
        let mut words = self.wrapper.iter().map(String::as_str);
        let mut command = match words.next() {
            None => Command::new(program),
            Some(wrapper) => {
                let mut command = Command::new(wrapper);
                command.args(words).arg(program);
                command
            }
        };
        command.current_dir("/").envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// A command in this place as a user that PostgreSQL accepts: it refuses root.
    fn unprivileged(&self, program: &Path) -> Command {
        if uid() != 0 {
            return self.command(program);
        }
        let mut command = self.command(Path::new("setpriv"));
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
        command
    }
}

fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").map_or(0, |meta| meta.uid())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("an address").port()
}

fn wait_for(port: u16) {
    let end = Instant::now() + START;
    while !answers(port) {
        assert!(Instant::now() < end, "PostgreSQL does not come up on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a server accepts sessions: it answers a start-up message with something other than
/// "starting up".
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let parameters = b"user\0tribunal\0database\0postgres\0\0";
        let mut message = u32::to_be_bytes(8 + parameters.len() as u32).to_vec();
        message.extend(196_608_u32.to_be_bytes());
        message.extend(parameters);
        stream.write_all(&message)?;
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        // `R` asks for or grants the login; `E` is an error.
        Ok(kind[0] == b'R')
    };
    ask().unwrap_or(false)
}

fn open(path: &Path) -> File {
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
    file.expect("a temporary file")
}
