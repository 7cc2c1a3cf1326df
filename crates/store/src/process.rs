//! Which process this is, so that others can tell when it has died.
//!
//! Owns reading the operating system's word on processes. A process id alone is not enough: ids
//! come again, and two containers have the same ones.

use std::{fs, sync::OnceLock};

/// A process on a machine.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// The boot of the machine and the id space of its processes; empty where nothing is known.
    pub(crate) machine: String,
    /// The machine's name.
    pub(crate) host: String,
    /// The process's id.
    pub(crate) pid: i64,
    /// When it started, as the system counts.
    pub(crate) started: String,
}

// === impl Process ===

impl Process {
    /// This process.
    pub(crate) fn own() -> Process {
        static OWN: OnceLock<Process> = OnceLock::new();
        OWN.get_or_init(|| {
            let pid = i64::from(std::process::id());
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
            let name = rustix::system::uname();
            Process {
                machine: format!("{} {}", boot.trim(), space.display()),
                host: name.nodename().to_string_lossy().into_owned(),
                pid,
                started: started(pid).unwrap_or_default(),
            }
        })
        .clone()
    }
}

/// Whether a process of this machine still lives. Where the system does not say, it does.
pub(crate) fn lives(pid: i64, since: &str) -> bool {
    if since.is_empty() {
        return true;
    }
    started(pid).is_some_and(|started| started == since)
}

/// When a process started; `None` when there is none, or it is only waited for.
fn started(pid: i64) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_are_told_from_the_dead() {
        let own = Process::own();
        assert!(lives(own.pid, &own.started));
        assert!(!lives(own.pid, "another start"));
        assert!(lives(own.pid, ""), "nothing is known");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i64::from(child.id());
        child.wait().unwrap();
        assert!(!lives(pid, &own.started));
    }
}
