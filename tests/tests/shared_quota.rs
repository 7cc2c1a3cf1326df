//! Four worker processes on one provider account, one killed and one added: how much of the limit they use.
//! Where this process may make network namespaces each worker has one, 10 ms away from store and provider
//! in each direction; else all stand on loopback, and that is said. It takes a minute and measures time, so it is run by hand:
//! `cargo nextest run --workspace --all-features --test shared_quota --run-ignored only --no-capture`.

use std::time::{Duration, Instant};

use tribunal_e2e::{
    Network, PostgresServer, Proxy, Running, SimProcess, Workspace, assert_exit, number, wait_until,
};

const LEAVES: u64 = 1_600;
const RPM: u64 = 1_800;

/// The way from a machine to the store and to the provider, in each direction.
const DELAY: Duration = Duration::from_millis(10);

#[test]
#[ignore = "measures time"]
fn four_workers_use_one_quota() {
    let Some(server) = PostgresServer::start(&["fsync=on"]) else { return };
    let rpm = RPM.to_string();
    let sim = SimProcess::start(&["--latency-ms", "300", "--latency-sigma", "0.5", "--rpm", &rpm]);
    let network = Network::start(5);
    let provider = sim.base_url.trim_end_matches("/v1").rsplit(':').next().expect("a port");
    let provider = provider.parse().expect("a port");
    let far = |port| network.as_ref().map(|network| Proxy::far(network.host(), port, DELAY));
    let (store, endpoint) = (far(server.port()), far(provider));
    let at = |url: String, port: u16, proxy: &Option<Proxy>| match (&network, proxy) {
        (Some(network), Some(proxy)) => url
            .replace(&format!("127.0.0.1:{port}"), &format!("{}:{}", network.host(), proxy.port())),
        _ => url,
    };
    let store_url = format!("{}?sslmode=disable", at(server.url(), server.port(), &store));
    let base_url = at(sim.base_url.clone(), provider, &endpoint);

    let workspace = Workspace::generated(LEAVES as usize);
    workspace.write("tribunal.toml", &format!("[store]\nurl = \"{store_url}\"\n"));
    let submit = ["submit", "--rubric", "rubric.json", "--submission", "submission"];
    let judge = ["--base-url", &base_url, "--model", "tribunal-sim"];
    assert_exit(&workspace.run(&[&submit[..], &judge[..]].concat()), 0);
    let work = |machine| {
        let args = ["work", "--until-empty", "--quiet", "--concurrency", "16"];
        let command = workspace.command(&args);
        Running::start(match &network {
            Some(network) => network.on(machine, &command),
            None => command,
        })
    };
    let mut workers: Vec<Running> = (0..4).map(work).collect();
    let rejected = || sim.stat("rejected");
    // Not the start, where nobody knows the limit, nor the end, where fewer ask than may.
    let (from, to) = (LEAVES / 10, LEAVES * 9 / 10);
    wait_until("it is under way", || sim.requests() >= from);
    let (start, before, turned_away) = (Instant::now(), sim.requests(), rejected());
    wait_until("a quarter is asked", || sim.requests() >= LEAVES / 4);
    let _ = workers.pop().expect("four").kill();
    wait_until("half is asked", || sim.requests() >= LEAVES / 2);
    workers.push(work(4));
    wait_until("most is asked", || sim.requests() >= to);
    let (asked, away) = (sim.requests() - before, rejected() - turned_away);
    let seconds = start.elapsed().as_secs_f64();
    let used = (asked - away) as f64 / (RPM as f64 / 60.0 * seconds);
    let share = away as f64 / asked as f64;
    println!(
        "{:.1}% of the limit used over {seconds:.0} s, {:.2}% rejected, each worker {}",
        used * 100.0,
        share * 100.0,
        network.as_ref().map_or("on loopback", |_| "in a network of its own")
    );
    for worker in workers {
        assert_exit(&worker.finish(), 0);
    }
    assert_eq!(number(&workspace.status(), "/done"), LEAVES);
    assert!(used >= 0.95 && share <= 0.005, "{used} used, {share} rejected");
}
