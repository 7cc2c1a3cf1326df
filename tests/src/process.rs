//! A process of the binary that a test may signal, kill and read while it runs.
//!
//! Owns its end: nothing that a test started outlives it.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    process::{Child, Command, Output},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::wait_until;

/// A running process; it is killed when dropped.
pub struct Running {
    child: Child,
    stdout: File,
    stderr: File,
}

/// What a process says on standard error; it can be read when the process is gone.
pub struct Log(File);

// === impl Log ===

impl Log {
    /// What was said until now.
    pub fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&all(&self.0)).lines().map(str::to_owned).collect()
    }
}

// === impl Running ===

impl Running {
    /// Starts it. What it says goes to files, so that it never waits for a reader.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Self {
        let file = || tempfile::tempfile().expect("a temporary file");
        let (stdout, stderr) = (file(), file());
        let copy = |file: &File| file.try_clone().expect("a second handle");
        command.stdout(copy(&stdout)).stderr(copy(&stderr));
        let child = command.spawn().expect("the process starts");
        Self { child, stdout, stderr }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    ///
    /// # Panics
    ///
    /// When the system does not say.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the system knows its children").is_some()
    }

    /// What it has said on standard error until now.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&all(&self.stderr)).into_owned()
    }

    /// What it says on standard error, to be read later.
    ///
    /// # Panics
    ///
    /// When the system has no more handles.
    pub fn log(&self) -> Log {
        Log(self.stderr.try_clone().expect("a second handle"))
    }

    /// Sends SIGINT, as Ctrl-C does.
    ///
    /// # Panics
    ///
    /// When it cannot be sent.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    ///
    /// When it cannot be sent.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGSTOP: it stands still until [`Running::wake`]. Never in the middle of a write to an
    /// `SQLite` store: whoever sleeps with that lock holds up everybody, as `SQLite` means it.
    ///
    /// # Panics
    ///
    /// When it cannot be sent, or the process is never seen without the lock.
    pub fn freeze(&self) {
        wait_until("it is between two writes", || {
            self.signal(Signal::STOP);
            let stopped = waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED);
            assert!(stopped.is_ok_and(|ends| ends.is_some_and(|(_, status)| status.stopped())));
            let between = !self.writes_to_sqlite();
            if !between {
                self.wake();
            }
            between
        });
    }

    /// Whether it holds the write lock of a store: byte 120 of the `-shm` file (`WAL_WRITE_LOCK`,
    /// <https://sqlite.org/walformat.html#locks>).
    fn writes_to_sqlite(&self) -> bool {
        let pid = self.child.id().to_string();
        let locks = std::fs::read_to_string("/proc/locks").expect("the system's locks");
        let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        locks.lines().map(fields).any(|lock| {
            lock.iter().any(|field| field == "WRITE")
                && lock.contains(&pid)
                && lock.iter().rev().take(2).all(|byte| byte == "120")
        })
    }

    /// Sends SIGCONT.
    ///
    /// # Panics
    ///
    /// When it cannot be sent.
    pub fn wake(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGKILL and waits until it is gone.
    ///
    /// # Panics
    ///
    /// When it cannot be killed.
    pub fn kill(mut self) -> Output {
        self.child.kill().expect("it can be killed");
        self.finish()
    }

    /// Waits until it ends.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn finish(mut self) -> Output {
        wait_until("the process ends", || self.has_ended());
        let status = self.child.wait().expect("the system knows its children");
        Output { status, stdout: all(&self.stdout), stderr: all(&self.stderr) }
    }

    fn signal(&self, signal: Signal) {
        // Not waited for yet, so the id is still this process's.
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the signal is sent");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file's bytes, without moving the offset that it shares with the process.
fn all(file: &File) -> Vec<u8> {
    let length = file.metadata().expect("an open file").len();
    let mut bytes = vec![0; usize::try_from(length).expect("it fits")];
    file.read_exact_at(&mut bytes, 0).expect("it can be read");
    bytes
}
