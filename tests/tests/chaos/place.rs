//! Places for a server, or a worker, where something is wrong: a small disk, a clock that steps.
//!
//! Owns making and unmaking them. What needs a privilege or a compiler that is not here is `None`,
//! said aloud.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tribunal_e2e::{Place, repository, skip};

/// A filesystem with little room, in a mount namespace that ends with it.
pub(crate) struct SmallDisk {
    holder: Child,
    folder: TempDir,
}

/// A wall clock that can be stepped.
pub(crate) struct Clock {
    step: File,
    folder: TempDir,
}

// === impl SmallDisk ===

impl SmallDisk {
    /// One of so many MiB.
    pub(crate) fn new(mib: u32) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        open_to_all(folder.path());
        let script = "mount -t tmpfs -o size=$1m tmpfs \"$2\" && echo mounted && exec sleep 3600";
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh", &mib.to_string()])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let said = BufReader::new(holder.stdout.take()?).read_line(&mut line);
        let disk = SmallDisk { holder, folder };
        if said.is_err() || line != "mounted\n" {
            skip("without the right to mount there is no small disk for the server to fill");
            return None;
        }
        Some(disk)
    }

    /// It, as a place.
    pub(crate) fn place(&self) -> Place {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        Place {
            folder: Some(self.folder.path().to_owned()),
            wrapper: vec!["nsenter".to_owned(), namespace],
            env: Vec::new(),
        }
    }

    /// Leaves no room on it.
    pub(crate) fn fill(&self) {
        let into = format!("of={}", self.filler().display());
        let mut fill = self.place().command(Path::new("dd"));
        // It ends when there is no room left: with an error, as it should.
        let filled = fill.args(["if=/dev/zero", &into, "bs=4k"]).stderr(Stdio::null()).status();
        assert!(!filled.expect("dd runs").success(), "the disk is full");
    }

    /// Makes room again.
    pub(crate) fn free(&self) {
        let removed = self.place().command(Path::new("rm")).arg(self.filler()).status();
        assert!(removed.expect("rm runs").success());
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

// === impl Clock ===

impl Clock {
    /// One that goes as the system's does.
    pub(crate) fn new() -> Option<Clock> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        open_to_all(folder.path());
        let step = folder.path().join("step");
        fs::write(&step, 0_i64.to_ne_bytes()).expect("a temporary file");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.path().join("clock.so"))
            .arg(repository("tests/fixtures/clock.c"))
            .status();
        if !built.is_ok_and(|built| built.success()) {
            skip("without a C compiler there is no clock to step");
            return None;
        }
        let step = File::options().write(true).open(step).expect("a temporary file");
        Some(Clock { step, folder })
    }

    /// Shows so many seconds more than the system's from now on.
    pub(crate) fn step(&self, seconds: i64) {
        self.step.write_all_at(&seconds.to_ne_bytes(), 0).expect("a temporary file");
    }

    /// The environment of a process that looks at it.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        vec![("LD_PRELOAD".to_owned(), path("clock.so")), ("CLOCK_STEP".to_owned(), path("step"))]
    }
}

/// The server runs as another user.
fn open_to_all(folder: &Path) {
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder, all).expect("a folder of ours");
}
