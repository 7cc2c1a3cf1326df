//! Machines of a test: network namespaces on one bridge, each with nothing but its own wire.
//!
//! Owns what `ip` made. It needs root, and says so where it has not.

use std::{
    net::Ipv4Addr,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use crate::skip;

/// Namespaces on a bridge; both are gone when it is dropped.
pub struct Network {
    name: String,
    third: u8,
    machines: u8,
}

static NETWORKS: AtomicU8 = AtomicU8::new(0);

// === impl Network ===

impl Network {
    /// So many machines, or `None`, said aloud, where this process may not make them.
    ///
    /// # Panics
    ///
    /// When a part of it is refused though the bridge was not.
    pub fn start(machines: u8) -> Option<Self> {
        let number = NETWORKS.fetch_add(1, Ordering::SeqCst);
        let third = u8::try_from(std::process::id() % 200).expect("below 200") + number % 50;
        // A link's name has at most 15 characters.
        let name = format!("trb{third}");
        if let Err(why) = ip(&["link", "add", &name, "type", "bridge"]) {
            skip(&format!("no network namespaces: {why}"));
            return None;
        }
        let network = Self { name, third, machines };
        let made = network.lay();
        made.unwrap_or_else(|why| panic!("{}: {why}", network.name));
        Some(network)
    }

    /// The address under which every machine finds this one.
    pub fn host(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// The command on machine `number`, counted from 0.
    ///
    /// # Panics
    ///
    /// When there is no such machine.
    pub fn on(&self, number: u8, command: &Command) -> Command {
        assert!(number < self.machines);
        // It replaces itself by the program, which so has the process id that is signalled.
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &self.machine(number)]);
        there.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        there
    }

    fn lay(&self) -> Result<(), String> {
        let name = &self.name;
        ip(&["address", "add", &format!("{}/24", self.host()), "dev", name])?;
        ip(&["link", "set", name, "up"])?;
        for number in 0..self.machines {
            let (machine, wire) = (self.machine(number), format!("{name}w{number}"));
            let address = format!("{}/24", self.address(number + 2));
            ip(&["netns", "add", &machine])?;
            ip(&["link", "add", &wire, "type", "veth", "peer", "eth0", "netns", &machine])?;
            ip(&["link", "set", &wire, "master", name, "up"])?;
            ip(&["-n", &machine, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &machine, "link", "set", "eth0", "up"])?;
        }
        Ok(())
    }

    fn machine(&self, number: u8) -> String {
        format!("{}m{number}", self.name)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.third, host)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for number in 0..self.machines {
            let _ = ip(&["netns", "delete", &self.machine(number)]);
        }
        let _ = ip(&["link", "delete", &self.name]);
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", args.join(" "), said.trim()))
}
